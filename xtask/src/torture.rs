//! `cargo xtask torture`: random sequences of everything, beside clients that check; `tests/torture` does it.

use anyhow::ensure;

use crate::cargo::{self, HOST_PACKAGES, cargo};
use crate::setup::{self, Need};

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// `--help` lists what there is
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(
        setup::is_root(),
        "it makes network namespaces and loads programs: run it as root"
    );
    setup::ensure(Need::Run)?;
    // As the suite builds them, with every assertion in the agent.
    cargo::run(cargo(["build", "--bins"]).args(HOST_PACKAGES))?;
    let torture = ["run", "--quiet", "--package", "switcher-torture", "--"];
    cargo::run(cargo(torture).args(&args.args))
}
