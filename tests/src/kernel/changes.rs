//! What programs have changed in their maps.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Add;

use aya::maps::{ArrayOfMaps, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf};
use bytemuck::Pod;
use switcher_common::abi::fragment::{FragmentKey, Fragmented};
use switcher_common::abi::notice::Notice;
use switcher_common::abi::{Counters, FlowKey, Note, Tag, map};
use switcher_common::memory::{FlowMap, Memory};
use switcher_common::verdict::Reason;

use super::fill::FILLER;
use super::{Kernel, Plain, nat};
use crate::town::{LONG_SILENT, NOW};

/// What programs change in their maps. Times are left out, since the clock goes on, but for whether a tag is fresh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    windows: BTreeMap<u16, BTreeMap<FlowKey, Tag>>,
    udp_flows: BTreeMap<u16, BTreeMap<FlowKey, Tag>>,
    notes: BTreeMap<FlowKey, Note>,
    fragments: BTreeMap<FragmentKey, Fragmented>,
    nat: nat::Masqueraded,
    counters: BTreeMap<u32, Counters>,
    reasons: BTreeMap<Reason, u64>,
    notices: BTreeSet<Told>,
}

/// Kind, group and id of a notice. Each CPU tells once, so the number says nothing.
type Told = (u32, u32, u32);

impl Changes {
    /// The same of the core on the host.
    pub fn of(memory: &Memory) -> Self {
        let flows = |maps: &BTreeMap<u16, FlowMap>| {
            let entries = maps.iter();
            entries
                .map(|(group, map)| (*group, map.flows.clone()))
                .collect()
        };
        let mut changes = Self {
            windows: flows(&memory.windows.borrow()),
            udp_flows: flows(&memory.udp_flows.borrow()),
            notes: memory.notes.borrow().clone(),
            fragments: memory.fragments.borrow().clone(),
            nat: nat::Masqueraded::of(memory),
            counters: memory.counters.borrow().clone(),
            reasons: memory.reasons.borrow().clone(),
            notices: memory
                .notices
                .borrow()
                .iter()
                .map(|notice| (notice.kind, notice.group, notice.id))
                .collect(),
        };
        changes.tidy();
        changes
    }

    fn tidy(&mut self) {
        let windows = self.windows.values_mut().flat_map(BTreeMap::values_mut);
        let udp = self.udp_flows.values_mut().flat_map(BTreeMap::values_mut);
        // Whether a packet may have touched it: the clock goes on, but not for minutes.
        let is_fresh = |tag: &Tag| NOW.wrapping_sub(tag.seen).cast_signed() < LONG_SILENT / 2;
        windows
            .chain(udp)
            .for_each(|tag| tag.seen = u32::from(is_fresh(tag)));
        let fragments = self.fragments.values_mut();
        fragments.for_each(|said| said.seen = 0);
        self.nat.forget_times();
        self.counters.retain(|_, cell| *cell != Counters::default());
        self.reasons.retain(|_, count| *count != 0);
    }
}

impl Kernel {
    /// What programs have changed, in `like`'s place: flow maps, notes, counters and reasons.
    ///
    /// # Errors
    /// When a map can't be read.
    pub fn read(&mut self, like: &Memory) -> anyhow::Result<Changes> {
        let shift = self.shift();
        let mut changes = Changes::default();
        for group in like.words.keys() {
            let windows = self.flows(map::WINDOWS, *group, shift)?;
            changes.windows.insert(*group, windows);
            let udp = self.flows(map::UDP_FLOWS_OF, *group, shift)?;
            changes.udp_flows.insert(*group, udp);
        }
        changes.nat = self.read_nat()?;
        let data = self.data(map::NOTES)?;
        let notes = HashMap::<_, Plain<FlowKey>, Plain<Note>>::try_from(data)?;
        for entry in notes.iter() {
            let (key, note) = entry?;
            changes.notes.insert(key.0, note.0);
        }
        let data = self.data(map::FRAGMENTS)?;
        let fragments = HashMap::<_, Plain<FragmentKey>, Plain<Fragmented>>::try_from(data)?;
        for entry in fragments.iter() {
            let (key, said) = entry?;
            changes.fragments.insert(key.0, said.0);
        }
        for endpoint in like.endpoints.values() {
            let cells = self.sum::<Counters>(map::COUNTERS, endpoint.counter, Add::add)?;
            changes.counters.insert(endpoint.counter, cells);
        }
        changes.reasons = self.reasons()?;
        changes.notices = self.notices()?;
        changes.tidy();
        Ok(changes)
    }

    /// What the programs have counted, by reason.
    ///
    /// # Errors
    /// When the map can't be read.
    pub fn reasons(&mut self) -> anyhow::Result<BTreeMap<Reason, u64>> {
        let mut reasons = BTreeMap::new();
        for reason in Reason::ALL {
            let count = self.sum::<u64>(map::REASONS, *reason as u32, |a, b| a + b)?;
            reasons.insert(*reason, count);
        }
        Ok(reasons)
    }

    /// Takes what the programs have told.
    pub(super) fn notices(&mut self) -> anyhow::Result<BTreeSet<Told>> {
        let mut ring = RingBuf::try_from(self.data(map::NOTICES)?)?;
        let mut told = BTreeSet::new();
        while let Some(entry) = ring.next() {
            let notice = bytemuck::try_pod_read_unaligned::<Notice>(&entry);
            told.extend(notice.map(|notice| (notice.kind, notice.group, notice.id)));
        }
        Ok(told)
    }

    fn flows(
        &mut self,
        outer: &str,
        group: u16,
        shift: u32,
    ) -> anyhow::Result<BTreeMap<FlowKey, Tag>> {
        let outer = ArrayOfMaps::<_, MapData>::try_from(self.data(outer)?)?;
        let data = match outer.get(&u32::from(group), 0) {
            Err(MapError::KeyNotFound) => return Ok(BTreeMap::new()),
            other => other?,
        };
        let map = Map::from_map_data(data)?;
        let flows = HashMap::<_, Plain<FlowKey>, Plain<Tag>>::try_from(map)?;
        let mut found = BTreeMap::new();
        for entry in flows.iter() {
            let (Plain(key), Plain(tag)) = entry?;
            let seen = tag.seen.wrapping_sub(shift);
            found.insert(key, Tag { seen, ..tag });
        }
        found.remove(&FILLER);
        Ok(found)
    }

    pub(super) fn sum<T: Pod>(
        &mut self,
        name: &str,
        index: u32,
        add: impl Fn(T, T) -> T,
    ) -> anyhow::Result<T> {
        let array = PerCpuArray::<_, Plain<T>>::try_from(self.data(name)?)?;
        let values = array.get(&index, 0)?;
        Ok(values.iter().fold(T::zeroed(), |sum, cpu| add(sum, cpu.0)))
    }
}
