//! Switcher beside IPVS, which not every kernel has: the `sides` bench in a virtual machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::machine::{Accelerator, Machine};
use super::{Binaries, START, accelerator, directory, find, image, modules, prepare};
use crate::cargo::{self, cargo};

/// The kernel series that it is measured on.
const SERIES: &str = "6.12";
/// The bench, and what it is called in the machine.
const BENCH: &str = "sides";
/// Its part, and what its report is called.
const PART: &str = "ipvs";
/// What it starts, beside what tests do.
const PROGRAMS: [&str; 6] = ["nft", "nginx", "wrk", "iperf3", "ipvsadm", "ss"];
/// How long it may take: five rounds take eight minutes where the machine is emulated by two cores.
const PATIENCE: u64 = 7200;

/// Boots a kernel that has IPVS, measures there, and writes the report beside those of the host. Other products lie
/// below `programs`.
pub(crate) fn run(programs: &Path, flags: &[&str]) -> anyhow::Result<()> {
    let directory = directory()?;
    let packages = prepare(&[SERIES], &directory)?;
    let package = packages.first().context("a kernel")?;
    let binaries = binaries()?;
    let accelerator = accelerator(&directory, &packages, &binaries)?;
    let started: Vec<&str> = image::PROGRAMS.into_iter().chain(PROGRAMS).collect();
    let base = image::base(&binaries, &started, Some(programs))?;
    let wanted: Vec<&str> = modules::WANTED
        .into_iter()
        .chain(modules::COMPARED)
        .collect();
    let mut own = image::modules(package, &wanted)?;
    let flags = flags.join(" ");
    let plan = format!("{PATIENCE} {PART} /guest/{BENCH} {PART} {flags}\n");
    own.file("guest/plan", 0o644, plan.as_bytes());
    let image = directory.join(format!("{}-{PART}.cpio", package.release));
    base.write(&[&own], &image)?;
    let machine = Machine {
        kernel: &package.kernel,
        image: &image,
        accelerator,
    };
    let mut report = None;
    let mark = format!("{PART}: report: ");
    let most = START + Duration::from_secs(PATIENCE);
    let failed = machine.boot(most, |line| match line.strip_prefix(&mark) {
        Some(text) => report = Some(text.to_owned()),
        None => println!("{}: {line}", package.release),
    })?;
    if failed > 0 {
        bail!("it failed in the machine");
    }
    let report = report.context("the machine has reported nothing")?;
    publish(&serde_json::from_str(&report)?, accelerator, &directory)
}

/// Our executables: the bench and the agent as they are measured, the guest as it is built for tests.
fn binaries() -> anyhow::Result<Binaries> {
    let build = [
        "bench",
        "--no-run",
        "--package",
        "switcher-tests",
        "--bench",
        BENCH,
    ];
    let json = "--message-format=json-render-diagnostics";
    let built = cargo::output(cargo(build).arg(json))?;
    let agent = [
        "build",
        "--release",
        "--package",
        "switcher-userspace",
        json,
    ];
    let agent = cargo::output(&mut cargo(agent))?;
    let guest = cargo::output(&mut cargo(["build", "--package", "switcher-guest", json]))?;
    Ok(Binaries {
        tests: vec![(BENCH, find(&built, BENCH, "bench")?)],
        agent: find(&agent, "switcher", "bin")?,
        guest: find(&guest, "switcher-guest", "bin")?,
    })
}

/// Prints it, and writes it as the bench itself would.
fn publish(report: &Value, accelerator: Accelerator, kernels: &Path) -> anyhow::Result<()> {
    let mut text = report["md"].as_str().context("a text")?.to_owned();
    if accelerator == Accelerator::Emulation {
        text += "- The machine was emulated: how these compare says how many instructions they take, and no more.\n";
    }
    println!("{text}");
    let bench: PathBuf = kernels.with_file_name("bench");
    std::fs::create_dir_all(&bench)?;
    let json = serde_json::to_string_pretty(&report["json"])?;
    for (ending, content) in [("md", text), ("json", json)] {
        let path = bench.join(format!("{PART}.{ending}"));
        std::fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
    }
    println!("in target/bench: {PART}.md, {PART}.json");
    Ok(())
}
