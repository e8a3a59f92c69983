//! Control groups that go when their guard does.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::unique;

const PREFIX: &str = "switcher-test";

/// A cgroup (version 2) of our own; removed on drop, when whoever is in it has ended.
#[derive(Debug)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes one below the root of the hierarchy.
    ///
    /// # Errors
    /// Without a hierarchy or the privilege.
    pub fn new() -> Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        let mut fields = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>());
        let root = fields.find(|fields| fields.get(2) == Some(&"cgroup2"));
        let root = root.context("no cgroup v2 hierarchy is mounted")?;
        let path = Path::new(root[1]).join(unique::name(PREFIX));
        std::fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self(path))
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The command, in a shell that enters the cgroup before it becomes it.
    #[must_use]
    pub fn enter(&self, shell: &str) -> Command {
        let mut command = Command::new("bash");
        let procs = self.0.join("cgroup.procs");
        command.args(["-c", &format!("echo $$ > {} && {shell}", procs.display())]);
        command
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir(&self.0) {
            eprintln!("left behind: {}: {error}", self.0.display());
        }
    }
}
