//! The live maps as ordinary memory: what `explain` asks, leaving no trace.

use switcher_common::abi::{Address, FlowKey};
use switcher_common::memory::{FlowMap, Memory};

use super::pinned::Pinned;
use super::table::Inner;
use super::{GroupIndex, Have};

impl Pinned {
    /// Everything that a packet of this client would meet, copied. Of flows only the client's.
    ///
    /// # Errors
    /// When a map can't be read.
    pub fn snapshot(&self, have: &Have, client: Address) -> anyhow::Result<Memory> {
        let services = have.services.iter();
        let mut memory = Memory {
            services: services
                .map(|(&index, found)| (index, found.service))
                .collect(),
            endpoints: have.endpoints.clone(),
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
            let window = flows(&self.maps.windows, group, client)?;
            memory
                .windows
                .borrow_mut()
                .extend(window.map(|map| (group, map)));
            let udp = flows(&self.maps.udp_flows, group, client)?;
            memory
                .udp_flows
                .borrow_mut()
                .extend(udp.map(|map| (group, map)));
        }
        memory.nat = self.snapshot_nat(client)?;
        let mut notes = self.maps.notes()?;
        notes.retain(|key: &FlowKey, _| key.client == client);
        memory.notes = notes.into();
        Ok(memory)
    }
}

/// The client's flows, in a map that has as much room left as the real one.
fn flows(maps: &Inner, group: GroupIndex, client: Address) -> anyhow::Result<Option<FlowMap>> {
    let Some(map) = maps.get(group)? else {
        return Ok(None);
    };
    let (mut all, mut copy) = (0, FlowMap::default());
    maps.each(group, |key, tag| {
        all += 1;
        if key.client == client {
            copy.flows.insert(*key, *tag);
        }
    })?;
    let room = (map.info()?.max_entries() as usize).saturating_sub(all);
    copy.capacity = copy.flows.len() + room;
    Ok(Some(copy))
}
