//! Names to numbers: what exists keeps its own, what is new gets one that is free.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use switcher_common::abi::{
    Address, AddressKey, COLOURS, Endpoint, MAX_COUNTERS, MAX_ENDPOINTS, MAX_GROUPS, MAX_SERVICES,
    Port, address_kind, service_flags,
};

use super::{Planner, Refusal, WantGroup, WantService};
use crate::datapath::{Colour, GroupIndex};

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
        &self,
        group: GroupIndex,
        name: &str,
        address: SocketAddr,
        want: &WantService,
        previewed: Option<u16>,
    ) -> Result<u16, Refusal> {
        let have = &self.have().services;
        let found = have.iter().find(|(_, have)| {
            have.service.group == group
                && have.name == name
                && have.service.has(service_flags::PREVIEW) == previewed.is_some()
                && previewed.is_none_or(|parent| have.service.parent == parent)
                && have.service.protocol == want.protocol
                && (have.service.address, have.service.port) == split(address)
        });
        if let Some((index, _)) = found {
            return Ok(*index);
        }
        let mut all = 0..MAX_SERVICES as u16;
        all.find(|index| !have.contains_key(index) && !self.services.contains(index))
            .ok_or(full("services", MAX_SERVICES))
    }

    /// The id of an endpoint. New ones get the first free id above the one that was given last, so that an
    /// id that was freed is not used again before the numbers have gone round: a flow may still be
    /// remembered with it.
    pub(super) fn number_endpoint(
        &self,
        service: u16,
        colour: Colour,
        address: SocketAddr,
    ) -> Result<u16, Refusal> {
        let have = &self.have().endpoints;
        let found = have.iter().find(|(_, have)| {
            (have.service, have.colour) == (service, colour)
                && (have.address, have.port) == split(address)
        });
        if let Some((id, _)) = found {
            return Ok(*id);
        }
        // Id 0 is never given: it is what an empty bucket says.
        let next = self.have().last_endpoint + 1;
        let limit = MAX_ENDPOINTS as u16;
        let mut all = (next..limit).chain(1..limit);
        all.find(|id| !have.contains_key(id))
            .ok_or(full("endpoints", MAX_ENDPOINTS - 1))
    }

    /// The cell that counts for a colour of a service. New ones are above all others for the same reason:
    /// cells are never reset.
    pub(super) fn number_counter(&self, service: u16, colour: Colour) -> Result<u32, Refusal> {
        let have = &self.have().endpoints;
        let found = have
            .values()
            .find(|have| (have.service, have.colour) == (service, colour));
        if let Some(found) = found {
            return Ok(found.counter);
        }
        let used: BTreeSet<u32> = have.values().map(|have| have.counter).collect();
        let next = used.last().map_or(0, |last| last + 1);
        let mut all = (next..MAX_COUNTERS).chain(0..MAX_COUNTERS);
        all.find(|cell| !used.contains(cell))
            .ok_or(full("colours with endpoints", MAX_COUNTERS))
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
