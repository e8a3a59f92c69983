//! Every answer that a client got, or why it got none.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A request on a connection that goes on.
    KeepAlive,
    /// A connection for one request.
    New,
    /// A whole download.
    Download,
    /// A line on a connection that is silent most of the time.
    Idle,
    /// A datagram of a flow that goes on.
    UdpFlow,
    /// The first datagram of a flow.
    UdpNew,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::KeepAlive,
        Self::New,
        Self::Download,
        Self::Idle,
        Self::UdpFlow,
        Self::UdpNew,
    ];

    /// Whether the first packet of a flow is part of it, so that it belongs to the colour of the moment.
    #[must_use]
    pub fn is_new(self) -> bool {
        matches!(self, Self::New | Self::UdpNew)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::KeepAlive => "keep-alive request",
            Self::New => "new connection",
            Self::Download => "download",
            Self::Idle => "idle connection's line",
            Self::UdpFlow => "datagram of a flow",
            Self::UdpNew => "first datagram",
        })
    }
}

/// One answer or its absence.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What was asked for.
    pub kind: Kind,
    /// Before the first packet was sent.
    pub begun: Instant,
    /// When the answer was whole.
    pub at: Instant,
    /// The colour that answered, or what went wrong.
    pub outcome: Result<String, String>,
}

/// More answers than any run of the tests has: a bound on memory.
const ANSWERS_MAX: usize = 4_000_000;

/// Where clients record.
#[derive(Debug)]
pub struct Recorder {
    begun: Instant,
    answers: Mutex<Vec<Answer>>,
    stopping: AtomicBool,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            answers: Mutex::default(),
            stopping: AtomicBool::new(false),
        }
    }
}

impl Recorder {
    /// When the load began.
    #[must_use]
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// Adds what happened to a request begun at `begun`.
    pub fn add(&self, kind: Kind, begun: Instant, outcome: Result<String, String>) {
        let mut answers = self.lock();
        if answers.len() < ANSWERS_MAX || outcome.is_err() {
            answers.push(Answer {
                kind,
                begun,
                at: Instant::now(),
                outcome,
            });
        }
    }

    /// What was recorded from number `from` on.
    #[must_use]
    pub fn from(&self, from: usize) -> Vec<Answer> {
        self.lock().get(from..).unwrap_or_default().to_vec()
    }

    /// What was recorded since the last call, forgotten here: for runs that have no end.
    #[must_use]
    pub fn take(&self) -> Vec<Answer> {
        std::mem::take(&mut *self.lock())
    }

    /// How many answers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there is no answer yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first answer to a new connection or flow begun after `instant` that came from `colour`.
    #[must_use]
    pub fn first_of(&self, colour: &str, instant: Instant) -> Option<Answer> {
        let answers = self.lock();
        let is_it = |answer: &&Answer| {
            answer.kind.is_new()
                && answer.begun >= instant
                && answer.outcome.as_deref() == Ok(colour)
        };
        answers
            .iter()
            .filter(is_it)
            .min_by_key(|answer| answer.at)
            .cloned()
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
