//! The pinned maps with their types.

use std::collections::BTreeMap;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use anyhow::{Context, bail};
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray};
use switcher_common::abi::client::Clients;
use switcher_common::abi::{
    AddressKey, BUCKETS_PER_ELEMENT, Counters, Endpoint, FlowKey, GroupName, GroupState,
    MAX_BUCKETS, MAX_ENDPOINTS, MAX_GROUPS, MAX_SERVICES, Note, PORTS_PER_WORD, PortEntry, Service,
    ServiceName, Settings, Tag, Tunnel, map,
};

use super::mapped::{Mapped, Parts};
use super::nat::NatMaps;
use super::pins::Pins;
use super::steering::Steering;
use super::sys;

/// What aya calls plain old data. The only such promise in the agent: everything that `bytemuck` has
/// checked to be free of padding and pointers is that.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct Plain<T>(pub(super) T);

// SAFETY: bytemuck's Pod promises more than aya's: any bytes are a value, and there is no padding.
unsafe impl<T: bytemuck::Pod> aya::Pod for Plain<T> {}

/// What failed if a part of the tables is not there.
pub(super) const UNMAPPED: &str = "the tables can't be mapped into memory";

type Buckets = [u16; BUCKETS_PER_ELEMENT as usize];

/// All maps, opened by their pins.
pub(super) struct Maps {
    pub(super) ports: Mapped<PortEntry>,
    pub(super) known_ports: Mapped<u64>,
    pub(super) addresses: HashMap<MapData, Plain<AddressKey>, u32>,
    /// The same, to be read at once.
    pub(super) address_entries: MapData,
    pub(super) services: Mapped<Service>,
    pub(super) steering: Steering,
    pub(super) groups: Mapped<GroupState>,
    pub(super) tables: Parts<Buckets>,
    pub(super) endpoints: Mapped<Endpoint>,
    pub(super) tunnels: Mapped<Tunnel>,
    pub(super) settings: Mapped<Settings>,
    pub(super) counters: PerCpu<Counters>,
    pub(super) reasons: PerCpuArray<MapData, u64>,
    pub(super) notes: MapData,
    pub(super) windows: Inner,
    pub(super) udp_flows: Inner,
    pub(super) group_names: Array<MapData, Plain<GroupName>>,
    pub(super) service_names: Array<MapData, Plain<ServiceName>>,
    pub(super) clients: Mapped<Clients>,
    pub(super) nat: NatMaps,
}

impl Maps {
    /// Opens them.
    ///
    /// # Errors
    /// When one is missing, of another shape, or may not be opened.
    pub(super) fn open(pins: &Pins) -> anyhow::Result<Self> {
        let pin = |name: &str| pins.map(name);
        let size = |name: &'static str| format!("map {name} has another shape than this version's");
        Ok(Self {
            ports: mapped(&pin(map::PORTS), 65536)?,
            known_ports: mapped(&pin(map::KNOWN_PORTS), 65536 / PORTS_PER_WORD)?,
            addresses: open(&pin(map::ADDRESSES))?
                .try_into()
                .with_context(|| size(map::ADDRESSES))?,
            address_entries: data(&pin(map::ADDRESSES))?,
            services: mapped(&pin(map::SERVICES), MAX_SERVICES)?,
            steering: steering(&pin(map::STEERING))?,
            groups: mapped(&pin(map::GROUPS), MAX_GROUPS)?,
            tables: parts(&pin(map::TABLES), MAX_BUCKETS / BUCKETS_PER_ELEMENT)?,
            endpoints: mapped(&pin(map::ENDPOINTS), MAX_ENDPOINTS)?,
            tunnels: mapped(&pin(map::TUNNELS), MAX_ENDPOINTS)?,
            settings: mapped(&pin(map::SETTINGS), 1)?,
            counters: PerCpu::open(&pin(map::COUNTERS))?,
            reasons: open(&pin(map::REASONS))?
                .try_into()
                .with_context(|| size(map::REASONS))?,
            notes: data(&pin(map::NOTES))?,
            windows: Inner::open(&pin(map::WINDOWS))?,
            udp_flows: Inner::open(&pin(map::UDP_FLOWS_OF))?,
            group_names: open(&pin(map::GROUP_NAMES))?
                .try_into()
                .with_context(|| size(map::GROUP_NAMES))?,
            service_names: open(&pin(map::SERVICE_NAMES))?
                .try_into()
                .with_context(|| size(map::SERVICE_NAMES))?,
            clients: mapped(&pin(map::CLIENTS), 1)?,
            nat: NatMaps::open(pins)?,
        })
    }

    /// Notes of exceptions.
    pub(super) fn notes(&self) -> anyhow::Result<BTreeMap<FlowKey, Note>> {
        collect(&self.notes)
    }
}

/// An array of flow maps, one per group.
pub(super) struct Inner(MapData);

impl Inner {
    fn open(path: &Path) -> anyhow::Result<Self> {
        data(path).map(Self)
    }

    pub(super) fn outer(&self) -> BorrowedFd<'_> {
        self.0.fd().as_fd()
    }

    /// Whether a group has a map.
    pub(super) fn exists(&self, index: u16) -> anyhow::Result<bool> {
        Ok(sys::inner_id(self.outer(), index.into())?.is_some())
    }

    /// A group's map; nothing where there is none. Takes CAP_SYS_ADMIN.
    pub(super) fn get(&self, index: u16) -> anyhow::Result<Option<MapData>> {
        let id = sys::inner_id(self.outer(), index.into())?;
        id.map(MapData::from_id)
            .transpose()
            .with_context(|| format!("the flow map of group {index} can't be opened"))
    }

    /// A group's flows; none where there is no map.
    pub(super) fn each(&self, index: u16, each: impl FnMut(&FlowKey, &Tag)) -> anyhow::Result<()> {
        match self.get(index)? {
            Some(map) => entries(&map, each),
            None => Ok(()),
        }
    }
}

/// A per-CPU array of which many elements are read at once.
pub(super) struct PerCpu<V> {
    map: MapData,
    value_size: u32,
    value: PhantomData<V>,
}

impl<V: bytemuck::Pod> PerCpu<V> {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let map = data(path)?;
        let value_size = map.info()?.value_size();
        Ok(Self {
            map,
            value_size,
            value: PhantomData,
        })
    }

    /// Elements from the first on, as many as `range` says: for each what every possible CPU has.
    ///
    /// # Errors
    /// When values have another size, and when the map can't be read.
    pub(super) fn read(&self, range: (u32, u32), cpus: usize) -> io::Result<Vec<V>> {
        sys::per_cpu(self.map.fd().as_fd(), self.value_size, range, cpus)
    }
}

/// Calls `each` for every entry of a hash map.
pub(super) fn entries<K: bytemuck::Pod, V: bytemuck::Pod>(
    map: &MapData,
    each: impl FnMut(&K, &V),
) -> anyhow::Result<()> {
    let info = map.info()?;
    let sizes = (info.key_size(), info.value_size());
    sys::entries(map.fd().as_fd(), sizes, each)
        .with_context(|| format!("map {}", info.name_as_str().unwrap_or("?")))
}

/// All entries of a hash map.
pub(super) fn collect<K: bytemuck::Pod + Ord, V: bytemuck::Pod>(
    map: &MapData,
) -> anyhow::Result<BTreeMap<K, V>> {
    let mut all = BTreeMap::new();
    entries(map, |key, value| {
        all.insert(*key, *value);
    })?;
    Ok(all)
}

pub(super) fn mapped<T: bytemuck::Pod>(path: &Path, elements: u32) -> anyhow::Result<Mapped<T>> {
    let data = checked::<T>(path, elements)?;
    Mapped::new(data.fd().as_fd(), elements)
        .with_context(|| format!("{}: can't be mapped into memory", path.display()))
}

fn parts<T: bytemuck::Pod>(path: &Path, elements: u32) -> anyhow::Result<Parts<T>> {
    checked::<T>(path, elements).map(|data| Parts::new(data, elements))
}

fn steering(path: &Path) -> anyhow::Result<Steering> {
    let data = checked::<u64>(path, MAX_GROUPS)?;
    Steering::new(data.fd().as_fd())
        .with_context(|| format!("{}: can't be mapped into memory", path.display()))
}

fn checked<T>(path: &Path, elements: u32) -> anyhow::Result<MapData> {
    let data = data(path)?;
    let info = data.info()?;
    let shape = (info.value_size() as usize, info.max_entries());
    if shape != (size_of::<T>(), elements) {
        bail!(
            "{}: {} elements of {} bytes where this version has {elements} of {}; `switcher detach` \
             removes what another version left",
            path.display(),
            shape.1,
            shape.0,
            size_of::<T>()
        );
    }
    Ok(data)
}

pub(super) fn open(path: &Path) -> anyhow::Result<Map> {
    Ok(Map::from_map_data(data(path)?)?)
}

pub(super) fn data(path: &Path) -> anyhow::Result<MapData> {
    MapData::from_pin(path).with_context(|| format!("{}: can't be opened", path.display()))
}
