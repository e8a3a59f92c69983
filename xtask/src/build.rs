//! `cargo xtask build`: the release binary, its kernel object embedded.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::cargo::{self, cargo};
use crate::setup::{self, Need, in_path};

/// Compiles C for musl; of the Debian package with this name.
const MUSL: (&str, &str) = ("musl-gcc", "musl-tools");

#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// One that needs no library of the host, by musl: for hosts with another or an older libc
    #[arg(long = "static")]
    is_static: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    setup::ensure(Need::Build)?;
    let mut command = cargo(["build", "--release", "--package", "switcher-userspace"]);
    if !args.is_static {
        cargo::run(&mut command)?;
        println!("built target/release/switcher");
        return Ok(());
    }
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let (compiler, package) = MUSL;
    if in_path(compiler).is_none() {
        setup::install_packages(&[package])?;
    }
    cargo::run(Command::new("rustup").args(["target", "add", &target]))?;
    command
        .args(["--bins", "--target", &target])
        .env(format!("CC_{}", target.replace('-', "_")), compiler);
    cargo::run(&mut command)?;
    let binary = Path::new("target").join(target).join("release/switcher");
    check(&binary)?;
    println!("built {}", binary.display());
    Ok(())
}

/// It is what was asked for, and runs.
fn check(binary: &Path) -> anyhow::Result<()> {
    let file = std::fs::read(binary).with_context(|| format!("reading {}", binary.display()))?;
    ensure!(
        !has_interpreter(&file)?,
        "{} needs libraries of the host",
        binary.display()
    );
    let version = cargo::output(Command::new(binary).arg("--version"))?;
    ensure!(version.starts_with("switcher "), "{version}");
    // What that finds is about this host: it may end with a problem.
    let doctor = Command::new(binary).args(["doctor", "--json"]).output()?;
    serde_json::from_slice::<serde_json::Value>(&doctor.stdout).context("what `doctor` says")?;
    Ok(())
}

/// Whether a program asks for the host's dynamic linker (ELF, 64 bits, in this machine's order).
fn has_interpreter(file: &[u8]) -> anyhow::Result<bool> {
    /// `PT_INTERP`.
    const INTERPRETER: u32 = 3;
    let bytes = |at: usize, length: usize| {
        let end = at.checked_add(length).context("too large")?;
        file.get(at..end).context("the file is cut off")
    };
    if bytes(0, 5)? != b"\x7fELF\x02" {
        bail!("no 64-bit program");
    }
    let at = usize::try_from(u64::from_ne_bytes(bytes(32, 8)?.try_into()?))?;
    let size = u16::from_ne_bytes(bytes(54, 2)?.try_into()?);
    let count = u16::from_ne_bytes(bytes(56, 2)?.try_into()?);
    for index in 0..usize::from(count) {
        let kind = bytes(at + index * usize::from(size), 4)?;
        if u32::from_ne_bytes(kind.try_into()?) == INTERPRETER {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program with segments of these kinds.
    fn program(kinds: &[u32]) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..5].copy_from_slice(b"\x7fELF\x02");
        file[32..40].copy_from_slice(&64_u64.to_ne_bytes());
        file[54..56].copy_from_slice(&56_u16.to_ne_bytes());
        file[56..58].copy_from_slice(&(kinds.len() as u16).to_ne_bytes());
        for kind in kinds {
            let start = file.len();
            file.resize(start + 56, 0);
            file[start..start + 4].copy_from_slice(&kind.to_ne_bytes());
        }
        file
    }

    #[test]
    fn a_program_with_an_interpreter_is_not_static() {
        let [load, dynamic, interpreter] = [1, 2, 3];
        assert!(has_interpreter(&program(&[load, interpreter, dynamic])).expect("a program"));
        assert!(!has_interpreter(&program(&[load, dynamic])).expect("a program"));
        assert!(has_interpreter(&program(&[load])[..70]).is_ok());
        assert!(has_interpreter(&program(&[load])[..60]).is_err());
        assert!(has_interpreter(b"#!/bin/sh").is_err());
    }
}
