//! `kill -9` in the middle of every order that there is: at the first and the last of an agent's commits and calls
//! of `bpf(2)` for it, and in between. What the next agent finds is finished or undone, what was answered holds,
//! and each switch is told.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::{Load, Mode, Plan, Stand};
use switcher_tests::hooks::Hooks;

use super::killer::{BPF, COMMIT, Killer};
use super::{answered, other, run};

/// Something to order.
struct Order {
    /// What comes first, so that it can be.
    before: &'static [&'static str],
    /// Its words. `OTHER` is the colour that is not live at first, `NEXT` the next version of the database.
    words: &'static [&'static str],
    /// How often an agent is killed over it.
    times: u32,
    /// Whether a group is as whoever was answered believes it to be.
    holds: fn(&Value, other: &str) -> bool,
}

const ORDERS: &[Order] = &[
    Order {
        before: &[],
        words: &["flip", GROUP, "--wait", "baked"],
        times: 4,
        holds: is_live,
    },
    Order {
        before: &[],
        words: &["canary", GROUP, "OTHER", "30"],
        times: 3,
        holds: |group, _| group["canary"]["percent"] == 30,
    },
    Order {
        before: &["canary", GROUP, "OTHER", "30"],
        words: &["canary", GROUP, "OTHER", "60"],
        times: 2,
        holds: |group, _| group["canary"]["percent"] == 60,
    },
    Order {
        before: &["canary", GROUP, "OTHER", "30"],
        words: &["abort", GROUP],
        times: 2,
        holds: |group, other| group["canary"].is_null() && group["live"] != other,
    },
    Order {
        before: &[],
        words: &["canary", GROUP, "OTHER", "--policy", "--wait", "baked"],
        times: 4,
        holds: is_live,
    },
    Order {
        before: &["flip", GROUP, "--confirm-within", "60s"],
        words: &["confirm", GROUP],
        times: 3,
        holds: |group, other| is_live(group, other) && group["cutover"]["confirm_by"].is_null(),
    },
    Order {
        before: &["flip", GROUP, "--confirm-within", "60s"],
        words: &["extend", GROUP, "5s"],
        times: 2,
        holds: |group, other| is_live(group, other) && !group["cutover"]["confirm_by"].is_null(),
    },
    Order {
        before: &["flip", GROUP, "--confirm-within", "60s"],
        words: &["rollback", GROUP],
        times: 2,
        holds: |group, other| group["live"] != other,
    },
    Order {
        before: &[],
        words: &["flip", GROUP, "--at", "+400ms"],
        times: 3,
        holds: is_live,
    },
    Order {
        before: &[],
        words: &["drill", GROUP, "--for", "300ms"],
        times: 3,
        holds: |group, other| group["live"] != other,
    },
    Order {
        before: &[],
        words: &["pause", GROUP, "--for", "2s"],
        times: 2,
        // It may be over when another agent is there.
        holds: |_, _| true,
    },
    Order {
        before: &["pause", GROUP, "--for", "2s"],
        words: &["resume", GROUP],
        times: 2,
        holds: |group, _| group["paused_until"].is_null(),
    },
    Order {
        before: &[],
        words: &["stage", GROUP, "OTHER", "--version", "v2"],
        times: 2,
        holds: |group, other| group["colours"][other]["version"] == "v2",
    },
    Order {
        before: &[],
        words: &["schema", GROUP, "--applied", "NEXT"],
        times: 2,
        holds: |group, _| group["schema"].is_number(),
    },
    Order {
        before: &[],
        words: &["freeze", GROUP, "--reason", "test"],
        times: 2,
        holds: |group, _| group["frozen"]["reason"] == "test",
    },
    Order {
        before: &["freeze", GROUP, "--reason", "test"],
        words: &["unfreeze", GROUP],
        times: 2,
        holds: |group, _| group["frozen"].is_null(),
    },
    Order {
        before: &[],
        words: &["gate", GROUP, "qa", "close"],
        times: 2,
        holds: |group, _| group["gates"]["qa"]["open"] == false,
    },
];

fn is_live(group: &Value, colour: &str) -> bool {
    group["live"] == colour
}

#[test]
fn orders() {
    run("orders", || {
        let (mut stand, events) = stand()?;
        let mut killer = Killer::new()?;
        let load = Load::start(&stand.topology, &plan())?;
        let mut killed = 0;
        for order in ORDERS {
            killed += tried(&mut stand, &mut killer, order)
                .with_context(|| format!("{} after {:?}", order.words.join(" "), order.before))?;
        }
        println!("killed {killed} times");
        ensure!(killed > 30, "only {killed} times");
        stand.agent.cli(&["audit", "verify"])?.expect(0)?;
        told(&stand, &events)?;
        let report = load.stop()?;
        println!("{}", report.summary());
        ensure!(report.failures().is_empty(), "{:?}", report.failures());
        Ok(())
    });
}

/// Once as it should be, to see how many calls it takes; then killed at some of them. How often it was.
fn tried(stand: &mut Stand, killer: &mut Killer, order: &Order) -> Result<u32> {
    let calls = attempt(stand, killer, order, 0)?.context("killed by nobody")?;
    let mut killed = 0;
    for time in 0..order.times {
        let step = 1 + calls.saturating_sub(1) * time / (order.times - 1);
        let done = attempt(stand, killer, order, step);
        killed += u32::from(
            done.with_context(|| format!("call {step} of {calls}"))?
                .is_none(),
        );
    }
    Ok(killed)
}

/// Gives an order and kills the agent at one of its calls. How many it took; none if it was killed.
fn attempt(
    stand: &mut Stand,
    killer: &mut Killer,
    order: &Order,
    step: u32,
) -> Result<Option<u32>> {
    let group = stand.agent.status()?;
    let to = other(group["live"].as_str().unwrap_or_default());
    let next = (group["schema"].as_u64().unwrap_or(0) + 1).to_string();
    let word = |word: &&'static str| match *word {
        "OTHER" => to.to_owned(),
        "NEXT" => next.clone(),
        word => word.to_owned(),
    };
    let words = |words: &[&'static str]| words.iter().map(word).collect::<Vec<_>>();
    if !order.before.is_empty() {
        cli(stand, &words(order.before))?.expect(0)?;
    }
    killer.aim(stand.agent.pid(), step, &[COMMIT[0], COMMIT[1], BPF])?;
    let done = cli(stand, &words(order.words))?;
    let calls = killer.count()?;
    killer.aim(None, 0, &[])?;
    // The last of its calls may come when it has answered.
    std::thread::sleep(Duration::from_millis(20));
    let killed = stand.agent.has_ended()?;
    ensure!(killed || calls < step || step == 0, "it lives on");
    if killed {
        stand.agent.wait()?;
        answered(stand).context("without an agent")?;
        stand.agent.start()?;
    } else {
        done.clone().expect(0)?;
    }
    let group = stand.agent.status()?;
    ensure!(
        !group["canary"].is_null()
            || !group["paused_until"].is_null()
            || group["live"] == answered(stand)?.as_str(),
        "{group:#}"
    );
    ensure!(
        done.code != 0 || (order.holds)(&group, to),
        "it was answered with 0: {group:#}"
    );
    calm(stand)?;
    Ok((!killed).then_some(calls))
}

fn cli(stand: &Stand, words: &[String]) -> Result<switcher_harness::agent::Output> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    stand.agent.cli(&words)
}

/// Whatever was ordered is over, or is ended.
fn calm(stand: &Stand) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    for words in [
        &["unfreeze", GROUP][..],
        &["resume", GROUP],
        &["gate", GROUP, "qa", "open"],
    ] {
        stand.agent.cli(words)?.expect(0)?;
    }
    loop {
        let group = stand.agent.status()?;
        match group["phase"].as_str() {
            Some("idle") => return Ok(()),
            Some("confirming" | "baking") => drop(stand.agent.cli(&["confirm", GROUP])?),
            Some("holding") => drop(stand.agent.cli(&["abort", GROUP])?),
            Some(_) | None => {}
        }
        ensure!(Instant::now() < deadline, "never calm: {group:#}");
        std::thread::sleep(Duration::from_millis(20));
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

/// Clients that let every window end.
fn plan() -> Plan {
    Plan {
        keep_alive: 0,
        downloads: 0,
        idle: 0,
        udp_flows: 0,
        udp_new: 0,
        ..Plan::default()
    }
}

/// Flips are watched, hooks called, gates open.
fn stand() -> Result<(Stand, Hooks)> {
    let settings = Settings {
        interval: Duration::from_millis(100),
        ..Settings::default()
    };
    let mut stand = Stand::without_agent(Mode::Local, true, settings, &binary()?)?;
    let events = Hooks::listen(&stand.topology.switch, 202)?;
    let text = stand.settings.render(&stand.topology, stand.agent.place());
    let initial = "initial = \"blue\"\n";
    let more = format!(
        "{initial}bake = \"200ms\"\n\
         canary = {{ steps = [{{ percent = 20, hold = \"100ms\" }}, {{ percent = 50, hold = \"100ms\" }}] }}\n\
         gates = {{ qa = {{ default = \"open\" }} }}\n"
    );
    let program = |moment: &str| {
        format!("[[groups.{GROUP}.hooks]]\non = \"{moment}\"\nexec = [\"/bin/true\"]\n")
    };
    let programs: String = ["pre-flip", "post-flip", "drained"].map(program).concat();
    let hook = format!(
        "[[groups.{GROUP}.hooks]]\non = \"event\"\nurl = \"{}\"\n",
        events.url()
    );
    let text = text.replacen(initial, &more, 1) + &programs + &hook;
    stand.agent.write_config(&text)?;
    stand.agent.start()?;
    Ok((stand, events))
}
