//! One host with a service of every kind, as maps in ordinary memory: what the packet cases start from.
//!
//! Slot 0 is blue, 1 green and 2 red; each has one endpoint per service, so that a case reads without
//! knowing the hash.

mod flows;
mod state;
mod v6;

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use switcher_common::abi::fragment::fragment_keys;
use switcher_common::abi::{
    Address, AddressKey, Endpoint, FlowKey, Port, Service, TCP, TableRef, UDP, address_kind,
    endpoint_flags, flow_space, service_flags,
};
use switcher_common::memory::{Memory, Told};
use switcher_common::rewrite::Hop;
use switcher_common::steer;
use switcher_common::tables::Route;

pub use flows::{Masked, flow_tag, syn_tag};
pub use state::State;

use crate::cave::{self, CAVE, WELL};
use crate::frame::{RECEIVER, six};

/// The group of all services here.
pub const GROUP: u16 = 3;
/// Its name.
pub const GROUP_NAME: &str = "town";
/// Its colours, by the numbers of their slots.
pub const COLOURS: [&str; 3] = ["blue", "green", "red"];
/// A word's usual epoch.
pub const EPOCH: u32 = 5;
/// The tick at which cases happen.
pub const NOW: u32 = 1000;
/// Ticks since a flow was last heard of: far more than any test takes.
pub const LONG_SILENT: i32 = 900;
/// The nanosecond of `CLOCK_BOOTTIME` at which cases happen.
pub const CLOCK: u64 = 5_000 * SECOND;
/// In nanoseconds.
pub const SECOND: u64 = 1_000_000_000;
/// Ticks after which a UDP flow is idle.
pub const UDP_IDLE: u32 = 60;
/// Seed of the flow hash.
pub const SEED: u64 = 0x5eed_5eed_5eed_5eed;

/// A client somewhere behind the gateway.
pub const CLIENT: SocketAddrV4 = at(198, 51, 100, 7, 40_000);
/// A client that, in the kernel tests, is this host too, so that it can have real connections.
pub const NEAR: SocketAddrV4 = at(203, 0, 113, 9, 41_000);

/// TCP, endpoints are sockets of this host.
pub const WEB: SocketAddrV4 = at(192, 0, 2, 80, 80);
/// TCP, endpoints are other hosts.
pub const SHOP: SocketAddrV4 = at(192, 0, 2, 81, 81);
/// TCP, endpoints are in other network namespaces of this host.
pub const CELL: SocketAddrV4 = at(192, 0, 2, 82, 9000);
/// UDP, each datagram on its own.
pub const NAMES: SocketAddrV4 = at(192, 0, 2, 83, 53);
/// UDP, in flows.
pub const CALLS: SocketAddrV4 = at(192, 0, 2, 84, 5060);
/// TCP; blue is the VIP itself. Shares its port with [`FAR`].
pub const ADOPTED: SocketAddrV4 = at(192, 0, 2, 85, 443);
/// The preview of [`CELL`].
pub const PREVIEW: SocketAddrV4 = at(192, 0, 2, 82, 9001);
/// The preview of [`ADOPTED`].
pub const ADOPTED_PREVIEW: SocketAddrV4 = at(192, 0, 2, 85, 9002);
/// TCP, with endpoints that are hard to reach: blue has no neighbour, green a small MTU, and red is on the
/// interface that packets come in by.
pub const FAR: SocketAddrV4 = at(192, 0, 2, 86, 443);

/// TCP, hashed by the client's address. Blue's table has blue's endpoint only where [`CLIENT`] is looked up
/// by its address, and green's everywhere else.
pub const DESK: SocketAddrV4 = at(192, 0, 2, 87, 8088);

/// TCP, endpoints have the VIP themselves: blue is on the interface that packets come in by, green has a
/// small MTU, and red has no neighbour.
pub const DOOR: SocketAddrV4 = at(192, 0, 2, 88, 8087);
/// UDP, likewise.
pub const BELL: SocketAddrV4 = at(192, 0, 2, 89, 8188);

/// TCP, masqueraded; red has no neighbour.
pub const AWAY: SocketAddrV4 = at(192, 0, 2, 87, 8086);
/// The preview of [`AWAY`].
pub const AWAY_PREVIEW: SocketAddrV4 = at(192, 0, 2, 87, 8187);
/// UDP, masqueraded.
pub const RADIO: SocketAddrV4 = at(192, 0, 2, 88, 5088);
/// Where masqueraded flows come from: this host's address inside, and the first of its ports.
pub const MASK: SocketAddrV4 = at(10, 1, 0, 1, 20_000);

/// UDP, QUIC.
pub const STREAM: SocketAddrV4 = at(192, 0, 2, 88, 4433);

/// All of them, one for every way there is to treat a packet.
pub const SERVICES: [SocketAddrV4; 18] = [
    WEB,
    SHOP,
    CELL,
    NAMES,
    CALLS,
    ADOPTED,
    PREVIEW,
    FAR,
    ADOPTED_PREVIEW,
    DESK,
    DOOR,
    BELL,
    AWAY,
    AWAY_PREVIEW,
    RADIO,
    STREAM,
    CAVE,
    WELL,
];

/// Index of a service.
pub fn service(vip: SocketAddrV4) -> u16 {
    let position = SERVICES.iter().position(|service| *service == vip);
    position.map_or(u16::MAX, |position| position as u16)
}

/// The name of the service with an index: its port, which two of them may share, behind the index.
pub fn service_name(index: u16) -> String {
    let vip = SERVICES.get(usize::from(index));
    vip.map_or_else(
        || format!("s{index}"),
        |vip| format!("s{index}-{}", vip.port()),
    )
}

/// Address of a service's endpoint of a colour (the number of its slot).
pub fn endpoint(vip: SocketAddrV4, colour: u16) -> SocketAddrV4 {
    let n = colour as u8;
    match vip {
        WEB => at(192, 0, 2, 80, 8001 + colour),
        SHOP => at(10, 1, 0, 11 + n, 8080),
        CELL | PREVIEW => at(10, 2, 0, 11 + n, 9000),
        DESK => at(10, 2, 0, 11 + n, 8088),
        NAMES => at(10, 2, 0, 11 + n, 53),
        CALLS => at(10, 2, 0, 11 + n, 5060),
        STREAM => at(10, 2, 0, 11 + n, 4433),
        AWAY | AWAY_PREVIEW if colour == 2 => at(10, 1, 0, 98, 7100),
        AWAY | AWAY_PREVIEW => at(10, 1, 0, 11 + n, 7100),
        RADIO => at(10, 1, 0, 11 + n, 7188),
        ADOPTED | ADOPTED_PREVIEW if colour == 0 => ADOPTED,
        ADOPTED | ADOPTED_PREVIEW => at(192, 0, 2, 85, 8443 + colour),
        CAVE | WELL if colour == 2 => at(10, 1, 0, 13, vip.port()),
        DOOR | BELL | CAVE | WELL => [
            at(192, 0, 2, 90, vip.port()),
            at(10, 3, 0, 11, vip.port()),
            at(192, 0, 2, 99, vip.port()),
        ][usize::from(colour)],
        _ => [
            at(10, 1, 0, 99, 7000),
            at(10, 3, 0, 11, 7000),
            at(192, 0, 2, 90, 7000),
        ][usize::from(colour)],
    }
}

/// Its id; a preview has the endpoints of its service.
pub fn id(vip: SocketAddrV4, colour: u16) -> u16 {
    let vip = previewed(vip).unwrap_or(vip);
    100 + service(vip) * 10 + colour
}

/// The service that a preview belongs to.
fn previewed(preview: SocketAddrV4) -> Option<SocketAddrV4> {
    match preview {
        PREVIEW => Some(CELL),
        ADOPTED_PREVIEW => Some(ADOPTED),
        AWAY_PREVIEW => Some(AWAY),
        _ => None,
    }
}

/// Key of a TCP flow's tag.
pub fn window_key(client: SocketAddrV4, vip: SocketAddrV4) -> FlowKey {
    key(client, service(vip), flow_space::WINDOW)
}

/// Key of a UDP flow's tag.
pub fn udp_key(client: SocketAddrV4, vip: SocketAddrV4) -> FlowKey {
    key(client, service(vip), flow_space::UDP)
}

/// Key of a masqueraded flow.
pub fn nat_key(client: SocketAddrV4, vip: SocketAddrV4) -> FlowKey {
    key(client, service(vip), flow_space::NAT)
}

/// An interface of the town.
#[derive(Clone, Copy, Debug)]
pub struct Interface {
    /// Its name in the kernel tests.
    pub name: &'static str,
    /// Its index.
    pub index: u32,
    /// Its link address.
    pub link: [u8; 6],
    /// Its address and prefix length.
    pub address: &'static str,
    /// Its MTU.
    pub mtu: u32,
}

/// Where packets come in.
pub const OUTSIDE: Interface = Interface {
    name: "outside",
    index: 20,
    link: RECEIVER,
    address: "192.0.2.1/24",
    mtu: 1500,
};
/// Towards the endpoints on other hosts.
pub const INSIDE: Interface = Interface {
    name: "inside",
    index: 30,
    link: [2, 0, 0, 0, 0, 0x30],
    address: "10.1.0.1/24",
    mtu: 1500,
};
/// Towards an endpoint behind a small MTU.
pub const NARROW: Interface = Interface {
    name: "narrow",
    index: 40,
    link: [2, 0, 0, 0, 0, 0x40],
    address: "10.3.0.1/24",
    mtu: 600,
};

/// The router that clients are behind.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Addresses of this host besides those of its interfaces.
pub const HERE: [Ipv4Addr; 2] = [*NEAR.ip(), *WEB.ip()];

/// Known neighbours.
pub const NEIGHBOURS: [(Ipv4Addr, Interface); 6] = [
    (GATEWAY, OUTSIDE),
    (Ipv4Addr::new(192, 0, 2, 90), OUTSIDE),
    (Ipv4Addr::new(10, 1, 0, 11), INSIDE),
    (Ipv4Addr::new(10, 1, 0, 12), INSIDE),
    (Ipv4Addr::new(10, 1, 0, 13), INSIDE),
    (Ipv4Addr::new(10, 3, 0, 11), NARROW),
];

/// A neighbour's link address.
pub const fn link_of(neighbour: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = neighbour.octets();
    [2, 1, a, b, c, d]
}

fn told() -> Told {
    let mut told = Told {
        interface: OUTSIDE.index,
        ..Default::default()
    };
    told.now.set(NOW);
    told.clock.set(CLOCK);
    for (neighbour, interface) in NEIGHBOURS {
        let route = Route::Neighbour {
            interface: interface.index,
            hop: Hop {
                destination: link_of(neighbour),
                source: interface.link,
            },
            mtu: interface.mtu,
        };
        told.routes.insert(Address::v4(neighbour.octets()), route);
        if neighbour == cave::RED {
            told.routes
                .insert(IpAddr::from(six(neighbour)).into(), route);
        }
        if neighbour == GATEWAY {
            told.routes.insert(parts(CLIENT).0, route);
        }
    }
    for here in HERE.into_iter().chain([*MASK.ip()]) {
        told.routes.insert(Address::v4(here.octets()), Route::Local);
    }
    told
}

fn add(memory: &mut Memory, vip: SocketAddrV4) {
    let (index, parent) = (service(vip), previewed(vip));
    let protocol = if matches!(vip, NAMES | CALLS | BELL | RADIO | STREAM | WELL) {
        UDP
    } else {
        TCP
    };
    let (address, port) = parts(vip);
    let kinds = match vip {
        WEB => service_flags::SOCKETS,
        NAMES => service_flags::PER_PACKET,
        PREVIEW | ADOPTED_PREVIEW => service_flags::PREVIEW,
        DESK => service_flags::BY_SOURCE,
        STREAM => service_flags::QUIC,
        DOOR | BELL | CAVE | WELL => service_flags::KEEPS_VIP,
        AWAY | RADIO => service_flags::MASQUERADE,
        AWAY_PREVIEW => service_flags::MASQUERADE | service_flags::PREVIEW,
        _ => 0,
    };
    let mut element = Service {
        address,
        port,
        protocol,
        flags: service_flags::PRESENT | kinds,
        group: GROUP,
        parent: service(parent.unwrap_or(vip)),
        ..Default::default()
    };
    for colour in 0..3 {
        let table = TableRef::new(u32::from(index * 4 + colour) * TableRef::UNIT, 8);
        element.tables[usize::from(colour)] = table;
        let mut buckets = [id(vip, colour); TableRef::UNIT as usize];
        if vip == DESK && colour == 0 {
            buckets = desk(parts(CLIENT).0);
        }
        memory.fill(table, &buckets);
        if parent.is_none() {
            add_endpoint(memory, vip, colour, protocol);
        }
    }
    memory.services.insert(index, element);
    for endpoint in memory.endpoints.values().copied().collect::<Vec<_>>() {
        if endpoint.service == element.parent {
            let keys = fragment_keys(&element, &endpoint).into_iter().flatten();
            keys.for_each(|key| memory.publish(key, 0));
        }
    }
    publish(memory, vip, protocol, address_kind::SERVICE, index);
}

/// Blue's table of [`DESK`], for this client.
fn desk(client: Address) -> [u16; TableRef::UNIT as usize] {
    let hash = steer::hash(SEED, client, 0);
    let mut buckets = [id(DESK, 1); TableRef::UNIT as usize];
    buckets[hash as usize % buckets.len()] = id(DESK, 0);
    buckets
}

fn add_endpoint(memory: &mut Memory, vip: SocketAddrV4, colour: u16, protocol: u8) {
    let (server, id) = (endpoint(vip, colour), id(vip, colour));
    let (address, port) = parts(server);
    let how = match vip {
        SHOP | FAR => endpoint_flags::ROUTED,
        DOOR | BELL => endpoint_flags::DSR,
        CAVE | WELL => endpoint_flags::TUNNEL,
        AWAY | RADIO => endpoint_flags::MASQUERADE,
        _ if server == vip => endpoint_flags::UNTOUCHED,
        _ => 0,
    };
    let address = cave::address(vip, colour).unwrap_or(address);
    let element = Endpoint {
        address,
        port,
        protocol,
        flags: endpoint_flags::PRESENT | how,
        service: service(vip),
        colour: colour as u8,
        counter: u32::from(service(vip) * 8 + colour),
        ..Default::default()
    };
    memory.endpoints.insert(id, element);
    if element.has(endpoint_flags::TUNNEL) {
        let tunnel = cave::tunnel(!element.address.is_v4());
        memory.tunnels.insert(id, tunnel);
    }
    // Endpoints that answer clients directly are not looked out for.
    if element.flags & endpoint_flags::DIRECT == 0 {
        publish(memory, server, protocol, address_kind::ENDPOINT, id);
    }
}

fn publish(memory: &mut Memory, whole: SocketAddrV4, protocol: u8, kind: u8, index: u16) {
    let (address, port) = parts(whole);
    let key = AddressKey {
        address,
        port,
        protocol,
        kind,
        reserved: 0,
    };
    memory.publish(key, index);
}

fn key(client: SocketAddrV4, id: u16, space: u32) -> FlowKey {
    let (client, port) = parts(client);
    FlowKey {
        client,
        port,
        id,
        space,
    }
}

fn parts(whole: SocketAddrV4) -> (Address, Port) {
    (Address::v4(whole.ip().octets()), Port::new(whole.port()))
}

const fn at(a: u8, b: u8, c: u8, d: u8, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port)
}
