//! What changes nothing.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::header::ETAG;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::Api;
use super::model::{Audit, ConfigAnswer, ConfigRequest, Drift, GroupStatus, History, Status};
use super::problem::{Body, Refused, body};
use crate::exit::{Exit, Failure};
use crate::journal::{self, CutoverRecord, Verified};

/// Which group.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Only {
    group: Option<String>,
    limit: Option<u32>,
}

pub(super) async fn status(
    State(api): State<Api>,
    Query(Only { group, .. }): Query<Only>,
) -> Result<Response, Refused> {
    let only = group.clone();
    let status = api
        .agent
        .ask(move |runner| runner.status(only.as_deref()))
        .await??;
    Ok(match (group, status.groups.as_slice()) {
        (Some(_), [one]) => tagged(one.revision, &status),
        _ => Json(&status).into_response(),
    })
}

pub(super) async fn group(
    State(api): State<Api>,
    Path(group): Path<String>,
) -> Result<Response, Refused> {
    let group = one(&api, group).await?;
    Ok(tagged(group.revision, &group))
}

pub(super) async fn history(
    State(api): State<Api>,
    Query(Only { group, limit }): Query<Only>,
) -> Result<Json<History>, Refused> {
    let limit = limit.unwrap_or(100);
    let history = api
        .agent
        .ask(move |runner| runner.history(group.as_deref(), limit))
        .await??;
    Ok(Json(History { cutovers: history }))
}

pub(super) async fn drift(State(api): State<Api>) -> Result<Json<Drift>, Refused> {
    let drift = api.agent.ask(crate::agent::Runner::drift).await?;
    Ok(Json(drift?))
}

pub(super) async fn audit(
    State(api): State<Api>,
    Query(Only { group, limit }): Query<Only>,
) -> Result<Json<Audit>, Refused> {
    let limit = limit.unwrap_or(100);
    let records = api
        .agent
        .ask(move |runner| runner.audited(group.as_deref(), limit))
        .await??;
    Ok(Json(Audit { records }))
}

/// Beside the agent's own work: there may be many records.
pub(super) async fn verify(State(api): State<Api>) -> Result<Json<Verified>, Refused> {
    let file = api.agent.ask(|runner| runner.state_file()).await?;
    let verified = tokio::task::spawn_blocking(move || journal::verify(&file)).await;
    let verified =
        verified.map_err(|error| Failure::new(Exit::Unexpected, "", error.to_string()))?;
    Ok(Json(verified.map_err(Failure::from)?))
}

pub(super) async fn cutover(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<CutoverRecord>, Refused> {
    Ok(Json(
        api.agent.ask(move |runner| runner.cutover(&id)).await??,
    ))
}

pub(super) async fn plan(
    State(api): State<Api>,
    bytes: Body,
) -> Result<Json<ConfigAnswer>, Refused> {
    let request: ConfigRequest = body(&bytes)?;
    Ok(Json(
        api.agent.ask(move |runner| runner.plan(&request)).await??,
    ))
}

/// One group's status.
pub(super) async fn one(api: &Api, group: String) -> Result<GroupStatus, Failure> {
    let Status { groups, .. } = api
        .agent
        .ask(move |runner| runner.status(Some(&group)))
        .await??;
    let gone = || Failure::new(Exit::NotFound, "", "the group has gone");
    groups.into_iter().next().ok_or_else(gone)
}

/// JSON with the revision as its entity tag.
fn tagged<T: serde::Serialize>(revision: u64, value: &T) -> Response {
    ([(ETAG, format!("\"{revision}\""))], Json(value)).into_response()
}
