//! The loaded programs and their maps, unpinned and unattached: filled from a [`Memory`], run by
//! `BPF_PROG_TEST_RUN`, read back into one.

mod dump;
mod nat;
mod trace;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use aya::maps::{
    Array, ArrayOfMaps, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues, ProgramArray,
    RingBuf,
};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use bytemuck::{Pod, Zeroable};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use switcher::datapath::kernel::OBJECT;
use switcher::datapath::pinned::{udp_flow_map, window_map};
use switcher::datapath::pins::Pins;
use switcher_common::abi::fragment::{FragmentKey, Fragmented};
use switcher_common::abi::notice::{Notice, Noticed};
use switcher_common::abi::{
    AddressKey, CanaryShare, Counters, FlowKey, GroupName, GroupState, NAME, NEXT_HOPS, NextHop,
    Note, PortEntry, SLOTS, ServiceName, TICK_SHIFT, Tag, Times, known_port, map,
};
use switcher_common::memory::{FlowMap, Memory};
use switcher_common::tables::Tables as _;
use switcher_common::verdict::{Reason, Stage};

pub use dump::Dump;

use crate::cases::Hook;
use crate::town::{CLOCK, COLOURS, GROUP, GROUP_NAME, NOW, service_name};

/// An ABI type as aya's maps want it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct Plain<T>(pub T);

// SAFETY: `T` is plain data without padding, which is all that aya's trait asks for.
unsafe impl<T: Pod> aya::Pod for Plain<T> {}

/// Key of an entry that fills up a flow map that is to refuse more.
const FILLER: FlowKey = FlowKey {
    client: switcher_common::abi::Address([!0; 2]),
    port: switcher_common::abi::Port(!0),
    id: !0,
    space: !0,
};

/// Masqueraded flows that there is room for in [`Kernel::small`].
pub const NAT_FLOWS: u32 = 1 << 9;
/// Room in flow maps that are used again.
const SMALL: usize = 1 << 12;
/// The XDP program.
pub const INGRESS: &str = "switcher_ingress";
/// The tc program of incoming packets.
pub const TC_INGRESS: &str = "switcher_tc_ingress";
/// The tc program of outgoing packets.
pub const EGRESS: &str = "switcher_egress";

/// Which program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// At XDP.
    Xdp,
    /// At tc ingress.
    Tc,
    /// At tc egress.
    Egress,
}

impl Entry {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Xdp, Self::Tc, Self::Egress];

    /// The program that packets meet first, plain or while somebody traces.
    const fn program(self, traced: bool) -> &'static str {
        match (self, traced) {
            (Self::Xdp, false) => INGRESS,
            (Self::Tc, false) => TC_INGRESS,
            (Self::Egress, false) => EGRESS,
            (Self::Xdp, true) => "switcher_trace",
            (Self::Tc, true) => "switcher_tc_trace",
            (Self::Egress, true) => "switcher_trace_egress",
        }
    }

    /// Those for cases of this hook.
    pub const fn of(hook: Hook) -> &'static [Self] {
        match hook {
            Hook::Ingress => &[Self::Xdp, Self::Tc],
            Hook::Egress => &[Self::Egress],
        }
    }
}

/// All programs, loaded.
#[derive(Debug)]
pub struct Kernel {
    ebpf: Ebpf,
    pins: Option<Pins>,
    /// Whether packets meet the programs that trace.
    traced: bool,
    /// Ports that the last memory had.
    ports: BTreeSet<u16>,
    /// Flow maps that are open, by the array and the group, and the room in them.
    rooms: BTreeMap<(&'static str, u16), usize>,
}

/// What a program made of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What it returned.
    pub action: u32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

impl Kernel {
    /// Loads the programs.
    ///
    /// # Errors
    /// When the kernel refuses a map or a program.
    pub fn load() -> anyhow::Result<Self> {
        Self::load_with(EbpfLoader::new(), None)
    }

    /// The same with room for [`NAT_FLOWS`] masqueraded flows, so that it can be used up.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn small() -> anyhow::Result<Self> {
        Self::load_with(small_loader(), None)
    }

    /// The same with its maps pinned, and with names for what the town has, as an agent would.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_at(pins: Pins) -> anyhow::Result<Self> {
        pins.create()?;
        let mut loader = small_loader();
        for name in map::ALL {
            loader.map_pin_path(name, pins.map(name));
        }
        let mut kernel = Self::load_with(loader, Some(pins))?;
        let mut group = GroupName {
            name: padded(GROUP_NAME),
            colours: [[0; NAME]; _],
            slots: [0; SLOTS],
            canaries: [CanaryShare::default(); SLOTS],
        };
        for (number, colour) in COLOURS.iter().enumerate() {
            group.colours[number] = padded(colour);
            group.slots[number] = number as u8 + 1;
        }
        kernel.set(map::GROUP_NAMES, u32::from(GROUP), group)?;
        Ok(kernel)
    }

    fn load_with(mut loader: EbpfLoader<'_>, pins: Option<Pins>) -> anyhow::Result<Self> {
        stay_here()?;
        let mut ebpf = loader.load(OBJECT).context("making the maps")?;
        stages(&mut ebpf)?;
        egress_stages(&mut ebpf)?;
        let ingress: &mut Xdp = ebpf
            .program_mut(INGRESS)
            .context("no ingress")?
            .try_into()?;
        ingress.load().context("loading the XDP program")?;
        for name in [TC_INGRESS, EGRESS] {
            let program: &mut SchedClassifier = ebpf.program_mut(name).context(name)?.try_into()?;
            program.load().with_context(|| format!("loading {name}"))?;
        }
        Ok(Self {
            ebpf,
            pins,
            traced: false,
            ports: BTreeSet::new(),
            rooms: BTreeMap::new(),
        })
    }

    /// Where the maps are pinned.
    ///
    /// # Errors
    /// When they are not.
    pub fn pins(&self) -> anyhow::Result<&Pins> {
        self.pins.as_ref().context("no maps are pinned")
    }

    /// The loaded object, for what only the bench does.
    pub const fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Sends a frame through a program, as if it came in by the interface with this index.
    ///
    /// # Errors
    /// When the kernel takes no such frame.
    pub fn run(&self, entry: Entry, frame: &[u8], interface: u32) -> anyhow::Result<Outcome> {
        let mut out = vec![0; frame.len() + 64];
        let context = XdpMd {
            data_end: frame.len() as u32,
            ingress_ifindex: interface,
            ..Zeroable::zeroed()
        };
        let mut skb = [0u32; SKB_WORDS];
        skb[SKB_INTERFACE] = interface;
        let mut options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        };
        let classifier = |name| -> anyhow::Result<&SchedClassifier> {
            Ok(self.ebpf.program(name).context(name)?.try_into()?)
        };
        let name = entry.program(self.traced);
        let result = match entry {
            Entry::Xdp => {
                options.ctx_in = Some(bytemuck::bytes_of(&context));
                let program: &Xdp = self.ebpf.program(name).context(name)?.try_into()?;
                program.test_run(options)?
            }
            Entry::Tc => {
                options.ctx_in = Some(bytemuck::bytes_of(&skb));
                classifier(name)?.test_run(options)?
            }
            Entry::Egress => classifier(name)?.test_run(options)?,
        };
        out.truncate(result.data_size_out as usize);
        Ok(Outcome {
            action: result.return_value,
            frame: out,
        })
    }

    /// Makes the maps say what `memory` says. Counters begin at zero.
    ///
    /// # Errors
    /// When the kernel refuses an entry.
    pub fn fill(&mut self, memory: &Memory) -> anyhow::Result<()> {
        let shift = now()?.wrapping_sub(NOW);
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
        for (index, element) in memory.buckets.iter().enumerate() {
            self.set(map::TABLES, index as u32, *element)?;
        }
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
        self.notices().map(drop)
    }

    /// What programs have changed, in `like`'s place: flow maps, notes, counters and reasons.
    ///
    /// # Errors
    /// When a map can't be read.
    pub fn read(&mut self, like: &Memory) -> anyhow::Result<Changes> {
        let shift = now()?.wrapping_sub(NOW);
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
            let cells = self.sum::<Counters>(map::COUNTERS, endpoint.counter, add_counters)?;
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
    fn notices(&mut self) -> anyhow::Result<BTreeSet<Told>> {
        let mut ring = RingBuf::try_from(self.data(map::NOTICES)?)?;
        let mut told = BTreeSet::new();
        while let Some(entry) = ring.next() {
            let notice = bytemuck::try_pod_read_unaligned::<Notice>(&entry);
            told.extend(notice.map(|notice| (notice.kind, notice.group, notice.id)));
        }
        Ok(told)
    }

    /// Writes an element of an array.
    ///
    /// # Errors
    /// When there is no such array or element.
    pub fn set<T: Pod>(&mut self, name: &str, index: u32, value: T) -> anyhow::Result<()> {
        let mut array = Array::<_, Plain<T>>::try_from(self.data(name)?)?;
        array
            .set(index, Plain(value), 0)
            .with_context(|| format!("writing {name}[{index}]"))
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

    /// A map in an array of maps.
    ///
    /// # Errors
    /// When there is none.
    pub fn inner(&mut self, outer: &str, group: u16) -> anyhow::Result<MapData> {
        let outer = ArrayOfMaps::<_, MapData>::try_from(self.data(outer)?)?;
        Ok(outer.get(&u32::from(group), 0)?)
    }

    /// The kernel's number of a map.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn map_id(&mut self, name: &str) -> anyhow::Result<u32> {
        let map = match self.data(name)? {
            Map::Array(data)
            | Map::PerCpuArray(data)
            | Map::ProgramArray(data)
            | Map::RingBuf(data) => data,
            _ => anyhow::bail!("{name} is of another kind"),
        };
        Ok(data_id(map)?)
    }

    fn zero<T: Pod>(&mut self, name: &str, index: u32) -> anyhow::Result<()> {
        let mut array = PerCpuArray::<_, Plain<T>>::try_from(self.data(name)?)?;
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
        let zeros = PerCpuValues::try_from(vec![Plain(T::zeroed()); cpus])?;
        Ok(array.set(index, zeros, 0)?)
    }

    fn sum<T: Pod>(
        &mut self,
        name: &str,
        index: u32,
        add: impl Fn(T, T) -> T,
    ) -> anyhow::Result<T> {
        let array = PerCpuArray::<_, Plain<T>>::try_from(self.data(name)?)?;
        let values = array.get(&index, 0)?;
        Ok(values.iter().fold(T::zeroed(), |sum, cpu| add(sum, cpu.0)))
    }

    fn data(&mut self, name: &str) -> anyhow::Result<&mut Map> {
        self.ebpf
            .map_mut(name)
            .with_context(|| format!("no map {name} in the object"))
    }
}

/// Keeps this thread on its CPU. Programs run where they are run from, and some maps have an element for each
/// CPU: on another one a notice would be news again.
fn stay_here() -> anyhow::Result<()> {
    let mut here = CpuSet::new();
    here.set(sched_getcpu().context("asking which CPU this is")?)?;
    sched_setaffinity(Pid::from_raw(0), &here).context("staying on a CPU")
}

fn small_loader() -> EbpfLoader<'static> {
    let mut loader = EbpfLoader::new();
    for name in [map::NAT_FLOWS, map::NAT_PORTS] {
        loader.map_max_entries(name, NAT_FLOWS);
    }
    loader
}

fn data_id(data: &MapData) -> Result<u32, MapError> {
    Ok(data.info()?.id())
}

/// A name as the maps have it.
fn padded(name: &str) -> [u8; NAME] {
    let mut padded = [0; NAME];
    for (to, from) in padded[..NAME - 1].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    padded
}

/// Loads the programs that take over from the first one, and puts them where it finds them.
fn stages(ebpf: &mut Ebpf) -> anyhow::Result<()> {
    for stage in Stage::ALL {
        let program = ebpf.program_mut(stage.program()).context("no such stage")?;
        let program: &mut Xdp = program.try_into()?;
        program
            .load()
            .with_context(|| format!("loading {}", stage.program()))?;
        let program = program.fd()?.try_clone()?;
        let array = ebpf.map_mut(map::STAGES).context("no stages")?;
        ProgramArray::try_from(array)?.set(stage as u32, &program, 0)?;
        tc_stage(ebpf, stage.tc_program(), map::TC_STAGES, stage as u32)?;
    }
    Ok(())
}

/// Likewise at egress.
fn egress_stages(ebpf: &mut Ebpf) -> anyhow::Result<()> {
    tc_stage(ebpf, Stage::AT_EGRESS, map::EGRESS_STAGES, 0)
}

fn tc_stage(ebpf: &mut Ebpf, name: &str, array: &str, index: u32) -> anyhow::Result<()> {
    let program = ebpf.program_mut(name).context("no such stage")?;
    let program: &mut SchedClassifier = program.try_into()?;
    program.load().with_context(|| format!("loading {name}"))?;
    let program = program.fd()?.try_clone()?;
    let array = ebpf.map_mut(array).context("no stages")?;
    Ok(ProgramArray::try_from(array)?.set(index, &program, 0)?)
}

/// What programs change in their maps. Times are left out: the clock goes on.
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
        windows.chain(udp).for_each(|tag| tag.seen = 0);
        let fragments = self.fragments.values_mut();
        fragments.for_each(|said| said.seen = 0);
        self.nat.forget_times();
        self.counters.retain(|_, cell| *cell != Counters::default());
        self.reasons.retain(|_, count| *count != 0);
    }
}

/// `struct __sk_buff`, and where it has the interface's index.
const SKB_WORDS: usize = 32;
const SKB_INTERFACE: usize = 10;

/// `struct xdp_md`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct XdpMd {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

fn add_counters(a: Counters, b: Counters) -> Counters {
    Counters {
        packets: a.packets + b.packets,
        bytes: a.bytes + b.bytes,
        connections: a.connections + b.connections,
        resets: a.resets + b.resets,
        answers: a.answers + b.answers,
    }
}

/// Now, in the ticks of tags.
fn now() -> anyhow::Result<u32> {
    Ok((nanoseconds(ClockId::CLOCK_MONOTONIC)? >> TICK_SHIFT) as u32)
}

/// Now, in the nanoseconds of [`Times`].
fn clock() -> anyhow::Result<u64> {
    nanoseconds(ClockId::CLOCK_BOOTTIME)
}

fn nanoseconds(clock: ClockId) -> anyhow::Result<u64> {
    let now = clock_gettime(clock)?;
    Ok(now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned())
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
