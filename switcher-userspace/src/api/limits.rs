//! How much one peer, and all of them, may ask for. Root of this host and the agent's own user are not bound.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use tokio::sync::Semaphore;

/// Peers whose rate is remembered before those that have been quiet are forgotten.
const REMEMBERED: usize = 1024;

/// The bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at a time,
    pub(super) connections: usize,
    /// and of one address or user.
    pub(super) connections_each: usize,
    /// Who gets events,
    pub(super) subscribers: usize,
    /// and of one peer.
    pub(super) subscribers_each: usize,
    /// Requests of one peer in a second, in the long run,
    pub(super) rate: NonZeroU32,
    /// and at once.
    pub(super) burst: NonZeroU32,
    /// How long a handshake or a request's head may take, and a connection be silent.
    pub(super) silence: Duration,
    /// How long a request's body may take.
    pub(super) body: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            connections_each: 64,
            subscribers: 64,
            subscribers_each: 16,
            rate: const { NonZeroU32::new(100).expect("above zero") },
            burst: const { NonZeroU32::new(300).expect("above zero") },
            silence: Duration::from_secs(30),
            body: Duration::from_secs(60),
        }
    }
}

/// What is in use of them.
pub(super) struct Bounds {
    pub(super) limits: Limits,
    /// By address or user.
    pub(super) connections: Places,
    /// Those that are one too many are told so, by few at a time.
    pub(super) refusals: Arc<Semaphore>,
    /// By peer.
    pub(super) subscribers: Places,
    /// Those who ask for what takes long take turns.
    pub(super) heavy: Semaphore,
    rate: RateLimiter<String, HashMapStateStore<String>, DefaultClock>,
}

impl Bounds {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            connections: Places::new(limits.connections, limits.connections_each),
            refusals: Arc::new(Semaphore::new(32)),
            subscribers: Places::new(limits.subscribers, limits.subscribers_each),
            heavy: Semaphore::new(2),
            rate: RateLimiter::hashmap(Quota::per_second(limits.rate).allow_burst(limits.burst)),
        }
    }

    /// Takes a request of a peer, or says how long it has to wait.
    pub(super) fn take(&self, key: &str) -> Result<(), Duration> {
        if self.rate.len() > REMEMBERED {
            self.rate.retain_recent();
        }
        let taken = self.rate.check_key(&key.to_owned());
        taken.map_err(|not_before| not_before.wait_time_from(DefaultClock::default().now()))
    }
}

/// Places, of which one key has only so many.
#[derive(Clone)]
pub(super) struct Places {
    all: usize,
    each: usize,
    taken: Arc<Mutex<HashMap<String, usize>>>,
}

/// A place that is taken until this is dropped.
pub(super) struct Place {
    places: Places,
    key: String,
}

impl Places {
    fn new(all: usize, each: usize) -> Self {
        Self {
            all,
            each,
            taken: Arc::default(),
        }
    }

    /// A place, if there is one.
    pub(super) fn take(&self, key: &str) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(key).copied().unwrap_or_default();
        if own >= self.each || taken.values().sum::<usize>() >= self.all {
            return None;
        }
        taken.insert(key.to_owned(), own + 1);
        Some(Place {
            places: self.clone(),
            key: key.to_owned(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let taken = &self.places.taken;
        let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.key) {
            Some(own) if *own > 1 => *own -= 1,
            Some(_) | None => drop(taken.remove(&self.key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_for_each_and_for_all_and_come_free() {
        let places = Places::new(3, 2);
        let first = places.take("a");
        let second = places.take("a");
        assert!(first.is_some() && second.is_some());
        assert!(places.take("a").is_none(), "two are enough for one");
        let third = places.take("b");
        assert!(third.is_some());
        assert!(places.take("c").is_none(), "three are all");
        drop(first);
        assert!(places.take("a").is_some());
        drop((second, third));
        assert!(places.taken.lock().expect("whole").is_empty());
    }

    #[test]
    fn a_peer_that_asks_too_often_is_told_when_to_come_again() {
        let few = |count| NonZeroU32::new(count).expect("above zero");
        let bounds = Bounds::new(Limits {
            rate: few(1),
            burst: few(3),
            ..Limits::default()
        });
        for _ in 0..3 {
            assert_eq!(bounds.take("a"), Ok(()));
        }
        let wait = bounds.take("a").expect_err("the fourth");
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
        assert_eq!(bounds.take("b"), Ok(()), "others are not concerned");
    }
}
