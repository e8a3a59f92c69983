//! The hooks of tc: by links of tcx, or by filters of the clsact qdisc on kernels without it.

use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::Context;
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact,
};
use aya::programs::{SchedClassifier, TcAttachType};

use super::{is_attached, pin_link, pinned_link, remove_link, unpin};
use crate::datapath::pins::Pins;
use crate::datapath::refusal;
use crate::datapath::sys::{self, Hook};
use crate::host::{self, Interface, filter};

/// Priority and handle of Switcher's clsact filters, so that they are found again. Low, to come first.
const PRIORITY: u16 = 1;
const MINOR: u16 = 0x5357;
const HANDLE: TcHandle = TcHandle::new(0, MINOR);

/// How tc programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tc {
    /// By a link (Linux 6.6).
    Tcx,
    /// By a filter of the clsact qdisc.
    Clsact,
}

impl Tc {
    /// What the running kernel can do.
    #[must_use]
    pub fn supported() -> Self {
        match host::Kernel::running() {
            running if running >= host::Kernel::TCX => Self::Tcx,
            _ => Self::Clsact,
        }
    }
}

/// Which of an interface's hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// What comes in.
    Ingress,
    /// What goes out.
    Egress,
}

impl Side {
    pub(crate) const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    fn link(self, pins: &Pins, name: &str) -> PathBuf {
        match self {
            Self::Ingress => pins.ingress(name),
            Self::Egress => pins.egress(name),
        }
    }

    fn filter(self, pins: &Pins, name: &str) -> PathBuf {
        match self {
            Self::Ingress => pins.clsact_ingress(name),
            Self::Egress => pins.clsact(name),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "tcx ingress",
            Self::Egress => "tcx egress",
        }
    }

    const fn hook(self) -> Hook {
        match self {
            Self::Ingress => Hook::TcxIngress,
            Self::Egress => Hook::TcxEgress,
        }
    }

    const fn parent(self) -> u32 {
        match self {
            Self::Ingress => filter::INGRESS,
            Self::Egress => filter::EGRESS,
        }
    }

    const fn kind(self) -> TcAttachType {
        match self {
            Self::Ingress => TcAttachType::Ingress,
            Self::Egress => TcAttachType::Egress,
        }
    }
}

/// Attaches a program to an interface, and removes what the other way has left.
pub(in crate::datapath) fn attach(
    pins: &Pins,
    program: &mut SchedClassifier,
    interface: &Interface,
    side: Side,
    how: Tc,
) -> anyhow::Result<()> {
    match how {
        Tc::Tcx => {
            tcx(pins, program, interface, side)?;
            remove_filter(pins, &interface.name, side)
        }
        Tc::Clsact => {
            clsact(pins, program, interface, side)?;
            remove_link(&side.link(pins, &interface.name))
        }
    }
}

/// Gives a hook another program, if ours is there; so no packet meets none.
pub(in crate::datapath) fn replace(
    pins: &Pins,
    program: &mut SchedClassifier,
    interface: &Interface,
    side: Side,
) -> anyhow::Result<()> {
    if is_attached(&side.link(pins, &interface.name), interface) {
        return tcx(pins, program, interface, side);
    }
    match side.filter(pins, &interface.name).exists() {
        true => clsact(pins, program, interface, side),
        false => Ok(()),
    }
}

/// Takes our program off a hook, if it is there.
pub(in crate::datapath) fn remove(pins: &Pins, name: &str, side: Side) -> anyhow::Result<()> {
    remove_link(&side.link(pins, name))?;
    remove_filter(pins, name, side)
}

/// Takes our programs off both hooks.
pub(in crate::datapath) fn remove_all(pins: &Pins, name: &str) -> anyhow::Result<()> {
    Side::ALL
        .into_iter()
        .try_for_each(|side| remove(pins, name, side))
}

/// Whether our program is there.
pub(in crate::datapath) fn is_there(pins: &Pins, interface: &Interface, side: Side) -> bool {
    is_attached(&side.link(pins, &interface.name), interface)
        || side.filter(pins, &interface.name).exists() && has_filter(interface, side)
}

/// Whether our filter is there; the pin alone outlives it. If nobody says, it is.
fn has_filter(interface: &Interface, side: Side) -> bool {
    let found = filter::has(interface.index, side.parent(), PRIORITY, MINOR.into());
    found.unwrap_or(true)
}

/// First on its hook: whoever ends the chain before it would keep packets from it.
fn tcx(
    pins: &Pins,
    program: &SchedClassifier,
    interface: &Interface,
    side: Side,
) -> anyhow::Result<()> {
    let pin = side.link(pins, &interface.name);
    let program = program.fd()?.as_fd();
    if let Some((link, info)) = pinned_link(&pin)? {
        if info.interface == interface.index {
            return sys::update_link(link.as_fd(), program)
                .with_context(|| format!("{}: program can't be replaced", interface.name));
        }
        drop(link);
        remove_link(&pin)?;
    }
    let link = sys::create_link(program, interface.index, side.hook(), sys::FIRST)
        .map_err(|error| refusal::tc(interface, side.name(), error))?;
    pin_link(&link, &pin)
}

/// A filter is replaced in place if there is one. It belongs to the interface, not to this process, and its handle says
/// that it is ours: a pinned program beside the links does, too, but pins may have been removed.
fn clsact(
    pins: &Pins,
    program: &mut SchedClassifier,
    interface: &Interface,
    side: Side,
) -> anyhow::Result<()> {
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
    let pin = side.filter(pins, name);
    let replaced = if pin.exists() || has_filter(interface, side) {
        program.attach_to_link(ours(name, side)?).ok()
    } else {
        None
    };
    let link = match replaced {
        Some(link) => link,
        None => program
            .attach_with_options(name, side.kind(), TcAttachOptions::Netlink(options))
            .with_context(|| format!("{name}: the filter for clsact {side:?} can't be attached"))?,
    };
    // The filter is to stay when this process ends.
    std::mem::forget(program.take_link(link)?);
    unpin(&pin)?;
    sys::pin(program.fd()?.as_fd(), &pin)
        .with_context(|| format!("{}: can't be pinned", pin.display()))
}

/// Removes the clsact filter if there is one of ours.
fn remove_filter(pins: &Pins, name: &str, side: Side) -> anyhow::Result<()> {
    use aya::programs::links::Link as _;
    let pin = side.filter(pins, name);
    if !pin.exists() {
        return Ok(());
    }
    if host::interface(name)?.is_some() {
        let detached = ours(name, side)?.detach();
        if let Err(error) = detached {
            tracing::debug!(interface = name, %error, "the clsact filter has gone already");
        }
    }
    unpin(&pin)
}

fn ours(name: &str, side: Side) -> anyhow::Result<SchedClassifierLink> {
    SchedClassifierLink::attached(name, side.kind(), PRIORITY, HANDLE, None)
        .with_context(|| format!("{name}: no such interface"))
}
