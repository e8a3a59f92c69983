//! The pinned maps, typed and mapped. Opening them needs no lock and loads no program: `emergency`,
//! `explain` and `doctor` work this way too.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use aya::maps::{Array, ArrayOfMaps, HashMap, Map, MapData, MapError, PerCpuArray};
use switcher_common::abi::{
    AddressKey, BUCKETS_PER_ELEMENT, Counters, Endpoint, FlowKey, GRACE, GroupName, GroupState,
    MAX_BUCKETS, MAX_ENDPOINTS, MAX_GROUPS, MAX_SERVICES, NextHop, Note, PortEntry, Service,
    ServiceName, Settings, TableRef, Tag, UDP_FLOWS, address_kind, endpoint_flags, map,
    service_flags,
};
use switcher_common::verdict::Reason;
use switcher_common::word::Word;

use super::bpf;
use super::mapped::Mapped;
use super::pins::Pins;
use crate::datapath::{GroupIndex, Have, HaveGroup, HaveService};

/// A type of the ABI as a key or value of aya's maps.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Plain<T>(pub T);

// SAFETY: `T` is plain data without padding, which is all that aya's trait asks for.
unsafe impl<T: bytemuck::Pod> aya::Pod for Plain<T> {}

/// All maps of this host.
#[derive(Debug)]
pub struct Maps {
    pub(super) ports: Mapped<PortEntry>,
    pub(super) services: Mapped<Service>,
    pub(super) steering: Mapped<u64>,
    pub(super) groups: Mapped<GroupState>,
    pub(super) tables: Mapped<[u16; 4]>,
    pub(super) endpoints: Mapped<Endpoint>,
    pub(super) settings: Mapped<Settings>,
    pub(super) group_names: Mapped<GroupName>,
    pub(super) service_names: Mapped<ServiceName>,
    pins: Pins,
}

impl Maps {
    /// Opens the maps pinned by an agent.
    ///
    /// # Errors
    /// When a pin is missing or a map can't be mapped.
    pub fn open(pins: &Pins) -> anyhow::Result<Self> {
        Ok(Self {
            ports: mapped(pins, map::PORTS, 1 << 16)?,
            services: mapped(pins, map::SERVICES, MAX_SERVICES)?,
            steering: mapped(pins, map::STEERING, MAX_GROUPS)?,
            groups: mapped(pins, map::GROUPS, MAX_GROUPS)?,
            tables: mapped(pins, map::TABLES, MAX_BUCKETS / 4)?,
            endpoints: mapped(pins, map::ENDPOINTS, MAX_ENDPOINTS)?,
            settings: mapped(pins, map::SETTINGS, 1)?,
            group_names: mapped(pins, map::GROUP_NAMES, MAX_GROUPS)?,
            service_names: mapped(pins, map::SERVICE_NAMES, MAX_SERVICES)?,
            pins: pins.clone(),
        })
    }

    /// A group's word: one atomic load.
    pub fn word(&self, group: GroupIndex) -> Word {
        Word(
            self.steering
                .word64(u32::from(group), 0)
                .load(Ordering::Acquire),
        )
    }

    /// The switch: one atomic store, after everything that was written before it.
    pub fn store(&self, group: GroupIndex, word: Word) {
        self.steering
            .word64(u32::from(group), 0)
            .store(word.0, Ordering::Release);
    }

    /// Waits for an RCU grace period: the kernel does so after each change of an array of maps, before
    /// the call returns (`maybe_wait_bpf_programs`, Linux 4.20).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn grace_period(&self) -> anyhow::Result<()> {
        let placeholder = new_window(1)?;
        self.windows()?
            .set(GRACE, &placeholder, 0)
            .context("waiting for a grace period by replacing an element of WINDOWS")
    }

    /// Gives a group's window a flow map, unless it has one.
    ///
    /// # Errors
    /// When the kernel has no memory for it.
    pub fn open_window(&self, group: GroupIndex, flows: u32) -> anyhow::Result<()> {
        if self.window(group)?.is_some() {
            return Ok(());
        }
        let window = new_window(flows)?;
        self.windows()?
            .set(u32::from(group), &window, 0)
            .context("putting a flow map into WINDOWS")
    }

    /// Drops a group's flow map.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn close_window(&self, group: GroupIndex) -> anyhow::Result<()> {
        self.empty(map::WINDOWS, group)
    }

    /// A group's flow map, while its window is open.
    ///
    /// # Errors
    /// When WINDOWS can't be read.
    pub fn window(&self, group: GroupIndex) -> anyhow::Result<Option<MapData>> {
        inner(&self.windows()?, group)
    }

    /// A group's UDP flows, if it has such a service.
    ///
    /// # Errors
    /// When UDP_FLOWS_OF can't be read.
    pub fn udp_flows(&self, group: GroupIndex) -> anyhow::Result<Option<MapData>> {
        inner(&self.outer(map::UDP_FLOWS_OF)?, group)
    }

    /// Gives a group a map for UDP flows, or takes it away.
    pub(super) fn keep_udp_flows(&self, group: GroupIndex, wanted: bool) -> anyhow::Result<()> {
        match (self.udp_flows(group)?.is_some(), wanted) {
            (true, true) | (false, false) => Ok(()),
            (true, false) => self.empty(map::UDP_FLOWS_OF, group),
            (false, true) => {
                let flows = new_udp_flows()?;
                let outer = &mut self.outer(map::UDP_FLOWS_OF)?;
                outer
                    .set(u32::from(group), &flows, 0)
                    .context("putting a flow map into UDP_FLOWS_OF")
            }
        }
    }

    /// Exact addresses.
    pub(super) fn addresses(&self) -> anyhow::Result<HashMap<MapData, Plain<AddressKey>, u32>> {
        Ok(HashMap::try_from(Map::from_map_data(
            self.data(map::ADDRESSES)?,
        )?)?)
    }

    /// Every published address.
    ///
    /// # Errors
    /// When ADDRESSES can't be read.
    pub fn published(&self) -> anyhow::Result<Vec<(AddressKey, u16)>> {
        let mut published = Vec::new();
        let data = self.data(map::ADDRESSES)?;
        bpf::values(data.fd().as_fd(), |key: &AddressKey, index: &u32| {
            published.push((*key, *index as u16));
        })?;
        Ok(published)
    }

    /// Exceptions.
    ///
    /// # Errors
    /// When NOTES can't be read.
    pub fn notes(&self) -> anyhow::Result<Vec<(FlowKey, Note)>> {
        let mut notes = Vec::new();
        let data = self.data(map::NOTES)?;
        bpf::values(data.fd().as_fd(), |key: &FlowKey, note: &Note| {
            notes.push((*key, *note));
        })?;
        Ok(notes)
    }

    /// What the FIB last said about an endpoint, on any CPU.
    ///
    /// # Errors
    /// When NEXT_HOPS can't be read.
    pub fn next_hops(&self, endpoint: u16) -> anyhow::Result<Vec<NextHop>> {
        let hops: PerCpuArray<_, Plain<NextHop>> =
            PerCpuArray::try_from(Map::from_map_data(self.data(map::NEXT_HOPS)?)?)?;
        let values = hops.get(&u32::from(endpoint), 0)?;
        Ok(values.iter().map(|hop| hop.0).collect())
    }

    /// A counter cell, summed over CPUs.
    ///
    /// # Errors
    /// When COUNTERS can't be read.
    pub fn counters(&self, cell: u32) -> anyhow::Result<Counters> {
        let cells: PerCpuArray<_, Plain<Counters>> =
            PerCpuArray::try_from(Map::from_map_data(self.data(map::COUNTERS)?)?)?;
        let values = cells
            .get(&cell, 0)
            .with_context(|| format!("reading counter cell {cell}"))?;
        Ok(values
            .iter()
            .fold(Counters::default(), |sum, Plain(cpu)| Counters {
                packets: sum.packets + cpu.packets,
                bytes: sum.bytes + cpu.bytes,
                connections: sum.connections + cpu.connections,
                resets: sum.resets + cpu.resets,
            }))
    }

    /// Packets not forwarded, by reason, summed over CPUs.
    ///
    /// # Errors
    /// When REASONS can't be read.
    pub fn reasons(&self) -> anyhow::Result<Vec<(Reason, u64)>> {
        let cells: PerCpuArray<_, u64> =
            PerCpuArray::try_from(Map::from_map_data(self.data(map::REASONS)?)?)?;
        Reason::ALL
            .iter()
            .map(|reason| Ok((*reason, cells.get(&(*reason as u32), 0)?.iter().sum())))
            .collect()
    }

    /// Everything that reconcile compares.
    ///
    /// # Errors
    /// When ADDRESSES can't be read.
    pub fn have(&self) -> anyhow::Result<Have> {
        let addresses: BTreeMap<AddressKey, u16> = self.published()?.into_iter().collect();
        let reachable = |index: u16| {
            addresses
                .iter()
                .any(|(key, at)| key.kind == address_kind::SERVICE && *at == index)
        };
        let services: BTreeMap<u16, HaveService> = self
            .present_services()
            .map(|(index, service)| {
                let name = text(&self.service_names.read(u32::from(index)).name);
                (
                    index,
                    HaveService {
                        name,
                        service,
                        published: reachable(index),
                    },
                )
            })
            .collect();
        let tables = services
            .values()
            .flat_map(|have| have.service.tables)
            .filter(|table| table.exists())
            .map(|table| (table.0, self.buckets(table)))
            .collect();
        let groups = self.have_groups();
        let endpoints = self.present_endpoints().collect();
        Ok(Have {
            groups,
            services,
            endpoints,
            addresses,
            tables,
        })
    }

    /// Services and previews in use.
    pub(super) fn present_services(&self) -> impl Iterator<Item = (u16, Service)> {
        (0..MAX_SERVICES as u16)
            .map(|index| (index, self.services.read(u32::from(index))))
            .filter(|(_, service)| service.has(service_flags::PRESENT))
    }

    /// Endpoints in use.
    pub(super) fn present_endpoints(&self) -> impl Iterator<Item = (u16, Endpoint)> {
        (0..MAX_ENDPOINTS as u16)
            .map(|id| (id, self.endpoints.read(u32::from(id))))
            .filter(|(_, endpoint)| endpoint.has(endpoint_flags::PRESENT))
    }

    fn buckets(&self, table: TableRef) -> Vec<u16> {
        let first = table.first() / BUCKETS_PER_ELEMENT;
        let elements = (1 << table.bits()) / BUCKETS_PER_ELEMENT;
        (first..first + elements)
            .flat_map(|element| self.tables.read(element))
            .collect()
    }

    pub(super) fn have_groups(&self) -> BTreeMap<GroupIndex, HaveGroup> {
        (0..MAX_GROUPS as u16)
            .map(|group| (group, self.group_names.read(u32::from(group))))
            .filter(|(_, names)| names.name[0] != 0)
            .map(|(group, names)| (group, have_group(&names, self.word(group))))
            .collect()
    }

    fn windows(&self) -> anyhow::Result<ArrayOfMaps<MapData, MapData>> {
        self.outer(map::WINDOWS)
    }

    fn outer(&self, name: &str) -> anyhow::Result<ArrayOfMaps<MapData, MapData>> {
        Ok(ArrayOfMaps::try_from(Map::from_map_data(
            self.data(name)?,
        )?)?)
    }

    fn data(&self, name: &str) -> anyhow::Result<MapData> {
        pinned(&self.pins, name)
    }

    fn empty(&self, outer: &str, group: GroupIndex) -> anyhow::Result<()> {
        let data = self.data(outer)?;
        match bpf::delete(data.fd().as_fd(), &u32::from(group)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("emptying an element of {outer}"))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn have_group(names: &GroupName, word: Word) -> HaveGroup {
    let colours = (0_u8..)
        .zip(&names.colours)
        .filter(|(_, name)| name[0] != 0);
    let slots = (0_u8..).zip(names.slots).filter(|(_, colour)| *colour != 0);
    HaveGroup {
        name: text(&names.name),
        colours: colours.map(|(number, name)| (number, text(name))).collect(),
        slots: slots.map(|(slot, colour)| (slot, colour - 1)).collect(),
        word,
    }
}

/// A name without its padding.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn inner(
    outer: &ArrayOfMaps<MapData, MapData>,
    group: GroupIndex,
) -> anyhow::Result<Option<MapData>> {
    match outer.get(&u32::from(group), 0) {
        Ok(map) => Ok(Some(map)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error).context("reading an array of maps"),
    }
}

fn new_window(flows: u32) -> anyhow::Result<MapData> {
    let flags = aya_obj::generated::BPF_F_NO_PREALLOC;
    new_flow_map(
        aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_HASH as u32,
        flows,
        flags,
    )
}

fn new_udp_flows() -> anyhow::Result<MapData> {
    new_flow_map(
        aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_LRU_HASH as u32,
        UDP_FLOWS,
        0,
    )
}

fn new_flow_map(kind: u32, entries: u32, flags: u32) -> anyhow::Result<MapData> {
    let (key, value) = (size_of::<FlowKey>() as u32, size_of::<Tag>() as u32);
    let definition = aya_obj::Map::new_from_params(kind, key, value, entries, flags);
    MapData::create(definition, "switcher_flows", None)
        .with_context(|| format!("making a flow map of {entries} entries"))
}

fn mapped<T: bytemuck::Pod>(pins: &Pins, name: &str, elements: u32) -> anyhow::Result<Mapped<T>> {
    let data = pinned(pins, name)?;
    let array = Map::from_map_data(data)?;
    let array: Array<MapData, Plain<T>> = Array::try_from(array)
        .with_context(|| format!("{name} is not the array that this version expects"))?;
    anyhow::ensure!(
        array.len() >= elements,
        "the pinned map {name} has {} elements, this version needs {elements}: stop the agent, run `switcher detach`, start it again",
        array.len()
    );
    let Map::Array(data) = Map::from_map_data(pinned(pins, name)?)? else {
        anyhow::bail!("{name} is not an array");
    };
    Mapped::new(data.fd().as_fd(), elements).with_context(|| format!("mapping {name}"))
}

fn pinned(pins: &Pins, name: &str) -> anyhow::Result<MapData> {
    let path = pins.map(name);
    MapData::from_pin(&path).with_context(|| {
        format!(
            "opening the pinned map {} (has an agent been started on this host?)",
            path.display()
        )
    })
}
