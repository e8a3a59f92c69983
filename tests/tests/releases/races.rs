//! Abort against flip, a thousand times, and flip against flip, on a real agent with real connections: each has one
//! legal outcome.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use switcher::api::model::{ChangeAnswer, ChangeRequest, GroupStatus, Status};
use switcher::client::Client;
use switcher::exit::{Exit, Failure};
use switcher::release::{End, Kind};
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::load::Connection;
use switcher_harness::{Load, Mode, Plan, Stand};
use tokio::runtime::Runtime;

use super::alone;

const ROUNDS: u64 = 1000;
/// Of two operators, in each mode.
const PAIRS: u64 = 25;

/// How often each outcome came up.
#[derive(Debug, Default)]
struct Outcomes {
    /// Nothing was switched.
    stopped: u64,
    /// It was, and then undone.
    undone: u64,
    /// There was nothing to abort yet.
    early: u64,
}

#[test]
fn an_abort_that_races_a_flip_has_one_legal_outcome() {
    alone("an_abort_that_races_a_flip_has_one_legal_outcome", || {
        let settings = Settings {
            arm: Duration::from_millis(2),
            learn: Duration::from_secs(5),
            ..Settings::default()
        };
        let stand = Stand::new(Mode::Routed, true, settings, &binary()?)?;
        stand.until(|it| it["colours"]["green"]["healthy"] == true)?;
        let load = Load::start(&stand.topology, &quiet())?;
        let outcomes = race(&stand)?;
        let report = load.stop()?;
        let failures = report.failures();
        ensure!(failures.is_empty(), "{outcomes:?}: {failures:?}");
        ensure!(
            outcomes.stopped > 0 && outcomes.undone > 0 && outcomes.early > 0,
            "not each of them came up: {outcomes:?}"
        );
        stand.agent.cli(&["audit", "verify"])?.expect(0)?;
        Ok(())
    });
}

#[test]
fn of_two_flips_with_one_revision_one_is_made() {
    alone("of_two_flips_with_one_revision_one_is_made", || {
        // What is to be prepared takes time where flows are tagged, and none elsewhere.
        for mode in [Mode::Local, Mode::Routed] {
            let settings = Settings {
                arm: Duration::from_millis(2),
                ..Settings::default()
            };
            let stand = Stand::new(mode, true, settings, &binary()?)?;
            for colour in ["blue", "green"] {
                stand.until(|it| it["colours"][colour]["healthy"] == true)?;
            }
            let load = Load::start(&stand.topology, &quiet())?;
            let client = Client::at(&stand.agent.place().socket());
            let runtime = runtime()?;
            (0..PAIRS).try_for_each(|round| {
                let judged = two_operators(&runtime, &client);
                judged.with_context(|| format!("{mode}, round {round}"))
            })?;
            let failures = load.stop()?.failures();
            ensure!(failures.is_empty(), "{mode}: {failures:?}");
        }
        Ok(())
    });
}

/// Both have looked at the same `status`, and mean the other colour. Who comes second is told to look again.
fn two_operators(runtime: &Runtime, client: &Client) -> Result<()> {
    let before = status(runtime, client)?;
    let request = ChangeRequest {
        if_revision: Some(before.revision),
        ..ChangeRequest::default()
    };
    let flip = || change(client, "flip", &request);
    let answers = runtime.block_on(async { tokio::join!(flip(), flip()) });
    let after = status(runtime, client)?;
    let (made, refused) = match &answers {
        (Ok(made), Err(refused)) | (Err(refused), Ok(made)) => (made, refused),
        _ => bail!("one of them has to be made: {answers:?}"),
    };
    ensure!(refused.exit == Exit::Precondition, "{refused:?}");
    ensure!(
        after.live != before.live && after.live == made.to,
        "{}: {made:?}",
        after.live
    );
    ensure!(after.revision == before.revision + 1, "{}", after.revision);
    Ok(())
}

/// Connections that last, and few new ones: the processors are for the race.
fn quiet() -> Plan {
    Plan {
        keep_alive: 2,
        short_lived: 1,
        new: 1,
        downloads: 1,
        download: Duration::from_secs(3),
        idle: 2,
        udp_flows: 1,
        udp_new: 0,
        pause: Duration::from_millis(20),
        ..Plan::default()
    }
}

fn race(stand: &Stand) -> Result<Outcomes> {
    let client = Client::at(&stand.agent.place().socket());
    let runtime = runtime()?;
    let mut outcomes = Outcomes::default();
    for round in 0..ROUNDS {
        let before = status(&runtime, &client)?;
        let (flip, abort) = runtime.block_on(both(&client, round % 40));
        let after = status(&runtime, &client)?;
        let outcome = judge(&mut outcomes, &before, &after, &flip, &abort);
        outcome.with_context(|| format!("round {round}: {flip:?}, {abort:?}"))?;
        let web = stand.topology.web();
        let colour = stand
            .topology
            .client
            .inside(|| Connection::open(web).and_then(|mut it| it.colour()))??;
        ensure!(
            after.live == colour,
            "round {round}: {} is said to be live, and {colour} is",
            after.live
        );
        if after.live != before.live {
            // Else the next abort could mean this flip, as long as it drains.
            runtime.block_on(order(&client, "rollback"))?;
        }
    }
    Ok(outcomes)
}

type Answer = Result<ChangeAnswer, Failure>;

/// The abort comes some milliseconds after the flip, or once that has been answered, or has been answered before it.
async fn both(client: &Client, step: u64) -> (Answer, Answer) {
    match step {
        39 => {
            let abort = order(client, "abort").await;
            (order(client, "flip").await, abort)
        }
        38 => {
            let flip = order(client, "flip").await;
            (flip, order(client, "abort").await)
        }
        step => {
            let abort = async {
                tokio::time::sleep(Duration::from_millis(step)).await;
                order(client, "abort").await
            };
            tokio::join!(order(client, "flip"), abort)
        }
    }
}

async fn order(client: &Client, verb: &str) -> Answer {
    change(client, verb, &ChangeRequest::default()).await
}

async fn change(client: &Client, verb: &str, request: &ChangeRequest) -> Answer {
    let path = format!("/v1/groups/{GROUP}/{verb}");
    client.post(&path, request).await
}

/// Of whatever happened at the same time, one story has to be true of answers and state.
fn judge(
    outcomes: &mut Outcomes,
    before: &GroupStatus,
    after: &GroupStatus,
    flip: &Answer,
    abort: &Answer,
) -> Result<()> {
    let switches = after.revision - before.revision;
    let stays = after.live == before.live;
    let is_undone =
        |flip: &Answer| matches!(flip, Err(failure) if failure.exit == Exit::RolledBack);
    match (flip, abort) {
        // It came in time.
        (Err(flip), Ok(abort)) if flip.exit == Exit::Precondition => {
            ensure!(abort.result == End::Aborted && stays && switches == 0);
            outcomes.stopped += 1;
        }
        // After the store it means rollback, whether or not the flip was answered before.
        (flip, Ok(abort)) if flip.is_ok() || is_undone(flip) => {
            ensure!(abort.kind == Kind::Rollback && abort.to == before.live);
            ensure!(stays && switches == 2, "{switches} switches");
            outcomes.undone += 1;
        }
        // Nothing was going on when it came, or only the rollback of the round before.
        (Ok(_), Err(abort)) => {
            ensure!(abort.exit == Exit::Precondition && !stays && switches == 1);
            outcomes.early += 1;
        }
        _ => bail!("no such outcome is legal"),
    }
    Ok(())
}

fn runtime() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    Ok(builder.enable_all().build()?)
}

fn status(runtime: &Runtime, client: &Client) -> Result<GroupStatus> {
    let all: Status = runtime.block_on(client.get("/v1/status"))?;
    all.groups.into_iter().next().context("a group")
}
