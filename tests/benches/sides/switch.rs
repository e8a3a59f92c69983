//! The products: each leads two services to the servers of a colour, and to those of the other when told.

mod haproxy;
mod ipvs;
mod nftables;
mod nginx;
mod switcher;

use std::fmt;
use std::net::SocketAddr;

use anyhow::{Result, bail};
use switcher_harness::Mode;

use crate::site::Site;

/// One of them, set up at a site with the first colour live; gone when dropped.
pub(crate) trait Switch: Send {
    /// Sends new connections to a colour. Returns when the command does that people give.
    fn flip(&mut self, place: usize) -> Result<()>;
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Product {
    /// Clients know a server's own address.
    Direct,
    Nftables,
    Haproxy,
    Nginx,
    /// By address translation, from one link to another of the same network, or in tunnels.
    Ipvs,
    /// With XDP in native mode, or at tc where packets are large.
    Switcher,
    /// At tc where packets are small, too.
    SwitcherAtTc,
}

impl Product {
    /// What every kernel has.
    pub(crate) const ALL: [Self; 6] = [
        Self::Direct,
        Self::Nftables,
        Self::Haproxy,
        Self::Nginx,
        Self::Switcher,
        Self::SwitcherAtTc,
    ];

    /// Servers that know no way to clients can't be asked directly, and what has to see their answers can't be where
    /// they don't pass.
    pub(crate) fn works(self, mode: Mode) -> bool {
        match self {
            Self::Direct => mode != Mode::Masquerade,
            Self::Nftables | Self::Haproxy | Self::Nginx => !mode.keeps_vip(),
            Self::Ipvs => ipvs::method(mode).is_some(),
            Self::Switcher | Self::SwitcherAtTc => true,
        }
    }

    /// The services that clients ask.
    pub(crate) fn services(self, site: &Site) -> [SocketAddr; 2] {
        match self {
            Self::Direct => site.servers(0),
            _ => site.services(),
        }
    }

    pub(crate) fn set_up(self, site: &Site, offloads: bool) -> Result<Box<dyn Switch + '_>> {
        Ok(match self {
            Self::Direct => Box::new(Nothing),
            Self::Nftables => Box::new(nftables::Nftables::new(site)?),
            Self::Haproxy => Box::new(haproxy::Haproxy::new(site)?),
            Self::Nginx => Box::new(nginx::Nginx::new(site)?),
            Self::Ipvs => Box::new(ipvs::Ipvs::new(site)?),
            Self::Switcher => Box::new(switcher::Switcher::new(site, offloads)?),
            Self::SwitcherAtTc => Box::new(switcher::Switcher::new(site, true)?),
        })
    }
}

impl fmt::Display for Product {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Direct => "direct",
            Self::Nftables => "nftables",
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
            Self::Ipvs => "IPVS",
            Self::Switcher => "Switcher",
            Self::SwitcherAtTc => "Switcher at tc",
        })
    }
}

struct Nothing;

impl Switch for Nothing {
    fn flip(&mut self, _place: usize) -> Result<()> {
        bail!("nothing is there that could switch")
    }
}
