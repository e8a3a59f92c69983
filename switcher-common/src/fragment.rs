//! Fragments, of which only the first has ports: [`Stage::Fragments`](crate::verdict::Stage::Fragments), and
//! the same at egress.
//!
//! The first fragment is treated like a whole packet, and what became of it is remembered for the others, if
//! its addresses are such that these may have to be changed ([`fragment_keys`](crate::abi::fragment)). A
//! fragment whose first was not seen is dropped if it is for a VIP: it could go anywhere, and its receiver would
//! keep it in vain. From an endpoint's address much may come that is no reply: that passes.
//!
//! The first fragment of a masqueraded packet makes or finds its flow like any packet: [`Head`].

mod head;

use core::mem::MaybeUninit;

use crate::abi::fragment::{FRAGMENTS_LIFE, FragmentKey, Fragmented, fragmented};
use crate::abi::trace::how;
use crate::abi::{Address, AddressKey, Endpoint, Port, TCP, UDP, endpoint_flags, service_flags};
use crate::classify::{self, Class};
use crate::dsr;
use crate::forward::{Onward, out};
use crate::frame::{Frame, Kept};
use crate::layers::Layers;
use crate::nat::{Left, NatTables};
use crate::parse::{self, Packet};
use crate::reply;
use crate::request;
use crate::rewrite::{self, Edit, End, Hop};
use crate::steer::How;
use crate::tables::{Count, Stack, Tables};
use crate::tunnel::Parcel;
use crate::verdict::{Reason, Stage, Verdict};

pub(crate) use head::Head;

/// A fragment comes in.
///
/// # Errors
/// Why it passes as it is.
#[inline(always)]
pub(crate) fn ingress<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Result<Verdict, Reason> {
    let mut place = MaybeUninit::uninit();
    let fragment = Fragment::read(frame, &mut place)?;
    if fragment.first {
        meet(frame, fragment, tables, stack)?;
        if fragment.said.kind == MASQUERADED {
            return Ok(Verdict::Continue(Stage::Nat));
        }
        if fragment.said.kind == fragmented::REPLY || is_followed_to(&fragment.packet, tables) {
            fragment.remember(stack.now(), tables);
        }
    } else if !fragment.recall(stack.now(), tables) {
        if is_followed_to(&fragment.packet, tables) {
            tables.count_reason(Reason::FragmentUnseen);
            return Ok(Verdict::Drop(Reason::FragmentUnseen));
        }
        return Err(unseen_reply(&fragment.packet, tables));
    } else {
        stack.met(fragment.said.service, fragment.said.id, how::FRAGMENT);
    }
    if is_direct(fragment, tables)? {
        go_on(frame, fragment, tables, stack)?;
    } else {
        find_way(frame, fragment, tables, stack)?;
        carry_out(frame, fragment, tables)?;
    }
    if fragment.handed_on {
        return Ok(Verdict::Continue(Stage::Wrap));
    }
    Ok(match fragment.interface {
        0 => Verdict::Deliver,
        interface => out(interface, stack),
    })
}

/// Whether it goes to an endpoint that has the VIP.
#[inline(always)]
fn is_direct<T: Tables>(fragment: &Fragment, tables: &T) -> Result<bool, Reason> {
    let Fragmented { kind, id, .. } = fragment.said;
    if kind != fragmented::REQUEST {
        return Ok(false);
    }
    Ok(request::endpoint(id, tables)?.flags & endpoint_flags::DIRECT != 0)
}

/// To such an endpoint.
///
/// A function of its own also in the programs, for its stack.
#[inline(never)]
fn go_on<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &mut F,
    fragment: &mut Fragment,
    tables: &T,
    stack: &S,
) -> Result<(), Reason> {
    let endpoint = request(frame, fragment, tables)?;
    let (packet, id) = (&fragment.packet, fragment.said.id);
    if endpoint.has(endpoint_flags::TUNNEL) {
        tables.hand_on(&Parcel::part(packet, id, fragment.first));
        fragment.handed_on = true;
        return Ok(());
    }
    let address = endpoint.address;
    fragment.interface = dsr::relay(frame, packet, id, address, false, tables, stack)?;
    Ok(())
}

/// How it goes on.
///
/// A function of its own also in the programs, for its stack.
#[inline(never)]
fn find_way<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &F,
    fragment: &mut Fragment,
    tables: &T,
    stack: &S,
) -> Result<(), Reason> {
    let (packet, said) = (&fragment.packet, &fragment.said);
    let (address, end) = match said.kind {
        fragmented::REQUEST => {
            let endpoint = request::endpoint(said.id, tables)?;
            if endpoint.flags & (endpoint_flags::ROUTED | endpoint_flags::MASQUERADE) == 0 {
                return Ok(());
            }
            (endpoint.address, End::Destination)
        }
        fragmented::REPLY => (reply::face(said.service, tables)?.address, End::Source),
        _ => return Err(Reason::NotOurs),
    };
    let onward = Onward {
        address,
        other: said.other,
        both: said.other != NOWHERE,
        end,
        endpoint: said.id,
        finished: true,
    };
    let forth = onward.find(frame, packet, tables, stack)?;
    fragment.hop = forth.hop;
    fragment.interface = forth.interface;
    Ok(())
}

/// As the first fragment has said.
///
/// A function of its own also in the programs, for its stack.
#[inline(never)]
fn carry_out<F: Frame + ?Sized, T: Tables>(
    frame: &mut F,
    fragment: &Fragment,
    tables: &T,
) -> Result<(), Reason> {
    let (packet, said) = (&fragment.packet, &fragment.said);
    let edit = if said.kind == fragmented::REQUEST {
        let endpoint = request(frame, fragment, tables)?;
        Edit::to(packet, endpoint.address, endpoint.port)
    } else {
        reply(packet, said.service, tables)?
    };
    let mut edit = Edit {
        both: said.other != NOWHERE,
        other_address: said.other,
        ..edit
    };
    let forwarded = fragment.interface != 0;
    if edit.both && !forwarded {
        edit.leave_source(packet);
    }
    fragment.emit(frame, &edit).ok_or(Reason::Malformed)?;
    // Apart from the edit, in which it would be an option: the compiler may move one that was never set.
    if forwarded {
        rewrite::hop(frame, packet, fragment.hop).ok_or(Reason::Malformed)?;
    }
    Ok(())
}

/// A fragment goes out.
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
    let fragment = Fragment::read(frame, &mut place)?;
    if fragment.first {
        leaves(fragment, tables, stack);
        let is_request = fragment.said.kind == fragmented::REQUEST;
        if is_request || is_followed_from(&fragment.packet, tables) {
            fragment.remember(stack.now(), tables);
        }
    } else if !fragment.recall(stack.now(), tables) {
        return Err(unseen_reply(&fragment.packet, tables));
    } else {
        stack.met(fragment.said.service, fragment.said.id, how::FRAGMENT);
    }
    let (packet, said) = (&fragment.packet, &fragment.said);
    let edit = match said.kind {
        fragmented::REPLY if said.other != NOWHERE => {
            reply(packet, said.service, tables)?.and(said.other, said.port)
        }
        fragmented::REPLY => reply(packet, said.service, tables)?,
        // Else it came in as it leaves, to an endpoint that has the VIP.
        fragmented::REQUEST if said.other != NOWHERE => Edit::from(packet, said.other, said.port),
        _ => return Err(Reason::NotOurs),
    };
    fragment.emit(frame, &edit).ok_or(Reason::Malformed)?;
    Ok(Verdict::Deliver)
}

/// A fragment of a TCP or UDP packet.
#[derive(Clone, Copy)]
struct Fragment {
    /// Without ports, if it is not the first.
    packet: Packet,
    /// What the first one said.
    said: Fragmented,
    /// Of the packet that it is part of.
    identification: u32,
    first: bool,
    /// Another stage takes it further.
    handed_on: bool,
    /// By which it is forwarded; 0 leaves it to the stack.
    interface: u32,
    /// Link addresses, if it is forwarded.
    hop: Hop,
}

impl Kept for Fragment {}

impl Fragment {
    #[inline(always)]
    fn read<'a, F: Frame + ?Sized>(
        frame: &F,
        place: &'a mut MaybeUninit<Self>,
    ) -> Result<&'a mut Self, Reason> {
        let layers = frame.layers(Layers::find(frame)?);
        let part = layers.fragment(frame).ok_or(Reason::Malformed)?;
        let first = part.offset == 0;
        let packet = if first {
            if !matches!(layers.protocol, TCP | UDP) {
                return Err(Reason::Protocol);
            }
            parse::packet(frame, &layers)?
        } else {
            parse::bare(frame, &layers)?
        };
        let fragment = Self {
            packet,
            said: PASSES,
            identification: part.id,
            first,
            handed_on: false,
            interface: 0,
            hop: Hop {
                destination: [0; 6],
                source: [0; 6],
            },
        };
        frame.keep(fragment, place).ok_or(Reason::NotOurs)
    }

    /// A function of its own also in the programs, for its stack.
    #[inline(never)]
    fn remember<T: Tables>(&mut self, now: u32, tables: &T) {
        self.said.seen = now;
        tables.set_fragments(&key(&self.packet, self.identification), &self.said);
    }

    /// Finds out what the first one said. False if it has not been seen, or long ago.
    ///
    /// A function of its own also in the programs, for its stack.
    #[inline(never)]
    fn recall<T: Tables>(&mut self, now: u32, tables: &T) -> bool {
        let Some(said) = tables.fragments(&key(&self.packet, self.identification)) else {
            return false;
        };
        self.said = said;
        // Negative if another CPU, whose clock is ahead, has just seen it.
        let age = now.wrapping_sub(said.seen).cast_signed();
        age <= FRAGMENTS_LIFE.cast_signed()
    }

    #[inline(always)]
    fn emit<F: Frame + ?Sized>(&self, frame: &mut F, edit: &Edit) -> Option<()> {
        if self.first {
            frame.edit(edit)
        } else {
            rewrite::header(frame, edit)
        }
    }
}

#[inline(always)]
const fn key(packet: &Packet, identification: u32) -> FragmentKey {
    let Packet {
        source,
        destination,
        protocol,
        is_v6,
        ..
    } = *packet;
    FragmentKey {
        source,
        destination,
        identification,
        // Fragments of one IPv6 packet need not agree on what follows (RFC 8200, 4.5).
        protocol: if is_v6 { 0 } else { protocol as u32 },
    }
}

/// What is said of a packet that passes.
const PASSES: Fragmented = Fragmented {
    kind: fragmented::PASSES,
    id: 0,
    service: 0,
    port: Port(0),
    seen: 0,
    reserved: 0,
    other: NOWHERE,
};

/// What is said here of a packet that is masqueraded: never remembered.
const MASQUERADED: u16 = u16::MAX;

/// No address.
const NOWHERE: Address = Address([0; 2]);

/// What classification and steering say of a packet.
#[inline(always)]
fn meet<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &F,
    fragment: &mut Fragment,
    tables: &T,
    stack: &S,
) -> Result<(), Reason> {
    let Fragment { packet, said, .. } = fragment;
    match classify::incoming(packet, tables) {
        Some(Class::Request(_, service)) if service.has(service_flags::MASQUERADE) => {
            said.kind = MASQUERADED;
        }
        Some(Class::Request(index, service)) => {
            stack.met(index, 0, how::REQUEST);
            let (id, endpoint) = request::steer(frame, packet, index, service, tables, stack)?;
            if !request::stays(endpoint, service) {
                said.kind = fragmented::REQUEST;
                said.id = id;
            }
        }
        Some(Class::Reply(_, endpoint)) if endpoint.has(endpoint_flags::MASQUERADE) => {
            said.kind = MASQUERADED;
        }
        Some(Class::Reply(id, endpoint)) => {
            stack.met(endpoint.service, id, how::REPLY);
            let service = reply::answers_as(packet, id, endpoint, tables);
            answer(said, id, service);
        }
        Some(Class::Direct(id)) => {
            stack.met(0, id, how::DIRECT);
            let _reason = request::direct(frame, packet, id, tables);
        }
        None => {}
    }
    Ok(())
}

/// What is to be done with a packet that leaves this host.
#[inline(always)]
fn leaves<T: NatTables, S: Stack>(fragment: &mut Fragment, tables: &T, stack: &S) {
    let Fragment { packet, said, .. } = fragment;
    if let Some((id, endpoint)) = classify::sender(packet, tables) {
        if endpoint.has(endpoint_flags::MASQUERADE) {
            let (client, port) = (packet.destination, packet.destination_port);
            let mut left = Left::of(client, port, id);
            if left.find(how::REPLY, tables, stack).is_ok() {
                answer(said, id, Ok(left.holder.service));
                said.port = left.holder.port;
                said.other = client;
            }
            return;
        }
        stack.met(endpoint.service, id, how::REPLY);
        let service = reply::answers_as(packet, id, endpoint, tables);
        answer(said, id, service);
        return;
    }
    let Some((id, endpoint)) = classify::receiver(packet, tables) else {
        return;
    };
    if !endpoint.has(endpoint_flags::MASQUERADE) {
        return;
    }
    let mut left = Left::of(packet.source, packet.source_port, id);
    if left.find(How::Tag as u32, tables, stack).is_ok() {
        said.kind = fragmented::REQUEST;
        said.id = id;
        said.port = packet.source_port;
        said.other = left.back.source;
    }
}

/// What is said of an endpoint's packet that answers as this service.
#[inline(always)]
const fn answer(said: &mut Fragmented, id: u16, service: Result<u16, Reason>) {
    if let Ok(service) = service {
        said.kind = fragmented::REPLY;
        said.id = id;
        said.service = service;
    }
}

/// The endpoint that a packet goes to.
#[inline(always)]
fn request<'a, F: Frame + ?Sized, T: Tables>(
    frame: &F,
    fragment: &Fragment,
    tables: &'a T,
) -> Result<&'a Endpoint, Reason> {
    let endpoint = request::endpoint(fragment.said.id, tables)?;
    if !fragment.first {
        let bytes = frame.length();
        let begins = false;
        tables.count(endpoint.counter, Count::Packet { bytes, begins });
    }
    Ok(endpoint)
}

/// The edit that makes a packet come from a service.
#[inline(always)]
fn reply<T: Tables>(packet: &Packet, service: u16, tables: &T) -> Result<Edit, Reason> {
    let service = reply::face(service, tables)?;
    Ok(Edit::from(packet, service.address, service.port))
}

#[inline(always)]
fn is_followed_to<T: Tables>(packet: &Packet, tables: &T) -> bool {
    let key = AddressKey::fragments_to(packet.destination, packet.protocol);
    tables.find(&key).is_some()
}

#[inline(always)]
fn is_followed_from<T: Tables>(packet: &Packet, tables: &T) -> bool {
    let key = AddressKey::fragments_from(packet.source, packet.protocol);
    tables.find(&key).is_some()
}

#[inline(always)]
fn unseen_reply<T: Tables>(packet: &Packet, tables: &T) -> Reason {
    if is_followed_from(packet, tables) {
        Reason::FragmentUnseen
    } else {
        Reason::NotOurs
    }
}
