//! Where programs and maps live between agents: a directory of a BPF file system per map layout.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{FsType, statfs};
use switcher_common::abi::ABI;

use crate::config::XdpMode;

/// Magic number of a BPF file system (include/uapi/linux/magic.h).
const BPF_FS: FsType = FsType(0xcafe_4a11);

/// Paths under `<bpffs>/v<ABI>`.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

/// Held by the one agent of a host; gone with its process.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

impl Pins {
    /// The pins under `bpffs`, whether they exist or not.
    pub fn at(bpffs: &Path) -> Self {
        Self {
            root: bpffs.join(format!("v{ABI}")),
        }
    }

    /// Mounts the BPF file system if that is missing, refuses a directory that another layout uses, and
    /// makes the directories.
    ///
    /// # Errors
    /// When mounting or creating fails, or another layout's programs are attached.
    pub fn prepare(bpffs: &Path) -> anyhow::Result<Self> {
        ensure_mounted(bpffs)?;
        let pins = Self::at(bpffs);
        refuse_other_layouts(bpffs, &pins.root)?;
        for directory in [pins.maps(), pins.links()] {
            fs::create_dir_all(&directory).with_context(|| {
                format!("creating {} on the BPF file system", directory.display())
            })?;
        }
        Ok(pins)
    }

    /// Whether an agent has been here.
    pub fn exist(&self) -> bool {
        self.map(switcher_common::abi::map::STEERING).exists()
    }

    /// Takes the lock that makes this process the host's agent.
    ///
    /// # Errors
    /// When another process has it.
    pub fn lock(&self) -> anyhow::Result<Lock> {
        let directory =
            File::open(&self.root).with_context(|| format!("opening {}", self.root.display()))?;
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Lock(lock)),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => bail!(
                "another switcher agent is running on this host with {}{}: stop it first, or give this one another `bpffs`",
                self.root.display(),
                holder(&self.root)
                    .map(|pid| format!(" (pid {pid})"))
                    .unwrap_or_default(),
            ),
            Err((_, errno)) => {
                Err(errno).with_context(|| format!("locking {}", self.root.display()))
            }
        }
    }

    /// `<bpffs>/v<ABI>`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Directory of the maps.
    pub fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    /// A map's pin.
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Directory of the links.
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// Pin of an interface's XDP link. The mode is part of the name, since a link does not tell it.
    pub fn ingress(&self, interface: &str, mode: XdpMode) -> PathBuf {
        self.links()
            .join(format!("{}-xdp-{mode}", escaped(interface)))
    }

    /// Pin of an interface's egress link.
    pub fn egress(&self, interface: &str) -> PathBuf {
        self.links().join(format!("{}-egress", escaped(interface)))
    }
}

/// An interface's name as a file name: dots are reserved on a BPF file system.
fn escaped(interface: &str) -> String {
    interface.replace('%', "%25").replace('.', "%2e")
}

fn ensure_mounted(bpffs: &Path) -> anyhow::Result<()> {
    let existing = bpffs
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    let kind = statfs(existing)
        .with_context(|| format!("looking at the file system of {}", existing.display()))?
        .filesystem_type();
    if kind == BPF_FS {
        return Ok(());
    }
    let standard = Path::new("/sys/fs/bpf");
    let target = if bpffs.starts_with(standard) {
        standard
    } else {
        bpffs
    };
    if !target.exists() {
        fs::create_dir_all(target).with_context(|| format!("creating {}", target.display()))?;
    }
    mount(Some("bpf"), target, Some("bpf"), MsFlags::empty(), None::<&str>).with_context(|| {
        format!("mounting a BPF file system at {} (needs root, or mount it beforehand: mount -t bpf bpf {0})", target.display())
    })
}

fn refuse_other_layouts(bpffs: &Path, ours: &Path) -> anyhow::Result<()> {
    let entries = match fs::read_dir(bpffs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", bpffs.display())),
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let links = fs::read_dir(path.join("links"))
            .map(Iterator::count)
            .unwrap_or_default();
        if path != ours && links > 0 {
            bail!(
                "{} holds the programs of a switcher with another map layout (ours is v{ABI}); run `switcher detach` of that version first, traffic then goes unswitched until this agent has started",
                path.display()
            );
        }
    }
    Ok(())
}

/// The process that has the lock, from /proc/locks: `1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF`.
fn holder(directory: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    let inode = fs::metadata(directory).ok()?.ino();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let place = fields.get(5)?;
        (fields.get(1) == Some(&"FLOCK") && place.ends_with(&format!(":{inode}")))
            .then(|| fields.get(4)?.parse().ok())?
    })
}
