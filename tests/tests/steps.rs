//! `kill -9` at every step of a flip, and of an agent's start: a program in the kernel ends the agent at the first of
//! its commits to disk and calls that change maps, then at the second, and so on until none is left.

#[path = "steps/killer.rs"]
mod killer;
#[path = "steps/orders.rs"]
mod orders;
#[path = "steps/table.rs"]
mod table;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use killer::{BPF, COMMIT, Killer};
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::load::Connection;
use switcher_harness::privilege::run;
use switcher_harness::{Load, Mode, Plan, Stand};
use switcher_tests::hooks::Hooks;

/// More than a flip takes.
const STEPS: u32 = 200;

#[test]
fn flips_on_this_host() {
    run("flips_on_this_host", || flips(Mode::Local));
}

#[test]
fn flips_behind_this_host() {
    run("flips_behind_this_host", || flips(Mode::Routed));
}

#[test]
fn starts_of_agents() {
    run("starts_of_agents", start);
}

fn flips(mode: Mode) -> Result<()> {
    let mut stand = stand(mode)?;
    let mut killer = Killer::new()?;
    let load = Load::start(&stand.topology, &Plan::default())?;
    let (mut undone, mut done) = (0, 0);
    for step in 1..STEPS {
        let before = stand.agent.live()?;
        let to = other(&before);
        killer.aim(stand.agent.pid(), step, &[COMMIT[0], COMMIT[1], BPF])?;
        let key = format!("{mode}-{step}");
        let words = ["flip", GROUP, "--idempotency-key", &key];
        let flip = stand.agent.cli(&words)?;
        if !killer.has_struck()? {
            killer.aim(None, 0, &[])?;
            flip.expect(0)?;
            println!("{mode}: killed {undone} times before the store, {done} times after it");
            ensure!(undone > 0 && done > 0, "not before, or not after the store");
            return unharmed(load);
        }
        killer.aim(None, 0, &[])?;
        stand.agent.wait()?;
        answered(&stand).with_context(|| format!("step {step}, without an agent"))?;
        stand
            .agent
            .start()
            .with_context(|| format!("step {step}"))?;
        let after = stand.agent.live()?;
        ensure!(
            flip.code != 0 || after == to,
            "step {step}: flip ended with 0, and {after} is live"
        );
        match after == to {
            true => done += 1,
            false => undone += 1,
        }
        ensure!(answered(&stand)? == after, "step {step}: {after} is not");
        once(&stand, &words, to).with_context(|| format!("step {step}"))?;
        calm(&stand, other(to)).with_context(|| format!("step {step}"))?;
    }
    anyhow::bail!("a flip takes more than {STEPS} steps")
}

/// An agent that finds a switch half made is killed as well: at each of its commits, and on its way through the
/// kernel's maps.
fn start() -> Result<()> {
    let mut stand = stand(Mode::Local)?;
    let mut killer = Killer::new()?;
    // An intent that somebody is told of is flushed to the disk before the word is stored.
    let events = Hooks::listen(&stand.topology.switch, 202)?;
    let text = stand.settings.render(&stand.topology, stand.agent.place());
    let hook = format!(
        "[[groups.{GROUP}.hooks]]\nname = \"event\"\non = \"event\"\nurl = \"{}\"\n",
        events.url()
    );
    stand.agent.write_config(&(text + &hook))?;
    let file = stand.agent.place().config();
    let file = file.to_str().context("a path in UTF-8")?;
    stand.agent.cli(&["apply", file, "--quiet"])?.expect(0)?;
    let load = Load::start(&stand.topology, &Plan::default())?;
    // The intent is committed, and the word not stored.
    killer.aim(stand.agent.pid(), 1, &COMMIT)?;
    stand.agent.cli(&["flip", GROUP])?;
    ensure!(killer.has_struck()?, "a flip commits nothing");
    stand.agent.wait()?;
    let in_commits = (1..).map(|step| (step, &COMMIT[..]));
    let killed = starts(&mut stand, &mut killer, in_commits)?;
    let in_maps = (0..).map(|power| (3_u32.pow(power), &[BPF][..]));
    let killed_there = starts(&mut stand, &mut killer, in_maps)?;
    println!("killed {killed_there} times among maps, {killed} times in commits");
    ensure!(killed > 0 && killed_there > 3, "a start does nothing");
    let live = stand.agent.live()?;
    ensure!(answered(&stand)? == live, "{live} is live by the record");
    calm(&stand, other(&live))?;
    stand.agent.cli(&["audit", "verify"])?.expect(0)?;
    unharmed(load)
}

/// Starts agents until one is not killed, which goes on. Says how many were.
fn starts<'a>(
    stand: &mut Stand,
    killer: &mut Killer,
    steps: impl Iterator<Item = (u32, &'a [i64])>,
) -> Result<u32> {
    if stand.agent.pid().is_some() {
        stand.agent.kill()?;
    }
    let mut killed = 0;
    for (step, calls) in steps {
        stand.agent.spawn()?;
        killer.aim(stand.agent.pid(), step, calls)?;
        let ended = until_up(stand)?;
        killer.aim(None, 0, &[])?;
        if !ended {
            break;
        }
        killed += 1;
        ensure!(killed < 50, "it never starts");
        answered(stand).with_context(|| format!("step {step} of a start"))?;
    }
    Ok(killed)
}

/// Waits until the agent answers, or has ended: then true.
fn until_up(stand: &mut Stand) -> Result<bool> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        if stand.agent.has_ended()? {
            stand.agent.wait()?;
            return Ok(true);
        }
        if stand.agent.cli(&["status"])?.code == 0 {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    anyhow::bail!("neither up nor down: {}", stand.agent.log())
}

/// Who has got no answer sends it again, and once more: the other colour is live, and not the one after that.
fn once(stand: &Stand, words: &[&str], to: &str) -> Result<()> {
    patiently(stand, words)?;
    let first = stand.agent.json(words)?;
    ensure!(first["to"] == to && stand.agent.live()? == to, "{first:#}");
    ensure!(answered(stand)? == to, "{to} is not reached");
    let second = stand.agent.json(words)?;
    ensure!(first == second, "{first:#}\n{second:#}");
    Ok(())
}

/// Flips to a colour.
fn calm(stand: &Stand, to: &str) -> Result<()> {
    patiently(stand, &["flip", GROUP, to])?;
    ensure!(answered(stand)? == to, "{to} is not reached");
    Ok(())
}

/// Changes something, once what was begun is finished or undone.
fn patiently(stand: &Stand, words: &[&str]) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = stand.agent.cli(words)?;
        if answer.code != 4 || Instant::now() > deadline {
            return answer.expect(0).map(drop);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The colour that a new client meets.
fn answered(stand: &Stand) -> Result<String> {
    let web = stand.topology.web();
    let connection = stand.topology.client.inside(|| Connection::open(web))?;
    connection?.colour()
}

fn other(colour: &str) -> &'static str {
    match colour {
        "blue" => "green",
        _ => "blue",
    }
}

fn unharmed(load: Load) -> Result<()> {
    let report = load.stop()?;
    let failures = report.failures();
    println!("{}", report.summary());
    ensure!(failures.is_empty(), "{:?}", failures.first());
    Ok(())
}

fn stand(mode: Mode) -> Result<Stand> {
    let settings = Settings {
        interval: Duration::from_millis(100),
        ..Settings::default()
    };
    Stand::new(mode, mode == Mode::Local, settings, &binary()?)
}
