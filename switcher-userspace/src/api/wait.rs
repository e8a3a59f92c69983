//! Long polls.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout};

use super::Api;
use super::problem::{Asking, Named, Refused};
use super::reads::{one, tagged};
use crate::agent::Met;
use crate::cli::WaitCondition;
use crate::exit::{Exit, Failure};

/// Conditions also depend on what nobody announces; this often they are looked at anyway.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What to wait for, and for how long.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Patience {
    #[serde(rename = "for")]
    condition: Option<String>,
    timeout: Option<String>,
}

pub(super) async fn wait(
    State(api): State<Api>,
    Named(group): Named,
    Asking(patience): Asking<Patience>,
) -> Result<Response, Refused> {
    let Some((condition, patience)) = patience.understand()? else {
        return Err(Refused::malformed("say what to wait for: ?for=CONDITION"));
    };
    let name = group.clone();
    let cutover = api.agent.ask(move |runner| runner.under_way(&name)).await?;
    until(&api, &group, &condition, patience, cutover.as_deref()).await?;
    let group = one(&api, group).await?;
    Ok(tagged((group.revision, group)))
}

impl Patience {
    pub(super) const fn new(condition: Option<String>, timeout: Option<String>) -> Self {
        Self { condition, timeout }
    }

    pub(super) fn understand(self) -> Result<Option<(WaitCondition, Option<Duration>)>, Refused> {
        let Some(condition) = self.condition else {
            return Ok(None);
        };
        let condition = condition.parse().map_err(Refused::malformed)?;
        let timeout = self
            .timeout
            .as_deref()
            .map(humantime::parse_duration)
            .transpose();
        let timeout = timeout.map_err(|error| Refused::malformed(format!("timeout: {error}")))?;
        Ok(Some((condition, timeout)))
    }
}

/// Returns when a condition holds.
pub(super) async fn until(
    api: &Api,
    group: &str,
    condition: &WaitCondition,
    patience: Option<Duration>,
    cutover: Option<&str>,
) -> Result<(), Failure> {
    let tried = format!("wait for {group} to be {condition}");
    let deadline = patience.map(|patience| Instant::now() + patience);
    let mut changes = api.agent.changes();
    loop {
        changes.mark_unchanged();
        let (name, wanted) = (group.to_owned(), condition.clone());
        let cutover = cutover.map(ToOwned::to_owned);
        let met = api
            .agent
            .ask(move |runner| runner.met(&name, &wanted, cutover.as_deref()))
            .await?;
        let (late, now) = match met.map_err(|failure| Failure {
            tried: tried.clone(),
            ..failure
        })? {
            Met::Yes => return Ok(()),
            Met::NotYet(now) => (Exit::TimedOut, now),
            Met::Waits(now) => (Exit::WaitingForPerson, now),
        };
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            let after = humantime::format_duration(patience.unwrap_or_default());
            return Err(
                Failure::new(late, tried, format!("not within {after}: {now}"))
                    .advise("what is under way goes on; `switcher status` shows it"),
            );
        }
        let soon = Instant::now() + LOOK_EVERY;
        let until = deadline.map_or(soon, |deadline| deadline.min(soon));
        tokio::select! {
            changed = timeout(LOOK_EVERY, changes.changed()) => {
                if let Ok(Err(_gone)) = changed {
                    sleep_until(until).await;
                }
            }
            () = sleep_until(until) => {}
        }
    }
}
