//! Numbers nobody chose, from a seed that a failing test prints.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A small generator (xorshift64*): good enough to choose moments.
#[derive(Clone, Debug)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// Seeded by `SWITCHER_TEST_SEED`, or else by the clock.
    #[must_use]
    pub fn new() -> Self {
        let given = std::env::var("SWITCHER_TEST_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let since = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            since.as_secs() ^ u64::from(since.subsec_nanos()) << 20
        });
        println!("SWITCHER_TEST_SEED={seed}");
        Self { state: seed | 1 }
    }

    /// The same numbers for the same seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        // Neighbouring seeds begin far apart, and none is 0.
        Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d | 1,
        }
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % end.max(1)
    }

    /// A time shorter than `end`.
    pub fn time(&mut self, end: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(end.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Default for Chance {
    fn default() -> Self {
        Self::new()
    }
}
