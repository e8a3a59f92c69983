//! How much there was of something, lately.

use std::collections::VecDeque;
use std::time::Duration;

/// What is remembered: more than the widest terminal shows.
const KEEPS: usize = 600;

/// A counter's rates, the newest last.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Series {
    /// In units a second.
    rates: VecDeque<f64>,
    /// When it was read last, and what it was.
    last: Option<(Duration, u64)>,
}

impl Series {
    /// The counter was read, so long after some moment in the past.
    pub(super) fn read(&mut self, at: Duration, count: u64) {
        if let Some((then, before)) = self.last {
            let Some(took) = at.checked_sub(then).filter(|took| !took.is_zero()) else {
                return;
            };
            // Counters of a kernel that was detached meanwhile begin anew.
            let more = count.checked_sub(before).unwrap_or(count);
            self.rates.push_back(more as f64 / took.as_secs_f64());
            if self.rates.len() > KEEPS {
                self.rates.pop_front();
            }
        }
        self.last = Some((at, count));
    }

    /// The newest rate, if there were two readings.
    #[must_use]
    pub(super) fn now(&self) -> Option<f64> {
        self.rates.back().copied()
    }

    /// At most this many of the newest rates, the newest last.
    pub(super) fn newest(&self, count: usize) -> impl Iterator<Item = f64> + '_ {
        let skipped = self.rates.len().saturating_sub(count);
        self.rates.iter().skip(skipped).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_by_the_time_that_passed() {
        let mut series = Series::default();
        series.read(Duration::from_secs(1), 1000);
        assert_eq!(series.now(), None);
        series.read(Duration::from_secs(3), 1500);
        assert_eq!(series.now(), Some(250.0));
        series.read(Duration::from_secs(3), 1700);
        assert_eq!(series.now(), Some(250.0), "no time has passed");
        series.read(Duration::from_secs(4), 40);
        assert_eq!(series.now(), Some(40.0), "it began anew");
        assert_eq!(series.newest(1).collect::<Vec<_>>(), [40.0]);
    }
}
