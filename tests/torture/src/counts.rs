//! What was tried.

use std::collections::BTreeMap;

use serde::Serialize;

/// How an action came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// As it should.
    Done,
    /// It was not the time for it.
    Refused,
    /// As it should not.
    Odd,
}

/// How often, and how it came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Carried out.
    pub done: u64,
    /// Refused, as something else was going on.
    pub refused: u64,
    /// Ended as it should not.
    pub odd: u64,
}

/// By action.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Counts(pub BTreeMap<&'static str, Count>);

impl Counts {
    /// One more.
    pub fn add(&mut self, name: &'static str, how: How) {
        let count = self.0.entry(name).or_default();
        match how {
            How::Done => count.done += 1,
            How::Refused => count.refused += 1,
            How::Odd => count.odd += 1,
        }
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        let counts = self.0.values();
        counts.map(|it| it.done + it.refused + it.odd).sum()
    }
}
