//! What a load says at its end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::record::{Answer, Kind, Recorder};

/// Everything recorded, and questions about it.
#[derive(Debug)]
pub struct Report {
    begun: Instant,
    answers: Vec<Answer>,
}

/// Answers of one second, by colour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Second {
    /// Answers of any kind.
    pub all: BTreeMap<String, u64>,
    /// Answers on new connections and flows.
    pub new: BTreeMap<String, u64>,
    /// Requests without a right answer.
    pub failures: u64,
}

impl Second {
    /// Counts one answer.
    pub fn add(&mut self, answer: &Answer) {
        let Ok(colour) = &answer.outcome else {
            self.failures += 1;
            return;
        };
        *self.all.entry(colour.clone()).or_default() += 1;
        if answer.kind.is_new() {
            *self.new.entry(colour.clone()).or_default() += 1;
        }
    }
}

impl Report {
    pub(super) fn new(recorder: &Recorder) -> Self {
        Self {
            begun: recorder.begun(),
            answers: recorder.from(0),
        }
    }

    /// Right answers of a kind.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.answers
            .iter()
            .filter(|answer| answer.kind == kind && answer.outcome.is_ok())
            .count()
    }

    /// Requests without a right answer, described, with the second of the run.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let failed = self
            .answers
            .iter()
            .filter_map(|answer| Some((answer, answer.outcome.as_ref().err()?)));
        failed
            .map(|(answer, why)| {
                format!("{:.3} s: {}: {why}", self.seconds(answer.at), answer.kind)
            })
            .collect()
    }

    /// Answers by second of their arrival.
    #[must_use]
    pub fn seconds_table(&self) -> Vec<Second> {
        let mut table = Vec::new();
        for answer in &self.answers {
            let second = answer.at.duration_since(self.begun).as_secs() as usize;
            if table.len() <= second {
                table.resize(second + 1, Second::default());
            }
            table[second].add(answer);
        }
        table
    }

    /// New connections and flows begun after `after` and answered before `before`, that `colour` did
    /// not answer. Described; empty is what a switch promises.
    #[must_use]
    pub fn strays(&self, colour: &str, after: Instant, before: Instant) -> Vec<String> {
        self.new_between(after, before)
            .filter(|(_, answered)| *answered != colour)
            .map(|(answer, answered)| {
                let late = answer.begun.duration_since(after);
                format!(
                    "{} begun {late:?} after the switch to {colour} came to {answered}",
                    answer.kind
                )
            })
            .collect()
    }

    /// How many new connections and flows began after `after` and were answered before `before`.
    #[must_use]
    pub fn begun_between(&self, after: Instant, before: Instant) -> usize {
        self.new_between(after, before).count()
    }

    /// The longest that any answer took, downloads aside.
    #[must_use]
    pub fn slowest(&self) -> Duration {
        let timed = self
            .answers
            .iter()
            .filter(|answer| answer.kind != Kind::Download);
        timed
            .map(|answer| answer.at.duration_since(answer.begun))
            .max()
            .unwrap_or_default()
    }

    /// One line a kind: how many right answers.
    #[must_use]
    pub fn summary(&self) -> String {
        let counts = Kind::ALL.map(|kind| format!("{kind} {}", self.count(kind)));
        format!(
            "{}; {} failures; slowest answer {:?}",
            counts.join(", "),
            self.failures().len(),
            self.slowest()
        )
    }

    fn new_between(
        &self,
        after: Instant,
        before: Instant,
    ) -> impl Iterator<Item = (&Answer, &str)> {
        self.answers
            .iter()
            .filter(move |answer| {
                answer.kind.is_new() && answer.begun >= after && answer.at < before
            })
            .filter_map(|answer| Some((answer, answer.outcome.as_deref().ok()?)))
    }

    fn seconds(&self, at: Instant) -> f64 {
        at.duration_since(self.begun).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strays_are_new_connections_of_another_colour_after_the_switch() {
        let recorder = Recorder::default();
        let early = Instant::now();
        recorder.add(Kind::New, early, Ok("blue".to_owned()));
        let switched = Instant::now();
        recorder.add(Kind::New, early, Ok("blue".to_owned()));
        recorder.add(Kind::KeepAlive, switched, Ok("blue".to_owned()));
        recorder.add(Kind::New, switched, Ok("green".to_owned()));
        let far = switched + Duration::from_secs(60);
        assert_eq!(
            Report::new(&recorder).strays("green", switched, far),
            Vec::<String>::new()
        );
        recorder.add(Kind::UdpNew, Instant::now(), Ok("blue".to_owned()));
        assert_eq!(
            Report::new(&recorder).strays("green", switched, far).len(),
            1
        );
        assert_eq!(Report::new(&recorder).begun_between(switched, far), 2);
    }

    #[test]
    fn failures_are_counted_and_described() {
        let recorder = Recorder::default();
        recorder.add(Kind::Idle, Instant::now(), Err("reset by peer".to_owned()));
        let report = Report::new(&recorder);
        assert!(report.failures()[0].ends_with("idle connection's line: reset by peer"));
        assert_eq!(report.seconds_table()[0].failures, 1);
    }
}
