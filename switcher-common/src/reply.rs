//! A reply of an endpoint: whose address its client expects, and what is counted of it.

use crate::abi::notice::notice_kind;
use crate::abi::{Endpoint, FlowKey, Note, Service, TCP, endpoint_flags, note_kind, service_flags};
use crate::forward::{Step, Via};
use crate::frame::Frame;
use crate::parse::{self, Packet, TcpFlags};
use crate::rewrite::Edit;
use crate::tables::{Count, Tables};
use crate::verdict::Reason;

/// A routed endpoint's reply on its way through this host.
#[inline(always)]
pub(crate) fn step<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    packet: &Packet,
    id: u16,
    endpoint: &Endpoint,
    tables: &T,
) -> Result<Step, Reason> {
    count(frame, packet, endpoint, tables);
    let edit = edit(packet, id, endpoint, tables)?;
    Ok(Step {
        edit,
        via: Via::Client,
    })
}

/// Resets and SYN-ACKs, once a packet: a routed endpoint's replies are seen where they come in.
#[inline(always)]
pub(crate) fn count<F: Frame + ?Sized, T: Tables>(
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
pub(crate) fn edit<T: Tables>(
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

/// Tells the agent that a client sees an endpoint's own address, for want of its service's.
#[inline(always)]
pub(crate) fn leak<T: Tables>(id: u16, tables: &T) {
    let service = tables.endpoint(id).map_or(0, |endpoint| endpoint.service);
    let group = tables.service(service).map_or(0, |service| service.group);
    tables.notice(notice_kind::LEAK, group, id, u32::from(id) + 1);
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
