//! `switcher wait GROUP --for CONDITION`.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use super::change::query;
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
    let told = !output.quiet && std::io::stderr().is_terminal();
    let status = converse(async {
        let wait = client.get::<GroupStatus>(&path);
        if !told {
            return wait.await;
        }
        tokio::select! {
            status = wait => {
                eprint!("\r\x1b[K");
                status
            }
            never = progress(&client, group) => never,
        }
    })?;
    output.print(&status, |_| format!("{group}: {condition}"))?;
    Ok(Exit::Done)
}

/// Says once a second how far it is.
async fn progress(client: &Client, group: &str) -> Result<GroupStatus, Failure> {
    let path = format!("/v1/groups/{}", encode(group));
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let Ok(status) = client.get::<GroupStatus>(&path).await else {
            continue;
        };
        let left = status.window.and_then(|window| window.flows_on_old);
        let left = left
            .map(|flows| format!(", {flows} flows on old endpoints"))
            .unwrap_or_default();
        eprint!("\r\x1b[K{group}: {}{left} ", status.phase);
        let _unseen = std::io::stderr().flush();
    }
}
