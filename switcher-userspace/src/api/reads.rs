//! What changes nothing.
//!
//! What is said of one group carries that group's revision as its entity tag, everything else that of the
//! configuration: what a change that follows can be bound to.

use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::model::{
    Audit, ConfigAnswer, ConfigRequest, GroupStatus, History, PlanRequest, Status, WhoAmI,
};
use super::problem::{Asking, Body, Named, Refused, body, tag};
use super::{Api, Peer};
use crate::agent::{Runner, Verb};
use crate::config::Role;
use crate::exit::{Exit, Failure};
use crate::journal;

/// As many records as one answer has at most.
pub(super) const RECORDS_MAX: u32 = 10_000;

/// Which group.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Only {
    group: Option<String>,
}

/// Which group's, and how many.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Last {
    group: Option<String>,
    limit: Option<u32>,
}

impl Last {
    fn limit(&self) -> Result<u32, Refused> {
        let limit = self.limit.unwrap_or(100);
        match (1..=RECORDS_MAX).contains(&limit) {
            true => Ok(limit),
            false => Err(Refused::malformed(format!("limit: 1 to {RECORDS_MAX}"))),
        }
    }
}

/// With the revision that belongs to it.
pub(super) type Tagged<T> = (u64, T);

pub(super) async fn whoami(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> Result<Response, Refused> {
    let revision = api.agent.ask(|runner| runner.revision(None)).await?;
    // Whoever has none was turned away, unless it was taken away just now.
    let role = api.role(&peer).unwrap_or(Role::Viewer);
    let may = Verb::ALL.map(|it| it.name().to_owned());
    let who = WhoAmI {
        name: peer.actor(),
        role,
        may: if role >= Role::Operator {
            may.to_vec()
        } else {
            Vec::new()
        },
    };
    Ok(tagged((revision, who)))
}

pub(super) async fn status(
    State(api): State<Api>,
    Asking(Only { group }): Asking<Only>,
) -> Result<Response, Refused> {
    let only = group.clone();
    let status = api
        .agent
        .ask(move |runner| runner.status(only.as_deref()))
        .await??;
    let revision = match (group, status.groups.as_slice()) {
        (Some(_), [one]) => one.revision,
        _ => status.agent.config_revision,
    };
    Ok(tagged((revision, status)))
}

pub(super) async fn group(
    State(api): State<Api>,
    Named(group): Named,
) -> Result<Response, Refused> {
    let group = one(&api, group).await?;
    Ok(tagged((group.revision, group)))
}

pub(super) async fn history(
    State(api): State<Api>,
    Asking(last): Asking<Last>,
) -> Result<Response, Refused> {
    let limit = last.limit()?;
    let told = ask(&api, move |runner| {
        let group = last.group.as_deref();
        let cutovers = runner.history(group, limit)?;
        Ok((runner.revision(group), History { cutovers }))
    });
    Ok(tagged(told.await?))
}

pub(super) async fn drift(State(api): State<Api>) -> Result<Response, Refused> {
    let told = ask(&api, |runner| Ok((runner.revision(None), runner.drift()?)));
    Ok(tagged(told.await?))
}

pub(super) async fn audit(
    State(api): State<Api>,
    Asking(last): Asking<Last>,
) -> Result<Response, Refused> {
    let limit = last.limit()?;
    let told = ask(&api, move |runner| {
        let group = last.group.as_deref();
        let records = runner.audited(group, limit)?;
        Ok((runner.revision(group), Audit { records }))
    });
    Ok(tagged(told.await?))
}

/// Beside the agent's own work: there may be many records.
pub(super) async fn verify(State(api): State<Api>) -> Result<Response, Refused> {
    let asked = ask(&api, |runner| {
        Ok((runner.revision(None), runner.state_file()))
    });
    let (revision, file) = asked.await?;
    let verified = tokio::task::spawn_blocking(move || journal::verify(&file)).await;
    let verified =
        verified.map_err(|error| Failure::new(Exit::Unexpected, "", error.to_string()))?;
    Ok(tagged((revision, verified.map_err(Failure::from)?)))
}

pub(super) async fn cutover(State(api): State<Api>, Named(id): Named) -> Result<Response, Refused> {
    let told = ask(&api, move |runner| {
        let cutover = runner.cutover(&id)?;
        Ok((runner.revision(Some(&cutover.group)), cutover))
    });
    Ok(tagged(told.await?))
}

pub(super) async fn plan(State(api): State<Api>, bytes: Body) -> Result<Response, Refused> {
    let PlanRequest { text, name } = body(&bytes)?;
    let request = ConfigRequest {
        text,
        name,
        ..ConfigRequest::default()
    };
    let told: Tagged<ConfigAnswer> = ask(&api, move |runner| {
        let answer = runner.plan(&request)?;
        Ok((answer.revision, answer))
    })
    .await?;
    Ok(tagged(told))
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

async fn ask<T: Send + 'static>(
    api: &Api,
    what: impl FnOnce(&mut Runner) -> Result<Tagged<T>, Failure> + Send + 'static,
) -> Result<Tagged<T>, Failure> {
    api.agent.ask(what).await?
}

/// JSON with the revision as its entity tag.
pub(super) fn tagged<T: Serialize>((revision, value): Tagged<T>) -> Response {
    (tag(revision), Json(value)).into_response()
}
