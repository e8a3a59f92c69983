//! `switcher drill GROUP [COLOUR]`.

use std::time::{Duration, Instant};

use super::change;
use super::progress;
use super::show::describe;
use crate::api::model::{ChangeAnswer, ChangeRequest};
use crate::cli::{DrillArgs, Globals};
use crate::client::{Client, converse, encode};
use crate::exit::{Exit, Failure};
use crate::journal::{CutoverRecord, DrillVerdict};
use crate::output::Output;

/// How often to ask whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long an agent may be away, or take to report.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn run(globals: &Globals, output: &Output, args: DrillArgs) -> Result<Exit, Failure> {
    let DrillArgs {
        group,
        colour,
        time,
        change,
    } = args;
    let request = ChangeRequest {
        to: colour,
        duration: time.map(change::written),
        ..change::request(change)
    };
    let path = format!("/v1/groups/{}/drill", encode(&group));
    let client = Client::new(globals)?;
    let answer: ChangeAnswer = converse(client.post(&path, &request))?;
    let Some(id) = answer.id.clone().filter(|_| !answer.dry_run) else {
        output.print(&answer, |_| change::describe("drill", &answer))?;
        return Ok(Exit::Done);
    };
    let record = converse(progress::beside(
        output,
        (&client, &group),
        over(&client, &id),
    ))?;
    output.print(&record, |output| describe(output, &record))?;
    report(&group, &record)
}

/// The record of a drill that is over.
async fn over(client: &Client, id: &str) -> Result<CutoverRecord, Failure> {
    let path = format!("/v1/cutovers/{}", encode(id));
    let mut heard = Instant::now();
    let mut ended = None;
    loop {
        match client.get::<CutoverRecord>(&path).await {
            Ok(record) => {
                heard = Instant::now();
                let drill = record.receipt.drill.as_ref();
                if drill.is_none_or(|it| it.verdict != DrillVerdict::UnderWay) {
                    return Ok(record);
                }
                let since = *ended.get_or_insert(heard);
                if record.ended.is_none() {
                    ended = None;
                } else if since.elapsed() > PATIENCE {
                    return Ok(record);
                }
            }
            // The agent may be started again meanwhile; traffic comes back without it.
            Err(failure) if failure.exit == Exit::Unreachable && heard.elapsed() < PATIENCE => {}
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn report(group: &str, record: &CutoverRecord) -> Result<Exit, Failure> {
    let CutoverRecord { id, to, from, .. } = record;
    let drill = record.receipt.drill.as_ref();
    let fail = |exit, why: String| {
        let failure = Failure::new(exit, format!("drill {group}"), why);
        let why = drill.map(|it| it.why.clone()).unwrap_or_default();
        Err(failure
            .blocked_by(why)
            .advise(format!("`switcher show {id}` has the numbers")))
    };
    match drill.map(|it| it.verdict) {
        Some(DrillVerdict::Passed) => Ok(Exit::Done),
        Some(DrillVerdict::Kept) => {
            fail(Exit::Precondition, format!("{to} was confirmed, and stays"))
        }
        Some(DrillVerdict::Failed) => fail(
            Exit::RolledBack,
            format!("{from} is live, but all was not well"),
        ),
        Some(DrillVerdict::UnderWay) | None => {
            fail(Exit::Unexpected, "there is no report".to_owned())
        }
    }
}
