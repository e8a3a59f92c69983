//! Which endpoint a packet goes to: the window's algorithm, once, for the kernel, `explain` and the proofs.
//!
//! Outside a window the answer is `table[current][hash]` and nothing is remembered. Inside one, a flow
//! must stay where its SYN went. Who knows where that was?
//!
//! - For sockets of this host ([`owned`]) the kernel's socket table: exact, and nothing to fill.
//! - For everything else ([`tagged`]) tags, and a default for flows without one: *old* while the window
//!   is `open`, *new* while it drains.
//! - For UDP flows ([`flow`]) a tag at all times; for QUIC ([`quic`]) tags in windows, as for TCP.
//!
//! The invariant that the model check and the random sequences in `tests/window.rs` prove: as long as a
//! flow's tag fits in the map and the flow is never idle for as long as a phase lasts, every packet of it
//! goes to the endpoint that its SYN went to.

use crate::abi::Tag;
use crate::word::{Phase, Word, flags};

/// What steering needs to know of a TCP segment.
///
/// A struct and not an enum with a payload: the verifier objects when the compiler moves a payload that
/// was never set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment {
    /// A connection begins.
    pub opens: bool,
    /// A connection is being reset: nothing of it will follow that is worth a tag.
    pub resets: bool,
    /// The sequence number as it stands in the header: the initial one, if a connection begins.
    pub sequence: u32,
}

impl Segment {
    /// Anything but the beginning of a connection.
    pub const OTHER: Self = Self {
        opens: false,
        resets: false,
        sequence: 0,
    };

    /// A SYN with this initial sequence number.
    pub const fn syn(sequence: u32) -> Self {
        Self {
            opens: true,
            resets: false,
            sequence,
        }
    }
}

/// The flow map, seen from one flow.
pub trait Flows {
    /// The flow's tag, valid or not.
    fn get(&self) -> Option<Tag>;
    /// Sets the tag of a flow that is not known yet, or not as this. False if the map refuses: full, or over
    /// the rate cap, which counts SYNs apart from what is learnt.
    fn put(&self, tag: Tag) -> bool;
    /// Notes in the tag that [`get`](Self::get) has found when the flow's last packet came, as well as it can.
    fn refresh(&self, seen: u32);
    /// Forgets the flow.
    fn remove(&self);
}

/// What the socket table says about a flow at one endpoint; the stronger claim is the greater one.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ownership {
    /// No socket, or only a listener.
    None,
    /// The remains of a connection that ended here.
    TimeWait,
    /// Only a listener, but this segment carries a SYN cookie of its making.
    Cookie,
    /// A connection, or a request for one.
    Owns,
}

/// Why an endpoint was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum How {
    /// The current table's choice.
    Current,
    /// The previous table's choice: the flow is unknown and the window is open.
    Unknown,
    /// A tag's choice.
    Tag,
    /// The socket table's choice.
    Socket,
    /// The map refused a tag, so the flow stays where its next packet would go.
    Refused,
    /// The map refused a tag, and the window is about to drain: no endpoint for now.
    Held,
    /// None: the group is paused, and the flow would be new.
    Paused,
}

/// The endpoint and why.
pub type Choice = (u16, How);

/// TCP to endpoints that tags have to speak for. `old` and `new` are the choices of the previous and the
/// current table, the former only looked up for flows without a tag; not called while the word is steady.
/// `word` is without [`Word::HELD`] once its time is over.
#[inline(always)]
pub fn tagged(
    word: Word,
    old: impl FnOnce() -> u16,
    new: u16,
    segment: Segment,
    now: u32,
    flows: &impl Flows,
) -> Choice {
    // No `Option` from here on: the compiler may move a payload that was never set, and the verifier objects.
    let none = Tag {
        epoch: !word.epoch(),
        ..Tag::NONE
    };
    let tag = flows.get().unwrap_or(none);
    if tag.epoch != word.epoch() {
        if segment.opens {
            begin(word, old(), new, segment.sequence, now, none, flows)
        } else {
            carry_on(word, old(), new, segment, now, flows)
        }
    } else if !segment.opens || tag.from_syn == 1 && tag.sequence == segment.sequence {
        refresh(tag, now, flows);
        (tag.endpoint, How::Tag)
    } else {
        begin(word, old(), new, segment.sequence, now, tag, flows)
    }
}

/// What [`tagged`] says of a segment within a connection, if there is no tag to be made for it. Nothing for all
/// others.
#[inline(always)]
pub fn known(word: Word, new: u16, now: u32, flows: &impl Flows) -> Option<Choice> {
    let none = Tag {
        epoch: !word.epoch(),
        ..Tag::NONE
    };
    let tag = flows.get().unwrap_or(none);
    if tag.epoch == word.epoch() {
        refresh(tag, now, flows);
        return Some((tag.endpoint, How::Tag));
    }
    (word.phase() == Phase::Draining).then_some((new, How::Current))
}

/// QUIC: as [`tagged`], but a tag decides for Initials, too, unless its flow has been silent for more than `idle`
/// ticks.
///
/// The destination connection id that would tell a copy of an Initial from another connection's changes with
/// the server's first answer and with a Retry, and one socket of a client may carry several connections: as
/// long as one of them lives, all go where it is. What begins while the window drains is tagged as well, so
/// that the rest of its handshake finds it if the switch is undone meanwhile.
#[inline(always)]
pub fn quic(
    word: Word,
    old: impl FnOnce() -> u16,
    new: u16,
    segment: Segment,
    now: u32,
    idle: u32,
    flows: &impl Flows,
) -> Choice {
    let none = Tag {
        epoch: !word.epoch(),
        ..Tag::NONE
    };
    let tag = flows.get().unwrap_or(none);
    let is_known = tag.epoch == word.epoch();
    if is_known && (!segment.opens || silent_for(tag, now) <= idle) {
        refresh(tag, now, flows);
        return (tag.endpoint, How::Tag);
    }
    if !segment.opens {
        return carry_on(word, old(), new, segment, now, flows);
    }
    if word.phase() == Phase::Draining {
        let fresh = Tag {
            endpoint: new,
            from_syn: 1,
            epoch: word.epoch(),
            sequence: 0,
            seen: now,
        };
        // A refusal is harmless as long as the window drains: unknown means new.
        let _refused = flows.put(fresh);
        return (new, How::Current);
    }
    begin(word, old(), new, 0, now, tag, flows)
}

/// Notes that a flow is alive, once a tick. If the map refuses, the tag stays as it is.
#[inline(always)]
fn refresh(tag: Tag, now: u32, flows: &impl Flows) {
    if silent_for(tag, now) > 0 {
        flows.refresh(now);
    }
}

/// Ticks since the flow's last packet: none if another CPU, whose clock is ahead, has just seen one.
#[inline(always)]
const fn silent_for(tag: Tag, now: u32) -> u32 {
    match now.wrapping_sub(tag.seen).cast_signed() {
        ahead if ahead < 0 => 0,
        silent => silent.cast_unsigned(),
    }
}

/// A new connection. It may only be put where its next packet will be found again. `stale` is the tag of the
/// tuple's connection before, if its epoch is the word's.
#[inline(always)]
fn begin(
    word: Word,
    old: u16,
    new: u16,
    sequence: u32,
    now: u32,
    stale: Tag,
    flows: &impl Flows,
) -> Choice {
    let needs_tag = match word.phase() {
        Phase::Arming => true,
        Phase::Open => old != new,
        Phase::Steady | Phase::Draining => false,
    };
    let is_known = stale.epoch == word.epoch();
    if !needs_tag {
        if is_known {
            flows.remove();
        }
        return (new, How::Current);
    }
    let tag = Tag {
        endpoint: new,
        from_syn: 1,
        epoch: word.epoch(),
        sequence,
        seen: now,
    };
    if flows.put(tag) {
        return (new, How::Current);
    }
    if is_known {
        (stale.endpoint, How::Refused)
    } else if old == new {
        (new, How::Current)
    } else if word.is_held() {
        (old, How::Held)
    } else {
        (old, How::Refused)
    }
}

/// A flow without a tag that began before: best effort to know it when the window drains.
#[inline(always)]
fn carry_on(
    word: Word,
    old: u16,
    new: u16,
    segment: Segment,
    now: u32,
    flows: &impl Flows,
) -> Choice {
    match word.phase() {
        // Those who answer a flood's SYN-ACKs would use up what is left for others.
        Phase::Arming | Phase::Open if old != new && segment.resets => (old, How::Unknown),
        Phase::Arming | Phase::Open if old != new => {
            let tag = Tag {
                endpoint: old,
                from_syn: 0,
                epoch: word.epoch(),
                sequence: 0,
                seen: now,
            };
            // A refusal is harmless until the window drains: unknown means old.
            let _refused = flows.put(tag);
            (old, How::Unknown)
        }
        Phase::Steady | Phase::Arming | Phase::Open | Phase::Draining => (new, How::Current),
    }
}

/// TCP to sockets of this host. `new` is the current table's choice, `choice` that of another slot, and
/// `owner` asks the socket table; not called while the word is steady.
///
/// Whoever owns the flow gets the segment. Remains and cookies only count for what is no SYN, and only if
/// `new` has no claim as strong: the client may have used its port again, and a listener may take a segment
/// for a cookie of its own by accident. `blur` is [`Stack::blur`](crate::tables::Stack::blur).
#[inline(always)]
pub fn owned(
    word: Word,
    new: u16,
    segment: Segment,
    choice: impl Fn(u32) -> Option<u16>,
    owner: impl Fn(u16) -> Ownership,
    blur: impl Fn(u64) -> u64,
) -> Choice {
    let others = word.in_use() & !(1 << word.current());
    let mut slot = 0;
    let mut claims = Claims {
        asked: new,
        claimant: new,
        strongest: Ownership::None as u8,
    };
    while slot < crate::abi::SLOTS as u32 {
        if others & 1 << slot != 0
            && let Some(candidate) = choice(slot)
            && candidate != new
            && candidate != claims.asked
        {
            claims.asked = candidate;
            let claim = blur(owner(candidate) as u64) as u8;
            if claim == Ownership::Owns as u8 {
                return (candidate, How::Socket);
            }
            if claim > claims.strongest {
                claims.claimant = candidate;
                claims.strongest = claim;
            }
        }
        claims = claims.blurred(&blur);
        slot += 1;
    }
    if !segment.opens && claims.claimant != new && claims.strongest > owner(new) as u8 {
        return (claims.claimant, How::Socket);
    }
    (new, How::Current)
}

/// What the slots that were asked so far say.
#[derive(Clone, Copy)]
struct Claims {
    /// The endpoint asked last.
    asked: u16,
    /// The endpoint with the strongest claim.
    claimant: u16,
    /// That claim: an [`Ownership`].
    strongest: u8,
}

impl Claims {
    /// The same, without the verifier's knowledge of how it came about: it would walk what follows once for
    /// each combination of answers.
    #[inline(always)]
    fn blurred(self, blur: &impl Fn(u64) -> u64) -> Self {
        let packed = blur(
            u64::from(self.asked)
                | u64::from(self.claimant) << 16
                | u64::from(self.strongest) << 32,
        );
        Self {
            asked: packed as u16,
            claimant: (packed >> 16) as u16,
            strongest: (packed >> 32) as u8,
        }
    }
}

/// UDP flows: a tag decides as long as the flow is not idle, whatever the word says.
///
/// `floor` is the epoch before which tags are void, `idle` the number of ticks after which a flow is
/// forgotten. A flow without a tag is new, and not let in while the word is paused.
#[inline(always)]
pub fn flow(
    word: Word,
    floor: u32,
    new: u16,
    now: u32,
    idle: u32,
    flows: &impl Flows,
) -> (Choice, bool) {
    let known = flows.get().filter(|tag| is_flow(*tag, floor, now, idle));
    if let Some(tag) = known {
        refresh(tag, now, flows);
        return ((tag.endpoint, How::Tag), false);
    }
    if word.has(flags::PAUSED) {
        return ((new, How::Paused), false);
    }
    let tag = Tag {
        endpoint: new,
        from_syn: 0,
        epoch: word.epoch(),
        sequence: 0,
        seen: now,
    };
    let _refused = flows.put(tag);
    ((new, How::Current), true)
}

/// Whether a tag of a UDP flow counts; see [`flow`].
#[inline(always)]
#[must_use]
pub const fn is_flow(tag: Tag, floor: u32, now: u32, idle: u32) -> bool {
    tag.epoch.wrapping_sub(floor).cast_signed() >= 0 && silent_for(tag, now) <= idle
}

/// The hash that picks a bucket. Seeded, so that clients cannot aim at one; the service is not part of
/// it, since every service has its own table.
#[inline(always)]
pub const fn hash(seed: u64, client: crate::abi::Address, port: u16) -> u32 {
    // Constants of splitmix64 (Steele, Lea, Flood 2014): each step is a bijection of 64 bits.
    const A: u64 = 0xbf58_476d_1ce4_e5b9;
    const B: u64 = 0x94d0_49bb_1331_11eb;
    let [high, low] = client.0;
    let mut h = (low ^ seed).wrapping_mul(A);
    h ^= h >> 31;
    // A product carries upwards only: what varies most, the port, has to go in at the bottom.
    h = (h ^ high ^ port as u64).wrapping_mul(B);
    (h ^ h >> 29) as u32 ^ (h >> 32) as u32
}
