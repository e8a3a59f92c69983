//! Where programs and maps are pinned, and who may change them.

use std::fs::{self, File};
use std::io;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use switcher_common::abi::ABI;

/// The usual mount point.
const BPFFS: &str = "/sys/fs/bpf";

/// The pins of this version of the maps: `<bpffs>/v<ABI>/{maps,programs,links,clients}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    base: PathBuf,
    root: PathBuf,
}

/// The right to change what is pinned; given back when dropped, and when the process ends.
#[derive(Debug)]
pub struct Lock(Flock<File>);

impl Lock {
    /// Whether what is locked is still what these pins lie in, and not removed, or made anew since.
    #[must_use]
    pub fn is_of(&self, pins: &Pins) -> bool {
        let held = self.0.metadata().map(|it| it.st_ino());
        let there = fs::metadata(&pins.root).map(|it| it.st_ino());
        matches!((held, there), (Ok(held), Ok(there)) if held == there)
    }
}

impl Pins {
    /// The pins below `bpffs`, which need not exist.
    #[must_use]
    pub fn new(bpffs: &Path) -> Self {
        Self {
            base: bpffs.into(),
            root: bpffs.join(format!("v{ABI}")),
        }
    }

    /// The directory of this version.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether an agent has ever made them and nobody has removed them.
    #[must_use]
    pub fn exist(&self) -> bool {
        self.map(switcher_common::abi::map::STEERING).exists()
    }

    /// A map's pin.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.root.join("maps").join(name)
    }

    /// The directory of the maps' pins.
    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    /// The directory of the pins of an object's programs.
    #[must_use]
    pub fn programs(&self, object: &str) -> PathBuf {
        self.root.join("programs").join(object)
    }

    /// Objects whose programs are pinned: one, or two while one is being replaced.
    #[must_use]
    pub fn objects(&self) -> Vec<String> {
        names(&self.root.join("programs"))
    }

    /// The directory of the links' pins.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// Pin of the link of a cgroup hook.
    #[must_use]
    pub fn client(&self, hook: &str) -> PathBuf {
        self.clients().join(hook)
    }

    /// The directory of the pins of cgroup hooks.
    #[must_use]
    pub fn clients(&self) -> PathBuf {
        self.root.join("clients")
    }

    /// Pin of an interface's XDP link.
    #[must_use]
    pub fn xdp(&self, interface: &str) -> PathBuf {
        self.link(interface, "xdp")
    }

    /// Pin of an interface's tcx link at ingress.
    #[must_use]
    pub fn ingress(&self, interface: &str) -> PathBuf {
        self.link(interface, "ingress")
    }

    /// Pin of the program that an interface's clsact filter at ingress runs.
    #[must_use]
    pub fn clsact_ingress(&self, interface: &str) -> PathBuf {
        self.link(interface, "clsact_ingress")
    }

    /// Pin of an interface's tcx link at egress.
    #[must_use]
    pub fn egress(&self, interface: &str) -> PathBuf {
        self.link(interface, "egress")
    }

    /// Pin of the program that an interface's clsact filter at egress runs: a mark that there is one.
    #[must_use]
    pub fn clsact(&self, interface: &str) -> PathBuf {
        self.link(interface, "clsact")
    }

    /// Interfaces with any link.
    #[must_use]
    pub fn interfaces(&self) -> Vec<String> {
        let mut found: Vec<String> = names(&self.links())
            .iter()
            .filter_map(|name| name.rsplit_once('-'))
            .map(|(interface, _)| unescape(interface))
            .collect();
        found.sort();
        found.dedup();
        found
    }

    /// Makes the directories, on a BPF file system that is mounted if it is not.
    ///
    /// # Errors
    /// When that is not permitted or the path lies elsewhere.
    pub fn create(&self) -> anyhow::Result<()> {
        self.ensure_bpffs()?;
        for directory in [self.maps(), self.links(), self.clients()] {
            fs::create_dir_all(&directory).with_context(|| {
                format!(
                    "{}: can't be created on the BPF file system (names there can't hold a dot, and \
                     it takes root)",
                    directory.display()
                )
            })?;
        }
        Ok(())
    }

    fn ensure_bpffs(&self) -> anyhow::Result<()> {
        if is_bpffs(&self.base) {
            return Ok(());
        }
        let usual = Path::new(BPFFS);
        let place = if self.base.starts_with(usual) {
            usual
        } else {
            fs::create_dir_all(&self.base)
                .with_context(|| format!("{}: can't be created", self.base.display()))?;
            &self.base
        };
        let none: Option<&str> = None;
        mount(Some("bpf"), place, Some("bpf"), MsFlags::empty(), none).with_context(|| {
            format!(
                "{} is not on a BPF file system, and none could be mounted at {}: run as root, or \
                 mount one (mount -t bpf bpf {})",
                self.base.display(),
                place.display(),
                place.display()
            )
        })?;
        tracing::info!(place = %place.display(), "mounted a BPF file system");
        Ok(())
    }

    /// Refuses to work beside programs that another version of the maps has attached.
    ///
    /// # Errors
    /// When there are any.
    pub fn refuse_other_versions(&self) -> anyhow::Result<()> {
        for other in names(&self.base) {
            let other = self.base.join(other);
            if other == self.root || names(&other.join("links")).is_empty() {
                continue;
            }
            bail!(
                "{}: another version of Switcher has programs attached and its maps can't be read \
                 by this one (which uses v{ABI}). Stop that agent and run its own `switcher detach`, \
                 or remove its links (rm {}/links/*), then start this one",
                other.display(),
                other.display()
            );
        }
        Ok(())
    }

    /// Takes the lock, which one agent at a time can have.
    ///
    /// # Errors
    /// When another process has it; named if /proc/locks knows it.
    pub fn lock(&self) -> anyhow::Result<Lock> {
        let directory = File::open(&self.root)
            .with_context(|| format!("{}: can't be opened", self.root.display()))?;
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Lock(lock)),
            Err((_, Errno::EWOULDBLOCK)) => {
                let who = match self.holder() {
                    Some(pid) => format!("process {pid}{}", command(pid)),
                    None => "another process".into(),
                };
                bail!(
                    "{}: {who} is using these pins. One agent runs on a host; stop it first \
                     (systemctl stop switcher), traffic goes on meanwhile",
                    self.root.display()
                )
            }
            Err((_, error)) => {
                Err(error).with_context(|| format!("{}: can't be locked", self.root.display()))
            }
        }
    }

    /// The process that has the lock, as /proc/locks has it.
    #[must_use]
    pub fn holder(&self) -> Option<u32> {
        let inode = fs::metadata(&self.root).ok()?.st_ino().to_string();
        let locks = fs::read_to_string("/proc/locks").ok()?;
        // 1: FLOCK  ADVISORY  WRITE 1234 00:1c:5678 0 EOF
        locks.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, "FLOCK", _, _, pid, file, ..] = fields[..] else {
                return None;
            };
            (file.rsplit(':').next() == Some(&inode)).then(|| pid.parse().ok())?
        })
    }

    /// Removes the directories, which have to be empty of links.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remove(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.root)?;
        // Other versions may be there, and the parent may be a mount point.
        let _kept = fs::remove_dir(&self.base);
        Ok(())
    }

    /// A dot is not allowed in names of a BPF file system, but in names of interfaces.
    fn link(&self, interface: &str, kind: &str) -> PathBuf {
        let escaped = interface.replace('%', "%25").replace('.', "%2e");
        self.links().join(format!("{escaped}-{kind}"))
    }
}

fn unescape(name: &str) -> String {
    name.replace("%2e", ".").replace("%25", "%")
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// Whether a path lies, or would lie, on a BPF file system.
#[must_use]
pub fn is_bpffs(path: &Path) -> bool {
    let existing = path.ancestors().find(|ancestor| ancestor.exists());
    let kind = existing.and_then(|path| statfs(path).ok());
    kind.is_some_and(|kind| kind.filesystem_type() == BPF_FS_MAGIC)
}

fn command(pid: u32) -> String {
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!(" ({})", name.trim()),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlan_interfaces_can_be_pinned() {
        let pins = Pins::new(Path::new("/sys/fs/bpf/switcher"));
        let path = pins.xdp("eth0.100");
        assert_eq!(path.file_name(), Some("eth0%2e100-xdp".as_ref()));
        for name in ["eth0.100", "a%2eb", "x-y"] {
            assert_eq!(
                unescape(&name.replace('%', "%25").replace('.', "%2e")),
                name
            );
        }
    }
}
