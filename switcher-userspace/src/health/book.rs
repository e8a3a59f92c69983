//! What is known of every endpoint.

use std::collections::BTreeMap;

use super::{Report, Standing, Target};
use crate::release::Blocker;

/// What is known of every endpoint that is probed.
#[derive(Clone, Debug, Default)]
pub struct Book {
    known: BTreeMap<Target, Known>,
}

/// What is known of an endpoint, as in [`Report`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    healthy: Option<bool>,
    reason: Option<String>,
    standing: Option<Standing>,
}

/// Whether a colour could take over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every endpoint is healthy, or nobody asks.
    Healthy,
    /// Some aren't.
    Unhealthy(Vec<Blocker>),
    /// For some it isn't known yet, and the others are healthy.
    Unknown(Vec<Blocker>),
}

impl Book {
    /// Keeps what is known of these endpoints, forgets the others.
    pub fn keep(&mut self, targets: impl IntoIterator<Item = Target>) {
        let mut before = std::mem::take(&mut self.known);
        let kept = targets.into_iter().map(|target| {
            let known = before.remove(&target).unwrap_or_default();
            (target, known)
        });
        self.known = kept.collect();
    }

    /// Takes a report; true if the verdict has changed.
    pub fn record(&mut self, report: Report) -> bool {
        let Report {
            target,
            healthy,
            reason,
            standing,
        } = report;
        let standing = Some(standing);
        let Some(known) = self.known.get_mut(&target) else {
            return false;
        };
        let changed = known.healthy != healthy || known.standing != standing;
        *known = Known {
            healthy,
            reason,
            standing,
        };
        changed
    }

    /// What is known of an endpoint; nothing if it isn't probed.
    #[must_use]
    pub fn of(&self, target: &Target) -> Option<(Option<bool>, Option<&str>)> {
        let known = self.known.get(target)?;
        Some((known.healthy, known.reason.as_deref()))
    }

    /// What is to be thought of an endpoint when buckets are dealt out.
    #[must_use]
    pub fn standing(&self, target: &Target) -> Standing {
        match self.known.get(target) {
            Some(known) => known.standing.unwrap_or(Standing::Unknown),
            None => Standing::Up,
        }
    }

    /// Whether a colour could take over.
    #[must_use]
    pub fn verdict(&self, group: &str, colour: &str) -> Verdict {
        let of_colour = self
            .known
            .iter()
            .filter(|(target, _)| target.group == group && target.colour == colour);
        let (mut bad, mut unknown) = (Vec::new(), Vec::new());
        for (target, known) in of_colour {
            let what = format!("{} {}", target.service, target.address);
            match known.healthy {
                Some(true) => {}
                Some(false) => {
                    let why = known
                        .reason
                        .clone()
                        .unwrap_or_else(|| "unhealthy".to_owned());
                    bad.push(Blocker { what, why });
                }
                None => unknown.push(Blocker {
                    what,
                    why: "not checked yet".to_owned(),
                }),
            }
        }
        match (bad.is_empty(), unknown.is_empty()) {
            (true, true) => Verdict::Healthy,
            (true, false) => Verdict::Unknown(unknown),
            (false, _) => Verdict::Unhealthy(bad),
        }
    }
}

impl Verdict {
    /// What keeps the colour from being called healthy.
    #[must_use]
    pub fn blockers(self) -> Vec<Blocker> {
        match self {
            Self::Healthy => Vec::new(),
            Self::Unhealthy(blockers) | Self::Unknown(blockers) => blockers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colour_is_as_healthy_as_its_worst_endpoint() {
        let mut book = Book::default();
        book.keep([target(1), target(2)]);
        assert!(matches!(book.verdict("shop", "green"), Verdict::Unknown(it) if it.len() == 2));
        assert!(book.record(report(1, Some(true))));
        assert!(!book.record(report(1, Some(true))), "that was known");
        assert!(matches!(book.verdict("shop", "green"), Verdict::Unknown(it) if it.len() == 1));
        book.record(report(2, Some(false)));
        let blocker = Blocker {
            what: "web 10.0.0.1:2".into(),
            why: "refused".into(),
        };
        assert_eq!(
            book.verdict("shop", "green"),
            Verdict::Unhealthy(vec![blocker])
        );
        book.record(report(2, Some(true)));
        assert_eq!(book.verdict("shop", "green"), Verdict::Healthy);
        assert_eq!(
            book.verdict("shop", "blue"),
            Verdict::Healthy,
            "nobody asks"
        );
    }

    #[test]
    fn who_is_gone_is_forgotten_and_who_stays_is_not() {
        let mut book = Book::default();
        book.keep([target(1), target(2)]);
        book.record(report(1, Some(true)));
        book.keep([target(1), target(3)]);
        assert_eq!(book.of(&target(1)), Some((Some(true), Some("refused"))));
        assert_eq!(book.of(&target(2)), None);
        assert!(
            !book.record(report(2, Some(false))),
            "a report that was on its way"
        );
    }

    fn target(port: u16) -> Target {
        Target {
            group: "shop".into(),
            service: "web".into(),
            colour: "green".into(),
            address: ([10, 0, 0, 1], port).into(),
        }
    }

    fn report(port: u16, healthy: Option<bool>) -> Report {
        Report {
            target: target(port),
            healthy,
            reason: Some("refused".into()),
            standing: match healthy {
                Some(true) => Standing::Up,
                Some(false) => Standing::Dead,
                None => Standing::Unknown,
            },
        }
    }
}
