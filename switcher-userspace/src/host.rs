//! This host: its kernel, its addresses, its interfaces.

mod ethtool;
pub(crate) mod filter;
pub mod links;
pub(crate) mod netlink;
pub mod route;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

pub use ethtool::{driver, merges};

use crate::config::XdpMode;

/// A network interface of this network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is set up.
    pub up: bool,
    /// Largest packet in bytes, without the Ethernet header.
    pub mtu: u32,
    /// What made it, for virtual ones: `veth`, `bridge`, `vlan`.
    pub kind: Option<String>,
    /// The one that it lies on, as a VLAN does on its trunk, or that it is a pair with; 0 if none.
    pub link: u32,
    /// XDP programs on it, by mode; more than one only with hardware offload.
    pub xdp: Vec<(XdpAttached, u32)>,
}

/// How an XDP program is attached, whoever did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpAttached {
    /// In the driver.
    Native,
    /// In the kernel's receive path.
    Generic,
    /// In the card.
    Offloaded,
}

impl XdpAttached {
    /// Whether this is the mode that the configuration names.
    #[must_use]
    pub fn is(self, mode: XdpMode) -> bool {
        match mode {
            XdpMode::Native => self == Self::Native,
            XdpMode::Generic => self == Self::Generic,
            XdpMode::Tc => false,
        }
    }
}

/// A kernel release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kernel(pub u32, pub u32);

impl Kernel {
    /// The oldest that Switcher works on.
    pub const OLDEST: Self = Self(5, 18);
    /// The first with tcx links.
    pub const TCX: Self = Self(6, 6);

    /// The running one; 0.0 if it can't be told.
    #[must_use]
    pub fn running() -> Self {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
        Self::parse(&release.unwrap_or_default())
    }

    fn parse(release: &str) -> Self {
        let mut numbers = release
            .split(|c: char| !c.is_ascii_digit())
            .map(|number| number.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        Self(next(), next())
    }
}

impl std::fmt::Display for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// Addresses of this network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnAddresses(BTreeSet<IpAddr>);

impl OwnAddresses {
    /// Those there are now.
    ///
    /// # Errors
    /// When the kernel can't be asked.
    pub fn read() -> io::Result<Self> {
        let addresses = nix::ifaddrs::getifaddrs()?.filter_map(|entry| ip(&entry.address?));
        Ok(Self(addresses.collect()))
    }

    /// These, for tests.
    #[cfg(test)]
    pub(crate) fn of(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self(addresses.into_iter().collect())
    }

    /// Whether packets for `address` are for this host.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.0.contains(&address)
    }
}

/// The interface that an address of this host is on.
///
/// # Errors
/// When the kernel can't be asked.
pub fn bearer(address: IpAddr) -> io::Result<Option<String>> {
    let mut entries = nix::ifaddrs::getifaddrs()?;
    let found = entries.find(|entry| entry.address.as_ref().and_then(ip) == Some(address));
    Ok(found.map(|entry| entry.interface_name))
}

fn ip(address: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

/// All interfaces of this network namespace.
///
/// # Errors
/// When the kernel can't be asked.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    const RTM_GETLINK: u16 = 18;
    let mut found = Vec::new();
    // struct ifinfomsg, all zero: every interface.
    netlink::dump(
        libc::NETLINK_ROUTE as isize,
        RTM_GETLINK,
        &[0; 16],
        |link| {
            found.extend(parse_link(link));
        },
    )?;
    Ok(found)
}

/// The interface of that name, if there is one.
///
/// # Errors
/// When the kernel can't be asked.
pub fn interface(name: &str) -> io::Result<Option<Interface>> {
    Ok(interfaces()?.into_iter().find(|found| found.name == name))
}

/// An RTM_NEWLINK: `struct ifinfomsg` and attributes.
fn parse_link(message: &[u8]) -> Option<Interface> {
    let word = |at: usize| netlink::u32_at(message, at);
    let mut interface = Interface {
        index: word(4)?,
        up: word(8)? & libc::IFF_UP as u32 != 0,
        ..Interface::default()
    };
    for (kind, value) in netlink::attributes(message.get(16..)?) {
        match kind {
            libc::IFLA_IFNAME => interface.name = netlink::text(value),
            libc::IFLA_MTU => interface.mtu = netlink::u32_at(value, 0)?,
            libc::IFLA_LINK => interface.link = netlink::u32_at(value, 0)?,
            libc::IFLA_LINKINFO => interface.kind = link_kind(value),
            libc::IFLA_XDP => interface.xdp = attached_xdp(value),
            _ => {}
        }
    }
    Some(interface)
}

fn link_kind(info: &[u8]) -> Option<String> {
    let mut kinds = netlink::attributes(info);
    let (_, kind) = kinds.find(|(kind, _)| *kind == libc::IFLA_INFO_KIND)?;
    Some(netlink::text(kind))
}

/// `IFLA_XDP`: the mode, and a program's id for it or for each of several.
fn attached_xdp(xdp: &[u8]) -> Vec<(XdpAttached, u32)> {
    const ATTACHED: u16 = 2;
    const PROG_ID: u16 = 4;
    const DRV_PROG_ID: u16 = 5;
    const SKB_PROG_ID: u16 = 6;
    const HW_PROG_ID: u16 = 7;
    let all: Vec<_> = netlink::attributes(xdp).collect();
    let id = |wanted: u16| {
        let (_, value) = all.iter().find(|(kind, _)| *kind == wanted)?;
        netlink::u32_at(value, 0).filter(|id| *id != 0)
    };
    let modes = [
        (DRV_PROG_ID, XdpAttached::Native),
        (SKB_PROG_ID, XdpAttached::Generic),
        (HW_PROG_ID, XdpAttached::Offloaded),
    ];
    let mut found: Vec<_> = modes
        .into_iter()
        .filter_map(|(kind, mode)| Some((mode, id(kind)?)))
        .collect();
    let attached = all.iter().find(|(kind, _)| *kind == ATTACHED);
    if let (true, Some(id), Some((_, [mode, ..]))) = (found.is_empty(), id(PROG_ID), attached) {
        let mode = match mode {
            1 => XdpAttached::Native,
            2 => XdpAttached::Generic,
            _ => XdpAttached::Offloaded,
        };
        found.push((mode, id));
    }
    found
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
#[must_use]
pub fn monotonic() -> u64 {
    let now = nix::time::ClockId::CLOCK_MONOTONIC.now();
    now.map_or(0, |now| {
        now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_their_numbers() {
        assert_eq!(Kernel::parse("6.18.44-fc-v509"), Kernel(6, 18));
        assert_eq!(Kernel::parse("5.4"), Kernel(5, 4));
        assert_eq!(Kernel::parse(""), Kernel(0, 0));
        assert!(Kernel(5, 4) < Kernel::OLDEST && Kernel(6, 18) > Kernel::TCX);
    }

    #[test]
    fn loopback_is_everywhere() {
        let all = interfaces().expect("netlink can be asked by anyone");
        let loopback = all.iter().find(|found| found.name == "lo");
        assert_eq!(loopback.map(|found| found.index), Some(1));
        let own = OwnAddresses::read().expect("anyone can");
        assert!(own.contains(IpAddr::from([127, 3, 2, 1])));
        assert!(!own.contains(IpAddr::from([192, 0, 2, 1])));
    }
}
