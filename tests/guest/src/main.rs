//! The first process of a virtual machine: mounts what tests need, loads modules, runs test binaries and
//! says on the console what came of them. `cargo xtask test --kernels` packs it, and reads the console.
//!
//! Lines for `xtask` begin with [`MARK`]; a machine that ends without `guest: end` has failed.

mod run;
mod start;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use run::Run;

/// Begins each line that is meant for `xtask`.
const MARK: &str = "guest:";
/// What to run: a line `SECONDS NAME PROGRAM ARGUMENTS...` each.
const PLAN: &str = "/guest/plan";

fn main() {
    if std::process::id() != 1 {
        eprintln!("this is the first process of a virtual machine: `cargo xtask test --kernels`");
        std::process::exit(2);
    }
    match work() {
        Ok(failed) => println!("{MARK} end {failed} failed"),
        Err(error) => println!("{MARK} broken {}", format!("{error:#}").replace('\n', " ")),
    }
    start::power_off();
}

/// How many runs have failed.
fn work() -> Result<usize> {
    start::mount()?;
    // What follows is seen even if it fails: the console is there.
    start::modules()?;
    start::network()?;
    println!("{MARK} up {}", start::kernel()?);
    let plan = if Path::new(PLAN).exists() {
        fs::read_to_string(PLAN).context("reading the plan")?
    } else {
        String::new()
    };
    let mut failed = 0;
    for line in plan.lines() {
        failed += usize::from(!Run::parse(line)?.carry_out()?);
    }
    Ok(failed)
}
