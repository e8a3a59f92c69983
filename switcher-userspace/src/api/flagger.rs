//! Gates as Flagger's load tester has them opened and closed: its paths, its body, its status. What they do, who
//! may, and what is recorded of it is that of `POST /v1/groups/{group}/gate`.

use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};

use super::changes::{Options, change};
use super::model::ChangeRequest;
use super::problem::{Asking, Body, Named, Refused, whole};
use super::{Api, Peer};
use crate::agent::Verb;
use crate::listen::polls::Payload;
use crate::release::ROLLBACK;

type From = (State<Api>, ConnectInfo<Peer>, Asking<Options>, HeaderMap);

pub(super) async fn open_gate(from: From, bytes: Body) -> Response {
    decide(from, bytes, None, true).await
}

pub(super) async fn close_gate(from: From, bytes: Body) -> Response {
    decide(from, bytes, None, false).await
}

pub(super) async fn open_rollback(from: From, bytes: Body) -> Response {
    decide(from, bytes, Some(ROLLBACK), true).await
}

pub(super) async fn close_rollback(from: From, bytes: Body) -> Response {
    decide(from, bytes, Some(ROLLBACK), false).await
}

async fn decide(from: From, bytes: Body, gate: Option<&str>, open: bool) -> Response {
    match try_decide(from, bytes, gate, open).await {
        // What Flagger's answers, and accepts.
        Ok(mut answer) if answer.status() == 200 => {
            *answer.status_mut() = axum::http::StatusCode::ACCEPTED;
            answer
        }
        Ok(answer) => answer,
        Err(refused) => refused.into_response(),
    }
}

async fn try_decide(
    from: From,
    bytes: Body,
    gate: Option<&str>,
    open: bool,
) -> Result<Response, Refused> {
    let (state, peer, options, headers) = from;
    let payload = Payload::read(whole(&bytes)?).map_err(Refused::malformed)?;
    let group = payload.group().to_owned();
    let gate = match gate.or(payload.gate()) {
        Some(gate) => gate.to_owned(),
        None => {
            let group = group.clone();
            let only = state.agent.ask(move |runner| runner.only_gate(&group));
            only.await??
        }
    };
    let request = ChangeRequest {
        gate: Some(gate),
        open: Some(open),
        reason: payload.reason().map(ToOwned::to_owned),
        ..ChangeRequest::default()
    };
    let request = serde_json::to_vec(&request).unwrap_or_default();
    let from = (state, peer, Named(group), options, headers);
    change(Verb::Gate, from, Body::of(request)).await
}
