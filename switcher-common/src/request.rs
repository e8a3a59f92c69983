//! A request: the endpoint that it goes to, and what is counted and remembered of that.

use crate::abi::{Endpoint, FlowKey, Note, Service, TCP, endpoint_flags, note_kind, service_flags};
use crate::forward::{Step, Via};
use crate::frame::Frame;
use crate::parse::{self, Packet};
use crate::quic;
use crate::reply;
use crate::rewrite::Edit;
use crate::select::{self, Steered};
use crate::steer::{How, Segment};
use crate::tables::{Count, Stack, Tables};
use crate::verdict::Reason;

/// The endpoint of a request that this host rewrites, and the way there.
#[inline(always)]
pub(crate) fn step<F: Frame + ?Sized, T: Tables, S: Stack>(
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
        reply::leak(id, tables);
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
