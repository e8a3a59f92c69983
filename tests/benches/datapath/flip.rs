//! How long a flip takes, from the command line to settled, and what the agent takes meanwhile.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::topology::COLOURS;
use switcher_harness::{Agent, Mode, Stand};

use crate::packets::median;
use crate::report::Report;

const MIB: f64 = 1024.0;

pub(crate) fn measure(flips: u32, report: &mut Report) -> anyhow::Result<()> {
    let settings = Settings {
        // Nothing is in flight here, so nothing has to be waited for.
        arm: Duration::ZERO,
        ..Settings::default()
    };
    let stand = Stand::new(Mode::Local, false, settings, &binary()?)?;
    let (mut commands, mut stores) = (Vec::new(), Vec::new());
    for turn in 0..flips as usize {
        let target = COLOURS[(turn + 1) % COLOURS.len()];
        let output = stand
            .agent
            .cli(&["flip", GROUP, target, "--json"])?
            .expect(0)?;
        commands.push(output.took().as_secs_f64() * 1e3);
        let answer = output.json()?;
        let settled = answer.get("store_to_settled_us").and_then(Value::as_f64);
        stores.push(settled.with_context(|| format!("no store_to_settled_us in {answer}"))?);
    }
    report.figure(
        "flip, command line to settled, p50",
        median(&mut commands),
        "ms",
        None,
    );
    report.figure(
        "flip, command line to settled, p99",
        late(&commands),
        "ms",
        None,
    );
    report.figure(
        "flip, store to settled, p50",
        median(&mut stores),
        "us",
        None,
    );
    report.figure("flip, store to settled, p99", late(&stores), "us", None);
    let resident = resident(&stand.agent)?;
    report.figure("agent's resident memory", resident, "MiB", Some(30.0));
    Ok(())
}

/// The 99th percentile of sorted values.
fn late(sorted: &[f64]) -> f64 {
    let index = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

pub(crate) fn resident(agent: &Agent) -> anyhow::Result<f64> {
    let pid = agent.pid().context("the agent has gone")?;
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path)?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let value = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: f64 = value
        .with_context(|| format!("no VmRSS in {path}"))?
        .parse()?;
    Ok(kib / MIB)
}
