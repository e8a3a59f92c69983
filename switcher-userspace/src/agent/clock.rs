//! The time since boot for deadlines, wall time for people.
//!
//! `CLOCK_BOOTTIME` is what programs go by: nobody sets it, it goes on while the host is suspended, and what
//! was read from it is still right for the next agent.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::datapath::times::boot_nanoseconds;
use crate::release::Millis;

/// Both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock;

impl Clock {
    /// The runner's clock.
    pub(super) fn now(self) -> Millis {
        Millis(boot_nanoseconds() / 1_000_000)
    }

    /// How long until then.
    pub(super) fn until(self, then: Millis) -> Duration {
        // A timer that fires within the millisecond before its time would find nothing to do.
        Duration::from_millis(then.0).saturating_sub(Duration::from_nanos(boot_nanoseconds()))
    }

    /// When clocks on the wall show this, or have shown it.
    pub(super) fn then(self, wall: Timestamp) -> Millis {
        let (now, shown) = (self.now(), Timestamp::now());
        let wait = Duration::try_from(wall.duration_since(shown));
        let ago = Duration::try_from(shown.duration_since(wall));
        let ago = u64::try_from(ago.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
        Millis(now.0.saturating_sub(ago)) + wait.unwrap_or_default()
    }

    /// What clocks on the wall will show then.
    pub(super) fn wall(self, then: Millis) -> Timestamp {
        let now = Timestamp::now();
        let wait = SignedDuration::try_from(self.until(then)).unwrap_or_default();
        now.checked_add(wait).unwrap_or(now)
    }
}
