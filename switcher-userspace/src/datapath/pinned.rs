//! The pinned maps at work: read back, changed, waited for. Needs no program and no lock.

mod change;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::ops::Add;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use switcher_common::abi::{
    AddressKey, BUCKETS_PER_ELEMENT, Counters, Endpoint, FlowKey, MAX_BUCKETS, MAX_GROUPS, NAME,
    Port, TableRef, Tag, Tunnel, UDP_FLOWS, address_kind, endpoint_flags, service_flags,
};
use switcher_common::nat::Idle;
use switcher_common::verdict::Reason;
use switcher_common::word::Word;

use super::nat::{self, Counts};
use super::pins::Pins;
use super::sys::{self, MapKind};
use super::table::{self, Maps, Plain, UNMAPPED, collect};
use super::{Buckets, Canary, Grace, GroupIndex, Have, HaveGroup, HaveService, Mix};
use crate::config::Masquerade;

/// What is published, by what shares a field of [`PortEntry`](switcher_common::abi::PortEntry): port, protocol, kind.
type Published = HashMap<(Port, u8, u8), BTreeMap<AddressKey, u16>>;

/// The pinned maps. Whoever is not the agent should only read, or store a word in an emergency.
pub struct Pinned {
    pub(super) pins: Pins,
    pub(super) maps: Maps,
    pub(super) nat_idle: Idle,
    pub(super) nat_counts: Mutex<Counts>,
    grace: Arc<Waiter>,
    published: Option<Published>,
    /// How many services of each group remember UDP flows; counted when it is first asked.
    remembering: Option<BTreeMap<GroupIndex, usize>>,
}

impl Pinned {
    /// Opens the maps pinned below `bpffs`.
    ///
    /// # Errors
    /// When there are none, or this process may not open them (CAP_BPF).
    pub fn open(bpffs: &Path) -> anyhow::Result<Self> {
        let pins = Pins::new(bpffs);
        if !pins.exist() {
            bail!(
                "{}: nothing is pinned there. Has the agent run on this host since it was booted, with \
                 this bpffs path, and can this user read it (root can)?",
                pins.root().display()
            );
        }
        let maps = Maps::open(&pins)?;
        Ok(Self {
            pins,
            maps,
            nat_idle: nat::idle(&Masquerade::default()),
            nat_counts: Mutex::default(),
            grace: Arc::new(Waiter::new()?),
            published: None,
            remembering: None,
        })
    }

    /// Where they are pinned.
    #[must_use]
    pub const fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Reads everything back.
    ///
    /// # Errors
    /// When a map can't be read or holds what no agent of this version writes.
    pub fn have(&self) -> anyhow::Result<Have> {
        let addresses = self.addresses()?;
        let endpoints = self.endpoints();
        let mut have = Have {
            groups: self.groups()?,
            services: self.services(&addresses)?,
            tunnels: self.tunnels(&endpoints),
            endpoints,
            addresses,
            tables: BTreeMap::new(),
            last_endpoint: self.maps.settings.get(0).last_endpoint,
        };
        for table in have.tables_in_use().collect::<Vec<_>>() {
            have.tables.insert(table.0, self.buckets(table)?);
        }
        Ok(have)
    }

    /// The seed of the flow hash and of every table.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.maps.settings.get(0).seed
    }

    /// A group's word, as the program sees it.
    #[must_use]
    pub fn word(&self, group: GroupIndex) -> Word {
        self.maps.steering.load(group)
    }

    /// One atomic store of a group's word.
    pub fn store(&self, group: GroupIndex, word: Word) {
        self.maps.steering.store(group, word);
    }

    /// Waits for an RCU grace period; says how long it took.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn settle(&self) -> anyhow::Result<Duration> {
        self.forget_counts();
        self.grace.wait()
    }

    /// See [`super::Datapath::grace`].
    #[must_use]
    pub fn grace(&self) -> Arc<dyn Grace> {
        Arc::clone(&self.grace) as Arc<dyn Grace>
    }

    /// See [`super::Datapath::open_window`].
    ///
    /// # Errors
    /// When the kernel has no memory for it.
    pub fn open_window(&self, group: GroupIndex, flows: u32) -> anyhow::Result<()> {
        if self.maps.windows.exists(group)? {
            return Ok(());
        }
        let map = window_map(flows)
            .with_context(|| format!("no flow map of {flows} flows for group {group}"))?;
        sys::set_inner(self.maps.windows.outer(), group.into(), map)
            .with_context(|| format!("the flow map of group {group} can't be put in place"))
    }

    pub(super) fn close_window(&self, group: GroupIndex) -> anyhow::Result<()> {
        sys::clear_inner(self.maps.windows.outer(), group.into())
            .with_context(|| format!("the flow map of group {group} can't be removed"))
    }

    pub(super) fn flow_map_used(&self, group: GroupIndex) -> anyhow::Result<f64> {
        let Some(map) = self.maps.windows.get(group)? else {
            return Ok(0.0);
        };
        let mut used = 0u32;
        table::entries(&map, |_: &FlowKey, _: &Tag| used += 1)?;
        Ok(f64::from(used) / f64::from(map.info()?.max_entries().max(1)))
    }

    /// Counter cells, summed over CPUs, in the order of `cells`, which is ascending.
    ///
    /// # Errors
    /// When the map can't be read.
    pub fn counters(&self, cells: &[u32]) -> anyhow::Result<Vec<Counters>> {
        /// To read some that nobody asks for costs less than another call.
        const NEAR: u32 = 8;
        /// Asked for by one call: what a host with many CPUs has of them stays small.
        const AT_ONCE: usize = 1024;
        let cpus = aya::util::nr_cpus().map_err(|(what, error)| anyhow!("{what}: {error}"))?;
        let near = |before: &u32, after: &u32| after.saturating_sub(*before) <= NEAR;
        let mut counters = Vec::with_capacity(cells.len());
        let runs = cells.chunk_by(near).flat_map(|run| run.chunks(AT_ONCE));
        for run in runs {
            let (Some(first), Some(last)) = (run.first(), run.last()) else {
                continue;
            };
            let count = last - first + 1;
            let read = self.maps.counters.read((*first, count), cpus);
            let read = read.context("the counters can't be read")?;
            let sum = |cell: &[Counters]| cell.iter().copied().fold(Counters::default(), Add::add);
            let sums: Vec<Counters> = read.chunks(cpus).map(sum).collect();
            let asked = run.iter().map(|cell| sums.get((cell - first) as usize));
            counters.extend(asked.map(|sum| sum.copied().unwrap_or_default()));
        }
        Ok(counters)
    }

    /// Packets not forwarded, by reason, summed over CPUs.
    ///
    /// # Errors
    /// When the map can't be read.
    pub fn reasons(&self) -> anyhow::Result<Vec<(Reason, u64)>> {
        let sum = |reason: &Reason| {
            let cells = self.maps.reasons.get(&(*reason as u32), 0)?;
            Ok((*reason, cells.iter().sum()))
        };
        Reason::ALL.iter().map(sum).collect()
    }

    fn groups(&self) -> anyhow::Result<BTreeMap<GroupIndex, HaveGroup>> {
        let mut groups = BTreeMap::new();
        for index in 0..MAX_GROUPS as GroupIndex {
            let Plain(named) = self.maps.group_names.get(&index.into(), 0)?;
            let name = text(&named.name).with_context(|| format!("name of group {index}"))?;
            if name.is_empty() {
                continue;
            }
            let mut colours = BTreeMap::new();
            for (number, colour) in (0..).zip(&named.colours) {
                let colour = text(colour).with_context(|| format!("colours of group {name}"))?;
                if !colour.is_empty() {
                    colours.insert(number, colour);
                }
            }
            let slots = (0..).zip(named.slots.into_iter().zip(named.canaries));
            let slots = slots.filter_map(|(slot, (colour, canary))| {
                let colour = colour.checked_sub(1)?;
                let canary = canary.colour.checked_sub(1).map(|colour| Canary {
                    colour,
                    percent: canary.percent,
                });
                Some((slot, Mix { colour, canary }))
            });
            let group = HaveGroup {
                name,
                colours,
                slots: slots.collect(),
                word: self.word(index),
            };
            groups.insert(index, group);
        }
        Ok(groups)
    }

    fn services(
        &self,
        addresses: &BTreeMap<AddressKey, u16>,
    ) -> anyhow::Result<BTreeMap<u16, HaveService>> {
        let published = addresses.iter();
        let published = published.filter(|(key, _)| key.kind == address_kind::SERVICE);
        let published: BTreeSet<u16> = published.map(|(_, index)| *index).collect();
        let mut services = BTreeMap::new();
        for index in 0..self.maps.services.len() as u16 {
            let service = self.maps.services.get(index.into());
            if !service.has(service_flags::PRESENT) {
                continue;
            }
            let Plain(named) = self.maps.service_names.get(&index.into(), 0)?;
            let name = text(&named.name).with_context(|| format!("name of service {index}"))?;
            let have = HaveService {
                name,
                service,
                published: published.contains(&index),
            };
            services.insert(index, have);
        }
        Ok(services)
    }

    pub(super) fn endpoints(&self) -> BTreeMap<u16, Endpoint> {
        (0..self.maps.endpoints.len() as u16)
            .map(|id| (id, self.maps.endpoints.get(id.into())))
            .filter(|(_, endpoint)| endpoint.has(endpoint_flags::PRESENT))
            .collect()
    }

    fn tunnels(&self, endpoints: &BTreeMap<u16, Endpoint>) -> BTreeMap<u16, Tunnel> {
        let inside = endpoints.iter();
        let inside = inside.filter(|(_, endpoint)| endpoint.has(endpoint_flags::TUNNEL));
        inside
            .map(|(&id, _)| (id, self.maps.tunnels.get(id.into())))
            .filter(|(_, tunnel)| *tunnel != Tunnel::default())
            .collect()
    }

    fn addresses(&self) -> anyhow::Result<BTreeMap<AddressKey, u16>> {
        let all = collect::<AddressKey, u32>(&self.maps.address_entries)?;
        let all = all
            .into_iter()
            .map(|(key, index)| Ok((key, u16::try_from(index)?)));
        all.collect::<anyhow::Result<_>>()
            .context("what is published can't be read")
    }

    pub(super) fn buckets(&self, table: TableRef) -> anyhow::Result<Buckets> {
        let (first, elements) = extent(table)?;
        let elements = (first..first + elements).map(|element| self.maps.tables.get(element));
        let elements: Vec<_> = elements.collect::<io::Result<_>>().context(UNMAPPED)?;
        Ok(elements.concat().into())
    }

    /// The endpoint in one bucket of a table, which a hash stands for.
    pub(super) fn bucket(&self, table: TableRef, hash: usize) -> Option<u16> {
        let (first, elements) = extent(table).ok()?;
        let lanes = BUCKETS_PER_ELEMENT as usize;
        let bucket = hash % (elements * lanes);
        let element = self.maps.tables.get(first + bucket / lanes).ok()?;
        element.get(bucket % lanes).copied()
    }
}

/// Waits until no CPU can be acting on something that was replaced before.
///
/// The kernel does the waiting: an update of an array of maps returns after an RCU grace period.
struct Waiter {
    outer: OwnedFd,
    inner: OwnedFd,
}

impl Waiter {
    fn new() -> anyhow::Result<Self> {
        let sizes = (size_of::<u32>(), size_of::<u32>());
        let inner = sys::create_map(MapKind::Array, sizes, 1, 0, None, "switcher_inner")
            .map_err(not_permitted)?;
        let within = Some(inner.as_fd());
        let outer = sys::create_map(MapKind::ArrayOfMaps, sizes, 1, 0, within, "switcher_grace")
            .map_err(not_permitted)?;
        Ok(Self { outer, inner })
    }
}

impl Grace for Waiter {
    fn wait(&self) -> anyhow::Result<Duration> {
        let before = Instant::now();
        sys::set_inner(&self.outer, 0, &self.inner)
            .context("no grace period could be waited for")?;
        Ok(before.elapsed())
    }
}

fn not_permitted(error: io::Error) -> anyhow::Error {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "BPF maps can't be made: run as root, or with CAP_BPF and CAP_NET_ADMIN"
        }
        _ => "BPF maps can't be made",
    };
    anyhow::Error::new(error).context(advice)
}

/// An empty flow map for a window.
///
/// # Errors
/// When the kernel refuses.
pub fn window_map(flows: u32) -> io::Result<OwnedFd> {
    flow_map(MapKind::Hash, flows, sys::NO_PREALLOC)
}

/// An empty map for a group's UDP flows.
///
/// # Errors
/// When the kernel refuses.
pub fn udp_flow_map() -> io::Result<OwnedFd> {
    flow_map(MapKind::LruHash, UDP_FLOWS, 0)
}

fn flow_map(kind: MapKind, flows: u32, flags: u32) -> io::Result<OwnedFd> {
    let sizes = (size_of::<FlowKey>(), size_of::<Tag>());
    sys::create_map(kind, sizes, flows, flags, None, "switcher_flows")
}

/// First element and number of elements of a table in `TABLES`.
fn extent(table: TableRef) -> anyhow::Result<(usize, usize)> {
    let buckets = 1u64 << table.bits();
    if !table.exists() || u64::from(table.first()) + buckets > u64::from(MAX_BUCKETS) {
        bail!(
            "table {:#x} lies outside of the map: no agent of this version wrote that",
            table.0
        );
    }
    let lanes = BUCKETS_PER_ELEMENT as usize;
    Ok((table.first() as usize / lanes, buckets as usize / lanes))
}

fn text(name: &[u8; NAME]) -> anyhow::Result<String> {
    let end = name.iter().position(|b| *b == 0).unwrap_or(NAME);
    let text = std::str::from_utf8(&name[..end]);
    Ok(text
        .context("not UTF-8: no agent of this version wrote that")?
        .into())
}
