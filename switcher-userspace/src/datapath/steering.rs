//! The steering words: one aligned 64-bit store is a switch.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

use switcher_common::abi::MAX_GROUPS;
use switcher_common::word::Word;

use super::GroupIndex;
use super::mapped::Mapped;

/// The words of all groups, as the program sees them.
pub(super) struct Steering(Mapped<u64>);

impl Steering {
    pub(super) fn new(map: BorrowedFd<'_>) -> io::Result<Self> {
        Mapped::new(map, MAX_GROUPS).map(Self)
    }

    /// A group's word; zero beyond the last group.
    pub(super) fn load(&self, group: GroupIndex) -> Word {
        let word = self.0.words(group.into()).first();
        Word(word.map_or(0, |word| word.load(Ordering::Acquire)))
    }

    /// One store. What was written before it (tables, endpoints) is seen by whoever sees the word.
    pub(super) fn store(&self, group: GroupIndex, word: Word) {
        if let Some(place) = self.0.words(group.into()).first() {
            place.store(word.0, Ordering::Release);
        }
    }
}
