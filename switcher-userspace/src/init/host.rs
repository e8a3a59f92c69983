//! What `init` wants to know of a host.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::config::{DEFAULT_BPFFS, XdpMode};
use crate::datapath::attach;
use crate::datapath::pins::Pins;
use crate::doctor;
use crate::host::{self, Interface, OwnAddresses, route};

/// Documentation addresses (RFC 5737, RFC 3849): nobody's, so the way to them is the default route.
const NOBODY: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// A host as `init` sees it.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its interfaces but for the loopback.
    pub links: Vec<Link>,
    /// The interface with the default route.
    pub default: Option<String>,
    /// The address that this host has there.
    pub address: Option<IpAddr>,
    /// Its addresses.
    pub own: OwnAddresses,
}

/// An interface, and what suits it.
#[derive(Clone, Debug)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// What made it, for virtual ones.
    pub kind: Option<String>,
    /// Where packets are best met.
    pub xdp: XdpMode,
    /// Why there.
    pub why: String,
}

impl Host {
    /// This one.
    ///
    /// # Errors
    /// When the kernel can't be asked.
    pub fn read() -> io::Result<Self> {
        let all = host::interfaces()?;
        let ways = NOBODY.iter().filter_map(|it| route::way(*it).ok()?);
        let way = ways.into_iter().next();
        let default = way.and_then(|way| all.iter().find(|it| it.index == way.interface));
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Ok(Self {
            name: name.trim().to_owned(),
            default: default.map(|it| it.name.clone()),
            address: way.and_then(|way| way.source),
            own: OwnAddresses::read()?,
            links: all.iter().filter(|it| it.name != "lo").map(link).collect(),
        })
    }

    /// An interface by its name.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|it| it.name == name)
    }
}

fn link(interface: &Interface) -> Link {
    let mut seen = interface.clone();
    let pins = Pins::new(Path::new(DEFAULT_BPFFS));
    if attach::is_ours(&pins, interface).unwrap_or(false) {
        seen.xdp.clear();
    }
    let (xdp, why) = doctor::suited(&seen, host::driver(&interface.name).as_deref());
    Link {
        name: interface.name.clone(),
        kind: interface.kind.clone(),
        xdp,
        why,
    }
}

/// The interface that leads to an address.
pub(super) fn way_to(address: IpAddr) -> Option<String> {
    let way = route::way(address).ok()??;
    let all = host::interfaces().ok()?;
    let found = all.into_iter().find(|it| it.index == way.interface);
    found.map(|it| it.name)
}
