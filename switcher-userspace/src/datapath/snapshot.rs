//! The live maps as ordinary memory: what `explain` asks, leaving no trace.

use std::collections::BTreeSet;

use switcher_common::abi::{Address, AddressKey, FlowKey, Port, TCP, UDP, address_kind};
use switcher_common::memory::{FlowMap, Memory};

use super::pinned::Pinned;
use super::table::Inner;
use super::{GroupIndex, Have};
use crate::cli::MadeUpPacket;
use crate::config::Protocol;

impl Pinned {
    /// Everything that these packets would meet, copied. Of flows only their clients', and the ports that are taken
    /// at their services' endpoints.
    ///
    /// # Errors
    /// When a map can't be read.
    pub(crate) fn snapshot(&self, have: &Have, packets: &[MadeUpPacket]) -> anyhow::Result<Memory> {
        // A reply's client is at its other end.
        let ends = packets.iter().flat_map(|it| [it.source, it.destination]);
        let clients: BTreeSet<Address> = ends.map(|end| end.ip().into()).collect();
        let fronts = packets
            .iter()
            .filter_map(|it| have.addresses.get(&front(it)));
        let fronts = fronts.filter_map(|index| have.services.get(index));
        let services: BTreeSet<u16> = fronts.map(|found| found.service.parent).collect();
        let mut memory = Memory {
            services: (have.services.iter())
                .map(|(&index, found)| (index, found.service))
                .collect(),
            endpoints: have.endpoints.clone(),
            tunnels: have.tunnels.clone(),
            settings: self.maps.settings.get(0),
            ..Memory::default()
        };
        for (table, buckets) in &have.tables {
            memory.fill(switcher_common::abi::TableRef(*table), buckets);
        }
        for (key, index) in &have.addresses {
            memory.publish(*key, *index);
        }
        for (&group, found) in &have.groups {
            let state = self.maps.groups.get(group.into());
            memory.words.insert(group, found.word);
            memory.udp_floors.insert(group, state.udp_floor);
            memory.held_until.insert(group, state.held_until);
            memory.times.insert(group, state.times);
            let window = flows(&self.maps.windows, group, &clients)?;
            let windows = memory.windows.get_mut();
            windows.extend(window.map(|map| (group, map)));
            let udp = flows(&self.maps.udp_flows, group, &clients)?;
            let udp_flows = memory.udp_flows.get_mut();
            udp_flows.extend(udp.map(|map| (group, map)));
        }
        memory.nat = self.snapshot_nat(&clients, &services)?;
        let mut notes = self.maps.notes()?;
        notes.retain(|key: &FlowKey, _| clients.contains(&key.client));
        memory.notes = notes.into();
        Ok(memory)
    }
}

/// The service or preview that a packet goes to, if it goes to one.
fn front(packet: &MadeUpPacket) -> AddressKey {
    AddressKey {
        address: packet.destination.ip().into(),
        port: Port::new(packet.destination.port()),
        protocol: match packet.protocol {
            Protocol::Tcp => TCP,
            Protocol::Udp => UDP,
        },
        kind: address_kind::SERVICE,
        reserved: 0,
    }
}

/// The clients' flows, in a map that has as much room left as the real one.
fn flows(
    maps: &Inner,
    group: GroupIndex,
    clients: &BTreeSet<Address>,
) -> anyhow::Result<Option<FlowMap>> {
    let Some(map) = maps.get(group)? else {
        return Ok(None);
    };
    let (mut all, mut copy) = (0, FlowMap::default());
    maps.each(group, |key, tag| {
        all += 1;
        if clients.contains(&key.client) {
            copy.flows.insert(*key, *tag);
        }
    })?;
    let room = (map.info()?.max_entries() as usize).saturating_sub(all);
    copy.capacity = copy.flows.len() + room;
    Ok(Some(copy))
}
