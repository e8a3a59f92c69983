//! A running agent, and its command line.

mod binary;
mod cli;
mod place;

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Namespace, netns};
pub use binary::find as binary;
pub use cli::Output;
pub use place::{Place, sweep};

/// How long an agent may take to answer, or to stop.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same in a machine of `cargo xtask test --kernels`, which may be emulated.
const PATIENCE_IN_GUEST: Duration = Duration::from_secs(120);
/// Set in such a machine.
pub const GUEST: &str = "SWITCHER_TESTS_GUEST";

fn patience() -> Duration {
    match std::env::var_os(GUEST) {
        Some(_) => PATIENCE_IN_GUEST,
        None => PATIENCE,
    }
}

/// An agent in a namespace. Dropped, it is ended and everything it left is removed: files and pins.
#[derive(Debug)]
pub struct Agent {
    namespace: PathBuf,
    binary: PathBuf,
    place: Place,
    child: Option<Child>,
}

impl Agent {
    /// An agent to be, with its configuration written; [`Agent::start`] starts it.
    ///
    /// # Errors
    /// When the configuration can't be written.
    pub fn new(namespace: &Namespace, binary: &Path, place: Place, config: &str) -> Result<Self> {
        let agent = Self {
            namespace: namespace.path(),
            binary: binary.to_owned(),
            place,
            child: None,
        };
        agent.write_config(config)?;
        Ok(agent)
    }

    /// Where its files are.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Replaces the configuration file; the agent takes it on `apply` or its next start.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_config(&self, config: &str) -> Result<()> {
        std::fs::write(self.place.config(), config).context("writing the agent's configuration")
    }

    /// The binary that it runs.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Uses another binary from the next start on.
    pub fn set_binary(&mut self, binary: &Path) {
        binary.clone_into(&mut self.binary);
    }

    /// The agent's process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts it and waits until `status` answers.
    ///
    /// # Errors
    /// When it ends instead or does not answer; with what it logged.
    pub fn start(&mut self) -> Result<()> {
        self.spawn()?;
        let deadline = Instant::now() + patience();
        while Instant::now() < deadline {
            if let Some(status) = self.ended()? {
                bail!("the agent ended at once: {status}\n{}", self.log());
            }
            if self.place.socket().exists() && self.cli(&["status", "--json"])?.code == 0 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!(
            "the agent does not answer after {:?}\n{}",
            patience(),
            self.log()
        )
    }

    /// Starts it without waiting for anything.
    ///
    /// # Errors
    /// When the process can't be started.
    pub fn spawn(&mut self) -> Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.place.log())?;
        let child = netns::command_in(&self.namespace, &self.binary)
            .args(["agent", "--config"])
            .arg(self.place.config())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C at the terminal is for us: we end the agent when its time has come.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", self.binary.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Whether the agent has ended by itself.
    ///
    /// # Errors
    /// When it was not started.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.ended()?.is_some())
    }

    /// Waits until the agent has ended by itself.
    ///
    /// # Errors
    /// When it goes on.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience();
        while Instant::now() < deadline {
            if let Some(status) = self.ended()? {
                self.child = None;
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!(
            "the agent still runs after {:?}\n{}",
            patience(),
            self.log()
        )
    }

    /// SIGTERM, and waits.
    ///
    /// # Errors
    /// When the agent does not end.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait()
    }

    /// SIGKILL, and waits.
    ///
    /// # Errors
    /// When the agent was not running.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait().map(drop)
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.place.log()).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().context("the agent is not running")?;
        kill(Pid::from_raw(pid.try_into()?), signal)
            .with_context(|| format!("sending {signal} to the agent"))
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let child = self.child.as_mut().context("the agent was not started")?;
        child.try_wait().context("asking after the agent")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the agent's log ---\n{}---", self.log());
        }
        if let Some(mut child) = self.child.take() {
            // Its pins go with its place, so there is nothing that it should do in peace.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
