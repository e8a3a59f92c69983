//! The maps as ordinary memory: for tests on the host, and for `explain`, which fills one from the live
//! maps and throws it away afterwards.

mod nat;

use core::cell::{Cell, RefCell};
use core::mem::MaybeUninit;
use std::collections::BTreeMap;
use std::vec::Vec;

use crate::abi::fragment::{FragmentKey, Fragmented};
use crate::abi::notice::{Notice, Noticed};
use crate::abi::{
    Address, AddressKey, BUCKETS_PER_ELEMENT, Counters, Endpoint, FlowKey, MANY, NextHop, Note,
    Port, PortEntry, Service, Settings, TCP, TableRef, Tag, TagBudget, Times, Tunnel, address_kind,
};
use crate::parse::Packet;
use crate::steer::{Ownership, Segment};
use crate::tables::{Count, Route, Stack, Tables, Way};
use crate::tunnel::Parcel;
use crate::verdict::Reason;
use crate::word::Word;

pub use nat::Nat;

/// A flow map of bounded size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowMap {
    /// Most entries it takes; an entry that exists can always be changed.
    pub capacity: usize,
    /// Its entries.
    pub flows: BTreeMap<FlowKey, Tag>,
}

impl FlowMap {
    fn set(&mut self, key: &FlowKey, tag: Tag) -> bool {
        if self.flows.len() >= self.capacity && !self.flows.contains_key(key) {
            return false;
        }
        self.flows.insert(*key, tag);
        true
    }
}

/// All maps. Fields that a packet can change are cells, as in the kernel.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// By port number.
    pub ports: BTreeMap<u16, PortEntry>,
    /// Exact addresses.
    pub addresses: BTreeMap<AddressKey, u16>,
    /// By index.
    pub services: BTreeMap<u16, Service>,
    /// By id. Whether one was noted is in `noted`.
    pub endpoints: BTreeMap<u16, Endpoint>,
    /// By endpoint id.
    pub tunnels: BTreeMap<u16, Tunnel>,
    /// Elements of `TABLES`.
    pub buckets: Vec<[u16; BUCKETS_PER_ELEMENT as usize]>,
    /// By group.
    pub words: BTreeMap<u16, Word>,
    /// By group.
    pub udp_floors: BTreeMap<u16, u32>,
    /// By group.
    pub held_until: BTreeMap<u16, u32>,
    /// What was spent of new tags.
    pub tag_budget: Cell<TagBudget>,
    /// By group.
    pub times: BTreeMap<u16, Times>,
    /// Seed and idle times.
    pub settings: Settings,
    /// Flow maps of open windows, by group.
    pub windows: RefCell<BTreeMap<u16, FlowMap>>,
    /// UDP flows, by group.
    pub udp_flows: RefCell<BTreeMap<u16, FlowMap>>,
    /// Masqueraded flows.
    pub nat: Nat,
    /// Exceptions.
    pub notes: RefCell<BTreeMap<FlowKey, Note>>,
    /// What first fragments said.
    pub fragments: RefCell<BTreeMap<FragmentKey, Fragmented>>,
    /// Endpoints that `mark_noted` was called for, in order.
    pub noted: RefCell<Vec<u16>>,
    /// Remembered answers of the FIB.
    pub next_hops: RefCell<BTreeMap<u16, NextHop>>,
    /// By cell.
    pub counters: RefCell<BTreeMap<u32, Counters>>,
    /// What the agent was told; without times and CPUs.
    pub notices: RefCell<Vec<Notice>>,
    /// What it has been told already, by group.
    pub noticed: RefCell<BTreeMap<u16, Noticed>>,
    /// What a stage has left to the next.
    pub parcel: Cell<Option<Parcel>>,
    /// By reason.
    pub reasons: RefCell<BTreeMap<Reason, u64>>,
}

impl Memory {
    /// Makes an address reachable: an entry of `ADDRESSES` and, if it has a port, of `PORTS`.
    pub fn publish(&mut self, key: AddressKey, index: u16) {
        let known = self.addresses.insert(key, index).is_some();
        if !key.has_port() {
            return;
        }
        let entry = self.ports.entry(key.port.number()).or_default();
        let code = port_code(entry, &key);
        *code = match *code {
            // Of several the port says no more than that.
            MANY => MANY,
            other if other == 0 || known => index + 1,
            _ => MANY,
        };
    }

    /// Writes a table's buckets.
    pub fn fill(&mut self, table: TableRef, endpoints: &[u16]) {
        let lanes = BUCKETS_PER_ELEMENT as usize;
        let end = (table.first() as usize + endpoints.len()).div_ceil(lanes);
        if self.buckets.len() < end {
            self.buckets.resize(end, Default::default());
        }
        for (offset, endpoint) in endpoints.iter().enumerate() {
            let bucket = table.first() as usize + offset;
            self.buckets[bucket / lanes][bucket % lanes] = *endpoint;
        }
    }
}

/// The field of `entry` that an address belongs to.
pub const fn port_code<'a>(entry: &'a mut PortEntry, key: &AddressKey) -> &'a mut u16 {
    match (key.kind, key.protocol) {
        (address_kind::SERVICE, TCP) => &mut entry.tcp_service,
        (address_kind::SERVICE, _) => &mut entry.udp_service,
        (_, TCP) => &mut entry.tcp_endpoint,
        (_, _) => &mut entry.udp_endpoint,
    }
}

/// What a field of [`PortEntry`] has to say when `published` are all addresses in use: nobody, the only
/// one, or [`MANY`].
pub fn port_entry_code(
    published: impl Iterator<Item = (AddressKey, u16)>,
    like: &AddressKey,
) -> u16 {
    let mut same = published.filter(|(key, _)| {
        (key.port, key.protocol, key.kind) == (like.port, like.protocol, like.kind)
    });
    match (same.next(), same.next()) {
        (None, _) => 0,
        (Some((_, index)), None) => index + 1,
        (Some(_), Some(_)) => MANY,
    }
}

impl Tables for Memory {
    /// Whether it is a UDP flow's, its group and flow.
    type Place = (bool, u16, FlowKey);

    fn known(&self, port: Port) -> bool {
        self.port(port) != PortEntry::default()
    }

    fn port(&self, port: Port) -> PortEntry {
        self.ports.get(&port.number()).copied().unwrap_or_default()
    }

    fn find(&self, key: &AddressKey) -> Option<u16> {
        self.addresses.get(key).copied()
    }

    fn service(&self, index: u16) -> Option<&Service> {
        self.services.get(&index)
    }

    fn endpoint(&self, id: u16) -> Option<&Endpoint> {
        self.endpoints.get(&id)
    }

    fn tunnel(&self, endpoint: u16) -> Tunnel {
        self.tunnels.get(&endpoint).copied().unwrap_or_default()
    }

    fn bucket(&self, bucket: u32) -> Option<u16> {
        let element = self.buckets.get((bucket / BUCKETS_PER_ELEMENT) as usize)?;
        Some(element[(bucket % BUCKETS_PER_ELEMENT) as usize])
    }

    fn word(&self, group: u16) -> Word {
        self.words.get(&group).copied().unwrap_or_default()
    }

    fn udp_floor(&self, group: u16) -> u32 {
        self.udp_floors.get(&group).copied().unwrap_or_default()
    }

    fn times(&self, group: u16) -> Times {
        self.times.get(&group).copied().unwrap_or_default()
    }

    fn settings(&self) -> Settings {
        self.settings
    }

    fn tag(&self, group: u16, key: &FlowKey) -> Option<(Tag, Self::Place)> {
        let tag = *self.windows.borrow().get(&group)?.flows.get(key)?;
        Some((tag, (false, group, *key)))
    }

    fn set_tag(&self, group: u16, key: &FlowKey, tag: Tag) -> bool {
        let mut windows = self.windows.borrow_mut();
        windows
            .get_mut(&group)
            .is_some_and(|window| window.set(key, tag))
    }

    fn touch(&self, (is_udp, group, key): Self::Place, seen: u32) {
        let maps = if is_udp {
            &self.udp_flows
        } else {
            &self.windows
        };
        let mut maps = maps.borrow_mut();
        let map = maps.get_mut(&group);
        if let Some(tag) = map.and_then(|map| map.flows.get_mut(&key)) {
            tag.seen = seen;
        }
    }

    fn may_tag(&self, tag: &Tag) -> bool {
        let mut budget = self.tag_budget.get();
        let may = budget.spend(tag, self.settings.tags_like(tag));
        self.tag_budget.set(budget);
        may
    }

    fn held_until(&self, group: u16) -> u32 {
        self.held_until.get(&group).copied().unwrap_or_default()
    }

    fn remove_tag(&self, group: u16, key: &FlowKey) {
        if let Some(window) = self.windows.borrow_mut().get_mut(&group) {
            window.flows.remove(key);
        }
    }

    fn udp_flow(&self, group: u16, key: &FlowKey) -> Option<(Tag, Self::Place)> {
        let tag = *self.udp_flows.borrow().get(&group)?.flows.get(key)?;
        Some((tag, (true, group, *key)))
    }

    fn set_udp_flow(&self, group: u16, key: &FlowKey, tag: Tag) -> bool {
        let mut flows = self.udp_flows.borrow_mut();
        flows
            .get_mut(&group)
            .is_some_and(|flows| flows.set(key, tag))
    }

    fn note(&self, key: &FlowKey) -> Option<Note> {
        self.notes.borrow().get(key).copied()
    }

    fn set_note(&self, key: &FlowKey, note: Note) {
        self.notes.borrow_mut().insert(*key, note);
    }

    fn remove_note(&self, key: &FlowKey) {
        self.notes.borrow_mut().remove(key);
    }

    fn mark_noted(&self, endpoint: u16) {
        self.noted.borrow_mut().push(endpoint);
    }

    fn fragments(&self, key: &FragmentKey) -> Option<Fragmented> {
        self.fragments.borrow().get(key).copied()
    }

    fn set_fragments(&self, key: &FragmentKey, said: &Fragmented) {
        self.fragments.borrow_mut().insert(*key, *said);
    }

    fn next_hop(&self, endpoint: u16) -> Option<NextHop> {
        self.next_hops.borrow().get(&endpoint).copied()
    }

    fn set_next_hop(&self, endpoint: u16, hop: NextHop) {
        self.next_hops.borrow_mut().insert(endpoint, hop);
    }

    fn hand_on(&self, parcel: &Parcel) {
        self.parcel.set(Some(*parcel));
    }

    fn handed_on<'a>(&self, place: &'a mut MaybeUninit<Parcel>) -> Option<&'a mut Parcel> {
        Some(place.write(self.parcel.get()?))
    }

    fn notice(&self, kind: u32, group: u16, id: u16, mark: u32) {
        let mut noticed = self.noticed.borrow_mut();
        if noticed.entry(group).or_default().is_news(kind, mark) {
            self.notices.borrow_mut().push(Notice {
                kind,
                group: group.into(),
                id: id.into(),
                word: self.word(group).0,
                ..Notice::default()
            });
        }
    }

    fn count(&self, cell: u32, event: Count) {
        let mut counters = self.counters.borrow_mut();
        let cell = counters.entry(cell).or_default();
        match event {
            Count::Packet { bytes, begins } => {
                cell.packets += 1;
                cell.bytes += u64::from(bytes);
                cell.connections += u64::from(begins);
            }
            Count::Connection => {
                cell.connections += 1;
                cell.answers += 1;
            }
            Count::Reset => cell.resets += 1,
            Count::Answer => cell.answers += 1,
        }
    }

    fn count_reason(&self, reason: Reason) {
        *self.reasons.borrow_mut().entry(reason).or_default() += 1;
    }
}

/// A network stack that says what it was told to say.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Now, in ticks.
    pub now: Cell<u32>,
    /// Now, in nanoseconds of `CLOCK_BOOTTIME`.
    pub clock: Cell<u64>,
    /// The incoming interface.
    pub interface: u32,
    /// (client, client port, endpoint address, endpoint port) -> what the socket table has.
    pub sockets: BTreeMap<(Address, Port, Address, Port), Ownership>,
    /// Destination -> route; [`Route::Stack`] where nothing stands, but loopback is always local.
    pub routes: BTreeMap<Address, Route>,
}

impl Stack for Told {
    fn now(&self) -> u32 {
        self.now.get()
    }

    fn nanoseconds(&self) -> u64 {
        self.clock.get()
    }

    fn interface(&self) -> u32 {
        self.interface
    }

    fn owner(&self, packet: &Packet, endpoint: &Endpoint, _segment: Segment) -> Ownership {
        let key = (
            packet.source,
            packet.source_port,
            endpoint.address,
            endpoint.port,
        );
        self.sockets.get(&key).copied().unwrap_or(Ownership::None)
    }

    fn route(&self, way: &Way) -> Route {
        let Way {
            destination,
            carriage,
            ..
        } = *way;
        match self.routes.get(&destination) {
            Some(Route::Neighbour { mtu, .. })
                if *mtu != 0 && u32::from(carriage.length) > *mtu =>
            {
                Route::Stack
            }
            Some(route) => *route,
            None if core::net::IpAddr::from(destination).is_loopback() => Route::Local,
            None => Route::Stack,
        }
    }
}
