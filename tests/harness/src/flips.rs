//! Switches under load, and the judgement on them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::Stand;
use crate::agent::Output;
use crate::config::GROUP;
use crate::load::{Kind, Report};
use crate::stats::Counters;
use crate::topology::COLOURS;

/// A switch, and the colour that is live after it.
#[derive(Debug)]
pub struct Switch {
    /// The colour.
    pub to: &'static str,
    /// What the command said, and when.
    pub output: Output,
}

/// Flips to green by an even number, and rolls back by an odd one.
///
/// # Errors
/// When the command fails, or says that it went elsewhere.
pub fn switch(stand: &Stand, number: usize) -> Result<Switch> {
    let (verb, to) = if number.is_multiple_of(2) {
        ("flip", COLOURS[1])
    } else {
        ("rollback", COLOURS[0])
    };
    let output = stand.agent.cli(&[verb, GROUP, "--json"])?.expect(0)?;
    let answer = output.json()?;
    ensure!(
        answer["to"] == to,
        "{verb} number {number} went elsewhere: {answer}"
    );
    Ok(Switch { to, output })
}

/// Whether nothing was lost, every kind of client got answers, and all that began after a switch went to its
/// colour.
///
/// # Errors
/// What was not so.
pub fn judge(report: &Report, kernel: Counters, switches: &[Switch], kinds: &[Kind]) -> Result<()> {
    let failures = report.failures();
    ensure!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        first(&failures)
    );
    for kind in kinds {
        ensure!(report.count(*kind) > 0, "the load had no {kind}");
    }
    ensure!(
        kernel.resets + kernel.failed_opens == 0,
        "the clients' kernel counted {kernel:?}"
    );
    let ends = switches
        .iter()
        .skip(1)
        .map(|next| next.output.begun)
        .chain([Instant::now()]);
    let (mut judged, mut strays) = (0, Vec::new());
    for (switch, end) in switches.iter().zip(ends) {
        judged += report.begun_between(switch.output.ended, end);
        strays.extend(report.strays(switch.to, switch.output.ended, end));
    }
    let took = switches.iter().map(|switch| switch.output.took());
    println!(
        "  {judged} new connections between switches; commands took {}",
        spread(took.collect())
    );
    ensure!(
        judged > switches.len(),
        "only {judged} new connections began between {} switches",
        switches.len()
    );
    ensure!(
        strays.is_empty(),
        "{} strays:\n{}",
        strays.len(),
        first(&strays)
    );
    Ok(())
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |share: usize| {
        times
            .get(times.len() * share / 100)
            .copied()
            .unwrap_or_default()
    };
    format!(
        "{:?} (median), {:?} (longest)",
        at(50),
        times.last().copied().unwrap_or_default()
    )
}

fn first(lines: &[String]) -> String {
    lines
        .iter()
        .take(10)
        .map(|line| format!("  {line}\n"))
        .collect()
}
