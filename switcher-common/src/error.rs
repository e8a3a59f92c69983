//! ICMP errors about packets of services: [`Stage::Errors`](crate::verdict::Stage::Errors), and the same at
//! egress.
//!
//! About a reply: to the endpoint of the quoted flow, which is asked for without a trace. About a request: to the
//! client, quoting the VIP that it has sent to. What is masqueraded changes at both ends, like its packets.

use core::mem::MaybeUninit;

use crate::abi::nat::NatPort;
use crate::abi::trace::how;
use crate::abi::{Endpoint, endpoint_flags, service_flags};
use crate::classify::{self, Class};
use crate::dsr;
use crate::forward::{Onward, out};
use crate::frame::{Frame, Kept};
use crate::icmp::{self, IcmpError, Turn};
use crate::nat::{self, Left, NatTables};
use crate::quiet::{Asked, Quiet};
use crate::reply;
use crate::request;
use crate::rewrite::{End, Hop};
use crate::select;
use crate::steer::{How, Segment};
use crate::tables::{Stack, Tables};
use crate::tunnel::Parcel;
use crate::verdict::{Reason, Stage, Verdict};

/// An error, and what becomes of it.
#[derive(Clone, Copy)]
struct Matter {
    error: IcmpError,
    /// At one end.
    turn: Turn,
    /// At the other end, if both are replaced.
    other: Turn,
    both: bool,
    /// The endpoint of the flow.
    endpoint: u16,
    /// Who takes it further.
    via: Via,
    /// The interface by which it is forwarded; 0 leaves it to the stack.
    interface: u32,
    /// Link addresses, if it is forwarded.
    hop: Hop,
}

/// Who takes an error further.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Via {
    /// This host's stack, whatever the way.
    Host,
    /// Whoever the way leads to.
    Way,
    /// The endpoint, which has the VIP itself.
    Relay,
    /// Likewise, inside another packet.
    Tunnel,
}

impl Kept for Matter {}

impl Matter {
    const NONE: Self = Self {
        error: IcmpError::NONE,
        turn: Turn::NONE,
        other: Turn::NONE,
        both: false,
        endpoint: 0,
        via: Via::Way,
        interface: 0,
        hop: Hop {
            destination: [0; 6],
            source: [0; 6],
        },
    };

    /// As packets do that the stack forwards ([`Edit::leave_source`](crate::rewrite::Edit::leave_source)).
    #[inline(always)]
    fn leave_source(&mut self) {
        let IcmpError { outer, packet } = &self.error;
        if self.turn.end == End::Source {
            let port = packet.destination_port;
            self.turn = Turn { port, ..self.other };
            self.both = false;
        } else {
            self.other.address = packet.source;
            self.other.outer = outer.source;
        }
    }
}

/// An error comes in.
///
/// # Errors
/// Why it passes as it is.
#[inline(always)]
pub(crate) fn ingress<F: Frame + ?Sized, T: NatTables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Result<Verdict, Reason> {
    let mut place = MaybeUninit::uninit();
    let matter = frame
        .keep(Matter::NONE, &mut place)
        .ok_or(Reason::NotOurs)?;
    matter.error.read(frame)?;
    decide(matter, tables, stack)?;
    match matter.via {
        Via::Host => {}
        Via::Way => find_way(frame, matter, tables, stack)?,
        Via::Relay => {
            relay(frame, matter, tables, stack)?;
            tables.count_reason(Reason::IcmpError);
            return Ok(out(matter.interface, stack));
        }
        Via::Tunnel => {
            tables.hand_on(&Parcel::part(&matter.error.outer, matter.endpoint, false));
            tables.count_reason(Reason::IcmpError);
            return Ok(Verdict::Continue(Stage::Wrap));
        }
    }
    if matter.both && matter.interface == 0 {
        matter.leave_source();
    }
    emit(frame, matter, tables)?;
    Ok(match matter.interface {
        0 => Verdict::Deliver,
        interface => out(interface, stack),
    })
}

/// To an endpoint that has the VIP, and has sent what is quoted as it is quoted.
///
/// A function of its own also in the programs, for its stack.
#[inline(never)]
fn relay<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &mut F,
    matter: &mut Matter,
    tables: &T,
    stack: &S,
) -> Result<(), Reason> {
    let (id, address) = (matter.endpoint, matter.turn.outer);
    let outer = &matter.error.outer;
    matter.interface = dsr::relay(frame, outer, id, address, false, tables, stack)?;
    Ok(())
}

/// How it goes on.
///
/// A function of its own also in the programs, for its stack.
#[inline(never)]
fn find_way<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &F,
    matter: &mut Matter,
    tables: &T,
    stack: &S,
) -> Result<(), Reason> {
    let onward = Onward {
        address: matter.turn.outer,
        other: matter.other.outer,
        both: matter.both,
        end: matter.turn.end,
        endpoint: matter.endpoint,
        finished: true,
    };
    let forth = onward.find(frame, &matter.error.outer, tables, stack)?;
    matter.hop = forth.hop;
    matter.interface = forth.interface;
    Ok(())
}

/// Whose flow is quoted, and what is to be done.
///
/// A function of its own also in the programs, for its stack.
#[inline(never)]
fn decide<T: NatTables, S: Stack>(
    matter: &mut Matter,
    tables: &T,
    stack: &S,
) -> Result<(), Reason> {
    let packet = &matter.error.packet;
    match classify::incoming(packet, tables) {
        Some(Class::Request(index, service)) if service.has(service_flags::MASQUERADE) => {
            stack.met(index, 0, how::REQUEST);
            to_masqueraded(matter, index, tables, stack)
        }
        Some(Class::Request(index, service)) => {
            let (quiet, asked) = (Quiet(tables), Asked(stack));
            let chosen = if service.has(service_flags::PREVIEW) {
                select::preview(packet, index, service, false, &quiet, &asked)
            } else {
                select::steer(packet, index, service, Segment::OTHER, &quiet, &asked)
            };
            let steered = chosen.ok_or(Reason::NoTable)?;
            let id = steered.endpoint;
            stack.met(index, id, steered.how as u32);
            let endpoint = request::endpoint(id, tables)?;
            if request::stays(endpoint, service) {
                return Err(Reason::Untouched);
            }
            matter.endpoint = id;
            matter.turn = matter.error.to(endpoint.address, endpoint.port);
            matter.via = if endpoint.has(endpoint_flags::DSR) {
                Via::Relay
            } else if endpoint.has(endpoint_flags::TUNNEL) {
                Via::Tunnel
            } else if endpoint.has(endpoint_flags::ROUTED) {
                Via::Way
            } else {
                Via::Host
            };
            Ok(())
        }
        Some(Class::Reply(id, endpoint)) if endpoint.has(endpoint_flags::MASQUERADE) => {
            stack.met(endpoint.service, id, how::REPLY);
            from_masqueraded(matter, id, tables)
        }
        Some(Class::Reply(id, endpoint)) => {
            stack.met(endpoint.service, id, how::REPLY);
            let service = reply::answers_as(packet, id, endpoint, tables)?;
            let service = reply::face(service, tables)?;
            matter.endpoint = id;
            matter.turn = matter.error.from(service.address, service.port);
            Ok(())
        }
        Some(Class::Direct(_)) | None => Err(Reason::NotOurs),
    }
}

/// About a reply: to the endpoint, from this host, which it has sent it to.
#[inline(always)]
fn to_masqueraded<T: NatTables, S: Stack>(
    matter: &mut Matter,
    index: u16,
    tables: &T,
    stack: &S,
) -> Result<(), Reason> {
    let flow = nat::request_quoted(&matter.error.packet, index, tables);
    if !flow.exists {
        return Err(Reason::NotOurs);
    }
    let flow = flow.entry;
    stack.met(index, flow.endpoint, How::Tag as u32);
    let Endpoint { address, port, .. } = *request::endpoint(flow.endpoint, tables)?;
    matter.endpoint = flow.endpoint;
    matter.turn = matter.error.to(address, port);
    matter.other = Turn::new(End::Source, flow.source, flow.port, flow.source);
    matter.both = true;
    Ok(())
}

/// About a request: to the client.
#[inline(always)]
fn from_masqueraded<T: NatTables>(matter: &mut Matter, id: u16, tables: &T) -> Result<(), Reason> {
    let client = nat::reply_quoted(&matter.error.packet, id, tables);
    if !client.exists {
        return Err(Reason::NotOurs);
    }
    let client = client.entry;
    let service = reply::face(client.service, tables)?;
    matter.endpoint = id;
    matter.turn = matter.error.from(service.address, service.port);
    matter.other = matter.error.to(client.address, client.port);
    matter.both = true;
    Ok(())
}

/// An error goes out.
///
/// # Errors
/// Why it passes as it is.
#[inline(always)]
pub(crate) fn egress<F: Frame + ?Sized, T: NatTables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Result<Verdict, Reason> {
    let mut place = MaybeUninit::uninit();
    let matter = frame
        .keep(Matter::NONE, &mut place)
        .ok_or(Reason::NotOurs)?;
    matter.error.read(frame)?;
    decide_egress(matter, tables, stack)?;
    emit(frame, matter, tables)?;
    Ok(Verdict::Deliver)
}

/// A function of its own also in the programs, for its stack.
#[inline(never)]
fn decide_egress<T: NatTables, S: Stack>(
    matter: &mut Matter,
    tables: &T,
    stack: &S,
) -> Result<(), Reason> {
    let packet = &matter.error.packet;
    let Some((id, endpoint)) = classify::sender(packet, tables) else {
        return leaves_for_masqueraded(matter, tables, stack);
    };
    let service = if endpoint.has(endpoint_flags::MASQUERADE) {
        let (client, port) = (packet.destination, packet.destination_port);
        let mut left = Left::of(client, port, id);
        left.find(how::REPLY, tables, stack)?;
        matter.other = matter.error.to(client, left.holder.port);
        matter.both = true;
        left.holder.service
    } else {
        stack.met(endpoint.service, id, how::REPLY);
        reply::answers_as(packet, id, endpoint, tables)?
    };
    let service = reply::face(service, tables)?;
    matter.turn = matter.error.from(service.address, service.port);
    Ok(())
}

/// About a reply that the stack was to forward, or left to it by [`ingress`].
#[inline(always)]
fn leaves_for_masqueraded<T: NatTables, S: Stack>(
    matter: &mut Matter,
    tables: &T,
    stack: &S,
) -> Result<(), Reason> {
    let packet = &matter.error.packet;
    let (id, _) = classify::receiver(packet, tables)
        .filter(|(_, endpoint)| endpoint.has(endpoint_flags::MASQUERADE))
        .ok_or(Reason::NotOurs)?;
    let mut left = Left::of(packet.source, packet.source_port, id);
    left.find(How::Tag as u32, tables, stack)?;
    let NatPort { source, port, .. } = left.back;
    matter.turn = Turn::new(End::Source, source, port, source);
    Ok(())
}

/// Carries a translation out.
#[inline(always)]
fn emit<F: Frame + ?Sized, T: Tables>(
    frame: &mut F,
    matter: &Matter,
    tables: &T,
) -> Result<(), Reason> {
    let Matter {
        error,
        turn,
        other,
        both,
        interface,
        hop,
        ..
    } = matter;
    let forwarded = *interface != 0;
    let hop = forwarded.then_some(hop);
    if !icmp::translate(frame, error, turn, hop) {
        return Err(Reason::Malformed);
    }
    if *both && !icmp::translate(frame, error, other, None) {
        return Err(Reason::Malformed);
    }
    tables.count_reason(Reason::IcmpError);
    Ok(())
}
