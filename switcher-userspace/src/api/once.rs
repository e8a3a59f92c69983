//! A change with an idempotency key is carried out once.

use axum::response::Response;

use super::Api;
use super::problem::{Refused, response};
use crate::agent::Recalled;
use crate::exit::{Exit, Failure};
use crate::journal::Answer;

/// An answer, ready to be sent and to be remembered.
pub(super) type Ready = (u16, String);

/// Carries a change out, unless one with its key has been; then that one's answer is given again.
pub(super) async fn once(
    api: &Api,
    key: Option<String>,
    request: String,
    change: impl Future<Output = Ready>,
) -> Result<Response, Refused> {
    let Some(key) = key else {
        let (status, body) = change.await;
        return Ok(response(status, body));
    };
    let (asked, same) = (key.clone(), request.clone());
    let recalled = api
        .agent
        .ask(move |runner| runner.recall(&asked, &same))
        .await?;
    match recalled? {
        Recalled::Fresh => {}
        Recalled::Answered(Answer { status, body, .. }) => return Ok(response(status, body)),
        Recalled::UnderWay => {
            let why = format!("the change with idempotency key {key} is still under way");
            return Err(Refused::with_status(
                &Failure::new(Exit::Precondition, "", why),
                409,
            ));
        }
        Recalled::Another => {
            let why = format!("idempotency key {key} was used for another change");
            return Err(Failure::new(Exit::Usage, "", why)
                .advise("use a key once")
                .into());
        }
    }
    let forget = Forget {
        api: api.clone(),
        key: Some(key),
    };
    let (status, body) = change.await;
    forget.remember(Answer {
        request,
        status,
        body: body.clone(),
    });
    Ok(response(status, body))
}

/// Releases the key, also if the client goes away meanwhile.
struct Forget {
    api: Api,
    key: Option<String>,
}

impl Forget {
    fn remember(mut self, answer: Answer) {
        if let Some(key) = self.key.take() {
            self.api
                .agent
                .tell(move |runner| runner.answered(&key, Some(&answer)));
        }
    }
}

impl Drop for Forget {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.api
                .agent
                .tell(move |runner| runner.answered(&key, None));
        }
    }
}
