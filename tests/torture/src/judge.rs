//! Who compares what clients see with what the model says, while it happens.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::endpoint::Endpoints;
use crate::model::{Flow, Model};
use crate::share::Share;
use crate::timeline::At;

/// Longer than any flow is remembered by anybody.
const MEMORY: Duration = Duration::from_secs(180);
/// Hosts may say for so long after a link was down that there is no way.
const UNREACHABLE: Duration = Duration::from_secs(30);
/// How they say so.
const UNREACHABLE_SAYS: [&str; 2] = ["Network is unreachable", "No route to host"];
/// Broken promises that are described; all are counted.
const DESCRIBED: usize = 200;

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Long downloads on one connection, every byte checked.
    Download,
    /// Long uploads on one connection, every byte checked.
    Upload,
    /// Numbered lines, now and then.
    Idle,
    /// One request after the other.
    Requests,
    /// A connection for one request.
    New,
    /// Numbered datagrams of one socket.
    Datagrams,
    /// A socket for one datagram.
    NewDatagram,
}

impl Kind {
    /// In a few words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Download => "long downloads",
            Self::Upload => "long uploads",
            Self::Idle => "idle connections",
            Self::Requests => "request/response connections",
            Self::New => "connections for one request",
            Self::Datagrams => "UDP flows",
            Self::NewDatagram => "UDP flows of one datagram",
        }
    }

    /// Between exchanges; transfers never are.
    const fn may_be_silent(self) -> bool {
        matches!(self, Self::Idle | Self::Requests)
    }

    const fn is_connected(self) -> bool {
        !matches!(self, Self::Datagrams | Self::NewDatagram)
    }
}

/// A broken promise.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Seconds of the run.
    pub at: f64,
    /// What was being done to Switcher, or had been last.
    pub doing: String,
    /// Whose promise.
    pub flow: String,
    /// What was promised.
    pub expected: String,
    /// What was seen.
    pub seen: String,
}

/// What clients of a kind did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Flows {
    /// Flows that were answered.
    pub begun: u64,
    /// Answers.
    pub answers: u64,
    /// Bytes that were checked.
    pub bytes: u64,
    /// Flows that an action took, as it may.
    pub taken: u64,
    /// Datagrams that were sent again.
    pub again: u64,
}

/// Everything that is known at the end.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// By kind.
    pub flows: BTreeMap<Kind, Flows>,
    /// The first of them.
    pub findings: Vec<Finding>,
    /// How many there are.
    pub broken: u64,
}

/// Shared by clients and whoever gives orders.
#[derive(Debug)]
pub struct Judge {
    begun: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    model: Model,
    record: Record,
    doing: String,
    since: At,
    share: Option<Share>,
    /// When a link was down last, until when it counts.
    cut: Option<(At, At)>,
}

impl Judge {
    /// With what holds at the beginning.
    #[must_use]
    pub fn new(model: Model) -> Self {
        Self {
            begun: Instant::now(),
            inner: Mutex::new(Inner {
                model,
                record: Record::default(),
                doing: "nothing yet".to_owned(),
                since: At::ZERO,
                share: None,
                cut: None,
            }),
        }
    }

    /// An instant of the run.
    #[must_use]
    pub fn at(&self, instant: Instant) -> At {
        instant.saturating_duration_since(self.begun)
    }

    /// This instant.
    #[must_use]
    pub fn now(&self) -> At {
        self.begun.elapsed()
    }

    /// From now on this is done to Switcher.
    pub fn doing(&self, what: String) {
        let now = self.now();
        let mut inner = self.lock();
        (inner.doing, inner.since) = (what, now);
        inner.model.forget(now.saturating_sub(MEMORY));
    }

    /// Tells the model.
    pub fn tell<T>(&self, say: impl FnOnce(&mut Model) -> T) -> T {
        say(&mut self.lock().model)
    }

    /// From now on a colour has a share of new flows, or none has one.
    pub fn shares(&self, at: At, share: Option<(Endpoints, u8)>) {
        let mut inner = self.lock();
        let next = share.map(|(endpoints, percent)| Share::new(at, endpoints, percent));
        if let Some(before) = std::mem::replace(&mut inner.share, next)
            && let Err((expected, seen)) = before.judge()
        {
            self.note(&mut inner, "new flows of a canary", expected, seen);
        }
    }

    /// A flow has its first answer. Who serves it, if that can be told.
    pub fn begun(&self, kind: Kind, begun: Instant, name: &str, server: &str) -> Option<Flow> {
        let (begun, now) = (self.at(begun), self.now());
        let mut inner = self.lock();
        let Some(endpoint) = Endpoints::named(server) else {
            let seen = format!("{server:?}");
            self.note(&mut inner, name, "the name of a server".to_owned(), seen);
            return None;
        };
        let flows = inner.flows(kind);
        flows.begun += 1;
        flows.answers += 1;
        if let Err(expected) = inner.model.begins(begun, now, endpoint) {
            let seen = format!(
                "an answer of {endpoint} to a flow begun at {:.4} s",
                begun.as_secs_f64()
            );
            self.note(&mut inner, name, expected, seen);
        }
        if let Some(share) = &mut inner.share {
            share.count(begun, endpoint);
        }
        Some(Flow {
            endpoint,
            begun,
            answered: now,
            connected: kind.is_connected(),
            heard: kind.may_be_silent().then_some(now),
        })
    }

    /// A flow has another answer of its endpoint, with so many bytes that were checked.
    pub fn goes_on(&self, kind: Kind, flow: &mut Flow, asked: Instant, name: &str, bytes: u64) {
        let asked = self.at(asked);
        if let Some(heard) = &mut flow.heard {
            *heard = self.now();
        }
        let mut inner = self.lock();
        let flows = inner.flows(kind);
        flows.answers += 1;
        flows.bytes += bytes;
        if let Err(expected) = inner.model.goes_on(flow, asked) {
            let seen = format!("an answer of {}", flow.endpoint);
            self.note(&mut inner, name, expected, seen);
        }
    }

    /// A flow has ended, or is served by somebody else, and its client did not want that.
    pub fn ended(&self, kind: Kind, flow: &Flow, name: &str, why: String) {
        let now = self.now();
        let mut inner = self.lock();
        if inner.model.may_end(flow, now) {
            inner.flows(kind).taken += 1;
            return;
        }
        let expected = format!(
            "to stay with {}, where it began at {:.3} s",
            flow.endpoint,
            flow.begun.as_secs_f64()
        );
        self.note(&mut inner, name, expected, why);
    }

    /// A link goes down now, for at most so long.
    pub fn cuts(&self, time: Duration) {
        let now = self.now();
        self.lock().cut = Some((now, now + time + UNREACHABLE));
    }

    /// A flow was never answered.
    pub fn refused(&self, kind: Kind, name: &str, begun: Instant, why: &str) {
        let (begun, now) = (self.at(begun), self.now());
        let mut inner = self.lock();
        let nowhere = UNREACHABLE_SAYS.iter().any(|said| why.contains(said));
        let cut = inner
            .cut
            .is_some_and(|(from, until)| from <= now && begun <= until);
        if inner.model.may_be_refused(begun, now) || nowhere && cut {
            inner.flows(kind).taken += 1;
            return;
        }
        let seen = format!("{why}, begun at {:.3} s", begun.as_secs_f64());
        self.note(&mut inner, name, "an answer".to_owned(), seen);
    }

    /// A datagram was sent again.
    pub fn again(&self, kind: Kind) {
        self.lock().flows(kind).again += 1;
    }

    /// A promise to whoever gives orders.
    pub fn found(&self, whose: &str, expected: impl Into<String>, seen: impl Into<String>) {
        let mut inner = self.lock();
        self.note(&mut inner, whose, expected.into(), seen.into());
    }

    /// What there is so far.
    #[must_use]
    pub fn record(&self) -> Record {
        self.lock().record.clone()
    }

    fn note(&self, inner: &mut Inner, flow: &str, expected: String, seen: String) {
        let now = self.now();
        let ago = now.saturating_sub(inner.since).as_secs_f64();
        inner.record.broken += 1;
        let finding = Finding {
            at: now.as_secs_f64(),
            doing: format!("{}, begun {ago:.3} s before", inner.doing),
            flow: flow.to_owned(),
            expected,
            seen,
        };
        if inner.record.findings.len() < DESCRIBED {
            println!("  BROKEN {}", describe(&finding));
            inner.record.findings.push(finding);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn flows(&mut self, kind: Kind) -> &mut Flows {
        self.record.flows.entry(kind).or_default()
    }
}

/// A broken promise in a line.
#[must_use]
pub fn describe(finding: &Finding) -> String {
    let Finding {
        at,
        doing,
        flow,
        expected,
        seen,
    } = finding;
    format!("{at:.3} s: {flow}: expected {expected}; seen: {seen} (while: {doing})")
}
