//! What is known of every endpoint.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

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
    /// Since when it is healthy.
    since: Option<Instant>,
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
        let since = known.since.or_else(|| Some(Instant::now()));
        *known = Known {
            healthy,
            reason,
            standing,
            since: since.filter(|_| healthy == Some(true)),
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

    /// Whether a colour could take over, if its endpoints have to be healthy for some time; and if only time
    /// is missing, how much.
    #[must_use]
    pub fn readiness(
        &self,
        group: &str,
        colour: &str,
        least: Duration,
    ) -> (Verdict, Option<Duration>) {
        match self.verdict(group, colour) {
            Verdict::Healthy => {}
            other => return (other, None),
        }
        let young = self.of_colour(group, colour).filter_map(|(target, known)| {
            let age = known.since?.elapsed();
            (age < least).then_some((target, age))
        });
        let (mut blockers, mut missing) = (Vec::new(), None);
        for (target, age) in young {
            missing = missing.max(Some(least - age));
            blockers.push(Blocker {
                what: format!("{} {}", target.service, target.address),
                why: format!(
                    "healthy for {}, and has to be for {}",
                    rounded(age),
                    humantime::format_duration(least)
                ),
            });
        }
        match missing {
            None => (Verdict::Healthy, None),
            missing => (Verdict::Unknown(blockers), missing),
        }
    }

    /// For how long all endpoints of a colour have been healthy; nothing if some aren't, or nobody asks.
    #[must_use]
    pub fn passing(&self, group: &str, colour: &str) -> Option<Duration> {
        let ages = self.of_colour(group, colour);
        let mut ages = ages.map(|(_, known)| Some(known.since?.elapsed()));
        let first = ages.next()??;
        ages.try_fold(first, |least, age| Some(least.min(age?)))
    }

    /// Whether nothing is to be sent to some endpoint of a group.
    #[must_use]
    pub fn has_dead(&self, group: &str) -> bool {
        let mut standings = self.of_group(group).map(|(_, known)| known.standing);
        standings.any(|it| it == Some(Standing::Dead))
    }

    fn of_group<'a>(&'a self, group: &'a str) -> impl Iterator<Item = (&'a Target, &'a Known)> {
        let from = self.known.range(Target::first_of(group)..);
        from.take_while(move |(target, _)| target.group == group)
    }

    fn of_colour<'a>(
        &'a self,
        group: &'a str,
        colour: &'a str,
    ) -> impl Iterator<Item = (&'a Target, &'a Known)> {
        let of_group = self.of_group(group);
        of_group.filter(move |(target, _)| target.colour == colour)
    }

    /// Whether a colour could take over.
    #[must_use]
    pub fn verdict(&self, group: &str, colour: &str) -> Verdict {
        let of_colour = self.of_colour(group, colour);
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

/// To seconds, or to hundredths where these are few.
fn rounded(duration: Duration) -> humantime::FormattedDuration {
    let rounded = match duration.as_secs() {
        0..10 => Duration::from_millis(duration.as_millis() as u64 / 10 * 10),
        seconds => Duration::from_secs(seconds),
    };
    humantime::format_duration(rounded)
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
    fn to_be_healthy_takes_time() {
        let mut book = Book::default();
        book.keep([target(1), target(2)]);
        let hour = Duration::from_secs(3600);
        book.record(report(1, Some(true)));
        assert_eq!(book.passing("shop", "green"), None, "one isn't known");
        book.record(report(2, Some(true)));
        assert_eq!(
            book.readiness("shop", "green", Duration::ZERO),
            (Verdict::Healthy, None)
        );
        let (verdict, missing) = book.readiness("shop", "green", hour);
        assert!(missing.is_some_and(|it| it <= hour));
        match verdict {
            Verdict::Unknown(young) => {
                assert_eq!(young.len(), 2);
                assert!(young[0].why.ends_with("and has to be for 1h"), "{young:?}");
            }
            other => panic!("{other:?}"),
        }
        assert!(book.passing("shop", "green").is_some());
        book.record(report(2, Some(false)));
        assert_eq!(book.passing("shop", "green"), None);
        assert!(matches!(
            book.readiness("shop", "green", hour),
            (Verdict::Unhealthy(it), None) if it.len() == 1
        ));
        assert_eq!(book.passing("shop", "blue"), None, "nobody asks");
    }

    #[test]
    fn groups_are_kept_apart() {
        let mut book = Book::default();
        let in_group = |group: &str, service: &str| Target {
            group: group.into(),
            service: service.into(),
            ..target(1)
        };
        let bad = [in_group("sho", "z"), in_group("shop2", "a")];
        let good = [in_group("shop", "a"), in_group("shop", "z")];
        book.keep(bad.iter().chain(&good).cloned());
        for (targets, healthy) in [(&bad, false), (&good, true)] {
            for target in targets {
                let target = target.clone();
                book.record(Report {
                    target,
                    ..report(1, Some(healthy))
                });
            }
        }
        assert_eq!(book.verdict("shop", "green"), Verdict::Healthy);
        for group in ["sho", "shop2"] {
            let verdict = book.verdict(group, "green");
            assert!(matches!(verdict, Verdict::Unhealthy(it) if it.len() == 1));
        }
        book.record(Report {
            target: in_group("shop", "z"),
            ..report(1, Some(false))
        });
        assert!(matches!(
            book.verdict("shop", "green"),
            Verdict::Unhealthy(_)
        ));
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
