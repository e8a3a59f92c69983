//! Tests that other kernels may see differently, in virtual machines with Debian's kernels.
//!
//! A kernel's package is downloaded and unpacked, not installed. The machine's file system is an archive
//! in its memory, made here: test binaries, the agent, what they start, modules, and `switcher-guest` as
//! the first process, whose lines on the console say what came of it.

mod archive;
mod compared;
mod image;
mod machine;
mod modules;
mod package;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::cargo::{HOST_PACKAGES, cargo};
use crate::progress;
use crate::setup::{self, in_path};
use archive::Archive;
pub(crate) use compared::run as compare;
use machine::{Accelerator, Machine};
use package::Package;

/// Kernel series, oldest first. Debian 12 carries both.
const SERIES: [&str; 2] = ["6.1", "6.12"];
/// What the task starts here, and the Debian package of each.
const PROGRAMS: [(&str, &str); 3] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("xz", "xz-utils"),
    ("strip", "binutils"),
];
/// How long a machine may take to start; two that are emulated on a busy host take half a minute.
const START: Duration = Duration::from_secs(180);
/// Seconds that a test binary may take; without KVM a machine is some twenty times slower.
const PATIENCE: u64 = 120;
const PATIENCE_EMULATED: u64 = 1200;

/// A test binary that machines run.
struct Run {
    /// The test target.
    target: &'static str,
    /// Its arguments.
    arguments: &'static str,
}

/// In this order.
const ALL: [Run; 3] = [
    Run {
        target: "kernel",
        arguments: "--skip random_frames",
    },
    Run {
        target: "datapath",
        arguments: "",
    },
    Run {
        target: "roads",
        arguments: "",
    },
];

/// What an emulated machine does in a minute or two: every program through the verifier, and the packet cases.
const SHORT: [Run; 1] = [Run {
    target: "kernel",
    arguments: "every_program_loads every_case a_cookie_of_blue_is_known_after_the_switch",
}];

/// How much is asked for.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub(crate) enum Extent {
    /// Everything on every kernel, however long it takes; what can't be had is an error.
    All,
    /// As part of the suite: on kernels that can be had, and without KVM only what is done soon.
    Short,
}

impl Extent {
    const fn runs(self, accelerator: Accelerator) -> &'static [Run] {
        match (self, accelerator) {
            (Self::Short, Accelerator::Emulation) => &SHORT,
            _ => &ALL,
        }
    }
}

/// Boots every kernel and runs the tests. Prints why, if that can't be done here.
pub(crate) fn run(extent: Extent) -> anyhow::Result<()> {
    let directory = directory()?;
    let packages = match prepare(&SERIES, &directory) {
        Ok(packages) => packages,
        Err(error) if extent == Extent::Short => {
            println!("kernels: skipped: {error:#}");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let binaries = binaries()?;
    let accelerator = accelerator(&directory, &packages, &binaries)?;
    let runs = extent.runs(accelerator);
    let work = Work {
        directory: &directory,
        base: image::base(&binaries, &image::PROGRAMS, None)?,
        accelerator,
        runs,
    };
    let failed: Vec<String> = if runs.len() < ALL.len() {
        println!(
            "kernels: only whether programs load, and the packet cases: `cargo xtask test --kernels` runs all"
        );
        // Each has a processor's worth of work.
        std::thread::scope(|scope| {
            let work = &work;
            let start = |package| scope.spawn(move || work.test(package));
            let machines: Vec<_> = packages.iter().map(start).collect();
            machines
                .into_iter()
                .filter_map(|it| {
                    it.join()
                        .unwrap_or_else(|_| Some("a thread has panicked".to_owned()))
                })
                .collect()
        })
    } else {
        packages
            .iter()
            .filter_map(|package| work.test(package))
            .collect()
    };
    if failed.is_empty() {
        return Ok(());
    }
    bail!("kernels: {}", failed.join("; "))
}

/// Where kernels and images are kept.
fn directory() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("finding this task's own binary")?;
    // target/PROFILE/xtask
    let target = own
        .ancestors()
        .nth(2)
        .context("not in a target directory")?;
    let directory = target.join("kernels");
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("making {}", directory.display()))?;
    Ok(directory)
}

/// Programs and packages. An error says what is missing.
fn prepare(series: &[&str], directory: &Path) -> anyhow::Result<Vec<Package>> {
    if std::env::consts::ARCH != "x86_64" {
        bail!(
            "the machines have x86_64 processors, and this one is {}",
            std::env::consts::ARCH
        );
    }
    let missing: Vec<&str> = PROGRAMS
        .into_iter()
        .filter(|(program, _package)| in_path(program).is_none())
        .map(|(_program, package)| package)
        .collect();
    if in_path("apt-get").is_none() {
        bail!("Debian's packages have the kernels, and there is no apt-get here");
    }
    if !missing.is_empty() {
        if !setup::is_root() {
            bail!("{} can't be installed without root", missing.join(" "));
        }
        setup::install_packages(&missing)?;
    }
    series
        .iter()
        .map(|series| Package::fetch(series, directory))
        .collect()
}

/// Executables of this project, by what they are called in a machine.
struct Binaries {
    tests: Vec<(&'static str, PathBuf)>,
    agent: PathBuf,
    guest: PathBuf,
}

/// Builds them; nothing is left to do where the suite was built before.
fn binaries() -> anyhow::Result<Binaries> {
    let messages = crate::cargo::output(
        cargo(["build", "--bins", "--tests"])
            .args(HOST_PACKAGES)
            .arg("--message-format=json-render-diagnostics"),
    )?;
    let find = |name: &str, kind: &str| find(&messages, name, kind);
    let tests = ALL
        .iter()
        .map(|run| Ok((run.target, find(run.target, "test")?)));
    Ok(Binaries {
        tests: tests.collect::<anyhow::Result<_>>()?,
        agent: find("switcher", "bin")?,
        guest: find("switcher-guest", "bin")?,
    })
}

/// An executable, by cargo's messages.
fn find(messages: &str, name: &str, kind: &str) -> anyhow::Result<PathBuf> {
    let found = messages
        .lines()
        .find_map(|line| executable(line, name, kind));
    found.with_context(|| format!("cargo built no {kind} {name}"))
}

/// The executable that a message of cargo's is about, if it is the one we look for.
fn executable(message: &str, name: &str, kind: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let target = &message["target"];
    // Of a binary there are two: as it is, and with its own tests.
    let is_test = message["profile"]["test"] == true;
    let right = kind == "bench" || is_test == (kind == "test");
    let ours = target["name"] == name && target["kind"][0] == kind && right;
    ours.then(|| message["executable"].as_str().map(PathBuf::from))?
}

/// KVM if it boots a kernel, which only trying tells.
fn accelerator(
    directory: &Path,
    packages: &[Package],
    binaries: &Binaries,
) -> anyhow::Result<Accelerator> {
    let Some(package) = packages.first() else {
        return Ok(Accelerator::Emulation);
    };
    let image = directory.join("probe.cpio");
    image::probe(&binaries.guest)?.write(&[&image::modules(package, &[])?], &image)?;
    let begun = Instant::now();
    match machine::kvm(&package.kernel, &image) {
        Ok(accelerator) => Ok(accelerator),
        Err(error) => {
            println!(
                "kernels: emulated, because {error:#} (tried for {:.0} s)",
                begun.elapsed().as_secs_f64()
            );
            Ok(Accelerator::Emulation)
        }
    }
}

/// What every kernel is tested with.
struct Work<'a> {
    directory: &'a Path,
    base: Archive,
    accelerator: Accelerator,
    runs: &'static [Run],
}

impl Work<'_> {
    /// What went wrong.
    fn test(&self, package: &Package) -> Option<String> {
        let error = self.boot(package).err()?;
        Some(format!("{}: {error:#}", package.release))
    }

    fn boot(&self, package: &Package) -> anyhow::Result<()> {
        let image = self.directory.join(format!("{}.cpio", package.release));
        let patience = match self.accelerator {
            Accelerator::Kvm(_) => PATIENCE,
            Accelerator::Emulation => PATIENCE_EMULATED,
        };
        let line = |run: &Run| {
            let Run { target, arguments } = run;
            format!("{patience} {target} /guest/{target} --test-threads 2 {arguments}\n")
        };
        let plan: String = self.runs.iter().map(line).collect();
        let mut own = image::modules(package, &modules::WANTED)?;
        own.file("guest/plan", 0o644, plan.as_bytes());
        self.base.write(&[&own], &image)?;
        let most = START + Duration::from_secs(patience * self.runs.len() as u64);
        let begun = Instant::now();
        let machine = Machine {
            kernel: &package.kernel,
            image: &image,
            accelerator: self.accelerator,
        };
        let failed = machine.boot(most, |line| println!("{}: {line}", package.release))?;
        println!(
            "{}: {:.0} s",
            package.release,
            begun.elapsed().as_secs_f64()
        );
        match failed {
            0 => Ok(()),
            failed => bail!("{failed} of {} test binaries failed", self.runs.len()),
        }
    }
}

/// `program ARGUMENTS`, shown while it runs.
fn step(what: &str, program: &str, arguments: &[&str], directory: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory);
    progress::run(what, &mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_suite_is_short_and_only_where_machines_are_slow() {
        let runs = |extent: Extent, accelerator| extent.runs(accelerator).len();
        let (kvm, emulation) = (Accelerator::Kvm("host"), Accelerator::Emulation);
        assert_eq!(runs(Extent::Short, emulation), SHORT.len());
        assert_eq!(runs(Extent::Short, kvm), ALL.len());
        assert_eq!(runs(Extent::All, emulation), ALL.len());
        assert!(
            SHORT
                .iter()
                .all(|it| ALL.iter().any(|all| all.target == it.target))
        );
    }

    #[test]
    fn executables_are_told_apart() {
        let message = |kind: &str, test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","target":{{"name":"kernel","kind":["{kind}"]}},"profile":{{"test":{test}}},"executable":"/x"}}"#
            )
        };
        assert_eq!(
            executable(&message("test", true), "kernel", "test"),
            Some("/x".into())
        );
        assert_eq!(
            executable(&message("bin", false), "kernel", "bin"),
            Some("/x".into())
        );
        assert_eq!(executable(&message("bin", true), "kernel", "bin"), None);
        assert_eq!(executable(&message("test", true), "roads", "test"), None);
    }
}
