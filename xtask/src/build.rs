//! `cargo xtask build`: the release binary, its kernel object embedded.

use crate::cargo::{self, cargo};
use crate::setup::{self, Need};

pub(crate) fn run() -> anyhow::Result<()> {
    setup::ensure(Need::Build)?;
    cargo::run(&mut cargo([
        "build",
        "--release",
        "--package",
        "switcher-userspace",
    ]))?;
    println!("built target/release/switcher");
    Ok(())
}
