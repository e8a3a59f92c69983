//! Switcher beside what people use today: nftables, HAProxy, nginx, and nothing at all.
//!
//! `cargo xtask bench sides switch`, which gets the others' programs; with `--quick` for fewer rounds. `sides` is
//! about traffic, `switch` about the switch itself, `ipvs` about traffic beside IPVS, which is for a kernel that has it. Everything is measured in turn, round after round, so that what
//! else the machine does meets all alike. Prints Markdown, and writes it and JSON to `target/bench`.

mod flips;
mod ipvs;
mod machine;
mod probe;
mod report;
mod rounds;
mod site;
mod switch;
mod wrk;

use anyhow::ensure;
use switcher_harness::privilege::is_root;
use switcher_harness::{interrupt, netns};

/// All but what needs another kernel.
const PARTS: [&str; 2] = ["sides", "switch"];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Cargo adds `--bench`.
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let named = |name: &str| has(name) || !PARTS.iter().any(|it| has(it));
    if !is_root("bench sides") {
        return Ok(());
    }
    interrupt::install()?;
    netns::sweep();
    let others: &[&str] = if has("ipvs") {
        &["ipvsadm"]
    } else {
        &["haproxy"]
    };
    for program in ["nft", "nginx", "wrk", "iperf3"].iter().chain(others) {
        ensure!(
            machine::in_path(program).is_some(),
            "{program} is missing; `cargo xtask bench sides` gets it"
        );
    }
    let rounds = if has("--quick") { 1 } else { 5 };
    if has("ipvs") {
        return report::publish("ipvs", &ipvs::measure(rounds)?);
    }
    if named("sides") {
        report::publish("sides", &rounds::measure(rounds)?)?;
    }
    if named("switch") {
        let flips = if has("--quick") { 10 } else { 100 };
        report::publish("switch", &flips::measure(flips)?)?;
    }
    Ok(())
}
