//! `cargo xtask bench`: the data path's speed, measured by the `datapath` bench.

use crate::cargo::{self, cargo};
use crate::setup::{self, Need};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Passed on to the bench
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    setup::ensure(Need::Run)?;
    // Its parts that look at the agent want the optimised one, too.
    let build = ["build", "--release", "--package", "switcher-userspace"];
    cargo::run(&mut cargo(build))?;
    let bench = [
        "bench",
        "--package",
        "switcher-tests",
        "--bench",
        "datapath",
        "--",
    ];
    cargo::run(cargo(bench).args(&args.args))
}
