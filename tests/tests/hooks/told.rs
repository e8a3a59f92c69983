//! Hooks that nobody waits for: they hear of everything, as whoever they should be, and hinder nobody.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::unistd::User;
use serde_json::Value;
use switcher_harness::Stand;
use switcher_harness::config::GROUP;
use switcher_harness::privilege::run;
use switcher_tests::hooks::Hooks;

use crate::site::{exec, hook, hooked, line_of, lives, until, web};

/// Far less than hooks that hang take, far more than a rollback does.
const IN_TIME: Duration = Duration::from_secs(15);

#[test]
fn a_release_is_told_to_a_program_of_another_user() {
    run("a_release_is_told_to_a_program_of_another_user", || {
        let stand = hooked(|stand| {
            let open = open(stand)?;
            fs::create_dir(&open)?;
            fs::set_permissions(&open, fs::Permissions::from_mode(0o777))?;
            let locked = stand.agent.place().directory().join("locked");
            let told =
                "$SWITCHER_EVENT $SWITCHER_GROUP $SWITCHER_TO $SWITCHER_VERSION $SWITCHER_FROM";
            let script = format!(
                "touch {} && exit; echo $(id -u) $(id -G) {told} >> {}/$SWITCHER_EVENT",
                locked.display(),
                open.display()
            );
            Ok(hook("stage", exec(&script) + "\nuser = \"nobody\"")
                + &hook("pre-flip", exec(&script) + "\nuser = \"nobody\""))
        })?;
        let nobody = User::from_name("nobody")?.context("there is a nobody")?;
        let nobody = format!("{} {}", nobody.uid, nobody.gid);
        staged(&stand, &nobody)?;
        stand.agent.cli(&["flip", GROUP])?.expect(0)?;
        let asked = line_of(&open(&stand)?.join("pre-flip"))?;
        ensure!(
            asked == format!("{nobody} pre-flip shop green v3 blue"),
            "{asked}"
        );
        Ok(())
    });
}

/// Once each: what is on a colour already is no news.
fn staged(stand: &Stand, nobody: &str) -> Result<()> {
    let file = open(stand)?.join("stage");
    let stage = |version: &str| {
        let words = ["stage", GROUP, "green", "--version", version];
        stand.agent.cli(&words)?.expect(0).map(drop)
    };
    stage("v2")?;
    let told = line_of(&file)?;
    ensure!(
        told == format!("{nobody} stage shop green v2 blue"),
        "{told}"
    );
    stage("v2")?;
    stage("v3")?;
    let told = line_of(&file)?;
    ensure!(
        told == format!("{nobody} stage shop green v3 blue"),
        "{told}"
    );
    Ok(())
}

/// Where everybody may write.
fn open(stand: &Stand) -> Result<PathBuf> {
    Ok(stand.agent.place().directory().join("open"))
}

#[test]
fn a_rollback_waits_for_no_hook_that_fails_or_hangs() {
    run("a_rollback_waits_for_no_hook_that_fails_or_hangs", || {
        let mut mute = None;
        let stand = hooked(|stand| {
            let hanging = stand.agent.place().directory().join("hanging");
            let hangs = format!("sleep 600 & echo $! > {}; wait", hanging.display());
            let receiver = mute.insert(Hooks::listen(&stand.topology.switch, 0)?);
            let times = "\nretries = 0\ntimeout = \"10m\"";
            Ok([
                hook(
                    "rolled-back",
                    exec("echo no luck; exit 3") + "\nname = \"fails\"" + times,
                ),
                hook(
                    "rolled-back",
                    web(&receiver.url()) + "\nname = \"mute\"\nretries = 0\ntimeout = \"2s\"",
                ),
                hook("rolled-back", exec(&hangs) + "\nname = \"hangs\"" + times),
            ]
            .concat())
        })?;
        let mute = mute.context("it listens")?;
        let first = there_and_back(&stand)?;
        mute.next()?;
        let hanging = line_of(&stand.agent.place().directory().join("hanging"))?;
        recorded(&stand, &first)?;
        // The hook of the first still runs.
        ensure!(lives(&hanging), "it was ended");
        there_and_back(&stand)?;
        mute.next()?;
        let another = line_of(&stand.agent.place().directory().join("hanging"))?;
        for child in [hanging, another] {
            let ended = std::process::Command::new("kill")
                .args(["-9", &child])
                .status()?;
            ensure!(ended.success(), "{child} had gone");
        }
        Ok(())
    });
}

/// Flips, and rolls back in time. The rollback's id.
fn there_and_back(stand: &Stand) -> Result<String> {
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    let back = stand.agent.cli(&["rollback", GROUP])?.expect(0)?;
    ensure!(back.took() < IN_TIME, "it took {:?}", back.took());
    ensure!(stand.agent.live()? == "blue", "it did not go back");
    let idle = ["wait", GROUP, "--for", "idle", "--timeout", "50s"];
    stand.agent.cli(&idle)?.expect(0)?;
    let history = stand.agent.json(&["history", GROUP])?;
    let newest = &history[0];
    ensure!(
        newest["kind"] == "rollback" && newest["result"] == "succeeded",
        "{history:#}"
    );
    newest["id"].as_str().map(str::to_owned).context("an id")
}

/// The one that failed kept nobody else from being called, and what became of each is on record.
fn recorded(stand: &Stand, id: &str) -> Result<()> {
    let mut record = Value::Null;
    let mut outcome = |name: &str| -> Result<Value> {
        record = stand.agent.json(&["show", id])?;
        let hooks = record["hooks"].as_array().into_iter().flatten();
        let mut named = hooks.filter(|it| it["name"] == name);
        Ok(named.next().cloned().unwrap_or_default())
    };
    until("the hooks to be on record", || {
        Ok(outcome("mute")?["outcome"] == "failed")
    })?;
    let (fails, mute, hangs) = (outcome("fails")?, outcome("mute")?, outcome("hangs")?);
    ensure!(
        fails["outcome"] == "failed" && fails["why"] == "exit code 3",
        "{fails:#}"
    );
    ensure!(mute["why"] == "no answer within 2s", "{mute:#}");
    ensure!(
        hangs["moment"] == "rolled-back" && hangs["outcome"].is_null(),
        "{hangs:#}"
    );
    Ok(())
}
