//! Monotonic time for deadlines, wall time for people.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::release::Millis;

/// Both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// The runner's monotonic clock.
    pub(super) fn now(self) -> Millis {
        Millis(0) + self.start.elapsed()
    }

    /// How long until then.
    pub(super) fn until(self, then: Millis) -> Duration {
        // A timer that fires within the millisecond before its time would find nothing to do.
        (Duration::from_millis(then.0)).saturating_sub(self.start.elapsed())
    }

    /// What clocks on the wall will show then.
    pub(super) fn wall(self, then: Millis) -> Timestamp {
        let now = Timestamp::now();
        let wait = SignedDuration::try_from(self.until(then)).unwrap_or_default();
        now.checked_add(wait).unwrap_or(now)
    }
}
