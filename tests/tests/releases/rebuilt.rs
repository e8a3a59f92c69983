//! `drained` as the signal to destroy the old colour and to build the next release in its place.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use switcher_harness::agent::{Output, binary};
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::load::Connection;
use switcher_harness::{Load, Mode, Plan, Stand};

use super::alone;

/// Far more than a hook takes once it may come.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_colour_that_has_drained_is_rebuilt_and_goes_live_again() {
    alone(
        "a_colour_that_has_drained_is_rebuilt_and_goes_live_again",
        || {
            for mode in [Mode::Local, Mode::Routed] {
                let mut site = Site::new(mode)?;
                let load = Load::start(&site.stand.topology, &Plan::passing())?;
                let mut kept = site.drains()?;
                site.rebuild()?;
                site.flip_back(&mut kept)?;
                let failures = load.stop()?.failures();
                ensure!(failures.is_empty(), "{mode}: {failures:?}");
            }
            Ok(())
        },
    );
}

struct Site {
    stand: Stand,
}

impl Site {
    /// With a program that leaves a file for each colour that has drained.
    fn new(mode: Mode) -> Result<Self> {
        let settings = Settings {
            learn: Duration::from_secs(1),
            ..Settings::default()
        };
        let mut stand = Stand::without_agent(mode, true, settings, &binary()?)?;
        let place = stand.agent.place();
        let script = format!(
            "echo $SWITCHER_TO > {}/drained-$SWITCHER_FROM",
            place.directory().display()
        );
        let hook = format!(
            "[[groups.{GROUP}.hooks]]\non = \"drained\"\nexec = {}\n",
            json!(["/bin/sh", "-c", script])
        );
        let config = stand.settings.render(&stand.topology, place) + &hook;
        stand.agent.write_config(&config)?;
        stand.agent.start()?;
        stand.until(|it| it["colours"]["green"]["healthy"] == true)?;
        Ok(Self { stand })
    }

    fn cli(&self, words: &[&str]) -> Result<Output> {
        self.stand.agent.cli(words)?.expect(0)
    }

    /// Flips away from blue, which is not told as drained before its last connection has ended. A connection
    /// of green.
    fn drains(&self) -> Result<Connection> {
        let mut last = self.connect("blue")?;
        self.cli(&["flip", GROUP])?;
        let flipped = Instant::now();
        // Long after all others have ended, and after flows are learnt.
        while flipped.elapsed() < Duration::from_secs(3) {
            ensure!(last.colour()? == "blue", "it is another's");
            let told = self.drained("blue");
            ensure!(!told.exists(), "after {:?}", flipped.elapsed());
            std::thread::sleep(Duration::from_millis(50));
        }
        // Flows are counted now and then, and who is silent is not.
        loop {
            ensure!(last.colour()? == "blue", "it is another's");
            let status = self.stand.agent.status()?;
            if status["window"]["left"]["blue"] == 1 {
                break;
            }
            ensure!(flipped.elapsed() < PATIENCE, "{status:#}");
        }
        drop(last);
        self.is_told("blue", "green")?;
        self.connect("green")
    }

    /// The old server goes, and another takes its place.
    fn rebuild(&mut self) -> Result<()> {
        let stand = &mut self.stand;
        stand.servers.end_web("blue", 1);
        stand.until(|it| it["colours"]["blue"]["healthy"] == false)?;
        stand.servers.start_web(&stand.topology, "blue", 1)?;
        self.cli(&["stage", GROUP, "blue", "--version", "v3"])?;
        let healthy = ["wait", GROUP, "--for", "healthy=blue", "--timeout", "30s"];
        self.cli(&healthy).map(drop)
    }

    /// What is on blue now is live, and green is the next to drain.
    fn flip_back(&self, kept: &mut Connection) -> Result<()> {
        self.cli(&["flip", GROUP])?;
        let status = self.stand.agent.status()?;
        ensure!(status["live"] == "blue", "{status:#}");
        ensure!(status["colours"]["blue"]["version"] == "v3", "{status:#}");
        let _new = self.connect("blue")?;
        ensure!(kept.colour()? == "green", "it is another's");
        ensure!(!self.drained("green").exists(), "it has a connection");
        Ok(())
    }

    /// A new connection, which is answered by this colour.
    fn connect(&self, colour: &str) -> Result<Connection> {
        let web = self.stand.topology.web();
        let open = || Connection::open(web);
        let mut connection = self.stand.topology.client.inside(open)??;
        let answered = connection.colour()?;
        ensure!(answered == colour, "{answered} answers, not {colour}");
        Ok(connection)
    }

    /// What the program leaves when a colour has drained.
    fn drained(&self, colour: &str) -> PathBuf {
        let home = self.stand.agent.place().directory();
        home.join(format!("drained-{colour}"))
    }

    /// The program is called for a colour, and knows which one is live instead.
    fn is_told(&self, colour: &str, live: &str) -> Result<()> {
        let begun = Instant::now();
        let mut said = String::new();
        while !said.ends_with('\n') {
            let log = self.stand.agent.log();
            ensure!(begun.elapsed() < PATIENCE, "not told of {colour}: {log}");
            std::thread::sleep(Duration::from_millis(20));
            said = std::fs::read_to_string(self.drained(colour)).unwrap_or_default();
        }
        ensure!(said.trim() == live, "{colour} has drained, to {said}");
        Ok(())
    }
}
