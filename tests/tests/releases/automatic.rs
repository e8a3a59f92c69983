//! A staged release that goes live by itself, once programs have passed it for long enough, and no more often
//! than the budget allows.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::{Load, Mode, Plan, Stand};

use super::alone;

/// `automatic_after`.
const CONFIDENCE: Duration = Duration::from_secs(3);
const EXPECTED: &str = "kind = \"http\"\npath = \"/healthz\"\n";

#[test]
fn a_staged_release_goes_live_when_its_programs_have_passed_it() {
    alone(
        "a_staged_release_goes_live_when_its_programs_have_passed_it",
        || {
            let mut site = Site::new()?;
            // Nothing goes by itself before the window of the last switch has closed.
            let plan = Plan {
                keep_alive: 0,
                idle: 0,
                udp_flows: 0,
                udp_new: 0,
                download: Duration::from_secs(2),
                ..Plan::default()
            };
            let load = Load::start(&site.stand.topology, &plan)?;
            a_program_is_in_the_way(&site)?;
            who_flaps_is_not_trusted(&site)?;
            without_a_way_back_nothing_goes(&site)?;
            it_goes(&mut site)?;
            the_budget_ends_it(&site)?;
            let report = load.stop()?;
            let failures = report.failures();
            ensure!(failures.is_empty(), "{failures:?}");
            Ok(())
        },
    );
}

/// What it said is in the refusal, and in `status`.
fn a_program_is_in_the_way(site: &Site) -> Result<()> {
    site.fails("green", true)?;
    site.shows("green", false)?;
    site.stage("green", "v2")?;
    let refused = site.cli(&["flip", GROUP, "--json"])?.expect(6)?;
    let blockers = refused.problem()?["blockers"].to_string();
    ensure!(
        blockers.contains("exit code 3: green is full"),
        "{blockers}"
    );
    let shown = site.cli(&["status", GROUP])?.expect(0)?.stdout;
    ensure!(shown.contains("green is full"), "{shown}");
    Ok(())
}

/// It passes again and again, and never for long enough.
fn who_flaps_is_not_trusted(site: &Site) -> Result<()> {
    for _ in 0..8 {
        site.fails("green", false)?;
        site.shows("green", true)?;
        site.fails("green", true)?;
        site.shows("green", false)?;
    }
    ensure!(site.stand.agent.live()? == "blue", "it was switched");
    Ok(())
}

/// The live colour fails: it would be no good for a rollback, so only people decide.
fn without_a_way_back_nothing_goes(site: &Site) -> Result<()> {
    site.fails("blue", true)?;
    site.shows("blue", false)?;
    site.fails("green", false)?;
    site.shows("green", true)?;
    std::thread::sleep(CONFIDENCE + Duration::from_secs(1));
    ensure!(site.stand.agent.live()? == "blue", "it was switched");
    site.fails("green", true)?;
    site.shows("green", false)?;
    site.fails("blue", false)?;
    site.shows("blue", true)
}

/// Not before its time, and also with another agent than the one that began to watch.
fn it_goes(site: &mut Site) -> Result<()> {
    let trusted = Instant::now();
    site.fails("green", false)?;
    site.shows("green", true)?;
    let next = site.stand.agent.status()?["next"]["what"].to_string();
    ensure!(next.contains("green"), "{next}");
    site.stand.agent.kill()?;
    site.stand.agent.start()?;
    site.stand.until(|it| it["live"] == "green")?;
    ensure!(trusted.elapsed() >= CONFIDENCE, "too soon");
    let newest = site.newest()?;
    ensure!(newest["actor"] == "agent", "{newest:#}");
    let reason = newest["reason"].as_str().unwrap_or_default();
    ensure!(
        reason.contains("v2") && reason.contains("has passed its checks for 3s"),
        "{newest:#}"
    );
    Ok(())
}

/// Two switches are all it has. Then people are told why not, and may insist.
fn the_budget_ends_it(site: &Site) -> Result<()> {
    site.stage("blue", "v3")?;
    site.stand.until(|it| it["live"] == "blue")?;
    site.stage("green", "v4")?;
    std::thread::sleep(CONFIDENCE + Duration::from_secs(1));
    ensure!(site.stand.agent.live()? == "blue", "it was switched");
    let refused = site.cli(&["flip", GROUP, "--json"])?.expect(5)?;
    let blockers = refused.problem()?["blockers"].to_string();
    ensure!(
        blockers.contains("flap budget: 2 of 2 switches within 1h"),
        "{blockers}"
    );
    site.cli(&["flip", GROUP, "--force"])?.expect(0)?;
    ensure!(site.stand.agent.live()? == "green");
    ensure!(site.newest()?["forced"] == true, "{:#}", site.newest()?);
    Ok(())
}

struct Site {
    stand: Stand,
}

impl Site {
    fn new() -> Result<Self> {
        let settings = Settings {
            interval: Duration::from_millis(100),
            agent: "\n[groups.shop.flap_budget]\nswitches = 2\nwithin = \"1h\"\n",
            ..Settings::default()
        };
        let mut stand = Stand::without_agent(Mode::Local, true, settings, &binary()?)?;
        let place = stand.agent.place();
        let script = format!(
            "test ! -e {}/$SWITCHER_COLOUR || {{ echo $SWITCHER_COLOUR is full; exit 3; }}",
            place.directory().display()
        );
        let program = format!(
            "kind = \"exec\"\nexec = {}\n",
            json!(["/bin/sh", "-c", script])
        );
        let rendered = stand.settings.render(&stand.topology, place);
        ensure!(rendered.contains(EXPECTED), "{rendered}");
        let config = rendered.replace(EXPECTED, &program).replace(
            "initial = \"blue\"\n",
            "initial = \"blue\"\nautomatic_after = \"3s\"\n",
        );
        stand.agent.write_config(&config)?;
        stand.agent.start()?;
        Ok(Self { stand })
    }

    fn cli(&self, words: &[&str]) -> Result<switcher_harness::agent::Output> {
        self.stand.agent.cli(words)
    }

    fn stage(&self, colour: &str, version: &str) -> Result<()> {
        let words = ["stage", GROUP, colour, "--version", version];
        self.cli(&words)?.expect(0).map(drop)
    }

    /// What the program says of a colour from now on.
    fn fails(&self, colour: &str, fails: bool) -> Result<()> {
        let file: PathBuf = self.stand.agent.place().directory().join(colour);
        if fails {
            std::fs::write(file, "")?;
        } else {
            std::fs::remove_file(file)?;
        }
        Ok(())
    }

    fn shows(&self, colour: &str, healthy: bool) -> Result<()> {
        self.stand
            .until(|it| it["colours"][colour]["healthy"] == healthy)
    }

    fn newest(&self) -> Result<Value> {
        let history = self.stand.agent.json(&["history", GROUP])?;
        history.get(0).cloned().context("no record")
    }
}
