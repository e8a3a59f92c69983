//! What changes something.

use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::model::{ChangeAnswer, ChangeRequest, ConfigAnswer, ConfigRequest};
use super::once::{Ready, once};
use super::peer::plain;
use super::problem::{Asking, Body, Named, Refused, body, header};
use super::wait::{Patience, until};
use super::{Api, Peer};
use crate::agent::{Asked, Verb};
use crate::cli::WaitCondition;
use crate::config::Role;
use crate::config::limits::NAME_MAX;
use crate::exit::{Exit, Failure};
use crate::journal::Who;
use crate::release::End;

/// The longest reason that is kept, in characters.
const REASON_MAX: usize = 1000;
/// The longest idempotency key, in bytes.
const KEY_MAX: usize = 255;

/// What may stand in the query of a change.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    #[serde(default)]
    dry_run: bool,
    wait: Option<String>,
    timeout: Option<String>,
}

type From = (
    State<Api>,
    ConnectInfo<Peer>,
    Named,
    Asking<Options>,
    HeaderMap,
);

pub(super) async fn flip(from: From, bytes: Body) -> Response {
    change(Verb::Flip, from, bytes).await.into_response()
}

pub(super) async fn rollback(from: From, bytes: Body) -> Response {
    change(Verb::Rollback, from, bytes).await.into_response()
}

pub(super) async fn canary(from: From, bytes: Body) -> Response {
    change(Verb::Canary, from, bytes).await.into_response()
}

pub(super) async fn drill(from: From, bytes: Body) -> Response {
    change(Verb::Drill, from, bytes).await.into_response()
}

pub(super) async fn abort(from: From, bytes: Body) -> Response {
    change(Verb::Abort, from, bytes).await.into_response()
}

pub(super) async fn confirm(from: From, bytes: Body) -> Response {
    change(Verb::Confirm, from, bytes).await.into_response()
}

pub(super) async fn extend(from: From, bytes: Body) -> Response {
    change(Verb::Extend, from, bytes).await.into_response()
}

pub(super) async fn pause(from: From, bytes: Body) -> Response {
    change(Verb::Pause, from, bytes).await.into_response()
}

pub(super) async fn resume(from: From, bytes: Body) -> Response {
    change(Verb::Resume, from, bytes).await.into_response()
}

pub(super) async fn stage(from: From, bytes: Body) -> Response {
    change(Verb::Stage, from, bytes).await.into_response()
}

pub(super) async fn schema(from: From, bytes: Body) -> Response {
    change(Verb::Schema, from, bytes).await.into_response()
}

pub(super) async fn freeze(from: From, bytes: Body) -> Response {
    change(Verb::Freeze, from, bytes).await.into_response()
}

pub(super) async fn unfreeze(from: From, bytes: Body) -> Response {
    change(Verb::Unfreeze, from, bytes).await.into_response()
}

pub(super) async fn gate(from: From, bytes: Body) -> Response {
    change(Verb::Gate, from, bytes).await.into_response()
}

pub(super) async fn change(verb: Verb, from: From, bytes: Body) -> Result<Response, Refused> {
    let (State(api), ConnectInfo(peer), Named(group), Asking(options), headers) = from;
    let mut request: ChangeRequest = body(&bytes)?;
    if let Some(what) = what_admins_do(&request) {
        api.may(&peer, Role::Admin, what)?;
    }
    for named in [&mut request.to, &mut request.gate, &mut request.if_live] {
        // Names of nothing, maybe, that will be said back and logged.
        *named = named.take().map(|name| plain(&name, NAME_MAX + 1));
    }
    request.dry_run |= options.dry_run;
    request.if_revision = if_match(&headers)?.or(request.if_revision);
    let key = key(&headers, request.idempotency_key.take())?;
    let key = key.filter(|_| !request.dry_run);
    let patience = Patience::new(options.wait, options.timeout).understand()?;
    let who = who(&peer, request.reason.take());
    let same = format!("{verb:?} {group} {}", json(&request));
    let asked = Asked {
        group,
        verb,
        request,
        who,
    };
    if verb.is_note() {
        let noted = async {
            let answer = api.agent.ask(move |runner| runner.note(&asked)).await;
            ready(answer.and_then(|answer| answer))
        };
        return once(&api, key, same, noted).await;
    }
    if matches!(verb, Verb::Pause | Verb::Resume) {
        let held = async {
            let answer = api.agent.ask(move |runner| runner.pause(&asked)).await;
            ready(answer.and_then(|answer| answer))
        };
        return once(&api, key, same, held).await;
    }
    once(&api, key, same, carry_out(&api, asked, patience)).await
}

/// What goes beyond the rules that others have made. A hard rollback doesn't: whoever is called at night has to be
/// able to go back.
fn what_admins_do(request: &ChangeRequest) -> Option<&'static str> {
    match (request.force, request.close_rollback) {
        (true, _) => Some("force a switch"),
        (_, true) => Some("close the rollback"),
        (false, false) => None,
    }
}

async fn carry_out(
    api: &Api,
    asked: Asked,
    patience: Option<(WaitCondition, Option<std::time::Duration>)>,
) -> Ready {
    let group = asked.group.clone();
    let carried_out = async {
        let mut answer: ChangeAnswer = api
            .agent
            .ask_later(move |runner, reply| runner.order(asked, reply))
            .await??;
        if answer.dry_run {
            return Ok(answer);
        }
        // A switch set for an instant is answered for when it is made, unless somebody has other wishes.
        let scheduled = answer.result == End::Scheduled;
        let patience = patience.or_else(|| scheduled.then_some((WaitCondition::Settled, None)));
        if let Some((condition, timeout)) = patience {
            until(api, &group, &condition, timeout, answer.id.as_deref()).await?;
            if let (true, Some(id)) = (condition != WaitCondition::Scheduled, answer.id.clone()) {
                let now = api
                    .agent
                    .ask(move |runner| runner.outcome(&group, &id))
                    .await?;
                answer = now.filter(|_| scheduled).unwrap_or(answer);
            }
        }
        Ok(answer)
    };
    ready(carried_out.await)
}

pub(super) async fn apply(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Asking(options): Asking<Options>,
    headers: HeaderMap,
    bytes: Body,
) -> Result<Response, Refused> {
    let mut request: ConfigRequest = body(&bytes)?;
    request.dry_run |= options.dry_run;
    request.if_revision = if_match(&headers)?.or(request.if_revision);
    let source = request.source.take();
    request.source = source.map(|source| plain(&source, REASON_MAX));
    let key = key(&headers, request.idempotency_key.take())?;
    let key = key.filter(|_| !request.dry_run);
    let who = who(&peer, request.reason.take());
    let same = format!("apply {}", json(&request));
    once(&api, key, same, async {
        ready(take(&api, request, who).await)
    })
    .await
}

/// Applies a configuration and waits until its switches have settled.
async fn take(api: &Api, request: ConfigRequest, who: Who) -> Result<ConfigAnswer, Failure> {
    let applied = api
        .agent
        .ask(move |runner| runner.apply(&request, &who))
        .await?;
    let (answer, switches) = applied?;
    for switch in switches {
        let stopping = |_| Failure::new(Exit::Unreachable, "", "the agent is stopping");
        switch.await.map_err(stopping)??;
    }
    Ok(answer)
}

fn who(peer: &Peer, reason: Option<String>) -> Who {
    Who {
        actor: peer.actor(),
        reason: reason.map(|reason| plain(&reason, REASON_MAX)),
    }
}

fn key(headers: &HeaderMap, given: Option<String>) -> Result<Option<String>, Refused> {
    let key = header(headers, "idempotency-key")?.map(ToOwned::to_owned);
    let good = |key: &String| {
        (1..=KEY_MAX).contains(&key.len()) && key.bytes().all(|it| it.is_ascii_graphic())
    };
    match key.iter().chain(&given).all(good) {
        true => Ok(key.or(given)),
        false => Err(Refused::malformed(format!(
            "an idempotency key has 1 to {KEY_MAX} letters, digits and signs of ASCII"
        ))),
    }
}

/// The revision in `If-Match`, with or without quotes.
fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Refused> {
    let Some(tag) = header(headers, "if-match")?.filter(|tag| *tag != "*") else {
        return Ok(None);
    };
    let tag = tag.trim_start_matches("W/").trim_matches('"');
    let revision = tag.parse().ok().filter(|_| tag.len() <= 15);
    let revision = revision.ok_or_else(|| Refused::malformed("If-Match is not a revision"));
    revision.map(Some)
}

fn ready<T: Serialize>(answer: Result<T, Failure>) -> Ready {
    match answer {
        Ok(answer) => (200, json(&answer)),
        Err(failure) => Refused::from(failure).parts(),
    }
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned())
}
