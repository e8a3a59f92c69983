//! `cargo xtask test`: the whole suite.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use anyhow::{Context as _, bail};

use crate::cargo::{self, HOST_PACKAGES, cargo};
use crate::kernels::{self, Extent};
use crate::setup::{self, Need};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the machines with other kernels, and in full: even where that takes long for want of KVM. `short`:
    /// only what the suite does there
    #[arg(long, value_name = "EXTENT", num_args = 0..=1, require_equals = true, default_missing_value = "all")]
    kernels: Option<Extent>,
    /// The suite on this kernel alone, without machines with other ones
    #[arg(long)]
    without_kernels: bool,
    /// Passed on to `cargo test`: a filter, `--test kernel`, `-- --nocapture`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    setup::ensure(if setup::is_root() {
        Need::Run
    } else {
        Need::Build
    })?;
    // Tests of the command line and the agent start the binary, which `cargo test` alone does not build.
    // `--tests` because what is built together shares its dependencies with the tests.
    cargo::run(cargo(["build", "--bins", "--tests"]).args(HOST_PACKAGES))?;
    if let Some(extent) = args.kernels {
        return kernels::run(extent);
    }
    run_tests(args)?;
    if !args.without_kernels && args.args.is_empty() {
        kernels::run(Extent::Short)?;
    }
    Ok(())
}

/// Passes the runners' output on and adds up their closing lines.
fn run_tests(args: &Args) -> anyhow::Result<()> {
    let mut command = cargo(["test", "--no-fail-fast"]);
    command
        .args(HOST_PACKAGES)
        .args(&args.args)
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("starting `cargo test`")?;
    let output = child.stdout.take().context("cargo's output is piped")?;
    let mut total = Total::default();
    for line in BufReader::new(output).lines() {
        let line = line.context("reading what `cargo test` says")?;
        println!("{line}");
        total.add(&line);
    }
    let status = child.wait().context("waiting for `cargo test`")?;
    println!("{}", total.line());
    if !status.success() {
        bail!("`{}` failed ({status})", cargo::line(&command));
    }
    Ok(())
}

/// What the runners of all targets counted.
#[derive(Debug, Default, PartialEq)]
struct Total {
    targets: u32,
    passed: u32,
    failed: u32,
    ignored: u32,
}

impl Total {
    /// Adds a runner's closing line: `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    fn add(&mut self, line: &str) {
        let Some((_verdict, counts)) = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        self.targets += 1;
        for count in counts.split("; ") {
            match count.split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                Some((number, "ignored")) => self.ignored += number.parse().unwrap_or(0),
                _ => {}
            }
        }
    }

    /// The suite's own closing line.
    fn line(&self) -> String {
        let Self {
            targets,
            passed,
            failed,
            ignored,
        } = self;
        format!("suite: {passed} passed; {failed} failed; {ignored} ignored; {targets} targets")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_add_up() {
        let mut total = Total::default();
        for line in [
            "running 4 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test steer::keeps ... ok",
            "test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s",
        ] {
            total.add(line);
        }
        assert_eq!(
            total,
            Total {
                targets: 2,
                passed: 8,
                failed: 2,
                ignored: 1
            }
        );
        assert_eq!(
            total.line(),
            "suite: 8 passed; 2 failed; 1 ignored; 2 targets"
        );
    }
}
