//! `cargo xtask bench`: the data path's speed, measured by the `datapath` bench, and Switcher beside other products,
//! by the `sides` bench.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::cargo::{self, cargo};
use crate::kernels;
use crate::setup::{self, Need};

/// Parts of the `sides` bench; all others are `datapath`'s.
const SIDES: [&str; 3] = ["sides", "switch", IPVS];
/// The part that needs a kernel with IPVS.
const IPVS: &str = "ipvs";
/// What is compared with.
const PRODUCTS: [&str; 5] = [
    "nftables",
    "haproxy",
    "nginx",
    "libnginx-mod-stream",
    "ipvsadm",
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Parts: packets, live, memory, store, flip, scale, growth, rate, throughput; sides and switch, which compare with other
    /// products, and ipvs, which does in a virtual machine; and --quick. All parts but the last three if none is named
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    setup::ensure(Need::Run)?;
    // Its parts that look at the agent want the optimised one, too.
    let build = ["build", "--release", "--package", "switcher-userspace"];
    cargo::run(&mut cargo(build))?;
    let is_flag = |it: &&String| it.starts_with("--");
    let flags: Vec<&String> = args.args.iter().filter(is_flag).collect();
    let named = args.args.iter().filter(|it| !is_flag(it));
    let (sides, rest): (Vec<&String>, Vec<_>) = named.partition(|it| SIDES.contains(&it.as_str()));
    if !rest.is_empty() || sides.is_empty() {
        cargo::run(bench("datapath").args(rest).args(&flags))?;
    }
    if !sides.is_empty() {
        let programs = products()?;
        let (ipvs, here): (Vec<_>, Vec<_>) = sides.into_iter().partition(|it| *it == IPVS);
        if !here.is_empty() {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let path = std::env::split_paths(&path);
            let path = std::env::join_paths([programs.join("usr/sbin")].into_iter().chain(path))?;
            let mut bench = bench("sides");
            bench.env("PATH", path);
            bench.env("LD_LIBRARY_PATH", setup::libraries(&programs));
            cargo::run(bench.args(here).args(&flags))?;
        }
        if !ipvs.is_empty() {
            let flags: Vec<&str> = flags.iter().map(|it| it.as_str()).collect();
            kernels::compare(&programs, &flags)?;
        }
    }
    Ok(())
}

fn bench(name: &str) -> Command {
    cargo([
        "bench",
        "--package",
        "switcher-tests",
        "--bench",
        name,
        "--",
    ])
}

/// Unpacks what the distribution has of other products. Installed, they would be started, too.
fn products() -> anyhow::Result<PathBuf> {
    // Another list is another directory.
    let directory = format!("products-{}", PRODUCTS.join("-"));
    let directory = Path::new(setup::TOOLS).join(directory);
    let (packages, programs) = (directory.join("packages"), directory.join("programs"));
    if programs.exists() {
        return Ok(programs);
    }
    ensure!(
        setup::in_path("apt-get").is_some(),
        "only Debian's packages of {} can be fetched, and there is no apt-get",
        PRODUCTS.join(", ")
    );
    std::fs::create_dir_all(packages.join("partial"))?;
    let mut fetch = Command::new("apt-get");
    fetch.args(["install", "--yes", "--download-only"]);
    fetch.args(["--no-install-recommends", "-o"]);
    fetch.arg(format!("Dir::Cache::archives={}", packages.display()));
    cargo::run(fetch.args(["-o", "DPkg::Lock::Timeout=300"]).args(PRODUCTS))?;
    let unpacked = directory.join("programs.part");
    for entry in std::fs::read_dir(&packages).context("reading what was fetched")? {
        let file = entry?.path();
        if file.extension().is_some_and(|it| it == "deb") {
            let mut unpack = Command::new("dpkg");
            cargo::run(unpack.arg("-x").arg(file).arg(&unpacked))?;
        }
    }
    std::fs::create_dir_all(&unpacked)?;
    std::fs::rename(&unpacked, &programs)?;
    Ok(programs)
}
