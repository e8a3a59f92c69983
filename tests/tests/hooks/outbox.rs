//! Events for a receiver that is out of order.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use switcher_harness::Stand;
use switcher_harness::config::GROUP;
use switcher_harness::privilege::run;
use switcher_tests::hooks::Hooks;

use crate::site::{hook, hooked, until, web};

/// The first pause; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// What clocks may differ by.
const SLACK: Duration = Duration::from_millis(20);

#[test]
fn a_receiver_that_fails_is_asked_less_and_less_often() {
    run("a_receiver_that_fails_is_asked_less_and_less_often", || {
        let mut receiver = None;
        let stand = hooked(|stand| {
            let receiver = receiver.insert(Hooks::listen(&stand.topology.switch, 204)?);
            Ok(hook("event", web(&receiver.url()) + "\nname = \"log\""))
        })?;
        let receiver = receiver.context("it listens")?;
        until("what has happened so far to be told", || {
            Ok(waiting(&stand)?.0 == 0)
        })?;
        receiver.forget();
        receiver.answer(500);
        pauses_double(&stand, &receiver)?;
        until("all of it to be told", || Ok(waiting(&stand)? == (0, 0)))?;
        receiver.forget();
        at_once_again(&stand, &receiver)
    });
}

/// From one failure to the next, also when there is more to tell meanwhile; until it arrives.
fn pauses_double(stand: &Stand, receiver: &Hooks) -> Result<()> {
    stage(stand, "v1")?;
    let first = receiver.next()?;
    let (mut before, mut pauses) = (first.at, Vec::new());
    for number in 2..5 {
        if number == 4 {
            until("failures to be counted", || Ok(waiting(stand)? == (3, 3)))?;
            receiver.answer(204);
        }
        stage(stand, &format!("v{number}"))?;
        let again = receiver.next()?;
        let same = again.body["id"] == first.body["id"];
        ensure!(same, "events changed places: {}", again.text);
        pauses.push(again.at.duration_since(before));
        before = again.at;
    }
    let least = [1, 2, 4].map(|times| FIRST_PAUSE * times);
    let mut both = pauses.iter().zip(least);
    ensure!(
        both.all(|(pause, least)| *pause + SLACK >= least),
        "{pauses:?}"
    );
    ensure!(
        pauses[0] < least[2],
        "the first is no longer than needed: {pauses:?}"
    );
    Ok(())
}

/// What has failed is forgotten once something has arrived.
fn at_once_again(stand: &Stand, receiver: &Hooks) -> Result<()> {
    receiver.answer(500);
    let begun = Instant::now();
    stage(stand, "v9")?;
    let (first, second) = (receiver.next()?, receiver.next()?);
    let soon = first.at.duration_since(begun) < 4 * FIRST_PAUSE;
    let pause = second.at.duration_since(first.at);
    ensure!(soon && pause < 4 * FIRST_PAUSE, "{pause:?}");
    Ok(())
}

fn stage(stand: &Stand, version: &str) -> Result<()> {
    let words = ["stage", GROUP, "green", "--version", version];
    stand.agent.cli(&words)?.expect(0).map(drop)
}

/// How many events wait for the receiver, and how often the first was sent in vain.
fn waiting(stand: &Stand) -> Result<(u64, u64)> {
    let status = stand.agent.status()?;
    let outbox = &status["outbox"][0];
    ensure!(outbox["hook"] == "log", "{status:#}");
    let number = |of: &str| {
        outbox[of]
            .as_u64()
            .with_context(|| format!("{of}: {status:#}"))
    };
    Ok((number("waiting")?, number("failures")?))
}
