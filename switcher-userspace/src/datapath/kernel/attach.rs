//! Programs onto interfaces, by links that are pinned: they stay when the agent goes, and a new agent
//! replaces the program in a link without losing a packet (`bpf_link_update`).

use std::fs;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact,
};
use aya::programs::xdp::XdpLink;
use aya::programs::{LinkOrder, TcAttachType, XdpMode as AyaMode};
use aya::util::KernelVersion;
use nix::net::if_::if_nametoindex;

use super::pins::Pins;
use super::{bpf, foreign, load};
use crate::config::XdpMode;

/// Priority of the clsact filter: after filters that people number by hand.
const PRIORITY: u16 = 49_001;
/// Handle of the clsact filter.
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// How the egress program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EgressHook {
    /// A tcx link (Linux 6.6).
    Tcx,
    /// A filter of the clsact qdisc (Linux 4.5). It survives the agent without a pin.
    Clsact,
}

impl EgressHook {
    /// The better one that the running kernel has.
    pub fn for_this_kernel() -> Self {
        if KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0)) {
            Self::Tcx
        } else {
            Self::Clsact
        }
    }
}

/// Puts the XDP program on an interface, or replaces the one of an earlier agent.
///
/// # Errors
/// When there is no such interface, its driver or MTU does not allow the mode, or somebody else's program
/// is there.
pub(super) fn ingress(
    ebpf: &mut Ebpf,
    pins: &Pins,
    interface: &str,
    mode: XdpMode,
) -> anyhow::Result<()> {
    let index = index_of(interface)?;
    let pin = pins.ingress(interface, mode);
    let program = load::ingress(ebpf)?;
    if let Some(link) = adopt(&pin, index) {
        let link = XdpLink::try_from(link).context("the pinned link is none of XDP")?;
        program
            .attach_to_link(link)
            .with_context(|| format!("replacing the XDP program of {interface}"))?;
        return Ok(());
    }
    release_other_mode(pins, interface, mode)?;
    let aya_mode = match mode {
        XdpMode::Native => AyaMode::Driver,
        XdpMode::Generic => AyaMode::Skb,
    };
    let link = program
        .attach_to_if_index(index, aya_mode)
        .map_err(|error| foreign::xdp_refused(interface, index, mode, error))?;
    let link: FdLink = program.take_link(link)?.try_into().map_err(|_| {
        anyhow!("{interface}: this kernel attaches XDP programs by netlink only, which does not outlive the agent; Linux 5.9 or later is needed")
    })?;
    link.pin(&pin)
        .with_context(|| format!("pinning the XDP link of {interface} at {}", pin.display()))?;
    Ok(())
}

/// Puts the tc program on an interface's egress, or replaces the one of an earlier agent.
///
/// # Errors
/// When there is no such interface or the kernel refuses.
pub(super) fn egress(
    ebpf: &mut Ebpf,
    pins: &Pins,
    interface: &str,
    hook: EgressHook,
) -> anyhow::Result<()> {
    match hook {
        EgressHook::Tcx => tcx(ebpf, pins, interface),
        EgressHook::Clsact => clsact(ebpf, interface),
    }
    .with_context(|| format!("attaching the tc program to the egress of {interface}"))
}

fn tcx(ebpf: &mut Ebpf, pins: &Pins, interface: &str) -> anyhow::Result<()> {
    let index = index_of(interface)?;
    let pin = pins.egress(interface);
    let program = load::egress(ebpf)?;
    if let Some(link) = adopt(&pin, index) {
        let link = SchedClassifierLink::try_from(link).context("the pinned link is none of tcx")?;
        program.attach_to_link(link)?;
        return Ok(());
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let link = program.attach_with_options(interface, TcAttachType::Egress, options)?;
    let link: FdLink = program.take_link(link)?.try_into()?;
    link.pin(&pin)?;
    Ok(())
}

fn clsact(ebpf: &mut Ebpf, interface: &str) -> anyhow::Result<()> {
    // An existing qdisc is as good as a new one; a real refusal shows in the next step.
    let _exists = qdisc_add_clsact(interface);
    let program = load::egress(ebpf)?;
    let earlier =
        SchedClassifierLink::attached(interface, TcAttachType::Egress, PRIORITY, HANDLE, None)?;
    let link = match program.attach_to_link(earlier) {
        Ok(link) => link,
        Err(_nothing_there) => {
            let options = NlOptions {
                priority: PRIORITY,
                handle: HANDLE,
                ..NlOptions::default()
            };
            program.attach_with_options(
                interface,
                TcAttachType::Egress,
                TcAttachOptions::Netlink(options),
            )?
        }
    };
    // Dropping the link would remove the filter.
    std::mem::forget(program.take_link(link)?);
    Ok(())
}

/// Names of the pinned links.
///
/// # Errors
/// When the directory can't be read.
pub(in crate::datapath) fn attached_links(pins: &Pins) -> anyhow::Result<Vec<String>> {
    let directory = pins.links();
    let entries =
        fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))?;
    Ok(entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect())
}

/// Removes the clsact filters of older kernels, wherever there is one.
pub(in crate::datapath) fn remove_clsact() {
    for interface in nix::net::if_::if_nameindex()
        .iter()
        .flat_map(|all| all.iter())
    {
        let name = interface.name().to_string_lossy();
        if let Ok(link) =
            SchedClassifierLink::attached(&name, TcAttachType::Egress, PRIORITY, HANDLE, None)
        {
            // Most interfaces have no such filter, which is what we want.
            let _absent = aya::programs::links::Link::detach(link);
        }
    }
}

/// Takes the programs off interfaces that the configuration no longer names.
///
/// # Errors
/// When a pin can't be removed.
pub(super) fn leave_others(
    pins: &Pins,
    interfaces: &[String],
    mode: XdpMode,
) -> anyhow::Result<()> {
    let ours: Vec<_> = interfaces
        .iter()
        .flat_map(|name| [pins.ingress(name, mode), pins.egress(name)])
        .collect();
    for entry in fs::read_dir(pins.links())?.flatten() {
        if !ours.contains(&entry.path()) {
            tracing::warn!(link = %entry.path().display(), "detaching from an interface that is not configured");
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Whether both programs are on an interface.
pub(super) fn is_attached(pins: &Pins, interface: &str, mode: XdpMode) -> bool {
    let Ok(index) = index_of(interface) else {
        return false;
    };
    let on = |pin: &Path| bpf::pinned_link_interface(pin).is_ok_and(|found| found == index);
    on(&pins.ingress(interface, mode))
        && (EgressHook::for_this_kernel() == EgressHook::Clsact || on(&pins.egress(interface)))
}

/// The pinned link, if it is still on the interface with this index. Otherwise the pin is removed.
fn adopt(pin: &Path, index: u32) -> Option<FdLink> {
    let found = bpf::pinned_link_interface(pin).ok()?;
    if found == index {
        return PinnedLink::from_pin(pin).ok().map(FdLink::from);
    }
    tracing::warn!(pin = %pin.display(), "the interface was replaced; attaching afresh");
    let _gone = fs::remove_file(pin);
    None
}

/// Native and generic programs exclude each other: the old one has to go first.
fn release_other_mode(pins: &Pins, interface: &str, mode: XdpMode) -> anyhow::Result<()> {
    let other = match mode {
        XdpMode::Native => XdpMode::Generic,
        XdpMode::Generic => XdpMode::Native,
    };
    let pin = pins.ingress(interface, other);
    if pin.exists() {
        tracing::warn!(interface, from = %other, to = %mode, "changing the XDP mode; packets pass unswitched for a moment");
        fs::remove_file(&pin).with_context(|| format!("removing {}", pin.display()))?;
    }
    Ok(())
}

fn index_of(interface: &str) -> anyhow::Result<u32> {
    match if_nametoindex(interface) {
        Ok(index) => Ok(index),
        Err(nix::errno::Errno::ENODEV) => bail!(
            "there is no interface {interface} on this host: `ip -br link` lists those there are; correct `interfaces` in [agent]"
        ),
        Err(errno) => Err(errno).with_context(|| format!("looking up the interface {interface}")),
    }
}
