//! Changes as people read them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use switcher_common::abi::{
    Address, AddressKey, Endpoint, Port, Service, Tunnel, UDP, address_kind, service_flags,
};

use crate::datapath::{Change, Colour};

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameGroup { group, name, .. } if name.is_empty() => {
                write!(f, "free group {group}")
            }
            Self::NameGroup {
                group,
                name,
                colours,
                slots,
            } => {
                write!(f, "name group {group} {name}:")?;
                let named = |colour: Colour| colours.get(&colour).map_or("?", String::as_str);
                for (slot, mix) in slots {
                    write!(f, " {}", named(mix.colour))?;
                    if let Some(canary) = mix.canary {
                        write!(f, " with {} % {}", canary.percent, named(canary.colour))?;
                    }
                    write!(f, " in slot {slot}")?;
                }
                Ok(())
            }
            Self::SetEndpoint { id, endpoint } if *endpoint == Endpoint::default() => {
                write!(f, "free endpoint {id}")
            }
            Self::SetEndpoint { id, endpoint } => {
                let (address, port) = (endpoint.address, endpoint.port);
                write!(f, "endpoint {id} is {}", socket(address, port))
            }
            Self::SetTunnel { id, tunnel } if *tunnel == Tunnel::default() => {
                write!(f, "endpoint {id} has no outer header")
            }
            Self::SetTunnel { id, tunnel } => {
                let source = IpAddr::from(tunnel.source);
                write!(f, "outer headers to endpoint {id} come from {source}")?;
                match tunnel.varied.count_ones() {
                    0 => Ok(()),
                    bits => write!(f, " on, {bits} bits by flow"),
                }
            }
            Self::FillTable { table, .. } => {
                let (size, first) = (1u32 << table.bits(), table.first());
                write!(f, "fill a table of {size} buckets at {first}")
            }
            Self::HandOver { table, buckets } => {
                let (count, first) = (buckets.len(), table.first());
                write!(
                    f,
                    "give {count} buckets of the table at {first} to endpoints that are alive"
                )
            }
            Self::SetService { index, service, .. } if *service == Service::default() => {
                write!(f, "free service {index}")
            }
            Self::SetService {
                index,
                name,
                service,
            } => {
                let kind = match service.has(service_flags::PREVIEW) {
                    true => "preview of",
                    false => "service",
                };
                let tables = service.tables.iter().filter(|table| table.exists()).count();
                write!(f, "entry {index}: {kind} {name} with {tables} tables")
            }
            Self::SetWord { group, word } => write!(
                f,
                "group {group}: slot {} live, slot {} staging",
                word.current(),
                word.staging()
            ),
            Self::Publish { key, index } => write!(f, "publish {} as {index}", Shown(key)),
            Self::Unpublish { key } => write!(f, "withdraw {}", Shown(key)),
            Self::Switch { group, slot } => {
                write!(f, "group {group}: switch to slot {slot} by a window")
            }
            Self::Settle => write!(f, "wait until no CPU uses what was replaced"),
        }
    }
}

struct Shown<'a>(&'a AddressKey);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(key) = self;
        let protocol = if key.protocol == UDP { "udp" } else { "tcp" };
        let kind = match key.kind {
            address_kind::SERVICE => "service",
            address_kind::ENDPOINT => "endpoint",
            _ => {
                let to = key.kind == address_kind::FRAGMENTS_TO;
                let (end, address) = (if to { "to" } else { "from" }, IpAddr::from(key.address));
                return write!(f, "{protocol} fragments {end} {address}");
            }
        };
        write!(f, "{kind} {}/{protocol}", socket(key.address, key.port))
    }
}

fn socket(address: Address, port: Port) -> SocketAddr {
    SocketAddr::new(IpAddr::from(address), port.number())
}
