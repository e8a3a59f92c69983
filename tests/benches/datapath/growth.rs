//! What size costs a real agent: 10,000 services, 1,000 endpoints in a colour.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::Context as _;
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP as SHOP, Settings};
use switcher_harness::topology::COLOURS;
use switcher_harness::{Mode, Stand};

use crate::flip::resident;
use crate::packets::median;
use crate::report::Report;
use crate::scale::{ENDPOINTS, FIRST, GOAL, PORT, SERVICES};

/// Seconds that `apply` may take.
const APPLY: f64 = 2.0;
const FLIPS: usize = 20;
/// Between flips.
const REST: Duration = Duration::from_millis(150);

/// What `apply` takes, and what flips take afterwards.
pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    let settings = Settings {
        arm: Duration::ZERO,
        health: "none",
        ..Settings::default()
    };
    let stand = Stand::new(Mode::Routed, false, settings, &binary()?)?;
    let few = stand.settings.render(&stand.topology, stand.agent.place());
    let small = flips(&stand)?;
    let before = resident(&stand.agent)?;
    let many = few.clone() + &services(SERVICES, 1);
    let seconds = apply(&stand, &many)?;
    report.figure("apply of 10,000 services", seconds, "s", Some(APPLY));
    let again = apply(&stand, &many)?;
    report.figure(
        "the same again, with nothing to do",
        again,
        "s",
        Some(APPLY),
    );
    let large = flips(&stand)?;
    times(
        report,
        "flip, store to settled: 10,000 services for 2",
        large.0 / small.0,
    );
    report.figure("flip, command line: 2 services", small.1, "ms", None);
    report.figure("flip, command line: 10,000 services", large.1, "ms", None);
    times(
        report,
        "flip, command line: 10,000 services for 2",
        large.1 / small.1,
    );
    report.figure("agent's memory with 2 services", before, "MiB", None);
    report.figure(
        "agent's memory with 10,000",
        resident(&stand.agent)?,
        "MiB",
        None,
    );
    apply(&stand, &few)?;
    apply(&stand, &(few + &services(1, ENDPOINTS)))?;
    let wide = flips(&stand)?;
    times(
        report,
        "flip, store to settled: 1,000 endpoints for 2",
        wide.0 / small.0,
    );
    report.figure("flip, command line: 1,000 endpoints", wide.1, "ms", None);
    Ok(())
}

fn times(report: &mut Report, name: &'static str, ratio: f64) {
    report.figure(name, ratio, "times", Some(GOAL));
}

/// Seconds. Afterwards the group is at rest.
fn apply(stand: &Stand, config: &str) -> anyhow::Result<f64> {
    stand
        .agent
        .cli(&["wait", SHOP, "--for", "idle", "--timeout", "30s"])?
        .expect(0)?;
    stand.agent.write_config(config)?;
    let file = stand.agent.place().config();
    let file = file.to_str().context("a path in UTF-8")?;
    let took = stand
        .agent
        .cli(&["apply", file, "--quiet"])?
        .expect(0)?
        .took();
    Ok(took.as_secs_f64())
}

/// Microseconds from store to settled and milliseconds of the command, the medians.
fn flips(stand: &Stand) -> anyhow::Result<(f64, f64)> {
    let (mut stores, mut commands) = (Vec::new(), Vec::new());
    for turn in 0..FLIPS {
        let target = COLOURS[(turn + 1) % COLOURS.len()];
        let output = stand
            .agent
            .cli(&["flip", SHOP, target, "--json"])?
            .expect(0)?;
        commands.push(output.took().as_secs_f64() * 1e3);
        // What comes after the answer is nobody's wait.
        std::thread::sleep(REST);
        let answer = output.json()?;
        let settled = answer["store_to_settled_us"].as_f64();
        stores.push(settled.with_context(|| format!("no store_to_settled_us in {answer}"))?);
    }
    Ok((median(&mut stores), median(&mut commands)))
}

/// Services of the group, each with so many endpoints in both colours.
fn services(number: u16, endpoints: u16) -> String {
    let mut text = String::new();
    for service in 0..number {
        let vip = SocketAddrV4::new(Ipv4Addr::from(u32::from(FIRST) + u32::from(service)), PORT);
        let _ = writeln!(
            text,
            "[groups.{SHOP}.services.s{service}]\nvip = \"{vip}/tcp\"\nforward = \"routed\"\n\
             [groups.{SHOP}.services.s{service}.endpoints]"
        );
        for (colour, net) in COLOURS.iter().zip(1_u8..) {
            let host = |nth: u16| {
                let first = Ipv4Addr::new(10, 80 + net, 0, 1);
                SocketAddrV4::new(
                    Ipv4Addr::from(u32::from(first) + u32::from(nth)),
                    1024 + service,
                )
            };
            let all: Vec<String> = (0..endpoints).map(|nth| host(nth).to_string()).collect();
            let _ = writeln!(text, "{colour} = {all:?}");
        }
    }
    text
}
