//! Changes that are sent twice.

use jiff::Timestamp;
use tracing::warn;

use super::Runner;
use crate::exit::Failure;
use crate::journal::Answer;

/// What is known of an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recalled {
    /// Nothing. From now on it is under way.
    Fresh,
    /// The change was carried out, and this was the answer.
    Answered(Answer),
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
    pub fn recall(&mut self, key: &str, request: &str) -> Result<Recalled, Failure> {
        if self.under_way.contains(key) {
            return Ok(Recalled::UnderWay);
        }
        Ok(match self.journal.answer(key)? {
            Some(answer) if answer.request == request => Recalled::Answered(answer),
            Some(_) => Recalled::Another,
            None => {
                self.under_way.insert(key.to_owned());
                Recalled::Fresh
            }
        })
    }

    /// A change isn't under way any more. What went wrong on our side may be tried again.
    pub fn answered(&mut self, key: &str, answer: Option<&Answer>) {
        self.under_way.remove(key);
        let Some(answer) = answer.filter(|answer| answer.status < 500) else {
            return;
        };
        if let Err(error) = self.journal.remember(key, answer, Timestamp::now()) {
            warn!("{error:#}");
        }
    }
}
