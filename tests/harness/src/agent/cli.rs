//! The command line of a running agent.

use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::Agent;
use crate::netns;

/// A command that takes longer hangs.
const PATIENCE_SECONDS: &str = "60";
/// What `timeout` exits with when it had to end the command.
const HUNG: i32 = 124;

/// What a command said.
#[derive(Clone, Debug)]
pub struct Output {
    /// The words of the command.
    pub command: String,
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// Just before it was started.
    pub begun: Instant,
    /// Just after it ended.
    pub ended: Instant,
}

impl Output {
    /// Itself, if it ended with `code`.
    ///
    /// # Errors
    /// With all that it said, if not.
    pub fn expect(self, code: i32) -> Result<Self> {
        ensure!(
            self.code == code,
            "`switcher {}` ended with {} instead of {code}\nstdout: {}\nstderr: {}",
            self.command,
            self.code,
            self.stdout.trim(),
            self.stderr.trim()
        );
        Ok(self)
    }

    /// Its standard output as JSON.
    ///
    /// # Errors
    /// When it is not.
    pub fn json(&self) -> Result<Value> {
        parse(&self.command, &self.stdout)
    }

    /// Its standard error as JSON: an RFC 9457 problem.
    ///
    /// # Errors
    /// When it is not.
    pub fn problem(&self) -> Result<Value> {
        parse(&self.command, &self.stderr)
    }

    /// How long it took.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.ended.duration_since(self.begun)
    }
}

impl Agent {
    /// Runs `switcher WORDS` against this agent and waits for it.
    ///
    /// # Errors
    /// When it can't be started or hangs; whatever exit code it has is no error.
    pub fn cli(&self, words: &[&str]) -> Result<Output> {
        collect(self.command(words), words)
    }

    /// Starts `switcher WORDS` on a thread of its own.
    pub fn cli_in_background(&self, words: &[&str]) -> JoinHandle<Result<Output>> {
        let command = self.command(words);
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        std::thread::spawn(move || {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            collect(command, &words)
        })
    }

    /// Runs `switcher WORDS`, which must end with 0 and print JSON.
    ///
    /// # Errors
    /// When it does not.
    pub fn json(&self, words: &[&str]) -> Result<Value> {
        let mut all = words.to_vec();
        all.push("--json");
        self.cli(&all)?.expect(0)?.json()
    }

    /// What `status` says of the group.
    ///
    /// # Errors
    /// When there is no such answer.
    pub fn status(&self) -> Result<Value> {
        let status = self.json(&["status"])?;
        status["groups"]
            .get(0)
            .cloned()
            .with_context(|| format!("status shows no group: {status}"))
    }

    /// The colour that `status` shows as live.
    ///
    /// # Errors
    /// When there is no such answer.
    pub fn live(&self) -> Result<String> {
        let status = self.status()?;
        let live = status["live"]
            .as_str()
            .with_context(|| format!("status shows no live colour: {status}"))?;
        Ok(live.to_owned())
    }

    /// `switcher WORDS`, in the agent's namespace, with its socket.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = netns::command_in(&self.namespace, "timeout".as_ref());
        command
            .args(["--kill-after=5", PATIENCE_SECONDS])
            .arg(&self.binary)
            .args(words);
        command
            .env("SWITCHER_SOCKET", self.place.socket())
            .env_remove("NO_COLOR");
        command
    }
}

fn collect(mut command: Command, words: &[&str]) -> Result<Output> {
    let words = words.join(" ");
    let begun = Instant::now();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting `switcher {words}`"))?;
    let ended = Instant::now();
    let code = output
        .status
        .code()
        .with_context(|| format!("`switcher {words}` was ended by a signal"))?;
    if code == HUNG {
        bail!("`switcher {words}` still ran after {PATIENCE_SECONDS} s");
    }
    Ok(Output {
        command: words,
        code,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        begun,
        ended,
    })
}

fn parse(command: &str, text: &str) -> Result<Value> {
    serde_json::from_str(text)
        .with_context(|| format!("`switcher {command}` printed no JSON: {text:?}"))
}
