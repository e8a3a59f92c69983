//! `cargo xtask deb`: the Debian package.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::cargo::{self, cargo};
use crate::setup::{self, Need, cargo_deb};

/// Where manual pages and completions are made; the package's metadata names it.
const GENERATED: &str = "target/package";
const OUT: &str = "target/debian";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// With the binary of development, as it was built last: to look at the package, not to install it where it matters
    #[arg(long)]
    dev: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::env::set_current_dir(&root).with_context(|| format!("going to {}", root.display()))?;
    setup::ensure(Need::Package)?;
    let (profile, directory) = match args.dev {
        true => ("dev", "debug"),
        false => ("release", "release"),
    };
    let package = ["--package", "switcher-userspace"];
    if !args.dev {
        cargo::run(cargo(["build", "--release", "--bins"]).args(package))?;
    }
    let binary = Path::new("target").join(directory).join("switcher");
    let advice = "build it first: cargo build --package switcher-userspace";
    ensure!(
        binary.is_file(),
        "there is no {}: {advice}",
        binary.display()
    );
    generate(&binary)?;
    let _none_before = fs::remove_dir_all(OUT);
    let mut command = Command::new(cargo_deb());
    // It has opinions on where files come from.
    command
        .args(["--quiet", "--no-build", "--profile", profile])
        .args(package)
        .args(["--output", OUT]);
    if args.dev {
        command.arg("--no-strip").arg("--fast");
    }
    cargo::run(&mut command)?;
    println!("built {}", built()?.display());
    Ok(())
}

/// The binary's own manual pages and completions.
fn generate(binary: &Path) -> anyhow::Result<()> {
    let directory = Path::new(GENERATED);
    let _none_before = fs::remove_dir_all(directory);
    let man = directory.join("man");
    fs::create_dir_all(&man).with_context(|| format!("making {}", man.display()))?;
    cargo::run(Command::new(binary).arg("man").arg(&man))?;
    for (shell, name) in [
        ("bash", "switcher"),
        ("zsh", "_switcher"),
        ("fish", "switcher.fish"),
    ] {
        let file = File::create(directory.join(name))?;
        cargo::run(
            Command::new(binary)
                .args(["completion", shell])
                .stdout(file),
        )?;
    }
    Ok(())
}

/// The one package that is there.
fn built() -> anyhow::Result<PathBuf> {
    let entries = fs::read_dir(OUT).with_context(|| format!("reading {OUT}"))?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    let paths: Vec<PathBuf> = paths.collect::<std::io::Result<_>>()?;
    let mut packages = paths
        .into_iter()
        .filter(|it| it.extension().is_some_and(|it| it == "deb"));
    let package = packages
        .next()
        .with_context(|| format!("no package in {OUT}"))?;
    ensure!(packages.next().is_none(), "more than one package in {OUT}");
    Ok(package)
}
