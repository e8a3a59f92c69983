//! The time since boot for deadlines, wall time for people.
//!
//! `CLOCK_BOOTTIME` is what programs go by: nobody sets it, it goes on while the host is suspended, and what
//! was read from it is still right for the next agent.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::datapath::times::boot_nanoseconds;
use crate::release::Millis;

/// Less is what clocks are corrected by all the time, or takes a suspended host to read both.
const STEP: SignedDuration = SignedDuration::from_secs(1);

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

/// Notices when somebody sets the clock on the wall.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steps {
    /// When the host was booted, by what the wall showed last.
    booted: Timestamp,
}

impl Steps {
    pub(super) fn new() -> Self {
        let booted = booted();
        Self { booted }
    }

    /// By how much it was set since this was asked last, if it was.
    pub(super) fn next(&mut self) -> Option<SignedDuration> {
        let booted = booted();
        let step = booted.duration_since(self.booted);
        self.booted = booted;
        (step.abs() >= STEP).then_some(step)
    }
}

fn booted() -> Timestamp {
    let now = Timestamp::now();
    let ago = SignedDuration::try_from(Duration::from_nanos(boot_nanoseconds()));
    now.checked_sub(ago.unwrap_or_default()).unwrap_or(now)
}
