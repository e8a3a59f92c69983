//! The BPF file system and what is pinned there.

use std::path::Path;

use super::Check;
use crate::datapath::pinned::Pinned;
use crate::datapath::pins::{Pins, is_bpffs};

pub(super) fn checks(bpffs: &Path) -> Vec<Check> {
    let pins = Pins::new(bpffs);
    let mut checks = vec![mounted(bpffs).about("bpf-file-system")];
    if let Err(error) = pins.refuse_other_versions() {
        let check = Check::problem("other versions", format!("{error:#}"), "");
        checks.push(check.about("other-versions"));
    }
    checks.push(maps(&pins, bpffs).about("pins"));
    checks
}

fn mounted(bpffs: &Path) -> Check {
    const NAME: &str = "BPF file system";
    match is_bpffs(bpffs) {
        true => Check::ok(NAME, format!("mounted for {}", bpffs.display())),
        false => Check::ok(NAME, "not mounted yet; the agent does that"),
    }
}

fn maps(pins: &Pins, bpffs: &Path) -> Check {
    const NAME: &str = "pins";
    if !pins.exist() {
        return Check::ok(
            NAME,
            "none: no agent has run here, or not as a user that this one can see",
        );
    }
    let agent = match pins.holder() {
        Some(pid) => format!("agent running (process {pid})"),
        None => "no agent running".into(),
    };
    match Pinned::open(bpffs).and_then(|pinned| pinned.have()) {
        Ok(have) => {
            let (groups, services) = (have.groups.len(), have.services.len());
            let interfaces = pins.interfaces().join(", ");
            Check::ok(
                NAME,
                format!("{groups} groups, {services} entries, attached to {interfaces}; {agent}"),
            )
        }
        Err(error) => Check::unknown(NAME, format!("{error:#}; {agent}"), "run this as root"),
    }
}
