//! The kernel object and its two programs.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use aya::programs::{ProgramError, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use switcher_common::abi::map;

use super::pins::Pins;

/// The kernel object, built from source by `build.rs`.
pub const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/switcher"));
/// Name of the XDP program in [`OBJECT`].
pub const INGRESS: &str = "switcher_ingress";
/// Name of the tc program in [`OBJECT`].
pub const EGRESS: &str = "switcher_egress";

/// How many of the verifier's last lines an error shows.
const TELLING_LINES: usize = 12;

/// Loads both programs over the pinned maps; maps that are not there yet are made and pinned.
///
/// # Errors
/// When the kernel refuses a map or a program.
pub(super) fn programs(pins: &Pins) -> anyhow::Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    for name in map::ALL {
        loader.map_pin_path(name, pins.map(name));
    }
    let mut ebpf = loader.load(OBJECT).map_err(|error| {
        anyhow!(error).context(
            "creating the BPF maps (needs CAP_BPF and CAP_NET_ADMIN, or root; before Linux 5.11 also a memlock limit)",
        )
    })?;
    ingress(&mut ebpf)?
        .load()
        .map_err(|error| refused(INGRESS, error))?;
    egress(&mut ebpf)?
        .load()
        .map_err(|error| refused(EGRESS, error))?;
    Ok(ebpf)
}

/// The XDP program.
pub(super) fn ingress(ebpf: &mut Ebpf) -> anyhow::Result<&mut Xdp> {
    let program = ebpf
        .program_mut(INGRESS)
        .context("the object has no ingress program")?;
    Ok(program.try_into()?)
}

/// The tc program.
pub(super) fn egress(ebpf: &mut Ebpf) -> anyhow::Result<&mut SchedClassifier> {
    let program = ebpf
        .program_mut(EGRESS)
        .context("the object has no egress program")?;
    Ok(program.try_into()?)
}

/// The last telling lines of the verifier's log; all of it goes to a file.
fn refused(program: &str, error: ProgramError) -> anyhow::Error {
    let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    else {
        return anyhow!(error).context(format!("loading {program}"));
    };
    if io_error.kind() == std::io::ErrorKind::PermissionDenied
        && verifier_log.to_string().is_empty()
    {
        return anyhow!(io_error).context(format!(
            "loading {program}: not permitted; run the agent as root or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
        ));
    }
    let log = verifier_log.to_string();
    let kept = keep(program, &log);
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let telling = lines[lines.len().saturating_sub(TELLING_LINES)..].join("\n  ");
    anyhow!(io_error).context(format!(
        "this kernel's verifier refuses {program}; please report it with the whole log{}. Its end:\n  {telling}",
        kept.map(|path| format!(" in {}", path.display())).unwrap_or_default(),
    ))
}

fn keep(program: &str, log: &str) -> Option<PathBuf> {
    let path = std::env::temp_dir().join(format!("{program}-verifier-{}.log", std::process::id()));
    std::fs::write(&path, log).ok().map(|()| path)
}
