//! What a flip asks before it is made, with servers that come and go and decisions that grow old.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use switcher_harness::agent::{Output, binary};
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::{Mode, Stand};

use crate::run;

/// Of the check that has to be passed often.
const RISE: u64 = 30;
const INTERVAL: Duration = Duration::from_millis(100);
/// How long endpoints have to have been healthy: longer than the command line takes to ask.
const MIN_HEALTHY: Duration = Duration::from_secs(3);
/// A gate that is not open for long.
const GATE: &str = "
[groups.shop.gates.qa]
expires = \"2s\"
";

#[test]
fn a_port_that_takes_connections_is_well_after_enough_of_them() {
    run(
        "a_port_that_takes_connections_is_well_after_enough_of_them",
        || {
            let settings = Settings {
                health: "tcp",
                interval: INTERVAL,
                ..Settings::default()
            };
            let mut stand = stand(settings, |text| {
                text.replace("rise = 1\n", &format!("rise = {RISE}\n"))
            })?;
            stand.until(|it| it["colours"]["green"]["healthy"] == true)?;
            nobody_reads_what_it_says(&stand)?;
            nobody_listens(&mut stand)?;
            once_is_not_enough(&mut stand)
        },
    );
}

/// With HTTP it would be sick.
fn nobody_reads_what_it_says(stand: &Stand) -> Result<()> {
    stand.servers.set_healthy("green", false);
    let seen = stand.servers.accepted("green");
    while stand.servers.accepted("green") < seen + 5 {
        std::thread::sleep(INTERVAL);
    }
    let status = stand.agent.status()?;
    ensure!(status["colours"]["green"]["healthy"] == true, "{status:#}");
    Ok(())
}

fn nobody_listens(stand: &mut Stand) -> Result<()> {
    stand.servers.end_web("green", 1);
    stand.until(|it| it["colours"]["green"]["healthy"] == false)?;
    let refused = flip(stand, &[])?.expect(6)?.problem()?;
    let blockers = refused["blockers"].to_string();
    ensure!(blockers.contains("connection refused"), "{refused:#}");
    Ok(())
}

/// The flip is refused until as many checks in a row have passed as are demanded.
fn once_is_not_enough(stand: &mut Stand) -> Result<()> {
    let begun = Instant::now();
    stand.servers.start_web(&stand.topology, "green", 1)?;
    while stand.servers.accepted("green") == 0 {
        std::thread::sleep(INTERVAL / 10);
    }
    flip(stand, &[])?.expect(6)?;
    ensure!(stand.agent.live()? == "blue", "it was switched");
    stand.until(|it| it["colours"]["green"]["healthy"] == true)?;
    let checks = stand.servers.accepted("green");
    ensure!(checks >= RISE, "{checks} checks were enough");
    let least = INTERVAL * u32::try_from(RISE - 1)?;
    ensure!(begun.elapsed() >= least, "after {:?}", begun.elapsed());
    flip(stand, &[])?.expect(0)?;
    ensure!(stand.agent.live()? == "green");
    Ok(())
}

#[test]
fn time_and_an_open_gate_let_a_flip_through() {
    run("time_and_an_open_gate_let_a_flip_through", || {
        let settings = Settings {
            agent: GATE,
            ..Settings::default()
        };
        let stand = stand(settings, |text| {
            text.replace("rise = 1\n", "rise = 1\nmin_healthy = \"3s\"\n")
        })?;
        what_is_young_is_told(&stand)?;
        a_decision_grows_old(&stand)?;
        a_flip_waits_until_it_is_old_enough(&stand)
    });
}

/// Whoever asks what would happen hears for how long green has been well, and for how long it has to be.
fn what_is_young_is_told(stand: &Stand) -> Result<()> {
    gate(stand, "close")?;
    recovered(stand)?;
    let refused = flip(stand, &["--dry-run"])?.expect(5)?.problem()?;
    let blockers = refused["blockers"].to_string();
    let green = ", and has to be for 3s";
    ensure!(
        blockers.contains(green) && blockers.contains("gate qa"),
        "{refused:#}"
    );
    let status = stand.agent.status()?;
    ensure!(status["blockers"].to_string().contains(green), "{status:#}");
    stand.until(|it| !it["blockers"].to_string().contains("has to be for"))
}

/// What was opened is closed again, and the refusal names that alone.
fn a_decision_grows_old(stand: &Stand) -> Result<()> {
    gate(stand, "open")?;
    let opened = stand.agent.status()?;
    ensure!(opened["gates"]["qa"]["open"] == true, "{opened:#}");
    ensure!(opened["gates"]["qa"]["until"].is_string(), "{opened:#}");
    flip(stand, &["--dry-run"])?.expect(0)?;
    stand.until(|it| it["gates"]["qa"]["open"] == false)?;
    let refused = flip(stand, &[])?.expect(5)?.problem()?;
    let expected = json!(["gate qa: closed until somebody opens it; `gate qa open` does"]);
    ensure!(refused["blockers"] == expected, "{refused:#}");
    ensure!(stand.agent.live()? == "blue", "it was switched");
    Ok(())
}

/// Whoever orders the flip need not ask again: it is made when its time has come.
fn a_flip_waits_until_it_is_old_enough(stand: &Stand) -> Result<()> {
    let config = std::fs::read_to_string(stand.agent.place().config())?;
    stand
        .agent
        .write_config(&config.replace("expires = \"2s\"", "expires = \"1h\""))?;
    stand.agent.cli(&["apply"])?.expect(0)?;
    gate(stand, "open")?;
    let recovered = recovered(stand)?;
    let waited = flip(stand, &[])?.expect(0)?;
    let after = waited.ended.duration_since(recovered);
    ensure!(after >= MIN_HEALTHY, "it was switched after {after:?}");
    ensure!(stand.agent.live()? == "green");
    Ok(())
}

/// Green falls ill, and has just got well again since then.
fn recovered(stand: &Stand) -> Result<Instant> {
    stand.servers.set_healthy("green", false);
    stand.until(|it| it["colours"]["green"]["healthy"] == false)?;
    let since = Instant::now();
    stand.servers.set_healthy("green", true);
    stand.until(|it| it["colours"]["green"]["healthy"] == true)?;
    Ok(since)
}

fn gate(stand: &Stand, way: &str) -> Result<()> {
    stand
        .agent
        .cli(&["gate", GROUP, "qa", way])?
        .expect(0)
        .map(drop)
}

fn flip(stand: &Stand, more: &[&str]) -> Result<Output> {
    stand
        .agent
        .cli(&[&["flip", GROUP, "--json"], more].concat())
}

/// One whose configuration is changed before its agent starts.
fn stand(settings: Settings, change: impl FnOnce(String) -> String) -> Result<Stand> {
    let mut stand = Stand::without_agent(Mode::Local, true, settings, &binary()?)?;
    let rendered = stand.settings.render(&stand.topology, stand.agent.place());
    let config = change(rendered.clone());
    ensure!(config != rendered, "nothing to change in {rendered}");
    stand.agent.write_config(&config)?;
    stand.agent.start()?;
    Ok(stand)
}
