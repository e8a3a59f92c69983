//! Changes that are sent twice.
//!
//! A key is committed with the intent of the cut-over that its change begins, and the answer when it is given: whatever
//! ends in between, the agent or whoever waits for it, the same change is not carried out again.

use jiff::Timestamp;
use tracing::warn;

use super::Runner;
use crate::api::model::ChangeAnswer;
use crate::exit::{Exit, Failure};
use crate::journal::{Keyed, Once};
use crate::release::End;

/// What is known of an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recalled {
    /// Nothing. From now on it is under way.
    Fresh,
    /// The change was carried out, and this was the answer: HTTP status and JSON.
    Answered(u16, String),
    /// The change has begun this cut-over, and nobody was answered.
    Begun(String),
    /// The change is being carried out.
    UnderWay,
    /// Another change had this key.
    Another,
}

impl Runner {
    /// What is known of an idempotency key; a fresh one is under way from now on.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn recall(&mut self, once: &Once) -> Result<Recalled, Failure> {
        let mut waiting = self.groups.values().flat_map(|it| it.waiting.values());
        let waits = waiting.any(|it| it.once.as_ref().is_some_and(|it| it.key == once.key));
        if waits || self.under_way.contains(&once.key) {
            return Ok(Recalled::UnderWay);
        }
        let known = match self.unrecorded.get(&once.key) {
            Some(keyed) => Some(keyed.clone()),
            None => self.journal.keyed(&once.key)?,
        };
        let recalled = match known {
            None => Recalled::Fresh,
            Some(known) if known.request != once.request => Recalled::Another,
            Some(known) => match (known.answer, known.cutover) {
                (Some((status, body)), _) => Recalled::Answered(status, body),
                (None, Some(id)) if self.was_switched(&id)? => Recalled::Begun(id),
                (None, _) => Recalled::Fresh,
            },
        };
        if recalled == Recalled::Fresh {
            self.under_way.insert(once.key.clone());
        }
        Ok(recalled)
    }

    /// Whether a cut-over that nobody was answered for has come as far as the store, or will. One that a dying agent has
    /// called off may be asked for again.
    fn was_switched(&self, id: &str) -> Result<bool, Failure> {
        let record = self.journal.cutover(id)?;
        let result = record.map(|it| it.result);
        Ok(result.is_some_and(|it| !matches!(it, Some(End::Aborted | End::Failed))))
    }

    /// Remembers the answer to a change that was carried out.
    pub fn answered(&mut self, once: &Once, status: u16, body: &str) {
        let keyed = Keyed {
            request: once.request.clone(),
            cutover: None,
            answer: Some((status, body.to_owned())),
        };
        if let Err(error) = self.journal.remember(&once.key, &keyed, Timestamp::now()) {
            warn!("{error:#}");
            self.unrecorded.insert(once.key.clone(), keyed);
        }
    }

    /// The same for an order. One that was refused, or that went wrong before anything was switched, may be sent again.
    pub(super) fn answered_order(&mut self, once: &Once, answer: &Result<ChangeAnswer, Failure>) {
        let (status, body) = match answer {
            Err(failure) if failure.exit != Exit::RolledBack => return,
            Ok(answer) => (200, serde_json::to_string(answer)),
            Err(failure) => {
                let problem = failure.problem();
                (problem.status, serde_json::to_string(&problem))
            }
        };
        self.answered(once, status, &body.unwrap_or_default());
    }

    /// A change isn't under way any more.
    pub fn let_go(&mut self, key: &str) {
        self.under_way.remove(key);
    }
}
