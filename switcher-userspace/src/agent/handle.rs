//! How everybody else reaches the runner.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use tokio::sync::{oneshot, watch};

use super::Runner;
use super::settler::Ticket;
use crate::config::AgentConfig;
use crate::events::Events;
use crate::exit::{Exit, Failure};
use crate::health::Report;

/// What the runner is given.
pub(super) enum Message {
    /// Something to do on its thread.
    Do(Box<dyn FnOnce(&mut Runner) + Send>),
    /// What a probe came to.
    Checked(Report),
    /// A grace period that the settler was asked for has passed, or why none has.
    Settled {
        /// Who has asked.
        tickets: Vec<Ticket>,
        /// What came of it.
        result: Result<(), String>,
    },
    /// Leave everything as it is and return.
    Stop,
}

/// Reaches the runner from anywhere.
#[derive(Clone)]
pub struct Handle {
    sender: Sender<Message>,
    changes: watch::Receiver<u64>,
    taken: watch::Receiver<Arc<AgentConfig>>,
    events: Arc<Events>,
}

impl Handle {
    pub(super) const fn new(
        sender: Sender<Message>,
        changes: watch::Receiver<u64>,
        taken: watch::Receiver<Arc<AgentConfig>>,
        events: Arc<Events>,
    ) -> Self {
        Self {
            sender,
            changes,
            taken,
            events,
        }
    }

    /// Has something done on the runner's thread, and waits for what it comes to.
    ///
    /// # Errors
    /// When the agent is stopping.
    pub async fn ask<T: Send + 'static>(
        &self,
        what: impl FnOnce(&mut Runner) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        self.ask_later(|runner, reply| {
            let _nobody_waits = reply.send(what(runner));
        })
        .await
    }

    /// The same for what is answered later.
    ///
    /// # Errors
    /// When the agent is stopping.
    pub async fn ask_later<T: Send + 'static>(
        &self,
        what: impl FnOnce(&mut Runner, oneshot::Sender<T>) + Send + 'static,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        self.tell(|runner| what(runner, reply));
        answer.await.map_err(|_| stopping())
    }

    /// Has something done, sooner or later.
    pub fn tell(&self, what: impl FnOnce(&mut Runner) + Send + 'static) {
        // If the runner has gone, so has whoever would notice.
        let _gone = self.sender.send(Message::Do(Box::new(what)));
    }

    /// Says that links have changed; whether anybody is there who is interested.
    #[must_use]
    pub fn links_changed(&self) -> bool {
        let look = |runner: &mut Runner| runner.links_changed();
        self.sender.send(Message::Do(Box::new(look))).is_ok()
    }

    /// Tells what a probe came to.
    pub(super) fn checked(&self, report: Report) {
        let _gone = self.sender.send(Message::Checked(report));
    }

    /// Tells that a grace period has passed.
    pub(super) fn settled(&self, tickets: Vec<Ticket>, result: Result<(), String>) {
        let _gone = self.sender.send(Message::Settled { tickets, result });
    }

    /// Ends the runner. Traffic goes on.
    pub fn stop(&self) {
        let _gone = self.sender.send(Message::Stop);
    }

    /// What the configuration that was taken last says of the agent. Changes whenever one is taken, also if it is
    /// the same.
    #[must_use]
    pub fn taken(&self) -> watch::Receiver<Arc<AgentConfig>> {
        self.taken.clone()
    }

    /// What happens.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Counts what has happened to groups.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}

fn stopping() -> Failure {
    Failure::new(Exit::Unreachable, "ask the agent", "the agent is stopping")
        .advise("ask again when it is back; what was begun is finished or undone then")
}
