//! Which endpoint a packet of a service goes to: tables, word and window brought together.

use crate::abi::{FlowKey, Note, Service, TCP, Tag, flow_space, note_kind, service_flags};
use crate::parse::Packet;
use crate::steer::{self, Choice, Flows, How, Ownership, Segment};
use crate::tables::{Stack, Tables};
use crate::word::{Phase, Word, flags};

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

impl Steered {
    /// Nowhere.
    const PAUSED: Self = Self {
        endpoint: 0,
        how: How::Paused,
        begins: false,
    };
}

/// A group's word as it counts now. One load, and no clock, unless the word says that it takes more.
#[inline(always)]
fn word_now<T: Tables, S: Stack>(group: u16, tables: &T, stack: &S) -> Word {
    let word = tables.word(group);
    if word.flags() & (flags::TIMED | flags::PAUSED) == 0 {
        return word;
    }
    word.at(&tables.times(group), stack.nanoseconds())
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
    let word = word_now(service.group, tables, stack);
    let hash = flow_hash(packet, service, tables);
    let new = choice(service, word.current(), hash, tables)?;
    if packet.protocol != TCP {
        return Some(datagram(packet, index, service, word, new, tables, stack));
    }
    if segment.opens && word.has(flags::PAUSED) {
        // The copy of one that was let in, too: it adds nothing, the server repeats its answer by itself.
        return Some(Steered::PAUSED);
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
    let now = stack.now();
    let word = if word.is_held() && has_come(tables.held_until(service.group), now) {
        word.released()
    } else {
        word
    };
    let flow = TcpFlow {
        tables,
        group: service.group,
        key: flow_key(packet, index, flow_space::WINDOW),
    };
    steer::tagged(word, old, new, segment, now, &flow)
}

/// Whether a tick is over.
#[inline(always)]
const fn has_come(tick: u32, now: u32) -> bool {
    now.wrapping_sub(tick).cast_signed() >= 0
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
        if word.has(flags::PAUSED) {
            return Steered::PAUSED;
        }
        return Steered {
            endpoint: new,
            how: How::Current,
            begins: true,
        };
    }
    let key = flow_key(packet, index, flow_space::UDP);
    remembered(key, service, word, new, tables, stack.now())
}

/// Where a datagram of a UDP flow goes that is remembered under `key`.
#[inline(always)]
pub(crate) fn remembered<T: Tables>(
    key: FlowKey,
    service: &Service,
    word: Word,
    new: u16,
    tables: &T,
    now: u32,
) -> Steered {
    let flow = UdpFlow {
        tables,
        group: service.group,
        key,
    };
    let floor = tables.udp_floor(service.group);
    let idle = tables.settings().udp_idle;
    let ((endpoint, how), begins) = steer::flow(word, floor, new, now, idle, &flow);
    Steered {
        endpoint,
        how,
        begins,
    }
}

/// A preview reaches the staging colour; its flows are always noted, whatever the word does later.
#[inline(always)]
pub(crate) fn preview<T: Tables, S: Stack>(
    packet: &Packet,
    index: u16,
    service: &Service,
    segment: Segment,
    tables: &T,
    stack: &S,
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
    let word = word_now(service.group, tables, stack);
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
    let reply = FlowKey::reply(packet.source, packet.source_port, endpoint);
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
const fn flow_key(packet: &Packet, id: u16, space: u32) -> FlowKey {
    FlowKey {
        client: packet.source,
        port: packet.source_port,
        id,
        space,
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
        self.tables.may_tag(&tag) && self.tables.set_tag(self.group, &self.key, tag)
    }

    #[inline(always)]
    fn refresh(&self, tag: Tag) {
        let _kept_anyway = self.tables.set_tag(self.group, &self.key, tag);
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
    fn refresh(&self, tag: Tag) {
        let _kept_anyway = self.tables.set_udp_flow(self.group, &self.key, tag);
    }

    #[inline(always)]
    fn remove(&self) {
        // UDP flows are only ever replaced.
    }
}
