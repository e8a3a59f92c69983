//! From single probes to a verdict.

/// Counts probes in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    rise: u32,
    fall: u32,
    healthy: Option<bool>,
    in_a_row: u32,
    last: bool,
}

/// What a probe has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Same,
    /// It counts as healthy from now on.
    Up,
    /// It counts as unhealthy from now on.
    Down,
}

impl Tally {
    /// Nothing is known. `rise` passes in a row make it healthy, `fall` failures unhealthy again.
    #[must_use]
    pub const fn new(rise: u32, fall: u32) -> Self {
        Self {
            rise,
            fall,
            healthy: None,
            in_a_row: 0,
            last: false,
        }
    }

    /// The verdict, once there is one.
    #[must_use]
    pub const fn healthy(&self) -> Option<bool> {
        self.healthy
    }

    /// Takes a probe's result. What was never healthy is unhealthy with the first failure: there is
    /// nothing that a second one would protect.
    pub fn record(&mut self, passed: bool) -> Change {
        self.in_a_row = if passed == self.last {
            self.in_a_row.saturating_add(1)
        } else {
            1
        };
        self.last = passed;
        let enough = match (passed, self.healthy) {
            (true, _) => self.rise,
            (false, Some(_)) => self.fall,
            (false, None) => 1,
        };
        if self.healthy == Some(passed) || self.in_a_row < enough {
            return Change::Same;
        }
        self.healthy = Some(passed);
        if passed { Change::Up } else { Change::Down }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_rise_passes_and_fall_failures_in_a_row() {
        let mut tally = Tally::new(2, 3);
        let changes = [
            true, true, false, false, true, false, false, false, true, false, true, true,
        ]
        .map(|passed| tally.record(passed));
        let up_and_down: Vec<_> = changes
            .iter()
            .enumerate()
            .filter(|(_, change)| **change != Change::Same)
            .collect();
        assert_eq!(
            up_and_down,
            [(1, &Change::Up), (7, &Change::Down), (11, &Change::Up)]
        );
    }

    #[test]
    fn the_first_failure_is_conclusive() {
        let mut tally = Tally::new(2, 3);
        assert_eq!(tally.healthy(), None);
        assert_eq!(tally.record(true), Change::Same);
        assert_eq!(tally.record(false), Change::Down);
        assert_eq!(tally.healthy(), Some(false));
    }
}
