//! Words that change by themselves: a switch at a set instant, and one that undoes itself.
//!
//! ```text
//!                arm_at          activate_at                     revert_at
//!   ───────────────┼──────────────────┼──────────────────────────────┼──────────────
//!     `previous`,      `previous`,      the word as it stands:           switched back
//!     no new tags      SYNs tagged      new flows go to `current`        to `previous`
//! ```
//!
//! What a timed word counts as is always a word that the moves of [`crate::word`] make: armed, switched,
//! switched back. What is proven of them therefore holds at every instant, whoever is alive.

use crate::abi::Times;
use crate::word::{Phase, Word, flags};

impl Word {
    /// The untimed word that this one counts as at `now`, in nanoseconds of `CLOCK_BOOTTIME`; paused if it
    /// still is. Whoever makes a move of a word that may be timed makes it from here.
    #[inline(always)]
    #[must_use]
    pub const fn at(self, times: &Times, now: u64) -> Self {
        let Times {
            arm_at,
            activate_at,
            revert_at,
            paused_until,
        } = *times;
        let mut word = self;
        if word.has(flags::PAUSED) && paused_until <= now {
            word = word.without(flags::PAUSED);
        }
        if word.has(flags::TIMED) {
            word = Self(counted(word.0, arm_at, activate_at, revert_at, now));
        }
        word
    }
}

/// [`Word::at`] of a timed word, in scalars: a function of its own, so that packets of groups without timed words don't pay
/// for it with registers.
#[inline(never)]
const fn counted(word: u64, arm_at: u64, activate_at: u64, revert_at: u64, now: u64) -> u64 {
    let word = Word(word).without(flags::TIMED);
    let counted = if now < activate_at {
        // `draining` with two tables that agree: flows known from before stay, all others are on
        // `previous`, and nothing is remembered of them.
        let phase = if now < arm_at {
            Phase::Draining
        } else {
            Phase::Arming
        };
        word.with_staging(word.current())
            .with_current(word.previous())
            .with_phase(phase)
    } else if now < revert_at {
        word
    } else {
        word.switch_to(word.previous())
    };
    counted.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times {
        arm_at: 10,
        activate_at: 20,
        revert_at: 30,
        paused_until: 0,
    };

    fn word() -> Word {
        Word::default().switch_to(1)
    }

    #[test]
    fn a_word_without_the_flag_is_what_it_says() {
        for now in [0, 25, u64::MAX] {
            assert_eq!(word().at(&TIMES, now), word());
        }
    }

    #[test]
    fn both_instants_belong_to_what_they_begin() {
        let word = word().with(flags::TIMED);
        let at = |now| word.at(&TIMES, now);
        let before = Word::default().arm();
        for now in [0, 9] {
            let quiet = at(now);
            assert_eq!((quiet.current(), quiet.previous()), (0, 0));
            assert_eq!((quiet.phase(), quiet.staging()), (Phase::Draining, 1));
        }
        for now in [10, 19] {
            let armed = at(now);
            assert_eq!(armed.with_staging(0).with_in_use(1), before, "{now}");
            assert_eq!(armed.staging(), 1, "previews see what is to come");
        }
        for now in [20, 29] {
            assert_eq!(at(now), word.without(flags::TIMED), "{now}");
        }
        for now in [30, u64::MAX] {
            assert_eq!(at(now), word.switch_to(0), "{now}");
            assert_eq!((at(now).current(), at(now).staging()), (0, 1));
        }
    }

    #[test]
    fn a_way_back_that_is_never_taken() {
        let never = Times {
            revert_at: Times::NEVER,
            ..TIMES
        };
        let word = word().with(flags::TIMED);
        assert_eq!(word.at(&never, u64::MAX - 1).current(), 1);
    }

    #[test]
    fn back_from_draining_is_a_switch_from_there() {
        let word = word().drain().with(flags::TIMED);
        let back = word.at(&TIMES, 30);
        assert_eq!((back.current(), back.previous()), (0, 1));
        assert_eq!(back.phase(), Phase::Open, "who is unknown began on 1");
    }

    #[test]
    fn a_pause_lasts_until_its_own_instant() {
        let times = Times {
            paused_until: 35,
            ..TIMES
        };
        for word in [word(), word().with(flags::TIMED)] {
            let paused = |now| word.with(flags::PAUSED).at(&times, now);
            for now in [0, 15, 25, 34] {
                assert_eq!(paused(now), word.at(&times, now).with(flags::PAUSED));
            }
            assert_eq!(paused(35), word.at(&times, 35));
        }
    }
}
