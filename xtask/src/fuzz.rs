//! `cargo xtask fuzz`: libFuzzer on the core, built by whatever Rust compiler is here.
//!
//! Coverage is what the compiler's LLVM adds (`sancov-module`), which takes no nightly; libFuzzer itself comes
//! with the crate `libfuzzer-sys` and takes a C++ compiler. Inputs that reach new code are kept in
//! `fuzz/corpus`, which the suite replays.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::cargo::{self, cargo};
use crate::setup::{self, in_path};

/// Targets, and the share of the time that each gets.
const TARGETS: [(&str, u32); 2] = [("pipeline", 3), ("rewrite", 1)];
/// Bytes of the longest input: two frames.
const LONGEST: u32 = 3100;
const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    // Else the linker drops sections that only libFuzzer refers to.
    "-Clink-dead-code",
    "-Ccodegen-units=1",
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long, over all targets: `90s`, `10m`, `2h`
    #[arg(long, default_value = "1m", value_parser = duration)]
    time: Duration,
    /// Only this target: `pipeline` or `rewrite`
    target: Option<String>,
    /// Only keep in fuzz/corpus what is needed to reach all code that is reached
    #[arg(long)]
    minimise: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if in_path("g++").is_none() && in_path("c++").is_none() {
        ensure!(
            setup::is_root(),
            "libFuzzer takes a C++ compiler: install g++"
        );
        setup::install_packages(&["g++"])?;
    }
    let chosen = |name: &str| args.target.as_deref().is_none_or(|target| target == name);
    let targets: Vec<_> = TARGETS
        .into_iter()
        .filter(|(name, _)| chosen(name))
        .collect();
    let shares: u32 = targets.iter().map(|(_, share)| share).sum();
    ensure!(
        shares > 0,
        "there is no such target: {}",
        TARGETS.map(|(name, _)| name).join(", ")
    );
    let place = Place::new()?;
    let binaries = place.build()?;
    cargo::run(Command::new(binaries.join("seeds")).env("SWITCHER_SEEDS", place.found()))?;
    for (target, share) in targets {
        if args.minimise {
            place.minimise(&binaries, target)?;
        } else {
            place.fuzz(&binaries, target, args.time * share / shares)?;
        }
    }
    println!("fuzz: no finding");
    Ok(())
}

/// Where things are.
struct Place {
    /// The crate.
    package: PathBuf,
    /// What it is built into, and what this machine has found so far.
    target: PathBuf,
}

impl Place {
    fn new() -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("a workspace")?;
        Ok(Self {
            package: root.join("fuzz"),
            target: root.join("target/fuzz"),
        })
    }

    fn found(&self) -> PathBuf {
        self.target.join("found")
    }

    /// The directory of the binaries.
    fn build(&self) -> anyhow::Result<PathBuf> {
        let host = host()?;
        // With a target build scripts and macros are built without the flags.
        let mut build = cargo([
            "build",
            "--release",
            "--bins",
            "--locked",
            "--target",
            &host,
        ]);
        build
            .current_dir(&self.package)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("RUSTFLAGS", FLAGS.join(" "));
        cargo::run(&mut build)?;
        Ok(self.target.join(host).join("release"))
    }

    fn fuzz(&self, binaries: &Path, target: &str, time: Duration) -> anyhow::Result<()> {
        let (found, kept) = (
            self.found().join(target),
            self.package.join("corpus").join(target),
        );
        for directory in [&found, &kept] {
            std::fs::create_dir_all(directory)?;
        }
        let mut command = Command::new(binaries.join(target));
        command
            .args([&found, &kept])
            .arg(format!("-max_total_time={}", time.as_secs().max(1)))
            .arg(format!("-max_len={LONGEST}"))
            .arg(format!("-artifact_prefix={}/", self.target.display()))
            .args([
                "-timeout=10",
                "-rss_limit_mb=2048",
                "-print_final_stats=1",
                "-verbosity=0",
            ]);
        println!("fuzz: {target} for {time:?}");
        if let Err(error) = cargo::run(&mut command) {
            bail!(
                "{error:#}: the input that was found is in {}; make it a packet case, with a sentence of its own",
                self.target.display()
            );
        }
        Ok(())
    }

    fn minimise(&self, binaries: &Path, target: &str) -> anyhow::Result<()> {
        let kept = self.package.join("corpus").join(target);
        let old = self.target.join("old").join(target);
        if old.exists() {
            std::fs::remove_dir_all(&old)?;
        }
        std::fs::create_dir_all(&old)?;
        std::fs::create_dir_all(&kept)?;
        for entry in std::fs::read_dir(&kept)? {
            let entry = entry?;
            std::fs::copy(entry.path(), old.join(entry.file_name()))?;
            std::fs::remove_file(entry.path())?;
        }
        let mut merge = Command::new(binaries.join(target));
        merge.args(["-merge=1", "-verbosity=0", &format!("-max_len={LONGEST}")]);
        cargo::run(merge.args([kept, old, self.found().join(target)]))
    }
}

/// The compiler's own target.
fn host() -> anyhow::Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = cargo::output(Command::new(rustc).arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc says no host")?.to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let unit = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("a number with s, m or h behind it".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "a number with s, m or h behind it")?;
    Ok(Duration::from_secs(number * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert!(duration("10").is_err() && duration("m").is_err() && duration("1d").is_err());
    }
}
