//! The stages in order: the data path's table of contents.
//!
//! Incoming: parse, classify, steer, rewrite, forward. Outgoing: replies of endpoints get the service's
//! address back.

use crate::abi::notice::notice_kind;
use crate::abi::{Endpoint, FlowKey, Note, Service, TCP, endpoint_flags, note_kind, service_flags};
use crate::classify::{self, Class};
use crate::forward::{Step, Via, send};
use crate::frame::Frame;
use crate::parse::{self, Packet};
use crate::rewrite::Edit;
use crate::select::{self, Steered};
use crate::steer::{How, Segment};
use crate::tables::{Count, Stack, Tables};
use crate::verdict::{Reason, Stage, Verdict};

/// A packet comes in by one of our interfaces.
#[inline(always)]
pub fn ingress<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Verdict {
    let packet = match parse::parse(frame) {
        Ok(packet) => packet,
        Err(reason) => return pass(reason, tables),
    };
    let step = match classify::incoming(&packet, tables) {
        None => return Verdict::Pass(Reason::NotOurs),
        Some(Class::Request(index, service)) => {
            request(frame, &packet, index, service, tables, stack)
        }
        Some(Class::Direct(id)) => Err(direct(frame, &packet, id, tables)),
        Some(Class::Reply(id, endpoint)) => reply(frame, &packet, id, endpoint, tables),
    };
    match step.and_then(|step| send(frame, &packet, step, tables, stack)) {
        Ok((edit, verdict)) => match frame.edit(&edit) {
            Some(()) => verdict,
            None => pass(Reason::Malformed, tables),
        },
        Err(reason) => pass(reason, tables),
    }
}

/// Fragments and ICMP errors: [`Stage::Odd`].
#[inline(always)]
pub fn odd<F: Frame + ?Sized, T: Tables, S: Stack>(
    _frame: &mut F,
    _tables: &T,
    _stack: &S,
) -> Verdict {
    Verdict::Pass(Reason::NotOurs)
}

/// Services whose endpoints answer to this host: [`Stage::Nat`].
#[inline(always)]
pub fn nat<F: Frame + ?Sized, T: Tables, S: Stack>(
    _frame: &mut F,
    _tables: &T,
    _stack: &S,
) -> Verdict {
    Verdict::Pass(Reason::NotOurs)
}

/// Services whose packets travel inside others: [`Stage::Tunnel`].
#[inline(always)]
pub fn tunnel<F: Frame + ?Sized, T: Tables, S: Stack>(
    _frame: &mut F,
    _tables: &T,
    _stack: &S,
) -> Verdict {
    Verdict::Pass(Reason::NotOurs)
}

/// [`ingress`] and whatever stages take over from it, as the kernel's tail calls do.
pub fn run<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Verdict {
    match ingress(frame, tables, stack) {
        Verdict::Continue(Stage::Odd) => odd(frame, tables, stack),
        Verdict::Continue(Stage::Nat) => nat(frame, tables, stack),
        Verdict::Continue(Stage::Tunnel) => tunnel(frame, tables, stack),
        verdict => verdict,
    }
}

/// A packet leaves by one of our interfaces, from the host itself or through its stack.
#[inline(always)]
pub fn egress<F: Frame + ?Sized, T: Tables>(frame: &mut F, tables: &T) -> Verdict {
    let Ok(packet) = parse::parse(frame) else {
        return Verdict::Pass(Reason::NotOurs);
    };
    let Some((id, endpoint)) = classify::sender(&packet, tables) else {
        return Verdict::Pass(Reason::NotOurs);
    };
    if !endpoint.has(endpoint_flags::ROUTED) {
        count_reset(frame, &packet, endpoint, tables);
    }
    match reply_as(&packet, id, endpoint, tables) {
        Ok(edit) => match frame.edit(&edit) {
            Some(()) => Verdict::Deliver,
            None => pass(Reason::Malformed, tables),
        },
        Err(reason) => pass(reason, tables),
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
    let segment = match packet.protocol {
        TCP => parse::segment(frame, packet),
        _ => Segment::OTHER,
    };
    let chosen = if service.has(service_flags::PREVIEW) {
        select::preview(packet, index, service, segment.opens, tables, stack)
    } else {
        select::steer(packet, index, service, segment, tables, stack)
    };
    let Steered {
        endpoint: id,
        how,
        begins,
    } = chosen.ok_or(Reason::NoTable)?;
    if how == How::Paused {
        return Err(Reason::Paused);
    }
    let endpoint = tables
        .endpoint(id)
        .filter(|endpoint| endpoint.has(endpoint_flags::PRESENT))
        .ok_or(Reason::NoEndpoint)?;
    if how == How::Held {
        return Err(Reason::TagWait);
    }
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
    // By the preview it has to be rewritten even to the VIP.
    if endpoint.has(endpoint_flags::UNTOUCHED) && !service.has(service_flags::PREVIEW) {
        return Err(Reason::Untouched);
    }
    let via = if endpoint.has(endpoint_flags::ROUTED) {
        Via::Endpoint(id)
    } else {
        Via::Host
    };
    Ok(Step {
        edit: Edit::to(packet, endpoint.address, endpoint.port),
        via,
    })
}

/// Past the VIP, on purpose: the replies must not get the VIP's address.
#[inline(always)]
fn direct<F: Frame + ?Sized, T: Tables>(frame: &F, packet: &Packet, id: u16, tables: &T) -> Reason {
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
    count_reset(frame, packet, endpoint, tables);
    let edit = reply_as(packet, id, endpoint, tables)?;
    Ok(Step {
        edit,
        via: Via::Client,
    })
}

/// Once a packet: a routed endpoint's replies are seen where they come in.
#[inline(always)]
fn count_reset<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    packet: &Packet,
    endpoint: &Endpoint,
    tables: &T,
) {
    if packet.protocol == TCP && parse::flags(frame, packet).resets() {
        tables.count(endpoint.counter, Count::Reset);
    }
}

/// The edit that gives a reply the address its client expects, or why it stays as it is.
#[inline(always)]
fn reply_as<T: Tables>(
    packet: &Packet,
    id: u16,
    endpoint: &Endpoint,
    tables: &T,
) -> Result<Edit, Reason> {
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
    let service = tables
        .service(service)
        .filter(|service| service.has(service_flags::PRESENT));
    let Some(service) = service else {
        leak(id, tables);
        return Err(Reason::Leak);
    };
    Ok(Edit::from(packet, service.address, service.port))
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
