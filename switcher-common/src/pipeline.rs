//! The stages in order: the data path's table of contents.
//!
//! Incoming: parse, classify, steer, rewrite, forward. Outgoing: replies of endpoints get the service's
//! address back.

use crate::abi::{
    Address, Endpoint, FlowKey, NextHop, Note, Port, Service, TCP, Tag, endpoint_flags, flow_space,
    note_kind, service_flags,
};
use crate::classify::{self, Class};
use crate::frame::Frame;
use crate::parse::{self, Carriage, Packet};
use crate::rewrite::{Edit, Hop};
use crate::steer::{self, Choice, Flows, How, Ownership, Segment};
use crate::tables::{Count, Route, Stack, Tables};
use crate::verdict::{Reason, Verdict};
use crate::word::{Phase, Word};

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

/// What is to be done with a packet of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    /// New addresses.
    edit: Edit,
    /// Who takes it further.
    via: Via,
}

/// Who takes a packet further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Via {
    /// This host's stack.
    Host,
    /// The program, to a routed endpoint, whose next hop is remembered.
    Endpoint(u16),
    /// The program, to a client.
    Client,
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

/// The flow hash of a packet of `service`.
#[inline(always)]
pub fn flow_hash<T: Tables>(packet: &Packet, service: &Service, tables: &T) -> u32 {
    let port = if service.has(service_flags::BY_SOURCE) {
        0
    } else {
        packet.source_port.0
    };
    steer::hash(tables.settings().seed, packet.source, port)
}

/// The endpoint that the table in `slot` has for a hash.
#[inline(always)]
pub fn choice<T: Tables>(service: &Service, slot: u32, hash: u32, tables: &T) -> Option<u16> {
    let table = *service.tables.get(slot as usize)?;
    if !table.exists() {
        return None;
    }
    tables.bucket(table.bucket(hash))
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
        TCP => parse::segment(frame),
        _ => Segment::OTHER,
    };
    let chosen = if service.has(service_flags::PREVIEW) {
        preview(packet, index, service, segment, tables)
    } else {
        steer(packet, index, service, segment, tables, stack)
    };
    let Steered {
        endpoint: id,
        how,
        begins,
    } = chosen.ok_or(Reason::NoTable)?;
    let endpoint = tables
        .endpoint(id)
        .filter(|endpoint| endpoint.has(endpoint_flags::PRESENT))
        .ok_or(Reason::NoEndpoint)?;
    if how == How::Refused {
        tables.count_reason(Reason::TagRefused);
    }
    if endpoint.noted != 0 && begins && !service.has(service_flags::PREVIEW) {
        tables.remove_note(&reply_key(packet.source, packet.source_port, id));
    }
    tables.count(
        endpoint.counter,
        Count::Packet {
            bytes: frame.length(),
            begins,
        },
    );
    if endpoint.has(endpoint_flags::UNTOUCHED) {
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

/// Where a packet of a service goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steered {
    /// The endpoint's id.
    pub endpoint: u16,
    /// Why.
    pub how: How,
    /// Whether the packet begins a connection or flow.
    pub begins: bool,
}

/// Where a packet goes that came by the VIP; nothing if the word's slot has no table.
#[inline(always)]
pub fn steer<T: Tables, S: Stack>(
    packet: &Packet,
    index: u16,
    service: &Service,
    segment: Segment,
    tables: &T,
    stack: &S,
) -> Option<Steered> {
    let word = tables.word(service.group);
    let hash = flow_hash(packet, service, tables);
    let new = choice(service, word.current(), hash, tables)?;
    if packet.protocol != TCP {
        return Some(datagram(packet, index, service, word, new, tables, stack));
    }
    let (endpoint, how) = if word.phase() == Phase::Steady {
        (new, How::Current)
    } else {
        in_window(
            packet, index, service, segment, word, hash, new, tables, stack,
        )
    };
    let begins = segment.opens;
    Some(Steered {
        endpoint,
        how,
        begins,
    })
}

#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "inlined; a struct of references costs BPF stack"
)]
fn in_window<T: Tables, S: Stack>(
    packet: &Packet,
    index: u16,
    service: &Service,
    segment: Segment,
    word: Word,
    hash: u32,
    new: u16,
    tables: &T,
    stack: &S,
) -> Choice {
    if service.has(service_flags::SOCKETS) {
        let owner = |id| match tables.endpoint(id) {
            Some(endpoint) => stack.owner(packet, endpoint, segment),
            None => Ownership::None,
        };
        return steer::owned(
            word,
            new,
            segment,
            |slot| choice(service, slot, hash, tables),
            owner,
        );
    }
    let old = || choice(service, word.previous(), hash, tables).unwrap_or(new);
    let flow = TcpFlow {
        tables,
        group: service.group,
        key: flow_key(packet, index, flow_space::WINDOW),
    };
    steer::tagged(word, old, new, segment, stack.now(), &flow)
}

#[inline(always)]
fn datagram<T: Tables, S: Stack>(
    packet: &Packet,
    index: u16,
    service: &Service,
    word: Word,
    new: u16,
    tables: &T,
    stack: &S,
) -> Steered {
    if service.has(service_flags::PER_PACKET) {
        return Steered {
            endpoint: new,
            how: How::Current,
            begins: true,
        };
    }
    let flow = UdpFlow {
        tables,
        group: service.group,
        key: flow_key(packet, index, flow_space::UDP),
    };
    let floor = tables.udp_floor(service.group);
    let idle = tables.settings().udp_idle;
    let ((endpoint, how), begins) = steer::flow(word, floor, new, stack.now(), idle, &flow);
    Steered {
        endpoint,
        how,
        begins,
    }
}

/// A preview reaches the staging colour; its flows are always noted, whatever the word does later.
#[inline(always)]
fn preview<T: Tables>(
    packet: &Packet,
    index: u16,
    service: &Service,
    segment: Segment,
    tables: &T,
) -> Option<Steered> {
    let key = flow_key(packet, index, flow_space::PREVIEW);
    let known = tables
        .note(&key)
        .filter(|note| note.kind == note_kind::CHOSEN);
    if let Some(note) = known
        && !segment.opens
    {
        return Some(Steered {
            endpoint: note.id,
            how: How::Tag,
            begins: false,
        });
    }
    let word = tables.word(service.group);
    let endpoint = choice(
        service,
        word.staging(),
        flow_hash(packet, service, tables),
        tables,
    )?;
    tables.set_note(
        &key,
        Note {
            kind: note_kind::CHOSEN,
            id: endpoint,
        },
    );
    let reply = reply_key(packet.source, packet.source_port, endpoint);
    tables.set_note(
        &reply,
        Note {
            kind: note_kind::PREVIEW,
            id: index,
        },
    );
    tables.mark_noted(endpoint);
    Some(Steered {
        endpoint,
        how: How::Current,
        begins: true,
    })
}

/// Past the VIP, on purpose: the replies must not get the VIP's address.
#[inline(always)]
fn direct<F: Frame + ?Sized, T: Tables>(frame: &F, packet: &Packet, id: u16, tables: &T) -> Reason {
    let key = reply_key(packet.source, packet.source_port, id);
    let begins = packet.protocol != TCP || parse::flags(frame).opens();
    let noted = tables.note(&key);
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

/// Out of this host, or up its stack.
#[inline(always)]
fn send<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &F,
    packet: &Packet,
    step: Step,
    tables: &T,
    stack: &S,
) -> Result<(Edit, Verdict), Reason> {
    let Step { mut edit, via } = step;
    let (source, destination, endpoint) = match via {
        Via::Host => return Ok((edit, Verdict::Deliver)),
        Via::Endpoint(id) => (packet.source, edit.to_address(), Some(id)),
        Via::Client => (edit.to_address(), packet.destination, None),
    };
    let carriage = parse::carriage(frame).ok_or(Reason::Malformed)?;
    let way = Way {
        source,
        destination,
        protocol: packet.protocol,
        carriage,
    };
    let route = way.find(endpoint, tables, stack);
    let unfinished = parse::is_unfinished(frame, packet, carriage);
    match route {
        // At the end of its time to live the stack answers for us (RFC 1812, 5.2.7.3), and only the stack
        // finishes checksums.
        Route::Neighbour { interface, hop, .. } if carriage.ttl > 1 && !unfinished => {
            edit.hop = Some(hop);
            let same = interface == stack.interface();
            Ok((
                edit,
                if same {
                    Verdict::Transmit
                } else {
                    Verdict::Redirect(interface)
                },
            ))
        }
        Route::Local if endpoint.is_none() => Err(Reason::OwnReply),
        // It gets the service's address on its way out. Here it would make the packet a martian: the
        // stack drops what comes in from an address of its own.
        Route::Neighbour { .. } | Route::Local | Route::Stack if endpoint.is_none() => {
            Err(Reason::LeftToStack)
        }
        Route::Neighbour { .. } | Route::Local | Route::Stack => {
            tables.count_reason(Reason::LeftToStack);
            // A packet over the MTU is one that GRO or a virtual peer made, and is unfinished. One that
            // fits may be finished and look like this by chance.
            edit.unfinished = unfinished && route == Route::Stack;
            Ok((edit, Verdict::Deliver))
        }
    }
}

/// A way to be found.
struct Way {
    source: Address,
    destination: Address,
    protocol: u8,
    carriage: Carriage,
}

impl Way {
    /// The FIB's answer; for an endpoint it is remembered for a second or two.
    #[inline(always)]
    fn find<T: Tables, S: Stack>(&self, endpoint: Option<u16>, tables: &T, stack: &S) -> Route {
        let Some(id) = endpoint else {
            return self.ask(stack);
        };
        let now = stack.now();
        if let Some(known) = tables.next_hop(id)
            && known.interface != 0
            && known.expires.wrapping_sub(now).cast_signed() >= 0
            && (known.mtu == 0 || u32::from(self.carriage.length) <= known.mtu)
        {
            let NextHop {
                interface,
                destination,
                source,
                mtu,
                ..
            } = known;
            return Route::Neighbour {
                interface,
                hop: Hop {
                    destination,
                    source,
                },
                mtu,
            };
        }
        let route = self.ask(stack);
        if let Route::Neighbour {
            interface,
            hop: Hop {
                destination,
                source,
            },
            mtu,
        } = route
        {
            let expires = now.wrapping_add(1);
            tables.set_next_hop(
                id,
                NextHop {
                    expires,
                    interface,
                    destination,
                    source,
                    mtu,
                },
            );
        }
        route
    }

    #[inline(always)]
    fn ask<S: Stack>(&self, stack: &S) -> Route {
        stack.route(self.source, self.destination, self.protocol, self.carriage)
    }
}

/// Once a packet: a routed endpoint's replies are seen where they come in.
#[inline(always)]
fn count_reset<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    packet: &Packet,
    endpoint: &Endpoint,
    tables: &T,
) {
    if packet.protocol == TCP && parse::flags(frame).resets() {
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
        let note = tables.note(&reply_key(packet.destination, packet.destination_port, id));
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
        .filter(|service| service.has(service_flags::PRESENT))
        .ok_or(Reason::NotOurs)?;
    Ok(Edit::from(packet, service.address, service.port))
}

#[inline(always)]
fn pass<T: Tables>(reason: Reason, tables: &T) -> Verdict {
    if reason.counted() {
        tables.count_reason(reason);
    }
    Verdict::Pass(reason)
}

#[inline(always)]
const fn flow_key(packet: &Packet, id: u16, space: u32) -> FlowKey {
    FlowKey {
        client: packet.source,
        port: packet.source_port,
        id,
        space,
    }
}

#[inline(always)]
const fn reply_key(client: Address, port: Port, endpoint: u16) -> FlowKey {
    FlowKey {
        client,
        port,
        id: endpoint,
        space: flow_space::REPLY,
    }
}

struct TcpFlow<'a, T> {
    tables: &'a T,
    group: u16,
    key: FlowKey,
}

impl<T: Tables> Flows for TcpFlow<'_, T> {
    #[inline(always)]
    fn get(&self) -> Option<Tag> {
        self.tables.tag(self.group, &self.key)
    }

    #[inline(always)]
    fn put(&self, tag: Tag) -> bool {
        self.tables.set_tag(self.group, &self.key, tag)
    }

    #[inline(always)]
    fn remove(&self) {
        self.tables.remove_tag(self.group, &self.key);
    }
}

struct UdpFlow<'a, T> {
    tables: &'a T,
    group: u16,
    key: FlowKey,
}

impl<T: Tables> Flows for UdpFlow<'_, T> {
    #[inline(always)]
    fn get(&self) -> Option<Tag> {
        self.tables.udp_flow(self.group, &self.key)
    }

    #[inline(always)]
    fn put(&self, tag: Tag) -> bool {
        self.tables.set_udp_flow(self.group, &self.key, tag)
    }

    #[inline(always)]
    fn remove(&self) {
        // UDP flows are only ever replaced.
    }
}
