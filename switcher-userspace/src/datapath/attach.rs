//! Programs to interfaces: by links that are pinned and outlive the agent.
//!
//! A link that is there already is given the new program (`bpf_link_update`: no packet meets neither).
//! Only another mode, or an interface that went and came back, takes a new link.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, bail};
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact,
};
use aya::programs::{SchedClassifier, TcAttachType};

use super::pins::Pins;
use super::refusal;
use super::sys::{self, Hook, LinkInfo};
use crate::config::XdpMode;
use crate::host::{self, Interface};

/// Priority and handle of Switcher's clsact filter, so that it is found again. Low, to come first.
const PRIORITY: u16 = 1;
const HANDLE: TcHandle = TcHandle::new(0, 0x5357);

/// How the egress program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// By a link (Linux 6.6).
    Tcx,
    /// By a filter of the clsact qdisc.
    Clsact,
}

impl Egress {
    /// What the running kernel can do.
    #[must_use]
    pub fn supported() -> Self {
        match host::Kernel::running() {
            running if running >= host::Kernel::TCX => Self::Tcx,
            _ => Self::Clsact,
        }
    }
}

/// Attaches the ingress program to an interface.
pub(super) fn xdp(
    pins: &Pins,
    program: BorrowedFd<'_>,
    interface: &Interface,
    mode: XdpMode,
) -> anyhow::Result<()> {
    let pin = pins.xdp(&interface.name);
    let flags = |mode| match mode {
        XdpMode::Native => sys::XDP_NATIVE,
        XdpMode::Generic => sys::XDP_GENERIC,
    };
    let mut other_mode = None;
    if let Some((link, info)) = pinned_link(&pin)? {
        let attached = interface.xdp.iter().find(|(_, id)| *id == info.program);
        match attached {
            Some((as_is, _)) if info.interface == interface.index && as_is.is(mode) => {
                return sys::update_link(link.as_fd(), program)
                    .with_context(|| format!("{}: program can't be replaced", interface.name));
            }
            Some(_) if info.interface == interface.index => other_mode = Some(opposite(mode)),
            _ => tracing::warn!(
                interface = interface.name,
                "was recreated; attaching afresh"
            ),
        }
        // The kernel allows one mode at a time, so the old link has to go first.
        drop(link);
        remove_link(&pin)?;
    }
    let attach = |mode| {
        let link = sys::create_link(program, interface.index, Hook::Xdp, flags(mode));
        link.map_err(|error| refusal::xdp(interface, mode, error))
            .and_then(|link| pin_link(&link, &pin))
    };
    let Some(old) = other_mode else {
        return attach(mode);
    };
    tracing::warn!(interface = interface.name, from = %old, to = %mode, "changing the XDP mode");
    attach(mode).map_err(|refused| {
        refused.context(match attach(old) {
            Ok(()) => format!("{}: still attached as {old}", interface.name),
            Err(worse) => format!("{}: {old} could not be restored: {worse:#}", interface.name),
        })
    })
}

const fn opposite(mode: XdpMode) -> XdpMode {
    match mode {
        XdpMode::Native => XdpMode::Generic,
        XdpMode::Generic => XdpMode::Native,
    }
}

/// Attaches the egress program to an interface, and removes what the other way has left.
pub(super) fn egress(
    pins: &Pins,
    program: &mut SchedClassifier,
    interface: &Interface,
    how: Egress,
) -> anyhow::Result<()> {
    match how {
        Egress::Tcx => {
            tcx(pins, program, interface)?;
            remove_clsact(pins, &interface.name)
        }
        Egress::Clsact => {
            clsact(pins, program, interface)?;
            remove_link(&pins.egress(&interface.name))
        }
    }
}

/// First on its hook: whoever ends the chain before it would keep the VIP from replies.
fn tcx(pins: &Pins, program: &SchedClassifier, interface: &Interface) -> anyhow::Result<()> {
    let pin = pins.egress(&interface.name);
    let program = program.fd()?.as_fd();
    if let Some((link, info)) = pinned_link(&pin)? {
        if info.interface == interface.index {
            return sys::update_link(link.as_fd(), program)
                .with_context(|| format!("{}: program can't be replaced", interface.name));
        }
        drop(link);
        remove_link(&pin)?;
    }
    let link = sys::create_link(program, interface.index, Hook::TcxEgress, sys::FIRST)
        .map_err(|error| refusal::egress(interface, "tcx", error))?;
    pin_link(&link, &pin)
}

/// A filter is replaced in place if there is one. It belongs to the interface, not to this process, and
/// the pinned program beside the links says that it is ours.
fn clsact(pins: &Pins, program: &mut SchedClassifier, interface: &Interface) -> anyhow::Result<()> {
    let name = &interface.name;
    match qdisc_add_clsact(name) {
        Ok(()) | Err(TcError::AlreadyAttached) => {}
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
        Err(error) => {
            return Err(error).with_context(|| format!("{name}: no clsact qdisc can be added"));
        }
    }
    let options = NlOptions {
        priority: PRIORITY,
        handle: HANDLE,
        classid: None,
    };
    let pin = pins.clsact(name);
    let replaced = if pin.exists() {
        program.attach_to_link(filter(name)?).ok()
    } else {
        None
    };
    let link = match replaced {
        Some(link) => link,
        None => program
            .attach_with_options(
                name,
                TcAttachType::Egress,
                TcAttachOptions::Netlink(options),
            )
            .with_context(|| format!("{name}: the egress filter (clsact) can't be attached"))?,
    };
    // The filter is to stay when this process ends.
    std::mem::forget(program.take_link(link)?);
    unpin(&pin)?;
    sys::pin(program.fd()?.as_fd(), &pin)
        .with_context(|| format!("{}: can't be pinned", pin.display()))
}

/// Removes the clsact filter if there is one of ours.
pub(super) fn remove_clsact(pins: &Pins, name: &str) -> anyhow::Result<()> {
    use aya::programs::links::Link as _;
    let pin = pins.clsact(name);
    if !pin.exists() {
        return Ok(());
    }
    if host::interface(name)?.is_some() {
        let detached = filter(name)?.detach();
        if let Err(error) = detached {
            tracing::debug!(interface = name, %error, "the clsact filter has gone already");
        }
    }
    unpin(&pin)
}

fn filter(name: &str) -> anyhow::Result<SchedClassifierLink> {
    let egress = TcAttachType::Egress;
    SchedClassifierLink::attached(name, egress, PRIORITY, HANDLE, None)
        .with_context(|| format!("{name}: no such interface"))
}

/// Whether a pinned link still attaches something to the interface.
pub(super) fn is_attached(pin: &Path, interface: &Interface) -> bool {
    matches!(pinned_link(pin), Ok(Some((_, info))) if info.interface == interface.index)
}

/// A pinned link and what the kernel says of it; nothing without a pin.
pub(super) fn pinned_link(pin: &Path) -> anyhow::Result<Option<(OwnedFd, LinkInfo)>> {
    let link = match sys::open_pin(pin) {
        Ok(link) => link,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("{}: can't be opened", pin.display()));
        }
    };
    let info = sys::link_info(link.as_fd());
    let info = info.with_context(|| format!("{}: not a link", pin.display()))?;
    Ok(Some((link, info)))
}

fn pin_link(link: &OwnedFd, pin: &Path) -> anyhow::Result<()> {
    sys::pin(link.as_fd(), pin).with_context(|| format!("{}: can't be pinned", pin.display()))
}

/// Takes a pinned link's program off its interface, and removes the pin. Without one, nothing.
pub(super) fn remove_link(pin: &Path) -> anyhow::Result<()> {
    if let Ok(link) = sys::open_pin(pin)
        && let Err(error) = sys::detach_link(link.as_fd())
    {
        // The interface may have gone; if not, the kernel detaches a little after the pin goes.
        tracing::debug!(pin = %pin.display(), %error, "not detached at once");
    }
    unpin(pin)
}

/// Removes a pin. Without one, nothing.
fn unpin(pin: &Path) -> anyhow::Result<()> {
    match fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: can't be removed", pin.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether every XDP program on an interface is the one of our link.
pub(crate) fn is_ours(pins: &Pins, interface: &Interface) -> anyhow::Result<bool> {
    let ours = pinned_link(&pins.xdp(&interface.name))?.map(|(_, info)| info.program);
    Ok(interface.xdp.iter().all(|(_, id)| Some(*id) == ours))
}

/// The interface, which has to be there and have no XDP program but ours.
pub(crate) fn usable(pins: &Pins, name: &str) -> anyhow::Result<Interface> {
    let interface = host::interface(name).context("interfaces can't be listed")?;
    let Some(interface) = interface else {
        let known: Vec<String> = host::interfaces()?.into_iter().map(|i| i.name).collect();
        bail!(
            "interface {name}: there is none of that name; this host has {}",
            known.join(", ")
        );
    };
    let ours = pinned_link(&pins.xdp(name))?.map(|(_, info)| info.program);
    let foreign = interface.xdp.iter().find(|(_, id)| Some(*id) != ours);
    match foreign {
        Some((_, id)) => Err(refusal::foreign(&interface, *id)),
        None => Ok(interface),
    }
}
