//! What a packet costs, what a stream gets, what the maps take, how long a flip takes.
//!
//! `cargo bench -p switcher-tests --bench datapath`, with `-- --json` for machines, `-- --quick` for
//! fewer rounds, and `-- scale throughput` (or other parts) for these alone. Every figure is printed beside
//! its goal; none fails the run.

mod drive;
mod flip;
mod growth;
mod live;
mod memory;
mod packets;
mod rate;
mod report;
mod scale;
mod store;
mod throughput;

use std::time::Duration;

use switcher_harness::privilege::is_root;

use crate::report::Report;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if !is_root("bench datapath") {
        return Ok(());
    }
    let named: Vec<&String> = arguments
        .iter()
        .filter(|it| !it.starts_with("--"))
        .collect();
    let part = |name: &str| named.is_empty() || named.iter().any(|it| *it == name);
    let rounds = if has("--quick") { 21 } else { 101 };
    let mut report = Report::default();
    if part("packets") {
        packets::measure(rounds, &mut report)?;
    }
    if part("live") {
        live::measure(if has("--quick") { 3 } else { 11 }, &mut report)?;
    }
    if part("memory") {
        memory::measure(&mut report)?;
    }
    if part("store") {
        store::measure(&mut report)?;
    }
    if part("flip") {
        flip::measure(if has("--quick") { 20 } else { 200 }, &mut report)?;
    }
    if part("scale") {
        scale::measure(rounds, &mut report)?;
    }
    if part("growth") {
        growth::measure(&mut report)?;
    }
    if part("rate") {
        rate::measure(
            Duration::from_secs(if has("--quick") { 5 } else { 60 }),
            &mut report,
        )?;
    }
    if part("throughput") {
        throughput::measure(if has("--quick") { 1 } else { 5 }, &mut report)?;
    }
    if has("--json") {
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    Ok(())
}
