//! Which endpoint a packet of a service goes to: tables, word and window brought together.

mod flows;

use crate::abi::notice::notice_kind;
use crate::abi::{FlowKey, Note, Service, TCP, flow_space, note_kind, service_flags};
use crate::parse::Packet;
use crate::steer::{self, Choice, How, Ownership, Segment};
use crate::tables::{Stack, Tables};
use crate::verdict::Reason;
use crate::word::{Phase, Word, flags};
use flows::{TcpFlow, UdpFlow};

/// Where a packet of a service goes.
///
/// In this order, so that `Option` keeps its discriminant at the beginning: elsewhere the kernel refuses the
/// type's description (BTF) in a function's signature.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steered {
    /// Whether the packet begins a connection or flow.
    pub begins: bool,
    /// Why.
    pub how: How,
    /// The endpoint's id.
    pub endpoint: u16,
}

impl Steered {
    /// Nowhere.
    pub(crate) const PAUSED: Self = Self {
        endpoint: 0,
        how: How::Paused,
        begins: false,
    };
}

/// A group's word as it counts now. One load, and no clock, unless the word says that it takes more.
#[inline(always)]
fn word_now<T: Tables, S: Stack>(group: u16, tables: &T, stack: &S) -> Word {
    let word = tables.word(group);
    if word.is_lasting() {
        stack.read(word);
        return word;
    }
    let word = timed(word, group, tables, stack.nanoseconds());
    stack.read(word);
    Word(stack.blur(word.0))
}

/// The same, from a clock: `CLOCK_BOOTTIME` in nanoseconds.
#[inline(always)]
pub(crate) fn word_at<T: Tables>(
    group: u16,
    tables: &T,
    nanoseconds: impl FnOnce() -> u64,
) -> Word {
    let word = tables.word(group);
    if word.is_lasting() {
        return word;
    }
    timed(word, group, tables, nanoseconds())
}

/// What a word counts as that changes by itself.
#[inline(always)]
fn timed<T: Tables>(word: Word, group: u16, tables: &T, now: u64) -> Word {
    let times = tables.times(group);
    if word.has(flags::TIMED) && now >= times.revert_at {
        tables.notice(notice_kind::EXPIRED, group, 0, times.revert_at as u32 | 1);
    }
    word.at(&times, now)
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
    if packet.protocol != TCP && !service.has(service_flags::QUIC) {
        return Some(datagram(packet, index, service, word, new, tables, stack));
    }
    if segment.opens && word.has(flags::PAUSED) {
        // The copy of one that was let in, too: it adds nothing, the server repeats its answer by itself.
        return Some(Steered::PAUSED);
    }
    if word.phase() == Phase::Steady {
        return Some(Steered {
            endpoint: new,
            how: How::Current,
            begins: segment.opens,
        });
    }
    let windowed = Windowed {
        packet,
        index,
        service,
        segment,
        word,
        hash,
        new,
        tables,
        stack,
    };
    Some(if service.has(service_flags::SOCKETS) {
        windowed.owned()
    } else if service.has(service_flags::QUIC) {
        windowed.quic()
    } else {
        windowed.tagged()
    })
}

/// What [`steer`] says of a segment within a connection, of a service without a protocol of its own, while the word
/// lasts: nothing if something is to be remembered of it.
#[inline(always)]
pub(crate) fn within<T: Tables, S: Stack>(
    packet: &Packet,
    index: u16,
    service: &Service,
    word: Word,
    tables: &T,
    stack: &S,
) -> Option<Steered> {
    let hash = flow_hash(packet, service, tables);
    let new = choice(service, word.current(), hash, tables)?;
    if word.phase() == Phase::Steady {
        return Some(Steered {
            endpoint: new,
            how: How::Current,
            begins: false,
        });
    }
    let windowed = Windowed {
        packet,
        index,
        service,
        segment: Segment::OTHER,
        word,
        hash,
        new,
        tables,
        stack,
    };
    if service.has(service_flags::SOCKETS) {
        Some(windowed.owned())
    } else {
        windowed.known()
    }
}

/// A TCP packet in a window. Its methods are functions of their own also in the programs: windows are rare,
/// and would take registers and stack from every packet.
struct Windowed<'a, T, S> {
    packet: &'a Packet,
    index: u16,
    service: &'a Service,
    segment: Segment,
    word: Word,
    hash: u32,
    new: u16,
    tables: &'a T,
    stack: &'a S,
}

impl<T: Tables, S: Stack> Windowed<'_, T, S> {
    #[inline(never)]
    fn owned(&self) -> Steered {
        let owner = |id| match self.tables.endpoint(id) {
            Some(endpoint) => self.stack.owner(self.packet, endpoint, self.segment),
            None => Ownership::None,
        };
        let choice = |slot| choice(self.service, slot, self.hash, self.tables);
        self.steered(steer::owned(
            self.word,
            self.new,
            self.segment,
            choice,
            owner,
            |value| self.stack.blur(value),
        ))
    }

    #[inline(never)]
    fn tagged(&self) -> Steered {
        let now = self.stack.now();
        let choice = self.by_tag(now, |word, segment, flow| {
            steer::tagged(word, || self.old(), self.new, segment, now, flow)
        });
        self.tell_full(choice, now);
        self.steered(choice)
    }

    #[inline(never)]
    fn known(&self) -> Option<Steered> {
        let flow = self.flow();
        let now = self.stack.now();
        let (endpoint, how) = steer::known(self.word, self.new, now, &flow)?;
        Some(Steered {
            endpoint,
            how,
            begins: false,
        })
    }

    #[inline(never)]
    fn quic(&self) -> Steered {
        let now = self.stack.now();
        let idle = self.tables.settings().udp_idle;
        let choice = self.by_tag(now, |word, segment, flow| {
            steer::quic(word, || self.old(), self.new, segment, now, idle, flow)
        });
        self.tell_full(choice, now);
        let steered = self.steered(choice);
        Steered {
            begins: steered.begins && steered.how != How::Tag,
            ..steered
        }
    }

    /// By the word as it counts in this tick, and the flow's tag.
    #[inline(always)]
    fn by_tag(
        &self,
        now: u32,
        choose: impl FnOnce(Word, Segment, &TcpFlow<'_, T>) -> Choice,
    ) -> Choice {
        let flow = self.flow();
        let held = self.word.is_held();
        let word = if held && has_come(self.tables.held_until(self.service.group), now) {
            self.word.released()
        } else {
            self.word
        };
        // Field by field: the compiler copies the whole in pieces that the verifier finds unaligned.
        let segment = Segment {
            opens: self.segment.opens,
            resets: self.segment.resets,
            sequence: self.segment.sequence,
        };
        choose(word, segment, &flow)
    }

    #[inline(always)]
    fn flow(&self) -> TcpFlow<'_, T> {
        let key = flow_key(self.packet, self.index, flow_space::WINDOW);
        TcpFlow::new(self.tables, self.service.group, key)
    }

    /// The endpoint of the colour before.
    #[inline(always)]
    fn old(&self) -> u16 {
        let slot = self.word.previous();
        choice(self.service, slot, self.hash, self.tables).unwrap_or(self.new)
    }

    #[inline(always)]
    fn tell_full(&self, (_, how): Choice, now: u32) {
        if matches!(how, How::Refused | How::Held) {
            let group = self.service.group;
            self.tables
                .notice(notice_kind::FULL, group, self.index, now | 1);
        }
    }

    #[inline(always)]
    fn steered(&self, (endpoint, how): Choice) -> Steered {
        let begins = self.segment.opens;
        if begins && how == How::Current {
            tell_first(self.word, self.service, endpoint, self.tables);
        }
        Steered {
            begins,
            how,
            endpoint,
        }
    }
}

/// Tells the agent of the first that goes where the current table says since a switch. In a window only: as long as the
/// word is steady this is one test.
#[inline(always)]
pub(crate) fn tell_first<T: Tables>(word: Word, service: &Service, endpoint: u16, tables: &T) {
    if word.phase() >= Phase::Open && !service.has(service_flags::PREVIEW) {
        let mark = switch_mark(word);
        tables.notice(notice_kind::FIRST, service.group, endpoint, mark);
    }
}

/// Another number for every switch of a window, and never zero.
#[inline(always)]
const fn switch_mark(word: Word) -> u32 {
    word.epoch().wrapping_mul(16) | 8 | word.current()
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
        tell_first(word, service, new, tables);
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
    let flow = UdpFlow::new(tables, service.group, key);
    let floor = tables.udp_floor(service.group);
    let idle = tables.settings().udp_idle;
    let ((endpoint, how), begins) = steer::flow(word, floor, new, now, idle, &flow);
    if begins {
        tell_first(word, service, endpoint, tables);
    }
    Steered {
        endpoint,
        how,
        begins,
    }
}

/// A preview reaches the staging colour; its flows are always noted, whatever the word does later.
#[inline(always)]
pub fn preview<T: Tables, S: Stack>(
    packet: &Packet,
    index: u16,
    service: &Service,
    opens: bool,
    tables: &T,
    stack: &S,
) -> Option<Steered> {
    let previewed = Previewed {
        packet,
        index,
        service,
        opens,
        tables,
        stack,
    };
    previewed.choose()
}

/// A packet to a preview.
struct Previewed<'a, T, S> {
    packet: &'a Packet,
    index: u16,
    service: &'a Service,
    opens: bool,
    tables: &'a T,
    stack: &'a S,
}

impl<T: Tables, S: Stack> Previewed<'_, T, S> {
    /// A function of its own also in the programs: previews are rare.
    #[inline(never)]
    fn choose(&self) -> Option<Steered> {
        let Self {
            packet,
            index,
            service,
            opens,
            tables,
            stack,
        } = *self;
        let key = flow_key(packet, index, flow_space::PREVIEW);
        let known = tables
            .note(&key)
            .filter(|note| note.kind == note_kind::CHOSEN);
        if let Some(note) = known
            && !opens
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
}

/// The endpoint of a flow that will be remembered, whatever the word does later; and the word that it was chosen by.
///
/// # Errors
/// When there is no table, or the packet begins something and nothing may begin now.
#[inline(always)]
pub(crate) fn fresh<T: Tables, S: Stack>(
    packet: &Packet,
    service: &Service,
    begins: bool,
    tables: &T,
    stack: &S,
) -> Result<(u16, Word), Reason> {
    let word = word_now(service.group, tables, stack);
    let preview = service.has(service_flags::PREVIEW);
    if begins && word.has(flags::PAUSED) && !preview {
        return Err(Reason::Paused);
    }
    let slot = if preview {
        word.staging()
    } else {
        word.current()
    };
    let hash = flow_hash(packet, service, tables);
    let endpoint = choice(service, slot, hash, tables).ok_or(Reason::NoTable)?;
    // Kept while a port is looked for, which need not be walked once for each phase.
    Ok((endpoint, Word(stack.blur(word.0))))
}

/// The flow hash of a packet of `service`.
#[inline(always)]
pub fn flow_hash<T: Tables>(packet: &Packet, service: &Service, tables: &T) -> u32 {
    seeded_hash(packet, service, tables.settings().seed)
}

/// The same, with the seed at hand.
#[inline(always)]
pub const fn seeded_hash(packet: &Packet, service: &Service, seed: u64) -> u32 {
    let port = if service.has(service_flags::BY_SOURCE) {
        0
    } else {
        packet.source_port.0
    };
    steer::hash(seed, packet.source, port)
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
