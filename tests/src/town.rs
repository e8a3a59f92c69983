//! One host with a service of every kind, as maps in ordinary memory: what the packet cases start from.
//!
//! Slot 0 is blue, 1 green and 2 red; each has one endpoint per service, so that a case reads without
//! knowing the hash.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use switcher_common::abi::fragment::{FragmentKey, Fragmented, fragment_keys};
use switcher_common::abi::nat::{
    Activity, NAT_ADDRESSES, NatClient, NatFlow, NatPort, NatSource, activity,
};
use switcher_common::abi::{
    Address, AddressKey, Endpoint, FlowKey, Note, Port, Service, TCP, TableRef, Tag, Times, UDP,
    address_kind, endpoint_flags, flow_space, note_kind, service_flags,
};
use switcher_common::memory::{FlowMap, Memory, Nat, Told};
use switcher_common::rewrite::Hop;
use switcher_common::steer::{self, Ownership};
use switcher_common::tables::Route;
use switcher_common::word::Word;

use crate::frame::{RECEIVER, SEQUENCE, six};

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

const SERVICES: [SocketAddrV4; 16] = [
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
        DOOR | BELL => [
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

/// What a case starts from.
#[derive(Clone, Debug)]
pub struct State {
    /// The maps.
    pub memory: Memory,
    /// The rest of the host.
    pub told: Told,
}

impl State {
    /// The town with this word.
    #[must_use]
    pub fn new(word: Word) -> Self {
        let mut memory = Memory::default();
        memory.settings.seed = SEED;
        memory.settings.udp_idle = UDP_IDLE;
        memory.settings.nat_udp_idle = UDP_IDLE;
        memory.words.insert(GROUP, word);
        for vip in SERVICES {
            add(&mut memory, vip);
        }
        let open = FlowMap {
            capacity: 1 << 10,
            ..Default::default()
        };
        memory.windows.borrow_mut().insert(GROUP, open.clone());
        memory.udp_flows.borrow_mut().insert(GROUP, open);
        Self {
            memory,
            told: told(),
        }
    }

    /// The same town in IPv6: see [`six`].
    #[must_use]
    pub fn in_v6(mut self) -> Self {
        let Memory {
            addresses,
            services,
            endpoints,
            windows,
            udp_flows,
            notes,
            fragments,
            nat,
            ..
        } = &mut self.memory;
        *addresses = std::mem::take(addresses)
            .into_iter()
            .map(|(key, index)| {
                let address = in_v6(key.address);
                (AddressKey { address, ..key }, index)
            })
            .collect();
        for service in services.values_mut() {
            service.address = in_v6(service.address);
        }
        for endpoint in endpoints.values_mut() {
            endpoint.address = in_v6(endpoint.address);
        }
        for maps in [windows, udp_flows] {
            for map in maps.get_mut().values_mut() {
                map.flows = keys_in_v6(std::mem::take(&mut map.flows));
            }
        }
        let notes = notes.get_mut();
        *notes = keys_in_v6(std::mem::take(notes));
        let fragments = fragments.get_mut();
        *fragments = std::mem::take(fragments)
            .into_iter()
            .map(fragments_in_v6)
            .collect();
        nat_in_v6(nat);
        self.told = told_in_v6(self.told);
        self
    }

    /// With a tag of a TCP flow in the window.
    #[must_use]
    pub fn tag(self, client: SocketAddrV4, vip: SocketAddrV4, tag: Tag) -> Self {
        if let Some(window) = self.memory.windows.borrow_mut().get_mut(&GROUP) {
            window.flows.insert(window_key(client, vip), tag);
        }
        self
    }

    /// With a flow map that takes nothing more.
    #[must_use]
    pub fn full(self) -> Self {
        if let Some(window) = self.memory.windows.borrow_mut().get_mut(&GROUP) {
            window.capacity = window.flows.len();
        }
        self
    }

    /// With a held word that is obeyed until a tick.
    #[must_use]
    pub fn held_until(mut self, tick: u32) -> Self {
        self.memory.held_until.insert(GROUP, tick);
        self
    }

    /// With a UDP flow.
    #[must_use]
    pub fn udp(self, client: SocketAddrV4, vip: SocketAddrV4, tag: Tag) -> Self {
        if let Some(flows) = self.memory.udp_flows.borrow_mut().get_mut(&GROUP) {
            flows.flows.insert(udp_key(client, vip), tag);
        }
        self
    }

    /// After a hard rollback: UDP tags of earlier epochs are void.
    #[must_use]
    pub fn floor(mut self, epoch: u32) -> Self {
        self.memory.udp_floors.insert(GROUP, epoch);
        self
    }

    /// With instants at which the word changes its meaning.
    #[must_use]
    pub fn times(mut self, times: Times) -> Self {
        self.memory.times.insert(GROUP, times);
        self
    }

    /// With what the first fragment of a packet said.
    #[must_use]
    pub fn fragmented(
        self,
        source: SocketAddrV4,
        destination: SocketAddrV4,
        identification: u32,
        tcp: bool,
        said: Fragmented,
    ) -> Self {
        let key = FragmentKey {
            source: parts(source).0,
            destination: parts(destination).0,
            identification: u32::from((identification as u16).to_be()),
            protocol: u32::from(if tcp { TCP } else { UDP }),
        };
        self.memory.fragments.borrow_mut().insert(key, said);
        self
    }

    /// With a socket.
    #[must_use]
    pub fn socket(mut self, client: SocketAddrV4, server: SocketAddrV4, state: Ownership) -> Self {
        let (client, port) = parts(client);
        let (server, server_port) = parts(server);
        self.told
            .sockets
            .insert((client, port, server, server_port), state);
        self
    }

    /// With a note of how an endpoint's replies to a client are to be treated.
    #[must_use]
    pub fn note(mut self, client: SocketAddrV4, endpoint: u16, note: Note) -> Self {
        let key = key(client, endpoint, flow_space::REPLY);
        self.memory.notes.borrow_mut().insert(key, note);
        if let Some(endpoint) = self.memory.endpoints.get_mut(&endpoint) {
            endpoint.noted = 1;
        }
        self
    }

    /// With this many ports, from `first` on, for masqueraded flows.
    #[must_use]
    pub fn masks(mut self, first: u16, ports: u16) -> Self {
        let source = NatSource {
            addresses: [parts(MASK).0; NAT_ADDRESSES],
            count: 1,
            first,
            ports,
        };
        let endpoints = self.memory.endpoints.iter();
        let masked = endpoints.filter(|(_, endpoint)| endpoint.has(endpoint_flags::MASQUERADE));
        self.memory.nat.sources = masked.map(|(id, _)| (*id, source)).collect();
        self
    }

    /// With no room for another masqueraded flow.
    #[must_use]
    pub fn crowded(mut self) -> Self {
        self.memory.nat.full = true;
        self
    }

    /// With a service that is being removed: replies find it gone.
    #[must_use]
    pub fn without(mut self, vip: SocketAddrV4) -> Self {
        if let Some(service) = self.memory.services.get_mut(&service(vip)) {
            service.flags &= !service_flags::PRESENT;
        }
        self
    }

    /// With a masqueraded flow.
    #[must_use]
    pub fn masked(self, client: SocketAddrV4, vip: SocketAddrV4, masked: Masked) -> Self {
        let (address, port) = parts(client);
        let client = NatClient {
            address,
            port,
            service: service(vip),
            epoch: masked.epoch,
            client: masked.client,
            server: masked.server,
        };
        let flow = NatFlow {
            source: parts(MASK).0,
            port: Port::new(masked.port),
            endpoint: masked.endpoint,
            epoch: masked.epoch,
            sequence: masked.sequence.to_be(),
            reserved: 0,
            client: masked.client,
            server: masked.server,
        };
        let nat = &self.memory.nat;
        nat.ports.borrow_mut().insert(flow.back(), client);
        nat.flows.borrow_mut().insert(client.flow(), flow);
        self
    }

    /// With a preview flow.
    #[must_use]
    pub fn previewed(self, client: SocketAddrV4, endpoint: u16) -> Self {
        let chosen = Note {
            kind: note_kind::CHOSEN,
            id: endpoint,
        };
        let key = key(client, service(PREVIEW), flow_space::PREVIEW);
        self.memory.notes.borrow_mut().insert(key, chosen);
        let reply = Note {
            kind: note_kind::PREVIEW,
            id: service(PREVIEW),
        };
        self.note(client, endpoint, reply)
    }
}

fn in_v6(address: Address) -> Address {
    match IpAddr::from(address) {
        IpAddr::V4(v4) => IpAddr::from(six(v4)).into(),
        IpAddr::V6(_) => address,
    }
}

fn keys_in_v6<T>(map: BTreeMap<FlowKey, T>) -> BTreeMap<FlowKey, T> {
    let key = |key: FlowKey| FlowKey {
        client: in_v6(key.client),
        ..key
    };
    map.into_iter().map(|(old, it)| (key(old), it)).collect()
}

/// As [`State::fragmented`] makes them.
fn fragments_in_v6((key, said): (FragmentKey, Fragmented)) -> (FragmentKey, Fragmented) {
    let identification = u16::from_be(key.identification as u16);
    let key = FragmentKey {
        source: in_v6(key.source),
        destination: in_v6(key.destination),
        identification: u32::from(identification).to_be(),
        protocol: 0,
    };
    let other = match said.other {
        Address([0, 0]) => said.other,
        address => in_v6(address),
    };
    (key, Fragmented { other, ..said })
}

fn nat_in_v6(nat: &mut Nat) {
    for source in nat.sources.values_mut() {
        source.addresses = source.addresses.map(in_v6);
    }
    let flows = nat.flows.get_mut();
    *flows = keys_in_v6(std::mem::take(flows));
    for flow in flows.values_mut() {
        flow.source = in_v6(flow.source);
    }
    let ports = nat.ports.get_mut();
    let six = |(port, client): (NatPort, NatClient)| {
        let source = in_v6(port.source);
        let address = in_v6(client.address);
        (NatPort { source, ..port }, NatClient { address, ..client })
    };
    *ports = std::mem::take(ports).into_iter().map(six).collect();
}

/// An interface with a smaller MTU than IPv6 allows has no routes.
fn told_in_v6(told: Told) -> Told {
    let has_v6 = |route: &Route| match route {
        Route::Neighbour { mtu, .. } => *mtu >= 1280,
        Route::Local | Route::Stack => true,
    };
    let sockets = told.sockets.into_iter();
    Told {
        sockets: sockets
            .map(|((client, port, server, server_port), state)| {
                ((in_v6(client), port, in_v6(server), server_port), state)
            })
            .collect(),
        routes: (told.routes.into_iter())
            .filter(|(_, route)| has_v6(route))
            .map(|(to, route)| (in_v6(to), route))
            .collect(),
        ..told
    }
}

/// A masqueraded flow.
#[derive(Clone, Copy, Debug)]
pub struct Masked {
    /// Where it goes.
    pub endpoint: u16,
    /// Its port of this host.
    pub port: u16,
    /// The word's epoch when it began.
    pub epoch: u32,
    /// Initial sequence number.
    pub sequence: u32,
    /// What the client does.
    pub client: Activity,
    /// What the endpoint does.
    pub server: Activity,
}

impl Masked {
    /// One in which both sides have talked at [`NOW`], begun by a SYN as cases send it.
    pub const fn at(endpoint: u16, port: u16) -> Self {
        let talks = Activity::new(NOW, activity::SPEAKS | activity::TALKS);
        Self {
            endpoint,
            port,
            epoch: EPOCH,
            sequence: SEQUENCE,
            client: talks,
            server: talks,
        }
    }

    /// With another state of the client.
    #[must_use]
    pub const fn client(mut self, state: u32) -> Self {
        self.client = Activity::new(NOW, state);
        self
    }

    /// With another state of the endpoint.
    #[must_use]
    pub const fn server(mut self, state: u32) -> Self {
        self.server = Activity::new(NOW, state);
        self
    }

    /// With sides that have been silent for this many ticks.
    #[must_use]
    pub const fn silent(mut self, client: u32, server: u32) -> Self {
        self.client = Activity::new(NOW - client, self.client.state());
        self.server = Activity::new(NOW - server, self.server.state());
        self
    }
}

/// A tag that a SYN with this sequence number left at [`NOW`].
pub const fn syn_tag(endpoint: u16, sequence: u32) -> Tag {
    Tag {
        endpoint,
        from_syn: 1,
        epoch: EPOCH,
        sequence: sequence.to_be(),
        seen: NOW,
    }
}

/// A tag that a packet of an old flow left at [`NOW`].
pub const fn flow_tag(endpoint: u16) -> Tag {
    Tag {
        endpoint,
        from_syn: 0,
        epoch: EPOCH,
        sequence: 0,
        seen: NOW,
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
    let protocol = if matches!(vip, NAMES | CALLS | BELL | RADIO | STREAM) {
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
        DOOR | BELL => service_flags::KEEPS_VIP,
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
            let hash = steer::hash(SEED, parts(CLIENT).0, 0);
            buckets.fill(id(vip, 1));
            buckets[hash as usize % buckets.len()] = id(vip, 0);
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

fn add_endpoint(memory: &mut Memory, vip: SocketAddrV4, colour: u16, protocol: u8) {
    let (server, id) = (endpoint(vip, colour), id(vip, colour));
    let (address, port) = parts(server);
    let how = match vip {
        SHOP | FAR => endpoint_flags::ROUTED,
        DOOR | BELL => endpoint_flags::DSR,
        AWAY | RADIO => endpoint_flags::MASQUERADE,
        _ if server == vip => endpoint_flags::UNTOUCHED,
        _ => 0,
    };
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
    // Endpoints that answer clients directly are not looked out for.
    if !element.has(endpoint_flags::DSR) {
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
