//! Instants that the program acts on by itself.
//!
//! Each is one aligned 64-bit word that the agent maps. They are written before the word that has the flag
//! they belong to, and a grace period lies in between (see [`super::Datapath::set_times`]), so that no CPU,
//! however freely it orders its loads, meets the flag with the times of an earlier one. Times without a flag
//! mean nothing, so nothing has to be cleared after it.

use std::sync::atomic::Ordering;

use nix::time::ClockId;
use switcher_common::abi::{GroupState, Times};
use switcher_common::word::Word;

use super::GroupIndex;
use super::pinned::Pinned;

/// Which of an element's 64-bit words is the first instant: the others follow in the order of [`Times`].
const FIRST: usize = std::mem::offset_of!(GroupState, times) / 8;

/// Nanoseconds of `CLOCK_BOOTTIME`: what programs compare [`Times`] with.
pub(crate) fn boot_nanoseconds() -> u64 {
    let now = ClockId::CLOCK_BOOTTIME.now();
    now.map_or(0, |now| {
        now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned()
    })
}

impl Pinned {
    /// A group's instants.
    #[must_use]
    pub fn times(&self, group: GroupIndex) -> Times {
        self.maps.groups.get(group.into()).times
    }

    /// What a group's word counts as now.
    #[must_use]
    pub fn word_now(&self, group: GroupIndex) -> Word {
        self.word(group).at(&self.times(group), boot_nanoseconds())
    }

    /// One store for each instant that changes.
    pub(super) fn set_times(&self, group: GroupIndex, times: Times) {
        let Times {
            arm_at,
            activate_at,
            revert_at,
            paused_until,
        } = times;
        let words = self.maps.groups.words(group.into());
        let values = [arm_at, activate_at, revert_at, paused_until];
        for (place, value) in words.iter().skip(FIRST).zip(values) {
            if place.load(Ordering::Relaxed) != value {
                place.store(value, Ordering::Release);
            }
        }
    }
}
