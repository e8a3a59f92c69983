//! The programs' maps are made to say what a memory says.

use std::collections::BTreeMap;

use aya::maps::{ArrayOfMaps, HashMap, Map, MapData, PerCpuArray, PerCpuValues};
use bytemuck::{Pod, Zeroable as _};
use switcher::datapath::pinned::{udp_flow_map, window_map};
use switcher_common::abi::fragment::{FragmentKey, Fragmented};
use switcher_common::abi::notice::Noticed;
use switcher_common::abi::{
    AddressKey, Counters, FlowKey, GroupState, NEXT_HOPS, NextHop, Note, PortEntry, ServiceName,
    Tag, Times, known_port, map,
};
use switcher_common::memory::{FlowMap, Memory};
use switcher_common::tables::Tables as _;
use switcher_common::verdict::Reason;

use super::{Kernel, Plain, clock, now, padded};
use crate::town::{CLOCK, service_name};

/// Key of an entry that fills up a flow map that is to refuse more.
pub(super) const FILLER: FlowKey = FlowKey {
    client: switcher_common::abi::Address([!0; 2]),
    port: switcher_common::abi::Port(!0),
    id: !0,
    space: !0,
};

/// Room in flow maps that are used again.
const SMALL: usize = 1 << 12;

impl Kernel {
    /// Makes the maps say what `memory` says. Counters begin at zero.
    ///
    /// # Errors
    /// When the kernel refuses an entry.
    pub fn fill(&mut self, memory: &Memory) -> anyhow::Result<()> {
        self.tick = now()?;
        let shift = self.shift();
        let mut known = BTreeMap::<u32, u64>::new();
        for port in std::mem::take(&mut self.ports) {
            self.set(map::PORTS, u32::from(port), PortEntry::default())?;
            known.insert(known_port(port).0, 0);
        }
        self.ports = memory.ports.keys().copied().collect();
        for (port, entry) in &memory.ports {
            self.set(map::PORTS, u32::from(*port), *entry)?;
            let (word, bit) = known_port(*port);
            *known.entry(word).or_default() |= bit;
        }
        for (word, bits) in known {
            self.set(map::KNOWN_PORTS, word, bits)?;
        }
        let data = self.data(map::ADDRESSES)?;
        let mut addresses = HashMap::<_, Plain<AddressKey>, u32>::try_from(data)?;
        let old: Vec<_> = addresses.keys().collect::<Result<_, _>>()?;
        for key in old {
            addresses.remove(&key)?;
        }
        for (key, index) in &memory.addresses {
            addresses.insert(Plain(*key), u32::from(*index), 0)?;
        }
        self.fill_arrays(memory, shift)?;
        for (group, window) in memory.windows.borrow().iter() {
            self.open(map::WINDOWS, *group, window, shift)?;
        }
        for (group, flows) in memory.udp_flows.borrow().iter() {
            self.open(map::UDP_FLOWS_OF, *group, flows, shift)?;
        }
        self.fill_notes(memory)?;
        self.fill_fragments(memory, shift)?;
        self.fill_nat(memory)?;
        self.forget(memory)
    }

    fn fill_arrays(&mut self, memory: &Memory, shift: u32) -> anyhow::Result<()> {
        for (index, service) in &memory.services {
            self.set(map::SERVICES, u32::from(*index), *service)?;
            let name = padded(&service_name(*index));
            self.set(map::SERVICE_NAMES, u32::from(*index), ServiceName { name })?;
        }
        for (id, endpoint) in &memory.endpoints {
            self.set(map::ENDPOINTS, u32::from(*id), *endpoint)?;
        }
        for (id, tunnel) in &memory.tunnels {
            self.set(map::TUNNELS, u32::from(*id), *tunnel)?;
        }
        let before = std::mem::take(&mut self.buckets);
        for (index, element) in memory.buckets.iter().enumerate() {
            if before.get(index) != Some(element) {
                self.set(map::TABLES, index as u32, *element)?;
            }
        }
        self.buckets.clone_from(&memory.buckets);
        for (group, word) in &memory.words {
            self.set(map::STEERING, u32::from(*group), word.0)?;
            let floor = memory.udp_floors.get(group).copied().unwrap_or_default();
            let held = memory.held_until.get(group).copied().unwrap_or_default();
            let held_until = if held == 0 {
                0
            } else {
                held.wrapping_add(shift)
            };
            let state = GroupState {
                udp_floor: floor,
                held_until,
                times: shifted(memory.times(*group), clock()?),
            };
            self.set(map::GROUPS, u32::from(*group), state)?;
        }
        self.set(map::SETTINGS, 0, memory.settings)
    }

    fn fill_notes(&mut self, memory: &Memory) -> anyhow::Result<()> {
        let data = self.data(map::NOTES)?;
        let mut notes = HashMap::<_, Plain<FlowKey>, Plain<Note>>::try_from(data)?;
        let old: Vec<_> = notes.keys().collect::<Result<_, _>>()?;
        for key in old {
            notes.remove(&key)?;
        }
        for (key, note) in memory.notes.borrow().iter() {
            notes.insert(Plain(*key), Plain(*note), 0)?;
        }
        Ok(())
    }

    fn fill_fragments(&mut self, memory: &Memory, shift: u32) -> anyhow::Result<()> {
        let data = self.data(map::FRAGMENTS)?;
        let mut fragments = HashMap::<_, Plain<FragmentKey>, Plain<Fragmented>>::try_from(data)?;
        let old: Vec<_> = fragments.keys().collect::<Result<_, _>>()?;
        for key in old {
            fragments.remove(&key)?;
        }
        for (key, said) in memory.fragments.borrow().iter() {
            let seen = said.seen.wrapping_add(shift);
            fragments.insert(Plain(*key), Plain(Fragmented { seen, ..*said }), 0)?;
        }
        Ok(())
    }

    /// Zeroes what programs have counted and remembered of endpoints.
    fn forget(&mut self, memory: &Memory) -> anyhow::Result<()> {
        for (id, endpoint) in &memory.endpoints {
            self.zero::<NextHop>(map::NEXT_HOPS, u32::from(*id) % NEXT_HOPS)?;
            self.zero::<Counters>(map::COUNTERS, endpoint.counter)?;
        }
        for reason in Reason::ALL {
            self.zero::<u64>(map::REASONS, *reason as u32)?;
        }
        for group in memory.words.keys() {
            self.zero::<Noticed>(map::NOTICED, u32::from(*group))?;
        }
        self.notices()?;
        if self.traced {
            self.traces()?;
        }
        Ok(())
    }

    /// Puts a flow map with these entries into an array of maps.
    /// A small one that is there is emptied and used again: to replace it waits for a grace period.
    fn open(
        &mut self,
        name: &'static str,
        group: u16,
        flows: &FlowMap,
        shift: u32,
    ) -> anyhow::Result<()> {
        let full = flows.capacity == flows.flows.len();
        let room = if full {
            flows.flows.len() + 1
        } else {
            flows.capacity
        };
        let same = self.rooms.insert((name, group), room) == Some(room) && room <= SMALL;
        let mut outer = ArrayOfMaps::<_, MapData>::try_from(self.data(name)?)?;
        if !same {
            let data = MapData::from_fd(match name {
                map::WINDOWS => window_map(room as u32),
                _ => udp_flow_map(),
            }?)?;
            outer.set(u32::from(group), &data, 0)?;
        }
        let whole = match outer.get(&u32::from(group), 0) {
            Ok(data) => Map::from_map_data(data)?,
            Err(error) => return Err(error.into()),
        };
        let mut entries = HashMap::<_, Plain<FlowKey>, Plain<Tag>>::try_from(whole)?;
        let old: Vec<_> = entries.keys().collect::<Result<_, _>>()?;
        for key in old {
            entries.remove(&key)?;
        }
        for (key, tag) in &flows.flows {
            let seen = tag.seen.wrapping_add(shift);
            entries.insert(Plain(*key), Plain(Tag { seen, ..*tag }), 0)?;
        }
        if full {
            entries.insert(Plain(FILLER), Plain(Tag::zeroed()), 0)?;
        }
        Ok(())
    }

    fn zero<T: Pod>(&mut self, name: &str, index: u32) -> anyhow::Result<()> {
        let mut array = PerCpuArray::<_, Plain<T>>::try_from(self.data(name)?)?;
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
        let zeros = PerCpuValues::try_from(vec![Plain(T::zeroed()); cpus])?;
        Ok(array.set(index, zeros, 0)?)
    }
}

/// Instants as far from `now` as they were from the town's clock.
fn shifted(times: Times, now: u64) -> Times {
    let shift = |at: u64| match at {
        0 | Times::NEVER => at,
        at => now.wrapping_add(at.wrapping_sub(CLOCK)),
    };
    Times {
        arm_at: shift(times.arm_at),
        activate_at: shift(times.activate_at),
        revert_at: shift(times.revert_at),
        paused_until: shift(times.paused_until),
    }
}
