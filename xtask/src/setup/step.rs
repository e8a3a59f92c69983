//! One thing that setup does, or asks a person to do.

use std::process::Command;

use anyhow::Context as _;
use switcher_toolchain::DISTRIBUTION;

use super::have::{Have, TOOLS};
use crate::cargo::{cargo, line};
use crate::progress;

/// A step towards a complete host.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Fetch what apt could install.
    Lists,
    /// Install packages.
    Packages(Vec<String>),
    /// Give the distribution's compiler its name in rustup.
    Link,
    /// Build bpf-linker against this major version of LLVM.
    Linker {
        /// As the compiler's.
        llvm: u32,
    },
    /// Build cargo-deb.
    CargoDeb,
    /// Mount a BPF file system at /sys/fs/bpf.
    Mount,
    /// What no step can do: advice.
    Person(String),
}

impl Step {
    /// Whether setup can take this step on the host.
    pub(crate) fn possible(&self, have: &Have) -> bool {
        match self {
            Self::Lists | Self::Packages(_) => have.can_install(),
            Self::Mount => have.root,
            Self::Link | Self::Linker { .. } | Self::CargoDeb => true,
            Self::Person(_) => false,
        }
    }

    /// Takes the step.
    pub(crate) fn take(&self) -> anyhow::Result<()> {
        if let Self::Packages(_) = self {
            // Package lists grow old: when what they name is gone from the mirror, fetch them and try again.
            return self
                .attempt()
                .or_else(|_| Self::Lists.attempt().and_then(|()| self.attempt()));
        }
        self.attempt()
    }

    fn attempt(&self) -> anyhow::Result<()> {
        let mut command = self.command().with_context(|| self.what())?;
        progress::run(&self.what(), &mut command)
            .with_context(|| format!("setup tried `{}`", line(&command)))
    }

    /// How a person would take it on the host.
    pub(crate) fn by_hand(&self, have: &Have) -> String {
        let typed = self
            .command()
            .map(|command| line(&command))
            .unwrap_or_default();
        match self {
            Self::Person(advice) => advice.clone(),
            Self::Packages(packages) if !have.apt => {
                format!("what these Debian packages have: {}", packages.join(" "))
            }
            Self::Lists | Self::Packages(_) | Self::Mount => format!("as root: {typed}"),
            Self::Link | Self::CargoDeb => typed,
            Self::Linker { llvm } => {
                let [headers, library] =
                    linker_environment(*llvm).map(|(name, value)| format!("{name}={value}"));
                format!("{headers} {library} {typed}")
            }
        }
    }

    fn what(&self) -> String {
        match self {
            Self::Lists => "fetching package lists".to_owned(),
            Self::Packages(packages) => format!("installing {}", packages.join(" ")),
            Self::Link => "linking the distribution's compiler into rustup".to_owned(),
            Self::Linker { llvm } => format!("building bpf-linker for LLVM {llvm}"),
            Self::CargoDeb => "building cargo-deb".to_owned(),
            Self::Mount => "mounting a BPF file system".to_owned(),
            Self::Person(advice) => advice.clone(),
        }
    }

    /// What does it; nothing for what a person has to do.
    fn command(&self) -> Option<Command> {
        Some(match self {
            Self::Lists => command("apt-get", &["update"]),
            Self::Packages(packages) => {
                let mut command =
                    command("apt-get", &["install", "--yes", "--no-install-recommends"]);
                command
                    .args(packages)
                    .env("DEBIAN_FRONTEND", "noninteractive");
                command
            }
            Self::Link => command("rustup", &["toolchain", "link", DISTRIBUTION, "/usr"]),
            Self::Linker { llvm } => {
                let mut command =
                    cargo(["install", "bpf-linker", "--version", "0.13.0", "--locked"]);
                command
                    .args(["--force", "--no-default-features", "--features"])
                    .arg(format!("llvm-{llvm}"))
                    .envs(linker_environment(*llvm));
                command
            }
            Self::CargoDeb => {
                let mut command = cargo(["install", "cargo-deb", "--version", "3.8.0", "--locked"]);
                // For one small package: no optimisation, no compression that takes a C library.
                command
                    .args(["--debug", "--no-default-features", "--features", "gzip"])
                    .args(["--root", TOOLS]);
                command
            }
            Self::Mount => command("mount", &["-t", "bpf", "bpf", "/sys/fs/bpf"]),
            Self::Person(_) => return None,
        })
    }
}

fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// llvm-sys finds its headers by the first, bpf-linker's build script its library by the second.
fn linker_environment(llvm: u32) -> [(String, String); 2] {
    let prefix = format!("/usr/lib/llvm-{llvm}");
    [
        (format!("LLVM_SYS_{llvm}1_PREFIX"), prefix.clone()),
        ("LLVM_PREFIX".to_owned(), prefix),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_by_hand_can_be_typed() {
        let debian = Have {
            apt: true,
            ..Have::default()
        };
        let wrk = Step::Packages(vec!["wrk".to_owned()]);
        assert_eq!(
            wrk.by_hand(&debian),
            "as root: apt-get install --yes --no-install-recommends wrk"
        );
        assert_eq!(
            wrk.by_hand(&Have::default()),
            "what these Debian packages have: wrk"
        );
        assert_eq!(
            Step::Linker { llvm: 22 }.by_hand(&debian),
            "LLVM_SYS_221_PREFIX=/usr/lib/llvm-22 LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker \
             --version 0.13.0 --locked --force --no-default-features --features llvm-22"
        );
    }

    #[test]
    fn only_root_on_debian_installs_packages() {
        let have = |root, apt| Have {
            root,
            apt,
            ..Have::default()
        };
        let step = Step::Packages(Vec::new());
        assert!(step.possible(&have(true, true)));
        assert!(!step.possible(&have(false, true)));
        assert!(!step.possible(&have(true, false)));
    }
}
