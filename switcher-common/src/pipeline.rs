//! The stages in order: the data path's table of contents, behind the [front].
//!
//! Incoming: parse, classify, steer, rewrite, forward. Outgoing: replies of endpoints get the service's
//! address back.

use core::mem::MaybeUninit;

use crate::abi::notice::notice_kind;
use crate::abi::trace::how;
use crate::abi::{Endpoint, FlowKey, Note, Service, TCP, endpoint_flags, note_kind, service_flags};
use crate::classify::{self, Class};
use crate::dsr;
use crate::error;
use crate::forward::{Step, Via, out, send};
use crate::fragment::{self, Head};
use crate::frame::Frame;
use crate::front;
use crate::nat::{self, NatTables};
use crate::parse::{self, Packet, TcpFlags};
use crate::quic;
use crate::rewrite::Edit;
use crate::select::{self, Steered};
use crate::steer::{How, Segment};
use crate::tables::{Count, Stack, Tables};
use crate::tunnel::{self, Parcel};
use crate::unreachable;
use crate::verdict::{Reason, Stage, Verdict};

/// A packet comes in by one of our interfaces, and the front has not decided: [`Stage::Whole`].
#[inline(always)]
pub fn ingress<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Verdict {
    let packet = match parse::parse(frame) {
        Ok(packet) => packet,
        Err(Reason::Fragment) => return Verdict::Continue(Stage::Fragments),
        Err(Reason::IcmpError) => return Verdict::Continue(Stage::Errors),
        Err(reason) => return pass(reason, tables),
    };
    if !classify::concerns(&packet, tables) {
        return Verdict::Pass(Reason::NotOurs);
    }
    let mut place = MaybeUninit::uninit();
    let Some(packet) = frame.keep(packet, &mut place) else {
        return Verdict::Pass(Reason::NotOurs);
    };
    let step = match classify::incoming(packet, tables) {
        None => return Verdict::Pass(Reason::NotOurs),
        Some(Class::Request(_, service)) if service.has(service_flags::KEEPS_VIP) => {
            return Verdict::Continue(Stage::Tunnel);
        }
        Some(Class::Request(_, service)) if service.has(service_flags::MASQUERADE) => {
            return Verdict::Continue(Stage::Nat);
        }
        Some(Class::Reply(_, endpoint)) if endpoint.has(endpoint_flags::MASQUERADE) => {
            return Verdict::Continue(Stage::Nat);
        }
        Some(Class::Request(index, service)) => {
            stack.met(index, 0, how::REQUEST);
            request(frame, packet, index, service, tables, stack)
        }
        Some(Class::Direct(id)) => {
            stack.met(0, id, how::DIRECT);
            Err(direct(frame, packet, id, tables))
        }
        Some(Class::Reply(id, endpoint)) => {
            stack.met(endpoint.service, id, how::REPLY);
            reply(frame, packet, id, endpoint, tables)
        }
    };
    finish(frame, packet, step, tables, stack)
}

/// Fragments: [`Stage::Fragments`].
#[inline(always)]
pub fn fragments<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Verdict {
    match fragment::ingress(frame, tables, stack) {
        Ok(verdict) => verdict,
        Err(reason) => pass(reason, tables),
    }
}

/// ICMP, of which only errors are anybody's business: [`Stage::Errors`].
#[inline(always)]
pub fn errors<F: Frame + ?Sized, T: NatTables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Verdict {
    match error::ingress(frame, tables, stack) {
        Ok(verdict) => verdict,
        Err(reason) => pass(reason, tables),
    }
}

/// Services whose endpoints answer to this host: [`Stage::Nat`].
#[inline(always)]
pub fn nat<F: Frame + ?Sized, T: NatTables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Verdict {
    let mut place = MaybeUninit::uninit();
    let head = match Head::read(frame, &mut place) {
        Ok(head) => head,
        Err(reason) => return pass(reason, tables),
    };
    let packet = &head.packet;
    match classify::incoming(packet, tables) {
        None | Some(Class::Direct(_)) => Verdict::Pass(Reason::NotOurs),
        Some(Class::Request(index, service)) => {
            stack.met(index, 0, how::REQUEST);
            let step = nat::request(frame, packet, index, service, tables, stack);
            head.request(&step, stack.now(), tables);
            finish(frame, packet, step, tables, stack)
        }
        Some(Class::Reply(id, endpoint)) => {
            stack.met(endpoint.service, id, how::REPLY);
            let step = nat::reply(frame, packet, id, endpoint, tables, stack);
            head.reply(&step, id, stack.now(), tables);
            let step = step.map(|(step, _)| step);
            finish(frame, packet, step, tables, stack)
        }
    }
}

/// Services whose packets reach endpoints with the VIP in them: [`Stage::Tunnel`].
#[inline(always)]
pub fn tunnel<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Verdict {
    let packet = match parse::parse(frame) {
        Ok(packet) => packet,
        Err(reason) => return pass(reason, tables),
    };
    let mut place = MaybeUninit::uninit();
    let Some(packet) = frame.keep(packet, &mut place) else {
        return Verdict::Pass(Reason::NotOurs);
    };
    let Some(Class::Request(index, service)) = classify::incoming(packet, tables) else {
        return Verdict::Pass(Reason::NotOurs);
    };
    stack.met(index, 0, how::REQUEST);
    let (id, endpoint) = match steer(frame, packet, index, service, tables, stack) {
        Ok(chosen) => chosen,
        Err(reason) => return pass(reason, tables),
    };
    if endpoint.has(endpoint_flags::UNTOUCHED) {
        return Verdict::Pass(Reason::Untouched);
    }
    if endpoint.has(endpoint_flags::TUNNEL) {
        tables.hand_on(&Parcel::whole(packet, id));
        return Verdict::Continue(Stage::Wrap);
    }
    match dsr::relay(frame, packet, id, endpoint.address, true, tables, stack) {
        Ok(interface) => out(interface, stack),
        Err(reason) => pass(reason, tables),
    }
}

/// What travels on inside another packet: [`Stage::Wrap`].
#[inline(always)]
pub fn wrap<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Verdict {
    match tunnel::wrap(frame, tables, stack) {
        Ok(verdict) => verdict,
        Err(reason) => pass(reason, tables),
    }
}

/// What would be too big inside another packet: [`Stage::Answer`].
#[inline(always)]
pub fn answer<F: Frame + ?Sized, T: Tables>(frame: &mut F, tables: &T) -> Verdict {
    let told = unreachable::too_big(frame, tables);
    let verdict = pass(Reason::TooBig, tables);
    if told { Verdict::Transmit } else { verdict }
}

/// The front and whatever stages take over from it, as the kernel's tail calls do.
pub fn run<F: Frame + ?Sized, T: NatTables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Verdict {
    let verdict = front::ingress(frame, tables, stack);
    run_on(verdict, frame, tables, stack)
}

/// Whatever stages take over after `verdict`.
pub fn run_on<F: Frame + ?Sized, T: NatTables, S: Stack>(
    mut verdict: Verdict,
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Verdict {
    while let Verdict::Continue(stage) = verdict {
        verdict = match stage {
            Stage::Fragments => fragments(frame, tables, stack),
            Stage::Errors => errors(frame, tables, stack),
            Stage::Nat => nat(frame, tables, stack),
            Stage::Tunnel => tunnel(frame, tables, stack),
            Stage::Wrap => wrap(frame, tables, stack),
            Stage::Answer => answer(frame, tables),
            Stage::Whole => ingress(frame, tables, stack),
        };
    }
    verdict
}

/// A packet leaves by one of our interfaces, from the host itself or through its stack.
#[inline(always)]
pub fn egress<F: Frame + ?Sized, T: NatTables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Verdict {
    let packet = match parse::parse(frame) {
        Ok(packet) => packet,
        Err(Reason::Fragment) => return Verdict::Continue(Stage::Fragments),
        Err(Reason::IcmpError) => return Verdict::Continue(Stage::Errors),
        Err(_) => return Verdict::Pass(Reason::NotOurs),
    };
    let edit = match classify::sender(&packet, tables) {
        Some((id, endpoint)) if endpoint.has(endpoint_flags::MASQUERADE) => {
            nat::reply_leaves(&packet, id, endpoint, tables, stack)
        }
        Some((id, endpoint)) => {
            if !endpoint.has(endpoint_flags::ROUTED) {
                count_reply(frame, &packet, endpoint, tables);
            }
            stack.met(endpoint.service, id, how::REPLY);
            reply_as(&packet, id, endpoint, tables)
        }
        None => match classify::receiver(&packet, tables) {
            Some((id, endpoint)) if endpoint.has(endpoint_flags::MASQUERADE) => {
                nat::request_leaves(&packet, id, endpoint, tables, stack)
            }
            Some(_) | None => Err(Reason::NotOurs),
        },
    };
    match edit {
        Ok(edit) => match frame.edit(&edit) {
            Some(()) => Verdict::Deliver,
            None => pass(Reason::Malformed, tables),
        },
        Err(reason) => pass(reason, tables),
    }
}

/// [`egress`] for fragments and ICMP errors.
#[inline(always)]
pub fn odd_egress<F: Frame + ?Sized, T: NatTables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Verdict {
    let sent = match parse::parse(frame) {
        Err(Reason::Fragment) => fragment::egress(frame, tables, stack),
        Err(Reason::IcmpError) => error::egress(frame, tables, stack),
        _ => Err(Reason::NotOurs),
    };
    match sent {
        Ok(verdict) => verdict,
        Err(Reason::FragmentUnseen) => pass(Reason::FragmentUnseen, tables),
        // Of what leaves this host little is anybody's business.
        Err(_) => Verdict::Pass(Reason::NotOurs),
    }
}

/// [`egress`] and what takes over from it.
pub fn run_egress<F: Frame + ?Sized, T: NatTables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Verdict {
    match egress(frame, tables, stack) {
        Verdict::Continue(Stage::Fragments | Stage::Errors) => odd_egress(frame, tables, stack),
        verdict => verdict,
    }
}

#[inline(always)]
fn request<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &F,
    packet: &Packet,
    index: u16,
    service: &Service,
    tables: &T,
    stack: &S,
) -> Result<Step, Reason> {
    let (id, endpoint) = steer(frame, packet, index, service, tables, stack)?;
    if stays(endpoint, service) {
        return Err(Reason::Untouched);
    }
    Ok(to(packet, id, endpoint))
}

/// The endpoint of a request: steered, counted.
#[inline(always)]
pub(crate) fn steer<'a, F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &F,
    packet: &Packet,
    index: u16,
    service: &Service,
    tables: &'a T,
    stack: &S,
) -> Result<(u16, &'a Endpoint), Reason> {
    let segment = match packet.protocol {
        TCP => parse::segment(frame, packet),
        _ if service.has(service_flags::QUIC) => quic::segment(frame, packet),
        _ => Segment::OTHER,
    };
    let chosen = if service.has(service_flags::PREVIEW) {
        select::preview(packet, index, service, segment.opens, tables, stack)
    } else {
        select::steer(packet, index, service, segment, tables, stack)
    };
    let steered = chosen.ok_or(Reason::NoTable)?;
    stack.met(index, steered.endpoint, steered.how as u32);
    if steered.how == How::Paused {
        return Err(Reason::Paused);
    }
    let endpoint = endpoint(steered.endpoint, tables)?;
    if steered.how == How::Held {
        return Err(Reason::TagWait);
    }
    account(frame, packet, service, endpoint, steered, tables);
    Ok((steered.endpoint, endpoint))
}

/// An endpoint that is there.
#[inline(always)]
pub(crate) fn endpoint<T: Tables>(id: u16, tables: &T) -> Result<&Endpoint, Reason> {
    tables
        .endpoint(id)
        .filter(|endpoint| endpoint.has(endpoint_flags::PRESENT))
        .ok_or(Reason::NoEndpoint)
}

/// Whether an endpoint is the VIP itself. By the preview a packet has to be rewritten even to that.
#[inline(always)]
pub(crate) const fn stays(endpoint: &Endpoint, service: &Service) -> bool {
    endpoint.has(endpoint_flags::UNTOUCHED) && !service.has(service_flags::PREVIEW)
}

/// A packet to an endpoint that is not the VIP itself.
#[inline(always)]
const fn to(packet: &Packet, id: u16, endpoint: &Endpoint) -> Step {
    let via = if endpoint.has(endpoint_flags::ROUTED) {
        Via::Endpoint(id)
    } else {
        Via::Host
    };
    Step {
        edit: Edit::to(packet, endpoint.address, endpoint.port),
        via,
    }
}

/// What is counted and forgotten when a request has found its endpoint.
#[inline(always)]
fn account<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    packet: &Packet,
    service: &Service,
    endpoint: &Endpoint,
    steered: Steered,
    tables: &T,
) {
    let Steered {
        endpoint: id,
        how,
        begins,
    } = steered;
    if how == How::Refused {
        tables.count_reason(Reason::TagRefused);
    }
    if endpoint.noted != 0 && begins && !service.has(service_flags::PREVIEW) {
        tables.remove_note(&FlowKey::reply(packet.source, packet.source_port, id));
    }
    tables.count(
        endpoint.counter,
        Count::Packet {
            bytes: frame.length(),
            begins,
        },
    );
}

/// Past the VIP, on purpose: the replies must not get the VIP's address.
///
/// A function of its own also in the programs, for its stack.
#[inline(never)]
pub(crate) fn direct<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    packet: &Packet,
    id: u16,
    tables: &T,
) -> Reason {
    let masqueraded = tables
        .endpoint(id)
        .is_some_and(|endpoint| endpoint.has(endpoint_flags::MASQUERADE));
    // Its replies do not come to this host's own address.
    if masqueraded {
        return Reason::Direct;
    }
    let key = FlowKey::reply(packet.source, packet.source_port, id);
    let flags = parse::flags(frame, packet);
    let begins = packet.protocol != TCP || flags.opens();
    let noted = tables.note(&key);
    if packet.protocol == TCP && flags.resets() && noted.is_none() {
        // Nothing began here: it answers what should have come from the service.
        leak(id, tables);
        return Reason::Leak;
    }
    if noted.is_none() || begins && noted.is_some_and(|note| note.kind != note_kind::DIRECT) {
        tables.set_note(
            &key,
            Note {
                kind: note_kind::DIRECT,
                id,
            },
        );
        tables.mark_noted(id);
    }
    Reason::Direct
}

/// Tells the agent that a client sees an endpoint's own address, for want of its service's.
#[inline(always)]
fn leak<T: Tables>(id: u16, tables: &T) {
    let service = tables.endpoint(id).map_or(0, |endpoint| endpoint.service);
    let group = tables.service(service).map_or(0, |service| service.group);
    tables.notice(notice_kind::LEAK, group, id, u32::from(id) + 1);
}

/// A routed endpoint's reply on its way through this host.
#[inline(always)]
fn reply<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    packet: &Packet,
    id: u16,
    endpoint: &Endpoint,
    tables: &T,
) -> Result<Step, Reason> {
    count_reply(frame, packet, endpoint, tables);
    let edit = reply_as(packet, id, endpoint, tables)?;
    Ok(Step {
        edit,
        via: Via::Client,
    })
}

/// Resets and SYN-ACKs, once a packet: a routed endpoint's replies are seen where they come in.
#[inline(always)]
fn count_reply<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    packet: &Packet,
    endpoint: &Endpoint,
    tables: &T,
) {
    if packet.protocol == TCP {
        count_flags(parse::flags(frame, packet), endpoint, tables);
    }
}

/// The same of a segment with these flags.
#[inline(always)]
pub(crate) fn count_flags<T: Tables>(flags: TcpFlags, endpoint: &Endpoint, tables: &T) {
    if flags.resets_or_synchronises() {
        let event = if flags.resets() {
            Count::Reset
        } else {
            Count::Answer
        };
        tables.count(endpoint.counter, event);
    }
}

/// The edit that gives a reply the address its client expects, or why it stays as it is.
#[inline(always)]
pub(crate) fn reply_as<T: Tables>(
    packet: &Packet,
    id: u16,
    endpoint: &Endpoint,
    tables: &T,
) -> Result<Edit, Reason> {
    let Ok(service) = face(answers_as(packet, id, endpoint, tables)?, tables) else {
        leak(id, tables);
        return Err(Reason::Leak);
    };
    Ok(Edit::from(packet, service.address, service.port))
}

/// The service or preview whose address a reply gets, or why it stays as it is.
#[inline(always)]
pub(crate) fn answers_as<T: Tables>(
    packet: &Packet,
    id: u16,
    endpoint: &Endpoint,
    tables: &T,
) -> Result<u16, Reason> {
    // Its replies are recognised by the port they go to.
    if endpoint.has(endpoint_flags::MASQUERADE) {
        return Err(Reason::NotOurs);
    }
    let mut service = endpoint.service;
    if endpoint.noted != 0 {
        let note = tables.note(&FlowKey::reply(
            packet.destination,
            packet.destination_port,
            id,
        ));
        match note {
            Some(Note {
                kind: note_kind::DIRECT,
                ..
            }) => return Err(Reason::Direct),
            Some(Note {
                kind: note_kind::PREVIEW,
                id: preview,
            }) => service = preview,
            Some(_) | None => {}
        }
    }
    if endpoint.has(endpoint_flags::UNTOUCHED) && service == endpoint.service {
        return Err(Reason::Untouched);
    }
    Ok(service)
}

/// The service or preview that clients see.
#[inline(always)]
pub(crate) fn face<T: Tables>(index: u16, tables: &T) -> Result<&Service, Reason> {
    tables
        .service(index)
        .filter(|service| service.has(service_flags::PRESENT))
        .ok_or(Reason::NotOurs)
}

/// Carries a step out.
#[inline(always)]
fn finish<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &mut F,
    packet: &Packet,
    step: Result<Step, Reason>,
    tables: &T,
    stack: &S,
) -> Verdict {
    match step.and_then(|step| send(frame, packet, step, tables, stack)) {
        Ok((edit, verdict)) => match frame.edit(&edit) {
            Some(()) => verdict,
            None => pass(Reason::Malformed, tables),
        },
        Err(reason) => pass(reason, tables),
    }
}

#[inline(always)]
fn pass<T: Tables>(reason: Reason, tables: &T) -> Verdict {
    if reason.counted() {
        tables.count_reason(reason);
    }
    if reason.drops() {
        Verdict::Drop(reason)
    } else {
        Verdict::Pass(reason)
    }
}
