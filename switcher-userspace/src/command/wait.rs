//! `switcher wait GROUP --for CONDITION`.

use std::time::Duration;

use super::change::query;
use super::progress;
use crate::api::model::GroupStatus;
use crate::cli::{Globals, WaitCondition};
use crate::client::{Client, converse, encode};
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub(super) fn run(
    globals: &Globals,
    output: &Output,
    (group, condition): (&str, &WaitCondition),
    timeout: Option<Duration>,
) -> Result<Exit, Failure> {
    let mut path = format!(
        "/v1/groups/{}/wait?for={}",
        encode(group),
        encode(&condition.to_string())
    );
    path += &timeout
        .map(|timeout| format!("&{}", query(timeout)))
        .unwrap_or_default();
    let client = Client::new(globals)?;
    let wait = client.get::<GroupStatus>(&path);
    let status = converse(progress::beside(output, (&client, group), wait))?;
    output.print(&status, |_| format!("{group}: {condition}"))?;
    Ok(Exit::Done)
}
