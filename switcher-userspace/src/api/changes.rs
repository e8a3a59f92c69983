//! What changes something.

use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::model::{ChangeAnswer, ChangeRequest, ConfigAnswer, ConfigRequest};
use super::once::{Before, Ready, before, once};
use super::peer::plain;
use super::problem::{Asking, Body, Named, Refused, body, header, response};
use super::wait::{Patience, until};
use super::{Api, Peer};
use crate::agent::{Asked, Verb};
use crate::cli::WaitCondition;
use crate::config::Role;
use crate::config::limits::NAME_MAX;
use crate::exit::{Exit, Failure};
use crate::journal::{Once, Who};
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
    request.idempotency_key = key(&headers, request.idempotency_key.take())?;
    let patience = Patience::new(options.wait, options.timeout).understand()?;
    let who = who(&peer, request.reason.take());
    let asked = Asked {
        group,
        verb,
        request,
        who,
    };
    let (agent, keyed) = (api.agent.clone(), asked.once());
    if verb.is_note() {
        let noted = async move {
            let answer = agent.ask(move |runner| runner.note(&asked)).await;
            ready(answer.and_then(|answer| answer))
        };
        return once(&api, keyed, noted).await;
    }
    if matches!(verb, Verb::Pause | Verb::Resume) {
        let held = async move {
            let answer = agent.ask(move |runner| runner.pause(&asked)).await;
            ready(answer.and_then(|answer| answer))
        };
        return once(&api, keyed, held).await;
    }
    let group = asked.group.clone();
    let (answer, patience) = match before(&api, keyed.as_ref()).await? {
        Before::Fresh(_held) => {
            let answer = api
                .agent
                .ask_later(move |runner, reply| runner.order(asked, reply));
            (answer.await.and_then(|answer| answer), patience)
        }
        Before::Answered((200, body)) => (again(&body), patience),
        Before::Answered((status, body)) => return Ok(response(status, body)),
        Before::Begun(id) => {
            let settled = patience.or(Some((WaitCondition::Settled, None)));
            (found(&api, &group, id).await, settled)
        }
    };
    let (status, body) = ready(waited_for(&api, &group, answer, patience).await);
    Ok(response(status, body))
}

/// An answer that was given before.
fn again(body: &str) -> Result<ChangeAnswer, Failure> {
    let answer = serde_json::from_str(body);
    answer.map_err(|error| Failure::new(Exit::Unexpected, "", error.to_string()))
}

/// What became of a cut-over that nobody was answered for.
async fn found(api: &Api, group: &str, id: String) -> Result<ChangeAnswer, Failure> {
    until(api, group, &WaitCondition::Scheduled, None, Some(&id)).await?;
    let (name, lost) = (
        group.to_owned(),
        format!("there is no record of cut-over {id}"),
    );
    let answer = api
        .agent
        .ask(move |runner| runner.outcome(&name, &id))
        .await?;
    answer.ok_or_else(|| Failure::new(Exit::NotFound, "", lost))
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

/// The answer to an order, once what it was to wait for holds.
async fn waited_for(
    api: &Api,
    group: &str,
    answer: Result<ChangeAnswer, Failure>,
    patience: Option<(WaitCondition, Option<std::time::Duration>)>,
) -> Result<ChangeAnswer, Failure> {
    let answer = answer?;
    if answer.dry_run {
        return Ok(answer);
    }
    // A switch set for an instant is answered for when it is made, unless somebody has other wishes.
    let scheduled = answer.result == End::Scheduled;
    let patience = patience.or_else(|| scheduled.then_some((WaitCondition::Settled, None)));
    let Some((condition, timeout)) = patience else {
        return Ok(answer);
    };
    until(api, group, &condition, timeout, answer.id.as_deref()).await?;
    let Some(id) = answer
        .id
        .clone()
        .filter(|_| condition != WaitCondition::Scheduled)
    else {
        return Ok(answer);
    };
    let name = group.to_owned();
    let now = api
        .agent
        .ask(move |runner| runner.outcome(&name, &id))
        .await?;
    Ok(now.filter(|_| scheduled).unwrap_or(answer))
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
    let keyed = key.map(|key| Once {
        key,
        request: format!("apply {}", json(&request)),
    });
    let taking = api.clone();
    let taken = async move { ready(take(&taking, request, who).await) };
    once(&api, keyed, taken).await
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
