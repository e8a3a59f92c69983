//! What has happened lately, for whoever listens: told by the runner, kept in a ring, read by `GET /v1/events`.
//!
//! Who listens slowly keeps nobody waiting: it misses what has left the ring meanwhile, and is told so.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;

/// As many events as are kept.
const KEPT: usize = 1024;

/// Something that has happened.
#[derive(Debug)]
pub struct Told {
    /// Counts events of this agent.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// What: an occasion of the hooks, or `state` or `agent`.
    pub event: String,
    /// Of which group; of none if it concerns the agent.
    pub group: Option<String>,
    /// In detail: JSON.
    pub data: String,
}

/// Events of one agent.
#[derive(Debug)]
pub struct Events {
    /// When the agent started, in milliseconds: numbers begin anew with each.
    boot: i64,
    ring: Mutex<VecDeque<Arc<Told>>>,
    /// The number of the newest.
    newest: watch::Sender<u64>,
}

/// Where somebody has stopped to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// At an event of this agent, at that time.
    Here(u64, Timestamp),
    /// At one of an earlier agent, at that time.
    Before(Timestamp),
    /// Nobody knows.
    Nowhere,
}

impl Events {
    /// Of an agent that starts.
    #[must_use]
    pub fn new(started: Timestamp) -> Self {
        Self {
            boot: started.as_millisecond(),
            ring: Mutex::default(),
            newest: watch::Sender::new(0),
        }
    }

    /// Tells everybody.
    pub fn tell(&self, event: &str, group: Option<&str>, data: &impl Serialize) {
        let mut ring = self.ring();
        let number = *self.newest.borrow() + 1;
        ring.push_back(Arc::new(Told {
            number,
            at: Timestamp::now(),
            event: event.to_owned(),
            group: group.map(ToOwned::to_owned),
            data: serde_json::to_string(data).unwrap_or_else(|_| "{}".to_owned()),
        }));
        if ring.len() > KEPT {
            ring.pop_front();
        }
        self.newest.send_replace(number);
    }

    /// The number of the newest event, and when there is another one.
    #[must_use]
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// What came after an event, the oldest first; nothing if some of it is not there any more.
    #[must_use]
    pub fn after(&self, number: u64) -> Option<Vec<Arc<Told>>> {
        let ring = self.ring();
        let newest = *self.newest.borrow();
        let behind = usize::try_from(newest.checked_sub(number)?).ok()?;
        let from = ring.len().checked_sub(behind)?;
        Some(ring.range(from..).cloned().collect())
    }

    /// The name of an event. It tells when that was, for agents to come.
    #[must_use]
    pub fn id(&self, number: u64, at: Timestamp) -> String {
        format!("{:x}-{number:x}-{:x}", self.boot, at.as_millisecond())
    }

    /// Where somebody has stopped who names an event.
    #[must_use]
    pub fn left(&self, id: &str) -> Left {
        let numbers = id.split('-').map(|text| i64::from_str_radix(text, 16));
        let numbers: Result<Vec<i64>, _> = numbers.collect();
        let Ok([boot, number, at]) = numbers.as_deref() else {
            return Left::Nowhere;
        };
        match (Timestamp::from_millisecond(*at), u64::try_from(*number)) {
            (Ok(at), Ok(number)) if *boot == self.boot => Left::Here(number, at),
            (Ok(at), Ok(_)) => Left::Before(at),
            _ => Left::Nowhere,
        }
    }

    fn ring(&self) -> MutexGuard<'_, VecDeque<Arc<Told>>> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_told_again_and_what_is_not_is_said() {
        let events = Events::new(Timestamp::now());
        assert!(events.after(0).is_some_and(|told| told.is_empty()));
        for number in 0..KEPT + 10 {
            events.tell("state", Some("shop"), &number);
        }
        let newest = *events.newest().borrow();
        assert_eq!(newest, 1034);
        let numbers = |after| {
            let told = events.after(after)?;
            Some(told.iter().map(|it| it.number).collect::<Vec<_>>())
        };
        assert_eq!(numbers(newest), Some(vec![]));
        assert_eq!(numbers(newest - 2), Some(vec![1033, 1034]));
        assert_eq!(numbers(10).map(|it| it.len()), Some(KEPT));
        assert_eq!(numbers(9), None, "it has left");
        assert_eq!(numbers(newest + 1), None, "nobody was told that");
    }

    #[test]
    fn an_id_says_whose_it_is_and_when_that_was() {
        let at: Timestamp = "2026-11-28T12:00:00Z".parse().expect("a time");
        let (first, second) = (Events::new(at), Events::new(Timestamp::now()));
        let id = first.id(26, at);
        assert_eq!(first.left(&id), Left::Here(26, at));
        assert_eq!(second.left(&id), Left::Before(at));
        for odd in ["", "1", "a-b-c-d", "x-y-z", &format!("1-1-{:x}", i64::MAX)] {
            assert_eq!(first.left(odd), Left::Nowhere, "{odd}");
        }
    }
}
