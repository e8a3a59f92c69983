//! A timed word in the explorations: what the operator may do with one, and when it changes.

use switcher_common::abi::Times;
use switcher_common::word::{Phase, Word, flags};

/// The hours of a timed word: quiet before its switch, armed, switched, switched back.
const TIMES: Times = Times {
    arm_at: 1,
    activate_at: 2,
    revert_at: 3,
    paused_until: 0,
};
/// Where the switch is made as the word is stored.
pub(crate) const SWITCHED: u8 = 2;

/// A word and the hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Timed {
    pub(crate) word: Word,
    pub(crate) hour: u8,
}

impl Timed {
    pub(crate) fn new(word: Word) -> Self {
        let hour = SWITCHED;
        Self { word, hour }
    }

    /// What the word counts as.
    pub(crate) fn now(self) -> Word {
        self.word.at(&TIMES, self.hour.into())
    }

    pub(crate) fn pending(self) -> bool {
        self.word.has(flags::TIMED)
    }

    /// Whether a switch may be set for this hour: one to come needs a word that has room for what was
    /// before, and so for two tables only.
    pub(crate) fn may_schedule(self, hour: u8) -> bool {
        let Self { word, .. } = self;
        let one_table = match word.phase() {
            Phase::Arming | Phase::Open => word.previous() == word.current(),
            Phase::Steady | Phase::Draining => true,
        };
        !self.pending() && (hour == SWITCHED || one_table)
    }

    /// Sets a switch.
    pub(crate) fn schedule(self, slot: u32, hour: u8) -> Self {
        let word = self.word.switch_to(slot).with(flags::TIMED);
        Self { word, hour }
    }

    /// Whether there is an hour to come.
    pub(crate) fn may_pass(self) -> bool {
        self.pending() && u64::from(self.hour) < TIMES.revert_at
    }

    pub(crate) fn pass(self) -> Self {
        let hour = self.hour + 1;
        Self { hour, ..self }
    }

    /// Somebody confirms.
    pub(crate) fn may_keep(self) -> bool {
        self.pending() && self.hour == SWITCHED
    }

    pub(crate) fn keep(self) -> Self {
        Self::new(self.word.without(flags::TIMED))
    }

    /// The agent makes an ordinary word of what this one counts as.
    pub(crate) fn fix(self) -> Self {
        Self::new(self.now())
    }

    /// Whether the window may drain: before its switch there is nothing to drain, and after the way back
    /// the word has to be fixed first.
    pub(crate) fn may_drain(self) -> bool {
        let open = matches!(self.now().phase(), Phase::Arming | Phase::Open);
        open && (!self.pending() || self.hour == SWITCHED)
    }

    /// Whether SYNs without tags may be made to wait.
    pub(crate) fn may_hold(self) -> bool {
        let open = self.now().phase() == Phase::Open;
        open && !self.word.is_held() && (!self.pending() || self.hour == SWITCHED)
    }
}
