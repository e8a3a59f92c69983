//! The pinned maps at work: read back, changed, waited for. Needs no program and no lock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use switcher_common::abi::{
    AddressKey, BUCKETS_PER_ELEMENT, COLOURS, CanaryShare, Counters, Endpoint, FlowKey, GroupName,
    GroupState, MAX_BUCKETS, MAX_GROUPS, NAME, Port, PortEntry, SLOTS, Service, ServiceName,
    Settings, TableRef, Tag, Tunnel, UDP, UDP_FLOWS, address_kind, endpoint_flags, known_port,
    service_flags,
};
use switcher_common::memory::{port_code, port_entry_code};
use switcher_common::nat::Idle;
use switcher_common::verdict::Reason;
use switcher_common::word::Word;

use super::nat::{self, Counts};
use super::pins::Pins;
use super::sys::{self, MapKind};
use super::table::{Maps, Plain, collect};
use super::{Buckets, Canary, Change, Colour, GroupIndex, Have, HaveGroup, HaveService, Mix, Slot};
use crate::config::Masquerade;

/// What is published, by what shares a field of [`PortEntry`]: port, protocol, kind.
type Published = HashMap<(Port, u8, u8), BTreeMap<AddressKey, u16>>;

/// The pinned maps. Whoever is not the agent should only read, or store a word in an emergency.
pub struct Pinned {
    pub(super) pins: Pins,
    pub(super) maps: Maps,
    pub(super) nat_idle: Idle,
    pub(super) nat_counts: Mutex<Counts>,
    grace: Grace,
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
            grace: Grace::new()?,
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
            last_endpoint: self.maps.settings.get(0).last_endpoint as u16,
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
        let mut counts = self.nat_counts.lock();
        if let Ok(counts) = &mut counts {
            counts.forget();
        }
        drop(counts);
        self.grace.wait()
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
        super::table::entries(&map, |_: &FlowKey, _: &Tag| used += 1)?;
        Ok(f64::from(used) / f64::from(map.info()?.max_entries().max(1)))
    }

    /// A counter cell, summed over CPUs.
    ///
    /// # Errors
    /// When the map can't be read.
    pub fn counters(&self, cell: u32) -> anyhow::Result<Counters> {
        let cells = self.maps.counters.get(&cell, 0)?;
        Ok(cells
            .iter()
            .fold(Counters::default(), |sum, Plain(cpu)| Counters {
                packets: sum.packets + cpu.packets,
                bytes: sum.bytes + cpu.bytes,
                connections: sum.connections + cpu.connections,
                resets: sum.resets + cpu.resets,
                answers: sum.answers + cpu.answers,
            }))
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
        Ok(elements.flatten().collect())
    }

    /// The endpoint in one bucket of a table, which a hash stands for.
    pub(super) fn bucket(&self, table: TableRef, hash: usize) -> Option<u16> {
        let (first, elements) = extent(table).ok()?;
        let lanes = BUCKETS_PER_ELEMENT as usize;
        let bucket = hash % (elements * lanes);
        let element = self.maps.tables.get(first + bucket / lanes);
        element.get(bucket % lanes).copied()
    }

    /// Carries out a change; see [`super::Datapath::apply`].
    pub(super) fn apply(&mut self, change: &Change) -> anyhow::Result<()> {
        match change {
            Change::NameGroup {
                group,
                name,
                colours,
                slots,
            } => self.name_group(*group, name, colours, slots),
            Change::SetEndpoint { id, endpoint } => self.set_endpoint(*id, endpoint),
            Change::SetTunnel { id, tunnel } => self.set_tunnel(*id, tunnel),
            Change::FillTable { table, buckets } => self.fill(*table, buckets),
            Change::HandOver { table, buckets } => self.hand_over(*table, buckets),
            Change::SetService {
                index,
                name,
                service,
            } => self.set_service(*index, name, service),
            Change::SetWord { group, word } => {
                self.store(*group, *word);
                Ok(())
            }
            Change::Publish { key, index } => self.publish(*key, *index),
            Change::Unpublish { key } => self.unpublish(*key),
            Change::Switch { .. } => bail!("a switch is the release logic's to carry out"),
            Change::Settle => self.settle().map(drop),
        }
    }

    fn name_group(
        &mut self,
        group: GroupIndex,
        name: &str,
        colours: &BTreeMap<Colour, String>,
        slots: &BTreeMap<Slot, Mix>,
    ) -> anyhow::Result<()> {
        let mut element = GroupName {
            name: padded(name)?,
            colours: [[0; NAME]; COLOURS],
            slots: [0; SLOTS],
            canaries: [CanaryShare::default(); SLOTS],
        };
        for (number, colour) in colours {
            let place = element.colours.get_mut(usize::from(*number));
            *place.context("a colour beyond the last")? = padded(colour)?;
        }
        for (slot, mix) in slots {
            let slot = usize::from(*slot);
            let place = element.slots.get_mut(slot);
            *place.context("a slot beyond the last")? = mix.colour + 1;
            if let Some(Canary { colour, percent }) = mix.canary {
                element.canaries[slot] = CanaryShare {
                    colour: colour + 1,
                    percent,
                };
            }
        }
        if name.is_empty() {
            // What is left of the old group must not concern the next with this index.
            self.close_window(group)?;
            self.maps.groups.set(group.into(), &GroupState::default());
        }
        let names = &mut self.maps.group_names;
        names.set(group.into(), Plain(element), 0)?;
        Ok(())
    }

    /// An endpoint that stays keeps its mark for noted exceptions, which the program may set meanwhile.
    fn set_endpoint(&self, id: u16, endpoint: &Endpoint) -> anyhow::Result<()> {
        if usize::from(id) >= self.maps.endpoints.len() {
            bail!("endpoint {id} is beyond the last");
        }
        let old = self.maps.endpoints.get(id.into());
        let stays = old.has(endpoint_flags::PRESENT) && endpoint.has(endpoint_flags::PRESENT);
        let noted = if stays { old.noted } else { endpoint.noted };
        // `set` writes only words that differ from what is there.
        let endpoint = Endpoint { noted, ..*endpoint };
        self.maps.endpoints.set(id.into(), &endpoint);
        if endpoint.has(endpoint_flags::PRESENT) && !old.has(endpoint_flags::PRESENT) {
            let settings = Settings {
                last_endpoint: id.into(),
                ..self.maps.settings.get(0)
            };
            self.maps.settings.set(0, &settings);
        }
        Ok(())
    }

    fn set_tunnel(&self, id: u16, tunnel: &Tunnel) -> anyhow::Result<()> {
        if usize::from(id) >= self.maps.tunnels.len() {
            bail!("endpoint {id} is beyond the last");
        }
        self.maps.tunnels.set(id.into(), tunnel);
        Ok(())
    }

    fn fill(&self, table: TableRef, buckets: &[u16]) -> anyhow::Result<()> {
        let (first, elements) = extent(table)?;
        let (chunks, rest) = buckets.as_chunks::<{ BUCKETS_PER_ELEMENT as usize }>();
        if chunks.len() != elements || !rest.is_empty() {
            bail!(
                "{} buckets for a table of 2^{}",
                buckets.len(),
                table.bits()
            );
        }
        for (element, chunk) in (first..).zip(chunks) {
            self.maps.tables.set(element, chunk);
        }
        Ok(())
    }

    fn hand_over(&self, table: TableRef, buckets: &[(u32, u16)]) -> anyhow::Result<()> {
        let (first, elements) = extent(table)?;
        for (bucket, id) in buckets {
            let element = (bucket / BUCKETS_PER_ELEMENT) as usize;
            if element >= elements {
                bail!("bucket {bucket} of a table of 2^{}", table.bits());
            }
            let quarter = (bucket % BUCKETS_PER_ELEMENT) as usize;
            self.maps.tables.set_quarter(first + element, quarter, *id);
        }
        Ok(())
    }

    fn set_service(&mut self, index: u16, name: &str, service: &Service) -> anyhow::Result<()> {
        if usize::from(index) >= self.maps.services.len() {
            bail!("service {index} is beyond the last");
        }
        let name = ServiceName {
            name: padded(name)?,
        };
        let old = self.maps.services.get(index.into());
        if service.has(service_flags::PRESENT) {
            self.need_udp_flows(service)?;
        }
        let mut remembering = self.remembering();
        for (service, now) in [(&old, false), (service, true)] {
            let count = remembering.entry(service.group).or_default();
            match (remembers_flows(service), now) {
                (true, true) => *count += 1,
                (true, false) => *count -= 1,
                (false, _) => {}
            }
        }
        self.maps.services.set(index.into(), service);
        self.maps.service_names.set(index.into(), Plain(name), 0)?;
        let left = remembering.get(&old.group).copied();
        self.remembering = Some(remembering);
        if remembers_flows(&old) && left == Some(0) {
            self.drop_udp_flows(old.group)?;
        }
        Ok(())
    }

    fn remembering(&mut self) -> BTreeMap<GroupIndex, usize> {
        if let Some(counted) = self.remembering.take() {
            return counted;
        }
        let services = &self.maps.services;
        let all = (0..services.len()).map(|index| services.get(index));
        let mut counted = BTreeMap::new();
        for service in all.filter(remembers_flows) {
            *counted.entry(service.group).or_default() += 1;
        }
        counted
    }

    /// A service with UDP flows needs its group's map before its first packet.
    fn need_udp_flows(&self, service: &Service) -> anyhow::Result<()> {
        let flows = &self.maps.udp_flows;
        if !remembers_flows(service) || flows.exists(service.group)? {
            return Ok(());
        }
        let map = udp_flow_map()
            .with_context(|| format!("no UDP flow map for group {}", service.group))?;
        sys::set_inner(flows.outer(), service.group.into(), map)
            .with_context(|| format!("the UDP flow map of group {}", service.group))
    }

    fn drop_udp_flows(&self, group: GroupIndex) -> anyhow::Result<()> {
        if !self.maps.udp_flows.exists(group)? {
            return Ok(());
        }
        sys::clear_inner(self.maps.udp_flows.outer(), group.into())
            .with_context(|| format!("the UDP flow map of group {group} can't be removed"))
    }

    /// The exact address first: as soon as the port says "many", it is asked for.
    fn publish(&mut self, key: AddressKey, index: u16) -> anyhow::Result<()> {
        let addresses = &mut self.maps.addresses;
        addresses
            .insert(Plain(key), u32::from(index), 0)
            .with_context(|| format!("{key:?} can't be published"))?;
        self.published(&key)?.insert(key, index);
        self.code_port(&key)
    }

    fn unpublish(&mut self, key: AddressKey) -> anyhow::Result<()> {
        match self.maps.addresses.remove(&Plain(key)) {
            Ok(()) => {}
            Err(_) if self.maps.addresses.get(&Plain(key), 0).is_err() => {}
            Err(error) => return Err(error).context("an address can't be withdrawn"),
        }
        self.published(&key)?.remove(&key);
        self.code_port(&key)
    }

    /// What is published beside a key, remembered: there is one writer.
    fn published(&mut self, key: &AddressKey) -> anyhow::Result<&mut BTreeMap<AddressKey, u16>> {
        let class = |key: &AddressKey| (key.port, key.protocol, key.kind);
        if self.published.is_none() {
            let mut all = Published::new();
            for (key, index) in self.addresses()? {
                all.entry(class(&key)).or_default().insert(key, index);
            }
            self.published = Some(all);
        }
        let all = self.published.get_or_insert_default();
        Ok(all.entry(class(key)).or_default())
    }

    fn code_port(&mut self, key: &AddressKey) -> anyhow::Result<()> {
        if !key.has_port() {
            return Ok(());
        }
        let published = self.published(key)?.iter();
        let code = port_entry_code(published.map(|(key, index)| (*key, *index)), key);
        let port = usize::from(key.port.number());
        let mut entry = self.maps.ports.get(port);
        *port_code(&mut entry, key) = code;
        let known = entry != PortEntry::default();
        if !known {
            self.know_port(key.port.number(), false);
        }
        // Two services on one port: the program must never see half of each other's entry.
        if let Some(word) = self.maps.ports.words(port).first() {
            word.store(bytemuck::cast(entry), Ordering::Release);
        }
        if known {
            self.know_port(key.port.number(), true);
        }
        Ok(())
    }

    fn know_port(&self, port: u16, known: bool) {
        let (word, bit) = known_port(port);
        if let Some(ports) = self.maps.known_ports.words(word as usize).first() {
            match known {
                true => ports.fetch_or(bit, Ordering::Release),
                false => ports.fetch_and(!bit, Ordering::Release),
            };
        }
    }
}

/// Waits until no CPU can be acting on something that was replaced before.
///
/// The kernel does the waiting: an update of an array of maps returns after an RCU grace period.
struct Grace {
    outer: OwnedFd,
    inner: OwnedFd,
}

impl Grace {
    fn new() -> anyhow::Result<Self> {
        let sizes = (size_of::<u32>(), size_of::<u32>());
        let inner = sys::create_map(MapKind::Array, sizes, 1, 0, None, "switcher_inner")
            .map_err(not_permitted)?;
        let within = Some(inner.as_fd());
        let outer = sys::create_map(MapKind::ArrayOfMaps, sizes, 1, 0, within, "switcher_grace")
            .map_err(not_permitted)?;
        Ok(Self { outer, inner })
    }

    fn wait(&self) -> anyhow::Result<Duration> {
        let before = Instant::now();
        sys::set_inner(&self.outer, 0, &self.inner)
            .context("no grace period could be waited for")?;
        Ok(before.elapsed())
    }
}

fn not_permitted(error: std::io::Error) -> anyhow::Error {
    let advice = match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
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
pub fn window_map(flows: u32) -> std::io::Result<OwnedFd> {
    flow_map(MapKind::Hash, flows, sys::NO_PREALLOC)
}

/// An empty map for a group's UDP flows.
///
/// # Errors
/// When the kernel refuses.
pub fn udp_flow_map() -> std::io::Result<OwnedFd> {
    flow_map(MapKind::LruHash, UDP_FLOWS, 0)
}

fn flow_map(kind: MapKind, flows: u32, flags: u32) -> std::io::Result<OwnedFd> {
    let sizes = (size_of::<FlowKey>(), size_of::<Tag>());
    sys::create_map(kind, sizes, flows, flags, None, "switcher_flows")
}

const fn remembers_flows(service: &Service) -> bool {
    service.has(service_flags::PRESENT)
        && !service.has(service_flags::MASQUERADE)
        && service.protocol == UDP
        && !service.has(service_flags::PER_PACKET)
        && !service.has(service_flags::PREVIEW)
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

fn padded(name: &str) -> anyhow::Result<[u8; NAME]> {
    let mut padded = [0; NAME];
    let place = padded[..NAME - 1].get_mut(..name.len());
    let place = place.with_context(|| format!("{name:?} is longer than {} bytes", NAME - 1))?;
    place.copy_from_slice(name.as_bytes());
    Ok(padded)
}
