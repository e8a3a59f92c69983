//! Hooks that have to answer within a time of their own, and do not.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use switcher_harness::Stand;
use switcher_harness::config::GROUP;
use switcher_harness::privilege::run;
use switcher_tests::hooks::Hooks;

use crate::ROLLED_BACK;
use crate::site::{exec, hook, hooked, line_of, lives, until, web};

/// What the hooks have.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Far less than what hangs takes, and than what hooks have if nothing is said.
const IN_TIME: Duration = Duration::from_secs(15);

#[test]
fn who_does_not_answer_within_its_timeout_has_failed() {
    run("who_does_not_answer_within_its_timeout_has_failed", || {
        let mut receiver = None;
        let stand = hooked(|stand| {
            let home = stand.agent.place().directory();
            let script = format!(
                "cd {}; [ ! -e $SWITCHER_EVENT ] || {{ sleep 600 & echo $! > child; wait; }}",
                home.display()
            );
            let receiver = receiver.insert(Hooks::listen(&stand.topology.switch, 200)?);
            let late = |name: &str| format!("\nname = \"{name}\"\ntimeout = \"1s\"");
            Ok([
                hook("pre-flip", exec(&script) + &late("slow")),
                hook("pre-flip", web(&receiver.url()) + &late("mute")),
                hook("post-flip", exec(&script) + &late("judge")),
            ]
            .concat())
        })?;
        let receiver = receiver.context("it listens")?;
        a_program_is_late(&stand)?;
        ensure!(
            receiver.is_empty(),
            "another was asked after one had failed"
        );
        a_receiver_is_late(&stand, &receiver)?;
        a_judge_is_late(&stand)?;
        stand.agent.cli(&["flip", GROUP])?.expect(0)?;
        ensure!(stand.agent.live()? == "green", "nobody was late");
        Ok(())
    });
}

/// It is ended with what it has started, and the flip refused.
fn a_program_is_late(stand: &Stand) -> Result<()> {
    std::fs::write(file(stand, "pre-flip"), "")?;
    refused(
        stand,
        "hook slow: it failed; /bin/sh: still running after 1s",
    )?;
    ended(stand)?;
    std::fs::remove_file(file(stand, "pre-flip"))?;
    Ok(())
}

fn a_receiver_is_late(stand: &Stand, receiver: &Hooks) -> Result<()> {
    receiver.answer(0);
    refused(stand, "hook mute: it failed; no answer within 1s")?;
    receiver.answer(200);
    receiver.next().map(drop)
}

/// What was switched is undone.
fn a_judge_is_late(stand: &Stand) -> Result<()> {
    std::fs::write(file(stand, "post-flip"), "")?;
    let undone = stand.agent.cli(&["flip", GROUP])?.expect(ROLLED_BACK)?;
    ensure!(undone.took() < IN_TIME, "it took {:?}", undone.took());
    let back = &stand.agent.json(&["history", GROUP])?[0];
    let why = "hook judge: it failed; /bin/sh: still running after 1s";
    let reason = back["reason"].as_str().unwrap_or_default();
    ensure!(
        back["kind"] == "rollback" && reason.ends_with(why),
        "{back:#}"
    );
    ensure!(stand.agent.live()? == "blue", "it stayed");
    ended(stand)?;
    std::fs::remove_file(file(stand, "post-flip"))?;
    let idle = ["wait", GROUP, "--for", "idle", "--timeout", "50s"];
    stand.agent.cli(&idle)?.expect(0).map(drop)
}

/// For this alone, in time, and nothing was switched.
fn refused(stand: &Stand, why: &str) -> Result<()> {
    let refused = stand.agent.cli(&["flip", GROUP, "--json"])?.expect(5)?;
    ensure!(
        (TIMEOUT..IN_TIME).contains(&refused.took()),
        "it took {:?}",
        refused.took()
    );
    let problem = refused.problem()?;
    ensure!(problem["blockers"] == json!([why]), "{problem:#}");
    let status = stand.agent.status()?;
    let state = (&status["live"], &status["phase"]);
    ensure!(state == (&json!("blue"), &json!("idle")), "{status:#}");
    Ok(())
}

fn ended(stand: &Stand) -> Result<()> {
    let child = line_of(&file(stand, "child"))?;
    until("the program's child to be ended", || Ok(!lives(&child)))
}

fn file(stand: &Stand, name: &str) -> PathBuf {
    stand.agent.place().directory().join(name)
}
