//! What the town remembers when a case begins.

use std::net::{Ipv4Addr, SocketAddrV4};

use switcher_common::abi::fragment::{FragmentKey, Fragmented};
use switcher_common::abi::nat::{NAT_ADDRESSES, NatClient, NatFlow, NatSource};
use switcher_common::abi::{
    Address, Note, Port, TCP, Tag, Times, UDP, endpoint_flags, flow_space, note_kind, service_flags,
};
use switcher_common::memory::{FlowMap, Memory, Told};
use switcher_common::steer::Ownership;
use switcher_common::word::Word;

use super::{
    GROUP, MASK, Masked, PREVIEW, SEED, SERVICES, UDP_IDLE, add, key, parts, service, told,
    udp_key, window_key,
};

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

    /// With another address for masqueraded flows to come from, beside [`MASK`]'s: see [`State::masks`].
    #[must_use]
    pub fn and_masks(mut self, other: Ipv4Addr) -> Self {
        for source in self.memory.nat.sources.values_mut() {
            source.addresses[1] = Address::v4(other.octets());
            source.count = 2;
        }
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
