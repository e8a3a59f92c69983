//! `switcher pause GROUP --for DURATION` and `switcher resume GROUP`.

use std::time::Duration;

use super::change;
use crate::api::model::{ChangeRequest, PauseAnswer};
use crate::cli::{ChangeArgs, Globals, GroupArgs};
use crate::client::{Client, converse, encode};
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub(super) fn run(
    globals: &Globals,
    output: &Output,
    group: &str,
    time: Duration,
    change: ChangeArgs,
) -> Result<Exit, Failure> {
    let request = ChangeRequest {
        duration: Some(change::written(time)),
        ..change::request(change)
    };
    ask(globals, output, ("pause", group), &request)
}

pub(super) fn resume(globals: &Globals, output: &Output, args: GroupArgs) -> Result<Exit, Failure> {
    let GroupArgs { group, change } = args;
    ask(
        globals,
        output,
        ("resume", &group),
        &change::request(change),
    )
}

fn ask(
    globals: &Globals,
    output: &Output,
    (verb, group): (&str, &str),
    request: &ChangeRequest,
) -> Result<Exit, Failure> {
    let path = format!("/v1/groups/{}/{verb}", encode(group));
    let held: PauseAnswer = converse(Client::new(globals)?.post(&path, request))?;
    output.print(&held, |_| describe(verb, &held))?;
    Ok(Exit::Done)
}

fn describe(verb: &str, answer: &PauseAnswer) -> String {
    let PauseAnswer {
        group,
        paused_until,
        unchanged,
        dry_run,
        ..
    } = answer;
    match (paused_until, unchanged) {
        _ if *dry_run => format!("{group}: {verb} would be carried out (nothing was changed)"),
        (Some(until), _) => format!("{group}: new connections wait until {until:.0} at the latest"),
        (None, true) => format!("{group}: new connections were not held"),
        (None, false) => format!("{group}: new connections are let in"),
    }
}
