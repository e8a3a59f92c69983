//! One test binary: run for a bounded time, its output told only where it has failed, and what it reports.

use std::fs::File;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::MARK;

const OUTPUT: &str = "/tmp/guest-output";
/// What lines begin with that are told in any case.
const TOLD: [&str; 2] = ["skipped:", "report:"];
/// Lines of a failed binary that are repeated, and how long one may be.
const TAIL: usize = 60;
const WIDTH: usize = 400;

/// A line of the plan.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run<'a> {
    at_most: Duration,
    name: &'a str,
    program: &'a str,
    arguments: Vec<&'a str>,
}

impl<'a> Run<'a> {
    /// Reads `SECONDS NAME PROGRAM ARGUMENTS...`.
    pub(crate) fn parse(line: &'a str) -> Result<Self> {
        let mut words = line.split_whitespace();
        let mut next = |what| {
            words
                .next()
                .with_context(|| format!("a plan's line without {what}: {line}"))
        };
        let seconds = next("seconds")?
            .parse()
            .context("the seconds of a plan's line")?;
        Ok(Self {
            at_most: Duration::from_secs(seconds),
            name: next("a name")?,
            program: next("a program")?,
            arguments: words.collect(),
        })
    }

    /// Whether it succeeded.
    pub(crate) fn carry_out(&self) -> Result<bool> {
        let output = File::create(OUTPUT).context("making a file for the output")?;
        let begun = Instant::now();
        let mut child = Command::new(self.program)
            .args(&self.arguments)
            .env("SWITCHER_TESTS_REQUIRE_ROOT", "1")
            .env("SWITCHER_TESTS_GUEST", "1")
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("starting {}", self.program))?;
        let deadline = begun + self.at_most;
        let mut status = None;
        while status.is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
            status = child.try_wait()?;
        }
        if status.is_none() {
            child.kill()?;
            child.wait()?;
        }
        Ok(self.report(status, begun.elapsed()))
    }

    fn report(&self, status: Option<ExitStatus>, took: Duration) -> bool {
        let bytes = std::fs::read(OUTPUT).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let (name, seconds) = (self.name, took.as_secs_f64());
        let is_told = |line: &&&str| TOLD.iter().any(|it| line.starts_with(it));
        for line in lines.iter().filter(is_told) {
            println!("{MARK} say {name}: {line}");
        }
        let succeeded = status.is_some_and(|status| status.success());
        if succeeded {
            let closing = lines.iter().rfind(|line| line.starts_with("test result: "));
            let counts = closing
                .and_then(|line| line.split(". ").nth(1))
                .unwrap_or("done");
            println!("{MARK} say {name}: {counts}, in {seconds:.0} s");
            return true;
        }
        for line in &lines[lines.len().saturating_sub(TAIL)..] {
            println!(
                "{MARK} say {name}| {}",
                line.chars().take(WIDTH).collect::<String>()
            );
        }
        match status {
            Some(status) => println!("{MARK} say {name}: FAILED ({status}), in {seconds:.0} s"),
            None => println!("{MARK} say {name}: FAILED: not done after {seconds:.0} s"),
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_long_and_what() {
        let run = Run::parse("90 kernel /guest/kernel --exact every_case").expect("a whole line");
        assert_eq!(run.at_most, Duration::from_secs(90));
        assert_eq!((run.name, run.program), ("kernel", "/guest/kernel"));
        assert_eq!(run.arguments, ["--exact", "every_case"]);
        let error = Run::parse("90 kernel").expect_err("no program");
        assert!(error.to_string().contains("without a program"), "{error}");
    }
}
