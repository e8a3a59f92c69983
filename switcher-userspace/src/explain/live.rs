//! What the kernel's stack would say, asked from outside.

use std::net::{IpAddr, SocketAddr};

use switcher_common::abi::{Address, Endpoint, Port};
use switcher_common::parse::Packet;
use switcher_common::rewrite::Hop;
use switcher_common::steer::{Ownership, Segment};
use switcher_common::tables::{Route, Stack, Way};

use crate::datapath::flows::ticks;
use crate::datapath::sockets;
use crate::datapath::times::boot_nanoseconds;
use crate::host::{OwnAddresses, route};

/// The running kernel.
pub(super) struct Live;

impl Stack for Live {
    fn now(&self) -> u32 {
        ticks()
    }

    fn nanoseconds(&self) -> u64 {
        boot_nanoseconds()
    }

    fn interface(&self) -> u32 {
        0
    }

    /// Whether a segment carries a SYN cookie can't be told from outside.
    fn owner(&self, packet: &Packet, endpoint: &Endpoint, _segment: Segment) -> Ownership {
        let end =
            |address: Address, port: Port| SocketAddr::new(IpAddr::from(address), port.number());
        let local = end(endpoint.address, endpoint.port);
        match sockets::state(local, end(packet.source, packet.source_port)) {
            Ok(Some(sockets::TIME_WAIT)) => Ownership::TimeWait,
            Ok(Some(sockets::LISTEN) | None) | Err(_) => Ownership::None,
            Ok(Some(_)) => Ownership::Owns,
        }
    }

    /// As the FIB has it for the program, but for rules that look at more than the destination.
    fn route(&self, way: &Way) -> Route {
        let to = IpAddr::from(way.destination);
        if OwnAddresses::read().is_ok_and(|own| own.contains(to)) {
            return Route::Local;
        }
        let Ok(Some(found)) = route::way(to) else {
            return Route::Stack;
        };
        let known = route::is_known(found.next(to), found.interface);
        if !forwards(to) || !known.unwrap_or_default() {
            return Route::Stack;
        }
        Route::Neighbour {
            interface: found.interface,
            hop: Hop {
                destination: [0; 6],
                source: [0; 6],
            },
            // No packet asked about is large.
            mtu: 0,
        }
    }
}

/// Whether this host forwards packets of the address's family.
fn forwards(to: IpAddr) -> bool {
    let family = if to.is_ipv4() { "ipv4" } else { "ipv6" };
    let path = format!("/proc/sys/net/{family}/conf/all/forwarding");
    std::fs::read_to_string(path).is_ok_and(|value| value.trim() != "0")
}
