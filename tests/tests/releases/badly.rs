//! A release that goes live by itself and does badly: it goes back by itself, and is not tried again.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::{Mode, Stand};

use super::alone;

/// `automatic_after`.
const CONFIDENCE: Duration = Duration::from_secs(1);
/// Longer than anything here takes.
const BAKE: &str = "
[groups.shop.bake]
for = \"60s\"
sample = 10
";

#[test]
fn what_went_live_by_itself_and_did_badly_stays_away() {
    alone("what_went_live_by_itself_and_did_badly_stays_away", || {
        let mut stand = stand()?;
        stand.servers.set_resetting("green", true);
        stand.ask(20)?;
        stage(&stand, "v2")?;
        it_goes(&stand, "v2")?;
        it_goes_back(&stand)?;
        stand.ask(1)?;
        it_stays_away(&stand)?;
        stand.agent.kill()?;
        stand.agent.start()?;
        it_stays_away(&stand)?;
        // Another release has a chance of its own.
        stand.servers.set_resetting("green", false);
        stage(&stand, "v3")?;
        it_goes(&stand, "v3")?;
        stand.ask(20)?;
        ensure!(stand.agent.live()? == "green", "it does well");
        Ok(())
    });
}

/// Its checks know nothing of what becomes of clients.
fn it_goes(stand: &Stand, version: &str) -> Result<()> {
    stand.until(|it| it["phase"] == "baking")?;
    ensure!(stand.agent.live()? == "green", "green is watched");
    let newest = &history(stand)?[0];
    let reason = newest["reason"].as_str().unwrap_or_default();
    let expected = format!("green ({version}) has passed its checks for 1s");
    ensure!(
        newest["actor"] == "agent" && reason == expected,
        "{newest:#}"
    );
    Ok(())
}

fn it_goes_back(stand: &Stand) -> Result<()> {
    for _ in 0..200 {
        if stand.agent.live()? == "blue" {
            break;
        }
        stand.ask_in_vain()?;
    }
    stand.until(|it| it["live"] == "blue" && it["phase"] == "idle")?;
    let [back, flip] = both(stand)?;
    ensure!(
        back["kind"] == "rollback" && back["actor"] == "agent",
        "{back:#}"
    );
    ensure!(flip["result"] == "rolled-back", "{flip:#}");
    let bake = &flip["receipt"]["bake"];
    let why = bake["why"][0].as_str().unwrap_or_default();
    ensure!(
        bake["verdict"] == "rolled-back" && why.starts_with("resets: "),
        "{flip:#}"
    );
    Ok(())
}

/// Though its checks pass, and nothing is in the way of those who order it.
fn it_stays_away(stand: &Stand) -> Result<()> {
    stand.until(|it| it["colours"]["green"]["healthy"] == true)?;
    stand.until(|it| it["colours"]["blue"]["healthy"] == true)?;
    std::thread::sleep(3 * CONFIDENCE);
    let status = stand.agent.status()?;
    ensure!(
        status["live"] == "blue" && status["phase"] == "idle",
        "{status:#}"
    );
    ensure!(status["next"].is_null(), "{status:#}");
    both(stand)?;
    stand
        .agent
        .cli(&["flip", GROUP, "green", "--dry-run"])?
        .expect(0)
        .map(drop)
}

/// The rollback and the flip: there is nothing else.
fn both(stand: &Stand) -> Result<[Value; 2]> {
    let history = history(stand)?;
    let all: Result<[Value; 2], _> = history.clone().try_into();
    all.map_err(|_| anyhow::anyhow!("there was more: {history:#?}"))
}

fn history(stand: &Stand) -> Result<Vec<Value>> {
    let history = stand.agent.json(&["history", GROUP])?;
    history.as_array().cloned().context("a list")
}

fn stage(stand: &Stand, version: &str) -> Result<()> {
    let words = ["stage", GROUP, "green", "--version", version];
    stand.agent.cli(&words)?.expect(0).map(drop)
}

fn stand() -> Result<Stand> {
    let settings = Settings {
        agent: BAKE,
        interval: Duration::from_millis(100),
        ..Settings::default()
    };
    let mut stand = Stand::without_agent(Mode::Local, true, settings, &binary()?)?;
    let rendered = stand.settings.render(&stand.topology, stand.agent.place());
    let initial = "initial = \"blue\"\n";
    ensure!(rendered.contains(initial), "{rendered}");
    let config = rendered.replace(initial, &format!("{initial}automatic_after = \"1s\"\n"));
    stand.agent.write_config(&config)?;
    stand.agent.start()?;
    Ok(stand)
}
