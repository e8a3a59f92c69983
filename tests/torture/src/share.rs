//! Whether a canary has its share.

use crate::endpoint::Endpoints;
use crate::timeline::At;

/// Fewer flows say nothing.
const ENOUGH: f64 = 100.0;
/// So many standard deviations are no chance: once in half a billion.
const SIGMAS: f64 = 6.0;

/// New flows while a canary is as it is.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    from: At,
    endpoints: Endpoints,
    percent: u8,
    all: f64,
    canary: f64,
}

impl Share {
    /// From this instant on.
    #[must_use]
    pub(crate) fn new(from: At, endpoints: Endpoints, percent: u8) -> Self {
        Self {
            from,
            endpoints,
            percent,
            all: 0.0,
            canary: 0.0,
        }
    }

    /// A flow has begun.
    pub(crate) fn count(&mut self, begun: At, endpoint: Endpoints) {
        if begun >= self.from {
            self.all += 1.0;
            self.canary += f64::from(u8::from(self.endpoints.has(endpoint)));
        }
    }

    /// Whether the share is what it should be.
    ///
    /// # Errors
    /// What it should be, and what it is.
    pub(crate) fn judge(&self) -> Result<(), (String, String)> {
        let wanted = f64::from(self.percent) / 100.0;
        let off = (self.canary - self.all * wanted).abs();
        // A flow more or less is no matter where next to all or none are expected.
        let most = SIGMAS * (self.all * wanted * (1.0 - wanted)).sqrt() + 1.0;
        if self.all < ENOUGH || off <= most {
            return Ok(());
        }
        Err((
            format!("{} % of them at {}", self.percent, self.endpoints),
            format!("{} of {}", self.canary, self.all),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREEN: Endpoints = Endpoints::one(1, 1);
    const BLUE: Endpoints = Endpoints::one(0, 1);

    fn share(green: u32, blue: u32) -> Share {
        let mut share = Share::new(At::from_secs(1), GREEN, 20);
        share.count(At::ZERO, GREEN);
        (0..green).for_each(|_| share.count(At::from_secs(1), GREEN));
        (0..blue).for_each(|_| share.count(At::from_secs(2), BLUE));
        share
    }

    #[test]
    fn chance_is_allowed_for_and_nothing_else() {
        assert!(share(20, 80).judge().is_ok());
        assert!(share(30, 70).judge().is_ok());
        assert!(share(60, 40).judge().is_err());
        assert!(share(0, 1000).judge().is_err());
        assert!(share(0, 10).judge().is_ok());
    }
}
