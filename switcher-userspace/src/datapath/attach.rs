//! Programs to interfaces: by links that are pinned and outlive the agent.
//!
//! A link that is there already is given the new program (`bpf_link_update`: no packet meets neither).
//! Only another mode, or an interface that went and came back, takes a new link.

pub mod tc;

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::Context;
use aya::programs::ProgramFd;

use self::tc::{Side, Tc};
use super::pins::Pins;
use super::programs::Programs;
use super::refusal;
use super::sys::{self, Hook, LinkInfo};
use crate::config::XdpMode;
use crate::host::{self, Interface};

/// Attaches the program for incoming packets to an interface. What another mode has left goes first: the kernel
/// allows one mode of XDP at a time, and to a program at tc a packet that XDP has rewritten would look like one to
/// the endpoint's own address.
pub(super) fn incoming(
    pins: &Pins,
    programs: &mut Programs,
    interface: &Interface,
    mode: XdpMode,
    how: Tc,
) -> anyhow::Result<()> {
    let name = &interface.name;
    let old = attached_mode(pins, interface)?;
    if old == Some(mode) && mode != XdpMode::Tc {
        let (link, _) = pinned_link(&pins.xdp(name))?.context("the link has gone")?;
        return sys::update_link(link.as_fd(), programs.xdp()?.as_fd())
            .with_context(|| format!("{name}: program can't be replaced"));
    }
    remove_link(&pins.xdp(name))?;
    if mode != XdpMode::Tc {
        tc::remove(pins, name, Side::Ingress)?;
    }
    let mut attach = |mode| match mode {
        XdpMode::Tc => tc::attach(
            pins,
            &mut programs.tc_ingress()?,
            interface,
            Side::Ingress,
            how,
        ),
        XdpMode::Native | XdpMode::Generic => xdp(pins, &programs.xdp()?, interface, mode),
    };
    let Some(old) = old.filter(|old| *old != mode) else {
        return attach(mode);
    };
    tracing::warn!(interface = name, from = %old, to = %mode, "changing the XDP mode");
    attach(mode).map_err(|refused| {
        refused.context(match attach(old) {
            Ok(()) => format!("{name}: still attached as {old}"),
            Err(worse) => format!("{name}: {old} could not be restored: {worse:#}"),
        })
    })
}

/// How the program for incoming packets is attached already.
fn attached_mode(pins: &Pins, interface: &Interface) -> anyhow::Result<Option<XdpMode>> {
    if tc::is_there(pins, interface, Side::Ingress) {
        return Ok(Some(XdpMode::Tc));
    }
    let Some((_, info)) = pinned_link(&pins.xdp(&interface.name))? else {
        return Ok(None);
    };
    let is_there = |mode: &XdpMode| {
        let mut programs = interface.xdp.iter();
        info.interface == interface.index
            && programs.any(|(how, id)| *id == info.program && how.is(*mode))
    };
    let mut modes = [XdpMode::Native, XdpMode::Generic].into_iter();
    let found = modes.find(is_there);
    if found.is_none() {
        tracing::warn!(
            interface = interface.name,
            "was recreated; attaching afresh"
        );
    }
    Ok(found)
}

fn xdp(
    pins: &Pins,
    program: &ProgramFd,
    interface: &Interface,
    mode: XdpMode,
) -> anyhow::Result<()> {
    let flag = match mode {
        XdpMode::Generic => sys::XDP_GENERIC,
        XdpMode::Native | XdpMode::Tc => sys::XDP_NATIVE,
    };
    let link = sys::create_link(program.as_fd(), interface.index, Hook::Xdp, flag)
        .map_err(|error| refusal::xdp(interface, mode, error))?;
    pin_link(&link, &pins.xdp(&interface.name))
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

/// The interface, which has to be there and have no XDP program but ours; at tc it may have another, which sees
/// packets first.
pub(crate) fn usable(pins: &Pins, name: &str, mode: XdpMode) -> anyhow::Result<Interface> {
    let interface = host::interface(name).context("interfaces can't be listed")?;
    let Some(interface) = interface else {
        return Err(refusal::missing(name, &host::interfaces()?));
    };
    let ours = pinned_link(&pins.xdp(name))?.map(|(_, info)| info.program);
    let foreign = interface.xdp.iter().find(|(_, id)| Some(*id) != ours);
    match foreign {
        Some((_, id)) if mode != XdpMode::Tc => Err(refusal::foreign(&interface, *id)),
        Some(_) | None => Ok(interface),
    }
}
