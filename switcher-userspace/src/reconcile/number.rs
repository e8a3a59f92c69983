//! Names to numbers: what exists keeps its own, what is new gets one that is free.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;

use switcher_common::abi::{
    Address, AddressKey, COLOURS, Endpoint, MAX_COUNTERS, MAX_ENDPOINTS, MAX_GROUPS, MAX_SERVICES,
    Port, Service, address_kind, service_flags,
};

use super::{Planner, Refusal, WantGroup, WantService};
use crate::datapath::{Colour, GroupIndex, Have, HaveService};

/// What has which number, and where to look for one that is free: no number is given back by a plan before
/// all are given.
#[derive(Clone, Default)]
pub(super) struct Numbers {
    services: HashMap<ServiceName, u16>,
    endpoints: HashMap<(u16, Colour, Address, Port), u16>,
    counters: HashMap<(u16, Colour), u32>,
    counters_used: HashSet<u32>,
    next_service: u16,
    next_endpoint: u16,
    next_counter: u32,
}

/// What makes a service or preview the same one: group, name, address, protocol, and what it previews.
type ServiceName = (GroupIndex, String, Address, Port, u8, Option<u16>);

impl Numbers {
    pub(super) fn new(have: &Have) -> Self {
        let services = have.services.iter();
        let endpoints = have.endpoints.iter();
        let counters = have.endpoints.values();
        let counters_used: HashSet<u32> = counters.clone().map(|have| have.counter).collect();
        Self {
            // Of two that are alike the first counts.
            services: services
                .rev()
                .map(|(index, have)| (name(have), *index))
                .collect(),
            endpoints: endpoints
                .rev()
                .map(|(id, have)| ((have.service, have.colour, have.address, have.port), *id))
                .collect(),
            counters: counters
                .rev()
                .map(|have| ((have.service, have.colour), have.counter))
                .collect(),
            next_service: 0,
            // Id 0 is never given: it is what an empty bucket says.
            next_endpoint: have.last_endpoint + 1,
            next_counter: counters_used.iter().max().map_or(0, |last| last + 1),
            counters_used,
        }
    }
}

fn name(have: &HaveService) -> ServiceName {
    let HaveService { name, service, .. } = have;
    let previewed = service
        .has(service_flags::PREVIEW)
        .then_some(service.parent);
    let Service {
        group,
        address,
        port,
        protocol,
        ..
    } = *service;
    (group, name.clone(), address, port, protocol, previewed)
}

impl Planner {
    /// The index of a group that exists.
    pub(super) fn find_group(&self, name: &str) -> Option<GroupIndex> {
        let mut groups = self.have().groups.iter();
        groups
            .find(|(_, group)| group.name == name)
            .map(|(index, _)| *index)
    }

    /// An index that neither a group nor the leftovers of one use.
    pub(super) fn new_group(&self) -> Result<GroupIndex, Refusal> {
        let have = self.have();
        let mut all = 0..MAX_GROUPS as GroupIndex;
        all.find(|index| {
            !have.groups.contains_key(index)
                && have.services.values().all(|s| s.service.group != *index)
        })
        .ok_or(full("groups", MAX_GROUPS))
    }

    /// Colour numbers of a group: known names keep theirs, new ones get the lowest that is free.
    pub(super) fn number_colours(
        &self,
        group: Option<GroupIndex>,
        want: &WantGroup,
    ) -> Result<BTreeMap<Colour, String>, Refusal> {
        let known = group.and_then(|index| self.have().groups.get(&index));
        let known = known.map(|group| group.colours.clone()).unwrap_or_default();
        let mut numbered: BTreeMap<Colour, String> = known
            .iter()
            .filter(|(_, name)| want.colours.contains(name))
            .map(|(number, name)| (*number, name.clone()))
            .collect();
        for name in &want.colours {
            if numbered.values().any(|other| other == name) {
                continue;
            }
            let mut free = 0..COLOURS as Colour;
            let number = free.find(|n| !numbered.contains_key(n) && !known.contains_key(n));
            numbered.insert(number.ok_or(full("colours", COLOURS as u32))?, name.clone());
        }
        Ok(numbered)
    }

    /// The index of a service or its preview. Another address or protocol is another service: clients of
    /// the one never reach the other. `previewed` is the service that a preview belongs to.
    pub(super) fn number_service(
        &mut self,
        group: GroupIndex,
        name: &str,
        address: SocketAddr,
        want: &WantService,
        previewed: Option<u16>,
    ) -> Result<u16, Refusal> {
        let (address, port) = split(address);
        let key = (
            group,
            name.to_owned(),
            address,
            port,
            want.protocol,
            previewed,
        );
        if let Some(index) = self.numbers.services.get(&key) {
            return Ok(*index);
        }
        let have = &self.state.state().services;
        let mut rest = self.numbers.next_service..MAX_SERVICES as u16;
        let index = rest.find(|index| !have.contains_key(index) && !self.services.contains(index));
        let index = index.ok_or(full("services", MAX_SERVICES))?;
        self.numbers.next_service = index + 1;
        Ok(index)
    }

    /// The id of an endpoint. New ones get the first free id above the one that was given last, so that an
    /// id that was freed is not used again before the numbers have gone round: a flow may still be
    /// remembered with it.
    pub(super) fn number_endpoint(
        &mut self,
        service: u16,
        colour: Colour,
        address: SocketAddr,
    ) -> Result<u16, Refusal> {
        let (address, port) = split(address);
        let key = (service, colour, address, port);
        if let Some(id) = self.numbers.endpoints.get(&key) {
            return Ok(*id);
        }
        let have = &self.state.state().endpoints;
        let (next, limit) = (self.numbers.next_endpoint, MAX_ENDPOINTS as u16);
        let mut all = (next..limit).chain(1..next.min(limit));
        let id = all.find(|id| !have.contains_key(id));
        let id = id.ok_or(full("endpoints", MAX_ENDPOINTS - 1))?;
        self.numbers.next_endpoint = id + 1;
        self.numbers.endpoints.insert(key, id);
        Ok(id)
    }

    /// The cell that counts for a colour of a service. New ones are above all others for the same reason:
    /// cells are never reset.
    pub(super) fn number_counter(&mut self, service: u16, colour: Colour) -> Result<u32, Refusal> {
        let numbers = &mut self.numbers;
        if let Some(cell) = numbers.counters.get(&(service, colour)) {
            return Ok(*cell);
        }
        let mut all = (numbers.next_counter..MAX_COUNTERS).chain(0..numbers.next_counter);
        let cell = all.find(|cell| !numbers.counters_used.contains(cell));
        let cell = cell.ok_or(full("colours with endpoints", MAX_COUNTERS))?;
        numbers.next_counter = cell + 1;
        numbers.counters_used.insert(cell);
        numbers.counters.insert((service, colour), cell);
        Ok(cell)
    }
}

fn full(what: &'static str, limit: u32) -> Refusal {
    Refusal::Full { what, limit }
}

/// An address as the maps have it.
pub(super) fn split(address: SocketAddr) -> (Address, Port) {
    (Address::from(address.ip()), Port::new(address.port()))
}

/// The key by which clients reach a service or preview.
pub(super) fn service_key(address: SocketAddr, protocol: u8) -> AddressKey {
    let (address, port) = split(address);
    AddressKey {
        address,
        port,
        protocol,
        kind: address_kind::SERVICE,
        reserved: 0,
    }
}

/// The key by which replies and direct clients are recognised.
pub(super) const fn endpoint_key(endpoint: &Endpoint) -> AddressKey {
    AddressKey {
        address: endpoint.address,
        port: endpoint.port,
        protocol: endpoint.protocol,
        kind: address_kind::ENDPOINT,
        reserved: 0,
    }
}
