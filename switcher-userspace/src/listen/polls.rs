//! Gates as others poll them: deployment controllers, above all Flagger, whose load tester has the same paths and
//! status codes (<https://docs.flagger.app/usage/webhooks#manual-gating>).
//!
//! An open gate answers 200, a closed one 403, what there is not 404. Requests may be GET or, as Flagger sends
//! them, POST. Nothing here changes anything.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRef, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use serde::Deserialize;

use crate::agent::Handle;
use crate::release::ROLLBACK;

/// Bytes of a request's body; Flagger's have some hundred.
const BODY_MAX: usize = 64 << 10;
/// How long one may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// What Flagger sends its webhooks, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(crate) struct Payload {
    /// The canary's name: the group's, unless the metadata name one.
    name: String,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
}

impl Payload {
    /// Reads a request's body.
    pub(crate) fn read(body: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(body).map_err(|error| format!("the body: {error}"))
    }

    /// The group that is asked about.
    pub(crate) fn group(&self) -> &str {
        self.metadata("group").unwrap_or(&self.name)
    }

    /// The gate that is asked about.
    pub(crate) fn gate(&self) -> Option<&str> {
        self.metadata("gate")
    }

    /// Why it is opened or closed.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.metadata("reason")
    }

    fn metadata(&self, key: &str) -> Option<&str> {
        let metadata = self.metadata.as_ref()?;
        metadata.get(key).map(String::as_str)
    }
}

/// The paths, for whoever can reach the agent.
pub(crate) fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Handle: FromRef<S>,
{
    Router::new()
        .route("/gate/{group}", get(all).post(all))
        .route("/gate/{group}/{name}", get(one).post(one))
        .route("/gate/check", post(check))
        .route("/gate/approve", any(async || "approved\n"))
        .route("/gate/halt", any(async || closed("halted")))
        .route("/rollback/{group}", get(rollback).post(rollback))
        .route("/rollback/check", post(check_rollback))
}

async fn all(State(agent): State<Handle>, Path(group): Path<String>) -> Response {
    ask(&agent, group, None).await
}

async fn one(State(agent): State<Handle>, Path((group, name)): Path<(String, String)>) -> Response {
    ask(&agent, group, Some(name)).await
}

async fn rollback(State(agent): State<Handle>, Path(group): Path<String>) -> Response {
    ask(&agent, group, Some(ROLLBACK.to_owned())).await
}

async fn check(State(agent): State<Handle>, body: Body) -> Response {
    match payload(body).await {
        Ok(payload) => {
            let gate = payload.gate().map(ToOwned::to_owned);
            ask(&agent, payload.group().to_owned(), gate).await
        }
        Err(refusal) => refusal,
    }
}

async fn check_rollback(State(agent): State<Handle>, body: Body) -> Response {
    match payload(body).await {
        Ok(payload) => {
            let gate = Some(ROLLBACK.to_owned());
            ask(&agent, payload.group().to_owned(), gate).await
        }
        Err(refusal) => refusal,
    }
}

async fn payload(body: Body) -> Result<Payload, Response> {
    let malformed = |why: String| (StatusCode::BAD_REQUEST, why + "\n").into_response();
    let bytes = tokio::time::timeout(PATIENCE, to_bytes(body, BODY_MAX)).await;
    let late = |_| (StatusCode::REQUEST_TIMEOUT, "the body does not come\n").into_response();
    let bytes = bytes.map_err(late)?;
    let bytes = bytes.map_err(|error| malformed(format!("the body: {error}")))?;
    Payload::read(&bytes).map_err(malformed)
}

async fn ask(agent: &Handle, group: String, gate: Option<String>) -> Response {
    let asked = agent.ask(move |runner| runner.halts(&group, gate.as_deref()));
    match asked.await {
        Ok(Ok(halts)) if halts.is_empty() => "approved\n".into_response(),
        Ok(Ok(halts)) => closed(&halts.join(", ")),
        Ok(Err(failure)) => (StatusCode::NOT_FOUND, format!("{failure}\n")).into_response(),
        Err(failure) => super::unavailable(failure.to_string()),
    }
}

fn closed(why: &str) -> Response {
    (StatusCode::FORBIDDEN, format!("{why}\n")).into_response()
}
