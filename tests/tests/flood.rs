//! A million SYNs that nobody means, in each phase, beside connections that somebody does.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;
use switcher_harness::agent::binary;
use switcher_harness::chance::Chance;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::load::Kind;
use switcher_harness::topology::{VIP, WEB};
use switcher_harness::{Load, Mode, Plan, Stand, flood, netns, privilege};

/// SYNs in each phase.
const SYNS: u32 = 1_000_000;
/// The window's flow map: small, so that the flood could fill it many times over.
const FLOWS: &str = "flows = 65536";
/// How long a window may take from one phase to the next.
const PATIENCE: Duration = Duration::from_secs(180);

#[test]
fn beside_real_connections() {
    if !privilege::is_root("beside_real_connections") {
        return;
    }
    netns::sweep();
    for flood in &FLOODS {
        let Flood { mode, arm, .. } = flood;
        run(flood).unwrap_or_else(|error| panic!("{mode}, {arm:?}: {error:#}"));
    }
}

/// A flip under a flood.
struct Flood {
    mode: Mode,
    arm: Duration,
    learn: Duration,
    /// It goes on in each phase for a million SYNs, and not only until the window drains.
    all: bool,
}

const FLOODS: [Flood; 3] = [
    // As long as a million take.
    Flood {
        mode: Mode::Routed,
        arm: Duration::from_secs(30),
        learn: Duration::from_secs(10),
        all: true,
    },
    // `learn` is never over: a flow map that is filling up ends it.
    Flood {
        mode: Mode::Routed,
        arm: Duration::from_secs(1),
        learn: Duration::from_secs(300),
        all: false,
    },
    // Nothing is remembered.
    Flood {
        mode: Mode::Local,
        arm: Duration::ZERO,
        learn: Duration::from_secs(10),
        all: true,
    },
];

fn run(flood: &Flood) -> Result<()> {
    let &Flood { mode, arm, all, .. } = flood;
    let stand = Stand::new(mode, false, settings(flood), &binary()?)?;
    flood::prepare(&stand.topology)?;
    let load = Load::start(&stand.topology, &plan())?;
    let mut chance = Chance::new();
    let mut syns = |count| {
        let to = std::net::SocketAddrV4::new(VIP, WEB);
        flood::syns(&stand.topology.client, to, count, &mut chance)
    };
    let each = if all { SYNS } else { 0 };

    syns(each)?;
    let steady = status(&stand)?;
    ensure!(steady["groups"][0]["window"].is_null(), "{steady}");

    std::thread::scope(|scope| {
        let flip = scope.spawn(|| stand.agent.cli(&["flip", GROUP, "--json"])?.expect(0));
        if mode == Mode::Routed && all {
            arming(&stand)?;
            syns(each)?;
            let status = status(&stand)?;
            let phase = &status["groups"][0]["window"]["phase"];
            ensure!(phase == "arming", "they came too late: {status}");
        }
        match flip.join() {
            Ok(flipped) => flipped.map(drop),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    // Open, and on into draining.
    syns(each)?;
    // How many it takes is a matter of time: a CPU makes only so many tags a second.
    let drains = until(
        &stand,
        || syns(SYNS / 10),
        |status| {
            let window = &status["groups"][0]["window"];
            window.is_null() || window["phase"] == "draining"
        },
    )?;
    syns(each)?;
    let after = status(&stand)?;
    let report = load.stop()?;
    println!(
        "{mode}, {arm:?}: {}; {}",
        report.summary(),
        after["reasons"]
    );

    let failures = report.failures();
    ensure!(failures.is_empty(), "{failures:#?}");
    for kind in [Kind::KeepAlive, Kind::New, Kind::Idle, Kind::Download] {
        ensure!(report.count(kind) > 0, "the load had no {kind}");
    }
    if mode == Mode::Routed {
        let refused = after["reasons"]["tag-refused"].as_u64().unwrap_or(0);
        ensure!(refused > 0, "nothing was refused: {after}");
        let log = stand.agent.log();
        ensure!(
            log.contains("the window's flow map refuses tags"),
            "nobody was told: {log}"
        );
        let used = drains["groups"][0]["window"]["flow_map_used"].as_f64();
        ensure!(used < Some(0.95), "the flow map was filled: {drains}");
    }
    Ok(())
}

fn settings(flood: &Flood) -> Settings {
    Settings {
        arm: flood.arm,
        learn: flood.learn,
        agent: FLOWS,
        health: "none",
        ..Settings::default()
    }
}

/// Connections that live through everything, and a few new ones.
fn plan() -> Plan {
    Plan {
        keep_alive: 2,
        short_lived: 1,
        new: 1,
        download: Duration::from_secs(10),
        udp_flows: 0,
        udp_new: 0,
        pause: Duration::from_millis(20),
        ..Plan::default()
    }
}

fn status(stand: &Stand) -> Result<Value> {
    stand.agent.cli(&["status", "--json"])?.expect(0)?.json()
}

/// Waits until the flip has begun.
fn arming(stand: &Stand) -> Result<()> {
    until(
        stand,
        || {
            std::thread::sleep(Duration::from_millis(20));
            Ok(())
        },
        |status| status["groups"][0]["window"]["phase"] == "arming",
    )
    .map(drop)
}

/// Floods on until the status is as it should be.
fn until(
    stand: &Stand,
    mut flood: impl FnMut() -> Result<()>,
    fits: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = status(stand)?;
        if fits(&now) {
            return Ok(now);
        }
        ensure!(Instant::now() < deadline, "it does not drain: {now}");
        flood()?;
    }
}
