//! A change with an idempotency key is carried out once.

use axum::response::Response;

use super::Api;
use super::problem::{Refused, response};
use crate::agent::Recalled;
use crate::exit::{Exit, Failure};
use crate::journal::Once;

/// An answer, ready to be sent and to be remembered.
pub(super) type Ready = (u16, String);

/// What has become of a change that may have been sent before.
pub(super) enum Before {
    /// It wasn't; this holds its key.
    Fresh(Option<Held>),
    /// It was answered so.
    Answered(Ready),
    /// It has begun this cut-over, and nobody was answered.
    Begun(String),
}

/// What is known of a change. One without a key is a fresh one.
pub(super) async fn before(api: &Api, once: Option<&Once>) -> Result<Before, Refused> {
    let Some(once) = once.cloned() else {
        return Ok(Before::Fresh(None));
    };
    let key = once.key.clone();
    let recalled = api.agent.ask(move |runner| runner.recall(&once)).await?;
    match recalled? {
        Recalled::Fresh => Ok(Before::Fresh(Some(Held {
            api: api.clone(),
            key,
        }))),
        Recalled::Answered(status, body) => Ok(Before::Answered((status, body))),
        Recalled::Begun(id) => Ok(Before::Begun(id)),
        Recalled::UnderWay => {
            let why = format!("the change with idempotency key {key} is still under way");
            Err(Refused::with_status(
                &Failure::new(Exit::Precondition, "", why),
                409,
            ))
        }
        Recalled::Another => {
            let why = format!("idempotency key {key} was used for another change");
            Err(Failure::new(Exit::Usage, "", why)
                .advise("use a key once")
                .into())
        }
    }
}

/// Carries out a change that begins no cut-over of its own, unless it has been. It goes on if whoever asked goes away.
pub(super) async fn once(
    api: &Api,
    once: Option<Once>,
    change: impl Future<Output = Ready> + Send + 'static,
) -> Result<Response, Refused> {
    let held = match before(api, once.as_ref()).await? {
        Before::Answered((status, body)) => return Ok(response(status, body)),
        Before::Begun(_) => None,
        Before::Fresh(held) => held,
    };
    let agent = api.agent.clone();
    let done = tokio::spawn(async move {
        let (status, body) = change.await;
        if let Some(once) = once.filter(|_| status == 200) {
            let answer = body.clone();
            agent.tell(move |runner| runner.answered(&once, status, &answer));
        }
        drop(held);
        (status, body)
    });
    let (status, body) = done
        .await
        .map_err(|error| Failure::new(Exit::Unexpected, "", error.to_string()))?;
    Ok(response(status, body))
}

/// A key of a change that is under way.
pub(super) struct Held {
    api: Api,
    key: String,
}

impl Drop for Held {
    fn drop(&mut self) {
        let key = std::mem::take(&mut self.key);
        self.api.agent.tell(move |runner| runner.let_go(&key));
    }
}
