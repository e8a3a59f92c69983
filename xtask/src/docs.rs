//! `cargo xtask docs`: the pages that are made of the code.

use crate::cargo::{self, cargo};
use crate::setup::{self, Need};

/// What tells the tests of the reference to write their pages, and not to compare them.
const WRITE: &str = "SWITCHER_DOCS_WRITE";

pub(crate) fn run() -> anyhow::Result<()> {
    setup::ensure(Need::Build)?;
    let mut tests = cargo([
        "test",
        "--quiet",
        "--package",
        "switcher-userspace",
        "--lib",
    ]);
    tests
        .args(["--", "--include-ignored", "reference::"])
        .env(WRITE, "1");
    cargo::run(&mut tests)?;
    println!("docs/reference is as the code says");
    Ok(())
}
