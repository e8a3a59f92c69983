//! What the kernel should hold: the configuration in the data path's terms, without numbers.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use switcher_common::abi::{TCP, Tunnel, UDP, endpoint_flags, service_flags};

use super::Refusal;
use crate::config::{
    Config, Forward, GroupConfig, HashMode, Protocol, ServiceConfig, UdpMode, resolve,
};
use crate::health::Standing;

/// What the kernel should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// By name.
    pub groups: BTreeMap<String, WantGroup>,
}

/// A group as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantGroup {
    /// The colour that is live if the group is new to the kernel. After a boot the agent puts the
    /// recorded live colour here.
    pub initial: String,
    /// All colours, in the order in which new ones are numbered.
    pub colours: Vec<String>,
    /// By name.
    pub services: BTreeMap<String, WantService>,
    /// The colour that is to have a part of the live one's new flows, and how much.
    pub canary: Option<WantCanary>,
}

/// A part of the live colour's new flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantCanary {
    /// The colour that gets it.
    pub colour: String,
    /// In percent, 1 to 99.
    pub percent: u8,
}

/// A service as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantService {
    /// What clients connect to.
    pub vip: SocketAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Bits of [`service_flags`], `PRESENT` among them.
    pub flags: u8,
    /// The address that reaches the staging colour.
    pub preview: Option<SocketAddr>,
    /// By colour.
    pub endpoints: BTreeMap<String, Vec<WantEndpoint>>,
}

/// An endpoint as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantEndpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share of its colour.
    pub weight: u16,
    /// Bits of [`endpoint_flags`], `PRESENT` among them.
    pub flags: u8,
    /// What health checks say of it.
    pub standing: Standing,
    /// Where outer headers to it say to come from; only with [`endpoint_flags::TUNNEL`].
    pub tunnel: Tunnel,
}

impl Want {
    /// What a configuration asks for on a host whose own addresses `is_own` knows.
    ///
    /// # Errors
    /// When a service's endpoints can't be reached the way its configuration says.
    pub fn new(config: &Config, is_own: impl Fn(IpAddr) -> bool) -> Result<Self, Refusal> {
        let groups = config.groups.values();
        let groups = groups.map(|group| Ok((group.name.clone(), WantGroup::new(group, &is_own)?)));
        Ok(Self {
            groups: groups.collect::<Result<_, Refusal>>()?,
        })
    }

    /// Fills in the sources of outer headers that the configuration leaves open: this host's address on the
    /// way to the endpoint, which `source` knows.
    pub fn fill_sources(&mut self, source: impl Fn(IpAddr) -> Option<IpAddr>) {
        let services = self
            .groups
            .values_mut()
            .flat_map(|it| it.services.values_mut());
        let endpoints = services.flat_map(|it| it.endpoints.values_mut()).flatten();
        for endpoint in endpoints {
            if endpoint.flags & endpoint_flags::TUNNEL != 0
                && !endpoint.tunnel.is_known()
                && let Some(source) = source(endpoint.address.ip())
            {
                endpoint.tunnel = Tunnel::new(source, u8::MAX);
            }
        }
    }
}

impl WantGroup {
    /// What a group's configuration asks for; see [`Want::new`].
    ///
    /// # Errors
    /// As there.
    pub fn new(config: &GroupConfig, is_own: impl Fn(IpAddr) -> bool) -> Result<Self, Refusal> {
        let service = |service: &ServiceConfig| {
            let forward = resolve(service, &is_own).map_err(|error| Refusal::Forward {
                group: config.name.clone(),
                error,
            })?;
            let want = WantService::new(service, forward, &is_own);
            Ok((service.name.clone(), want))
        };
        Ok(Self {
            initial: config.initial.clone(),
            colours: config.colours.clone(),
            canary: None,
            services: config
                .services
                .values()
                .map(service)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl WantService {
    fn new(config: &ServiceConfig, forward: Forward, is_own: &impl Fn(IpAddr) -> bool) -> Self {
        let mut all = config.endpoints.values().flatten();
        let here = all.all(|endpoint| is_own(endpoint.address.ip()));
        let endpoints = config.endpoints.iter().map(|(colour, endpoints)| {
            let endpoints = endpoints.iter().map(|endpoint| {
                let flags = endpoint_kind(endpoint.address, config.vip, forward);
                WantEndpoint {
                    address: endpoint.address,
                    weight: endpoint.weight,
                    flags,
                    standing: Standing::Up,
                    tunnel: tunnel(config, flags),
                }
            });
            (colour.clone(), endpoints.collect())
        });
        Self {
            vip: config.vip,
            protocol: match config.protocol {
                Protocol::Tcp => TCP,
                Protocol::Udp => UDP,
            },
            flags: service_kind(config, forward, here) | masquerades(forward),
            preview: config.preview,
            endpoints: endpoints.collect(),
        }
    }
}

/// Nothing where the configuration leaves it open, or there is none.
fn tunnel(config: &ServiceConfig, flags: u8) -> Tunnel {
    let prefix = config.tunnel_source;
    let prefix = prefix.filter(|_| flags & endpoint_flags::TUNNEL != 0);
    prefix.map_or_else(Tunnel::default, |prefix| {
        Tunnel::new(prefix.address, prefix.length)
    })
}

/// Sockets of this namespace can be asked about; for everything else tags have to speak.
fn service_kind(config: &ServiceConfig, forward: Forward, here: bool) -> u8 {
    let kind = match (config.protocol, config.udp) {
        (Protocol::Tcp, _) if here && !forward.keeps_vip() => service_flags::SOCKETS,
        (Protocol::Udp, UdpMode::Packet) => service_flags::PER_PACKET,
        (Protocol::Udp, UdpMode::Quic) => service_flags::QUIC,
        (Protocol::Tcp, _) | (Protocol::Udp, UdpMode::Flow) => 0,
    };
    let hashed = match config.hash {
        HashMode::Flow => 0,
        HashMode::Source => service_flags::BY_SOURCE,
    };
    let kept = match forward.keeps_vip() {
        true => service_flags::KEEPS_VIP,
        false => 0,
    };
    service_flags::PRESENT | kind | hashed | kept
}

const fn masquerades(forward: Forward) -> u8 {
    match forward {
        Forward::Masquerade => service_flags::MASQUERADE,
        Forward::Auto | Forward::Local | Forward::Routed | Forward::Dsr | Forward::Ipip => 0,
    }
}

fn endpoint_kind(address: SocketAddr, vip: SocketAddr, forward: Forward) -> u8 {
    let kind = if address == vip {
        endpoint_flags::UNTOUCHED
    } else {
        match forward {
            Forward::Routed => endpoint_flags::ROUTED,
            Forward::Masquerade => endpoint_flags::MASQUERADE,
            Forward::Dsr => endpoint_flags::DSR,
            Forward::Ipip => endpoint_flags::TUNNEL,
            Forward::Auto | Forward::Local => 0,
        }
    };
    endpoint_flags::PRESENT | kind
}
