//! Where an agent of a test keeps its files and pins: nowhere near a real one's.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::{netns, unique};

const PREFIX: &str = "switcher-test";
const BPFFS: &str = "/sys/fs/bpf";

/// A directory for files and one for pins; both go on drop.
#[derive(Debug)]
pub struct Place {
    directory: PathBuf,
    bpffs: PathBuf,
}

impl Place {
    /// A fresh one.
    ///
    /// # Errors
    /// When the directory can't be made.
    pub fn new() -> Result<Self> {
        let name = unique::name(PREFIX);
        let directory = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("making {}", directory.display()))?;
        Ok(Self {
            directory,
            bpffs: Path::new(BPFFS).join(name),
        })
    }

    /// The directory of all files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.directory.join("switcher.toml")
    }

    /// The agent's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.join("switcher.sock")
    }

    /// The agent's state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// Where programs and maps are pinned.
    #[must_use]
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// What the agent printed.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.directory.join("agent.log")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        remove(&self.bpffs);
        remove(&self.directory);
    }
}

/// Removes what killed runs left.
pub fn sweep() {
    for parent in [Path::new(BPFFS), &std::env::temp_dir()] {
        for name in netns::entries(parent).filter(|name| unique::is_orphan(PREFIX, name)) {
            remove(&parent.join(name));
        }
    }
}

fn remove(directory: &Path) {
    if let Err(error) = std::fs::remove_dir_all(directory)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        eprintln!("left behind: {}: {error}", directory.display());
    }
}
