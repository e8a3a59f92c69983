//! The steering word: a group's 64-bit switch.
//!
//! ```text
//! bit  0        4         8         12      16        24      32              64
//!      | current | previous | staging | phase | in use | flags |     epoch     |
//! ```
//!
//! One aligned 64-bit store changes it and one load per packet reads it, so services of a group are
//! never seen half switched.

/// What an unknown flow means: see [`crate::steer`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Nothing is being switched; no flow state is read or written.
    #[default]
    Steady = 0,
    /// A switch is near: as `open`, and every SYN is tagged so that its retransmissions follow it.
    Arming = 1,
    /// Unknown flows are old.
    Open = 2,
    /// Unknown flows are new.
    Draining = 3,
}

impl Phase {
    /// Inverse of `self as u64`, for two bits.
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        match bits & 3 {
            0 => Self::Steady,
            1 => Self::Arming,
            2 => Self::Open,
            _ => Self::Draining,
        }
    }
}

/// Bits of [`Word::flags`].
pub mod flags {
    /// Outside of the interval in the group's [`Times`](crate::abi::Times) the word counts as another one:
    /// see [`Word::at`](super::Word::at).
    pub const TIMED: u8 = 1;
    /// New flows are held until the group's `paused_until`.
    pub const PAUSED: u8 = 1 << 1;
}

/// The steering word as the kernel sees it. Zero is: slot 0, steady, no staging table marked.
#[repr(transparent)]
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    bytemuck::Pod,
    bytemuck::Zeroable,
)]
pub struct Word(pub u64);

impl Word {
    /// Bit of [`Self::flags`]: see [`Self::hold`].
    pub const HELD: u8 = 1 << 2;

    /// Slot of the table that new flows use.
    #[inline(always)]
    pub const fn current(self) -> u32 {
        (self.0 & 7) as u32
    }

    /// Slot of the table that unknown flows use while the window is open.
    #[inline(always)]
    pub const fn previous(self) -> u32 {
        (self.0 >> 4 & 7) as u32
    }

    /// Slot that previews reach.
    #[inline(always)]
    pub const fn staging(self) -> u32 {
        (self.0 >> 8 & 7) as u32
    }

    /// The window's phase.
    #[inline(always)]
    pub const fn phase(self) -> Phase {
        Phase::from_bits(self.0 >> 12)
    }

    /// Slots whose endpoints may own flows: every slot that was current since the window opened, bit by
    /// bit. What [`crate::steer::owned`] asks the socket table about.
    #[inline(always)]
    pub const fn in_use(self) -> u32 {
        (self.0 >> 16 & 0xff) as u32
    }

    /// Bits of [`flags`].
    #[inline(always)]
    pub const fn flags(self) -> u8 {
        (self.0 >> 24) as u8
    }

    /// Whether it means the same until somebody stores another word.
    #[inline(always)]
    pub const fn is_lasting(self) -> bool {
        self.flags() & (flags::TIMED | flags::PAUSED) == 0
    }

    /// See [`Self::hold`].
    #[inline(always)]
    pub const fn is_held(self) -> bool {
        self.has(Self::HELD)
    }

    /// Whether all bits of `flag` are set.
    #[inline(always)]
    pub const fn has(self, flag: u8) -> bool {
        self.flags() & flag == flag
    }

    /// Number of the window; tags of another epoch are void.
    #[inline(always)]
    pub const fn epoch(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// This word with another current slot, which is also marked as in use.
    #[must_use]
    pub const fn with_current(self, slot: u32) -> Self {
        self.set(0, 0xf, slot as u64)
            .with_in_use(self.in_use() | 1 << slot)
    }

    /// This word with another previous slot.
    #[must_use]
    pub const fn with_previous(self, slot: u32) -> Self {
        self.set(4, 0xf, slot as u64)
    }

    /// This word with another staging slot.
    #[must_use]
    pub const fn with_staging(self, slot: u32) -> Self {
        self.set(8, 0xf, slot as u64)
    }

    /// This word in another phase.
    #[must_use]
    pub const fn with_phase(self, phase: Phase) -> Self {
        self.set(12, 0xf, phase as u64)
    }

    /// This word with another set of slots in use.
    #[must_use]
    pub const fn with_in_use(self, slots: u32) -> Self {
        self.set(16, 0xff, slots as u64)
    }

    /// This word with another epoch.
    #[must_use]
    pub const fn with_epoch(self, epoch: u32) -> Self {
        self.set(32, 0xffff_ffff, epoch as u64)
    }

    /// This word without [`Self::HELD`].
    #[must_use]
    pub const fn released(self) -> Self {
        self.without(Self::HELD)
    }

    /// This word with a flag.
    #[must_use]
    pub const fn with(self, flag: u8) -> Self {
        Self(self.0 | (flag as u64) << 24)
    }

    /// This word without a flag.
    #[must_use]
    pub const fn without(self, flag: u8) -> Self {
        Self(self.0 & !((flag as u64) << 24))
    }

    const fn set(self, shift: u32, mask: u64, value: u64) -> Self {
        assert!(value <= mask);
        Self(self.0 & !(mask << shift) | value << shift)
    }
}

/// The moves of a window. Each is one store; from where each is allowed is in its text. What was timed is
/// not any more, `drain` excepted; a pause goes on.
impl Word {
    /// From any phase: every SYN gets a tag from now on, so that its retransmissions follow it through the
    /// switch to come. What unknown flows mean does not change: they are on `previous`, which in `open`
    /// stays and elsewhere is `current`. A new epoch begins only from steady, so that the tags of a window
    /// that is still open or draining stay valid.
    #[must_use]
    pub const fn arm(self) -> Self {
        let begun = match self.phase() {
            Phase::Steady => self
                .with_epoch(self.epoch().wrapping_add(1))
                .with_previous(self.current()),
            Phase::Draining => self.with_previous(self.current()),
            Phase::Arming | Phase::Open => self,
        };
        begun
            .released()
            .without(flags::TIMED)
            .with_in_use(self.in_use() | 1 << self.current())
            .with_phase(Phase::Arming)
    }

    /// The switch itself, from any phase: new flows go to `slot` from the next packet on.
    ///
    /// Only SYNs on their way need arming first; and even they do not if the window is open and `slot` is
    /// what it began from.
    #[must_use]
    pub const fn switch_to(self, slot: u32) -> Self {
        self.arm()
            .with_staging(self.current())
            .with_current(slot)
            .with_phase(Phase::Open)
    }

    /// From open, before it drains: a SYN whose tag is refused waits for its next try instead of going to the
    /// old endpoint, until the group's `held_until`. So by the time the window drains whoever went there was
    /// seen since, and is known.
    #[must_use]
    pub const fn hold(self) -> Self {
        self.with(Self::HELD)
    }

    /// From open, or from arming if the switch was called off: all old flows that still talk are known now,
    /// whatever is unknown is new.
    #[must_use]
    pub const fn drain(self) -> Self {
        self.released().with_phase(Phase::Draining)
    }

    /// From any phase: nothing of the old table is needed any more.
    #[must_use]
    pub const fn settle(self) -> Self {
        self.released()
            .without(flags::TIMED)
            .with_previous(self.current())
            .with_in_use(1 << self.current())
            .with_phase(Phase::Steady)
    }

    /// A hard rollback: every flow, known or not, goes to `slot` now. The window ends with it.
    #[must_use]
    pub const fn force(self, slot: u32) -> Self {
        self.with_staging(self.current())
            .with_current(slot)
            .with_epoch(self.epoch().wrapping_add(1))
            .settle()
    }
}
