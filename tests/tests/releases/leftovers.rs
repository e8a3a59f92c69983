//! Connections that are left on the old colour at the drain deadline: foretold, reset and counted. Those of the
//! new colour go on.

use std::io::{Error, ErrorKind};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::load::{Connection, Kind};
use switcher_harness::{Load, Mode, Plan, Stand};

use super::alone;

/// Of a flow that is elsewhere only packets tell: after so much silence it counts as over.
const LEARN: Duration = Duration::from_millis(1500);
const DEADLINE: Duration = Duration::from_secs(4);

#[test]
fn what_is_left_at_the_deadline_is_reset_local() {
    alone("what_is_left_at_the_deadline_is_reset_local", || {
        left_at_the_deadline(Mode::Local)
    });
}

#[test]
fn what_is_left_at_the_deadline_is_reset_routed() {
    alone("what_is_left_at_the_deadline_is_reset_routed", || {
        left_at_the_deadline(Mode::Routed)
    });
}

fn left_at_the_deadline(mode: Mode) -> Result<()> {
    let settings = Settings {
        learn: LEARN,
        deadline: DEADLINE,
        ..Settings::default()
    };
    let stand = Stand::new(mode, true, settings, &binary()?)?;
    stand.until(|it| it["colours"]["green"]["healthy"] == true)?;
    let mut old = connect(&stand)?;
    answers(&mut old, "blue")?;
    let flip = stand.agent.cli(&["flip", GROUP, "--json"])?.expect(0)?;
    answers(&mut old, "blue")?;
    let load = Load::start(&stand.topology, &plan())?;
    foretold(&stand)?;
    while flip.begun.elapsed() < DEADLINE - LEARN / 3 {
        answers(&mut old, "blue")?;
        std::thread::sleep(Duration::from_millis(50));
    }
    stand.until(|it| it["phase"] == "idle")?;
    let took = flip.begun.elapsed();
    ensure!(took >= DEADLINE, "its window ended after {took:?}");
    is_reset(&stand, &mut old)?;
    answers(&mut connect(&stand)?, "green")?;
    goes_on(load, flip.ended)?;
    let id = flip.json()?["id"].as_str().map(str::to_owned);
    recorded(&stand, &id.context("an id")?)
}

/// All of it is begun after the flip, and lasts until after the deadline.
fn plan() -> Plan {
    Plan {
        downloads: 0,
        ..Plan::default()
    }
}

fn connect(stand: &Stand) -> Result<Connection> {
    let web = stand.topology.web();
    stand.topology.client.inside(|| Connection::open(web))?
}

fn answers(connection: &mut Connection, colour: &str) -> Result<()> {
    let answered = connection.colour()?;
    ensure!(answered == colour, "{answered} answers instead of {colour}");
    Ok(())
}

/// `status` tells people what the deadline will do, and when.
fn foretold(stand: &Stand) -> Result<()> {
    stand.until(|it| it["window"]["phase"] == "draining")?;
    stand.until(|it| it["window"]["left"]["blue"] == 1)?;
    let said = stand.agent.cli(&["status"])?.expect(0)?.stdout;
    let line = said.lines().find(|it| it.contains("drain deadline"));
    let line = line.with_context(|| format!("no deadline in {said}"))?;
    let what = "s: drain deadline: 1 connection left would be reset";
    ensure!(
        line.starts_with("  in ") && line.ends_with(what),
        "{line:?} in {said}"
    );
    ensure!(said.contains("1 flow on old endpoints"), "{said}");
    Ok(())
}

/// The client hears of it with its next request at the latest, which is nothing to the old server.
fn is_reset(stand: &Stand, old: &mut Connection) -> Result<()> {
    let before = packets(stand, "blue")?;
    let error = old.colour().err();
    let error = error.context("a connection has outlived its deadline")?;
    let kind = error.downcast_ref::<Error>().map(Error::kind);
    ensure!(kind == Some(ErrorKind::ConnectionReset), "{error:#}");
    let after = packets(stand, "blue")?;
    ensure!(before == after, "blue has got {} more", after - before);
    Ok(())
}

/// Connections and flows of the new colour have had no trouble.
fn goes_on(load: Load, flipped: Instant) -> Result<()> {
    let report = load.stop()?;
    let failures = report.failures();
    ensure!(failures.is_empty(), "{failures:?}");
    let strays = report.strays("green", flipped, Instant::now());
    ensure!(strays.is_empty(), "{strays:?}");
    for kind in [Kind::KeepAlive, Kind::New, Kind::Idle, Kind::UdpFlow] {
        ensure!(report.count(kind) > 0, "the load had no {kind}");
    }
    Ok(())
}

fn packets(stand: &Stand, colour: &str) -> Result<u64> {
    let status = stand.agent.status()?;
    let packets = status["colours"][colour]["packets"].as_u64();
    packets.with_context(|| format!("no packets in {status:#}"))
}

/// The receipt has what was left, and each colour's traffic before and after.
fn recorded(stand: &Stand, id: &str) -> Result<()> {
    let shown = stand.agent.json(&["show", id])?;
    ensure!(shown["result"] == "succeeded", "{shown:#}");
    ensure!(shown["leftovers"] == 1, "{shown:#}");
    ensure!(shown["receipt"]["drained"].is_string(), "{shown:#}");
    let listed = stand.agent.json(&["history", GROUP])?;
    ensure!(
        listed[0]["id"] == id && listed[0]["leftovers"] == 1,
        "{listed:#}"
    );
    let traffic = &shown["receipt"]["traffic"];
    for what in ["packets", "connections"] {
        let of = |colour: &str, when: &str| traffic[colour][when][what].as_u64();
        ensure!(of("blue", "before") > Some(0), "{what}: {traffic:#}");
        ensure!(of("green", "before") == Some(0), "{what}: {traffic:#}");
        ensure!(of("green", "after") > Some(0), "{what}: {traffic:#}");
    }
    // The old connection went on, and no other was begun.
    let blue = |when: &str, what: &str| traffic["blue"][when][what].clone();
    let grown = |what: &str| blue("after", what).as_u64() > blue("before", what).as_u64();
    ensure!(grown("packets") && !grown("connections"), "{traffic:#}");
    told(stand, id)
}

/// And so it is told to people.
fn told(stand: &Stand, id: &str) -> Result<()> {
    let said = stand.agent.cli(&["show", id])?.expect(0)?.stdout;
    for (row, what) in [
        ("leftovers", "1 connection was left at the deadline"),
        ("traffic", "blue"),
        ("traffic", "green"),
    ] {
        let mut rows = said.lines().filter(|it| it.starts_with(row));
        ensure!(
            rows.any(|it| it.contains(what)),
            "no {row}: {what} in {said}"
        );
    }
    Ok(())
}
