//! `kill -9` in the middle of every order that there is: at the first and the last of an agent's commits and calls
//! of `bpf(2)` for it, and in between. What the next agent finds is finished or undone, what was answered holds,
//! and each switch is told.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use switcher_harness::agent::{Output, binary};
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::load::Connection;
use switcher_harness::{Load, Mode, Plan, Stand};
use switcher_tests::hooks::Hooks;

use super::killer::Killer;
use super::table::{Given, HARD, ORDERS, Order, Seen};
use super::{answered, other, run};

/// Weights of a colour's servers, one file after the other; who has none is not in it.
const FILES: [&[u16]; 3] = [&[1, 1], &[1, 3], &[1]];
/// While there is such a file, the hook after a switch fails.
const BAD: &str = "bad";

#[test]
fn orders() {
    run("orders", || {
        let mut trials = Trials::new()?;
        let load = Load::start(&trials.stand.topology, &Plan::passing())?;
        let killed = trials.all(ORDERS)?;
        // Where the second time takes fewer calls than the first one, nobody is killed at the last of them.
        ensure!(killed > 35, "only {killed} times");
        told(&trials.stand, &trials.events)?;
        let report = load.stop()?;
        println!("{}", report.summary());
        ensure!(report.failures().is_empty(), "{:?}", report.failures());
        Ok(())
    });
}

/// Nobody's connection is promised anything by these.
#[test]
fn orders_that_end_connections() {
    run("orders_that_end_connections", || {
        let killed = Trials::new()?.all(HARD)?;
        ensure!(killed > 1, "only {killed} times");
        Ok(())
    });
}

/// One order after the other.
struct Trials {
    stand: Stand,
    killer: Killer,
    /// Takes events.
    events: Hooks,
    /// How many orders were given.
    number: u32,
    /// Which of [`FILES`] the agent was given.
    file: usize,
}

impl Trials {
    /// How often agents were killed over them.
    fn all(&mut self, orders: &[Order]) -> Result<u32> {
        let mut killed = 0;
        for order in orders {
            let done = self.tried(order);
            killed += done
                .with_context(|| format!("{} after {:?}", order.words.join(" "), order.before))?;
        }
        println!("killed {killed} times");
        self.stand.agent.cli(&["audit", "verify"])?.expect(0)?;
        Ok(killed)
    }

    /// Once as it should be, to see how many calls it takes; then killed at some of them. How often it was.
    fn tried(&mut self, order: &Order) -> Result<u32> {
        let calls = self.attempt(order, 0)?.context("killed by nobody")?;
        let mut killed = 0;
        for time in 0..order.times {
            let step = 1 + calls.saturating_sub(1) * time / (order.times - 1);
            let done = self.attempt(order, step);
            killed += u32::from(
                done.with_context(|| format!("call {step} of {calls}"))?
                    .is_none(),
            );
        }
        Ok(killed)
    }

    /// Gives an order and kills the agent at one of its calls. How many it took; none if it was killed.
    fn attempt(&mut self, order: &Order, step: u32) -> Result<Option<u32>> {
        let mut connection = self.prepare(order)?;
        let mut seen = self.first_look()?;
        if !order.before.is_empty() {
            self.cli(&seen.words(order.before))?.expect(0)?;
        }
        self.look(&mut seen)?;
        seen.before = seen.group.clone();
        seen.last = seen.newest.clone();
        ensure!(!(order.holds)(&seen), "it holds before it is ordered");
        self.killer.aim(self.stand.agent.pid(), step, order.calls)?;
        if order.given == Given::Connection {
            connection = None;
        }
        let done = self.cli(&seen.words(order.words))?;
        // The last of its calls may come when it has answered.
        std::thread::sleep(Duration::from_millis(20));
        let calls = self.killer.count()?;
        self.killer.aim(None, 0, &[])?;
        let killed = step > 0 && calls >= step || self.stand.agent.has_ended()?;
        if killed {
            self.stand.agent.wait()?;
            self.served(connection.as_mut())
                .context("without an agent")?;
            self.stand.agent.start()?;
        } else {
            done.clone().expect(order.code)?;
        }
        self.judge(order, &done, &mut seen)?;
        self.calm()?;
        Ok((!killed).then_some(calls))
    }

    /// What was answered holds, the colour that is said to be live answers, and it ends as it should.
    fn judge(&self, order: &Order, done: &Output, seen: &mut Seen) -> Result<()> {
        self.look(seen)?;
        let group = &seen.group;
        ensure!(
            done.code != 0 || (order.holds)(seen),
            "it was answered with 0: {group:#}"
        );
        let shared = !group["canary"].is_null() || !group["paused_until"].is_null();
        if !shared {
            let answered = answered(&self.stand)?;
            if seen.group["live"] != answered.as_str() {
                // The instant that a switch was set for may have come in between.
                self.look(seen)?;
            }
            let group = &seen.group;
            ensure!(group["live"] == answered.as_str(), "{answered}: {group:#}");
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        while !(order.ends)(seen) {
            let (group, newest) = (&seen.group, &seen.newest);
            ensure!(Instant::now() < deadline, "not so: {group:#}\n{newest:#}");
            std::thread::sleep(Duration::from_millis(20));
            self.look(seen)?;
        }
        Ok(())
    }

    fn first_look(&mut self) -> Result<Seen> {
        self.number += 1;
        let group = self.stand.agent.status()?;
        Ok(Seen {
            other: other(group["live"].as_str().unwrap_or_default()),
            fresh: format!("v{}", self.number),
            next: group["schema"].as_u64().unwrap_or(0) + 1,
            weights: FILES[self.file],
            before: group.clone(),
            group,
            last: Value::Null,
            newest: Value::Null,
        })
    }

    fn look(&self, seen: &mut Seen) -> Result<()> {
        let agent = &self.stand.agent;
        seen.group = agent.status()?;
        seen.newest = agent.json(&["history", GROUP, "-n", "1"])?[0].clone();
        Ok(())
    }

    /// The order's circumstances, and a connection that is there before it.
    fn prepare(&mut self, order: &Order) -> Result<Option<Connection>> {
        let bad = self.stand.agent.place().directory().join(BAD);
        match order.given {
            Given::Nothing => return Ok(None),
            Given::FailingHook => {
                fs::write(bad, "")?;
                return Ok(None);
            }
            Given::File => {
                self.file = (self.file + 1) % FILES.len();
                let text = text(&self.stand, &self.events, FILES[self.file]);
                self.stand.agent.write_config(&text)?;
                return Ok(None);
            }
            Given::Paused | Given::Connection => {}
        }
        let web = self.stand.topology.web();
        let open = || Connection::open(web);
        let mut connection = self.stand.topology.client.inside(open)??;
        connection.colour()?;
        Ok(Some(connection))
    }

    /// Somebody is answered: who comes anew, or who was there already.
    fn served(&self, connection: Option<&mut Connection>) -> Result<String> {
        match connection {
            Some(connection) => connection.colour(),
            None => answered(&self.stand),
        }
    }

    fn cli(&self, words: &[String]) -> Result<Output> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.stand.agent.cli(&words)
    }

    /// Whatever was ordered is over, or is ended. New clients are served by the live colour then, and kernel, record
    /// and configuration agree.
    fn calm(&self) -> Result<()> {
        let agent = &self.stand.agent;
        let _not_there = fs::remove_file(agent.place().directory().join(BAD));
        for words in [
            &["unfreeze", GROUP][..],
            &["resume", GROUP],
            &["gate", GROUP, "qa", "open"],
        ] {
            agent.cli(words)?.expect(0)?;
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let group = agent.status()?;
            match group["phase"].as_str() {
                Some("idle") => break,
                Some("confirming" | "baking") => drop(agent.cli(&["confirm", GROUP])?),
                Some("holding") => drop(agent.cli(&["abort", GROUP])?),
                Some(_) | None => {}
            }
            ensure!(Instant::now() < deadline, "never calm: {group:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let (live, served) = (agent.live()?, answered(&self.stand)?);
        ensure!(live == served, "{live} is live, and {served} answers");
        agent.cli(&["drift"])?.expect(0).map(drop)
    }
}

/// Each switch that is recorded was told, also those that an agent was killed over.
fn told(stand: &Stand, events: &Hooks) -> Result<()> {
    let history = stand.agent.json(&["history", GROUP, "-n", "10000"])?;
    let made = |it: &&Value| !it["stored"].is_null() && it["from"] != it["to"];
    let switches = history.as_array().into_iter().flatten().filter(made);
    let mut missing: BTreeSet<&str> = switches.filter_map(|it| it["id"].as_str()).collect();
    ensure!(missing.len() > 20, "{history:#}");
    while !missing.is_empty() {
        let request = events
            .next()
            .with_context(|| format!("{missing:?} are not told"))?;
        let event = request.body["event"].as_str().unwrap_or_default();
        if ["switched", "rolled-back", "canary", "emergency"].contains(&event) {
            missing.remove(request.body["cutover"].as_str().unwrap_or_default());
        }
    }
    Ok(())
}

impl Trials {
    /// Flips are watched, hooks called, gates open.
    fn new() -> Result<Self> {
        let settings = Settings {
            interval: Duration::from_millis(100),
            servers: 2,
            ..Settings::default()
        };
        let mut stand = Stand::without_agent(Mode::Local, true, settings, &binary()?)?;
        let events = Hooks::listen(&stand.topology.switch, 202)?;
        let text = text(&stand, &events, FILES[0]);
        stand.agent.write_config(&text)?;
        stand.agent.start()?;
        Ok(Self {
            stand,
            killer: Killer::new()?,
            events,
            number: 0,
            file: 0,
        })
    }
}

/// A configuration in which the servers of each colour have these weights.
fn text(stand: &Stand, events: &Hooks, weights: &'static [u16]) -> String {
    let settings = Settings {
        servers: u16::try_from(weights.len()).unwrap_or(1),
        weights,
        ..stand.settings.clone()
    };
    let place = stand.agent.place();
    let initial = "initial = \"blue\"\n";
    let more = format!(
        "{initial}bake = \"200ms\"\n\
         canary = {{ steps = [{{ percent = 20, hold = \"100ms\" }}, {{ percent = 50, hold = \"100ms\" }}] }}\n\
         gates = {{ qa = {{ default = \"open\" }} }}\n"
    );
    let hook = |moment: &str, what: String| {
        format!("[[groups.{GROUP}.hooks]]\non = \"{moment}\"\n{what}\n")
    };
    let is_well = json!(["/usr/bin/test", "!", "-e", place.directory().join(BAD)]);
    let hooks = [
        hook("pre-flip", "exec = [\"/bin/true\"]".to_owned()),
        hook("post-flip", format!("exec = {is_well}")),
        hook("drained", "exec = [\"/bin/true\"]".to_owned()),
        hook("event", format!("url = \"{}\"", events.url())),
    ];
    let text = settings.render(&stand.topology, place);
    text.replacen(initial, &more, 1) + &hooks.concat()
}
