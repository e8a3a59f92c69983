//! A thread that waits for grace periods, so that the runner can go on meanwhile.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use anyhow::Context;

use super::handle::Handle;
use crate::datapath::Grace;

/// Asks for grace periods. The thread ends when this is dropped.
pub(super) struct Settler {
    asked: Sender<Ticket>,
}

/// What a grace period is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    /// The group.
    pub(super) group: String,
    /// Which of its waits.
    pub(super) number: u64,
}

impl Settler {
    /// # Errors
    /// When there is no thread for it.
    pub(super) fn start(grace: Arc<dyn Grace>, handle: Handle) -> anyhow::Result<Self> {
        let (asked, tickets) = channel();
        let _ends_by_itself: JoinHandle<()> = std::thread::Builder::new()
            .name("settler".to_owned())
            .spawn(move || settle(grace.as_ref(), &tickets, &handle))
            .context("start the thread that waits for grace periods")?;
        Ok(Self { asked })
    }

    /// Waits for a grace period that begins after this call; says whether it does.
    pub(super) fn ask(&self, ticket: Ticket) -> bool {
        self.asked.send(ticket).is_ok()
    }
}

/// One grace period is enough for all that asked before it began.
fn settle(grace: &dyn Grace, tickets: &Receiver<Ticket>, handle: &Handle) {
    while let Ok(first) = tickets.recv() {
        let mut all = vec![first];
        all.extend(tickets.try_iter());
        let passed = grace.wait();
        handle.settled(all, passed.map(drop).map_err(|error| format!("{error:#}")));
    }
}
