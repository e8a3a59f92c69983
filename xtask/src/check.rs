//! `cargo xtask check`: everything that can be said about the source without running it.

use std::process::{Command, Stdio};

use anyhow::bail;

use crate::cargo::{self, HOST_PACKAGES, cargo};
use crate::setup::{self, Need};

pub(crate) fn run() -> anyhow::Result<()> {
    setup::ensure(Need::Build)?;
    let mut checks = vec![format(), lints(), without_features(), documentation()];
    if has_deny() {
        checks.push(cargo(["deny", "--all-features", "check"]));
    } else {
        println!(
            "dependencies not checked: `cargo install cargo-deny --locked` (takes some minutes) adds that"
        );
    }
    let failures: Vec<_> = checks
        .iter_mut()
        .filter_map(|check| cargo::run(check).err())
        .collect();
    report(&failures)
}

fn format() -> Command {
    cargo(["fmt", "--all", "--check"])
}

fn lints() -> Command {
    let mut command = cargo(["clippy", "--all-targets"]);
    command.args(HOST_PACKAGES).args(["--", "-D", "warnings"]);
    command
}

/// The agent as small as it can be built.
fn without_features() -> Command {
    cargo([
        "clippy",
        "--package",
        "switcher-userspace",
        "--no-default-features",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ])
}

fn documentation() -> Command {
    let mut command = cargo(["doc", "--no-deps"]);
    command
        .args(HOST_PACKAGES)
        .env("RUSTDOCFLAGS", "-D warnings");
    command
}

fn has_deny() -> bool {
    cargo(["deny", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// All failures at once: one run shows everything that is left to do.
fn report(failures: &[anyhow::Error]) -> anyhow::Result<()> {
    if failures.is_empty() {
        println!("check: all good");
        return Ok(());
    }
    let failures: Vec<_> = failures.iter().map(ToString::to_string).collect();
    bail!("{}", failures.join("\n       "))
}
