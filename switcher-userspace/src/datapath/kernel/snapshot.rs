//! The live maps as ordinary memory: what `explain` asks, leaving no trace.

use std::os::fd::AsFd as _;

use anyhow::Context as _;
use switcher_common::abi::{FlowKey, MAX_BUCKETS, Tag};
use switcher_common::memory::{FlowMap, Memory};

use super::bpf;
use super::maps::Maps;
use crate::datapath::GroupIndex;

impl Maps {
    /// Copies everything that steering looks at.
    ///
    /// # Errors
    /// When a map can't be read.
    pub fn snapshot(&self) -> anyhow::Result<Memory> {
        let have = self.have()?;
        let mut memory = Memory {
            services: have
                .services
                .iter()
                .map(|(index, service)| (*index, service.service))
                .collect(),
            endpoints: have.endpoints,
            buckets: (0..MAX_BUCKETS / 4)
                .map(|element| self.tables.read(element))
                .collect(),
            words: have
                .groups
                .iter()
                .map(|(group, found)| (*group, found.word))
                .collect(),
            udp_floors: have
                .groups
                .keys()
                .map(|group| (*group, self.groups.read(u32::from(*group)).udp_floor))
                .collect(),
            settings: self.settings.read(0),
            ..Memory::default()
        };
        for (key, index) in self.published()? {
            memory.publish(key, index);
        }
        for group in have.groups.keys() {
            if let Some(window) = self.flow_map(self.window(*group)?.as_ref())? {
                memory.windows.borrow_mut().insert(*group, window);
            }
            if let Some(flows) = self.flow_map(self.udp_flows(*group)?.as_ref())? {
                memory.udp_flows.borrow_mut().insert(*group, flows);
            }
        }
        memory.notes.borrow_mut().extend(self.notes()?);
        Ok(memory)
    }

    fn flow_map(&self, map: Option<&aya::maps::MapData>) -> anyhow::Result<Option<FlowMap>> {
        let Some(map) = map else {
            return Ok(None);
        };
        let mut copy = FlowMap {
            capacity: map.info()?.max_entries() as usize,
            ..FlowMap::default()
        };
        bpf::values(map.fd().as_fd(), |key: &FlowKey, tag: &Tag| {
            copy.flows.insert(*key, *tag);
        })
        .context("reading a flow map")?;
        Ok(Some(copy))
    }

    /// Index of the group with this name.
    pub fn group_named(&self, name: &str) -> Option<GroupIndex> {
        self.have_groups()
            .into_iter()
            .find(|(_, group)| group.name == name)
            .map(|(index, _)| index)
    }
}
