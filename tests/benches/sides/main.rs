//! Switcher beside what people use today: nftables, HAProxy, nginx, and nothing at all.
//!
//! `cargo xtask bench sides switch`, which gets the others' programs; with `--quick` for fewer rounds. `sides` is
//! about traffic, `switch` about the switch itself. Everything is measured in turn, round after round, so that what
//! else the machine does meets all alike. Prints Markdown, and writes it and JSON to `target/bench`.

mod flips;
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

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Cargo adds `--bench`.
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let named = |name: &str| has(name) || !["sides", "switch"].iter().any(|it| has(it));
    if !is_root("bench sides") {
        return Ok(());
    }
    interrupt::install()?;
    netns::sweep();
    for program in ["nft", "haproxy", "nginx", "wrk", "iperf3"] {
        ensure!(
            machine::in_path(program).is_some(),
            "{program} is missing; `cargo xtask bench sides` gets it"
        );
    }
    if named("sides") {
        let rounds = if has("--quick") { 1 } else { 5 };
        report::publish("sides", &rounds::measure(rounds)?)?;
    }
    if named("switch") {
        let flips = if has("--quick") { 10 } else { 100 };
        report::publish("switch", &flips::measure(flips)?)?;
    }
    Ok(())
}
