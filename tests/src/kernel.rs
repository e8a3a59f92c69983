//! The loaded programs and their maps, unpinned and unattached: filled from a [`Memory`](switcher_common::memory::Memory), run by
//! `BPF_PROG_TEST_RUN`, read back into one.

mod changes;
mod dump;
mod fill;
mod nat;
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::Duration;

use anyhow::Context as _;
use aya::maps::{Array, ArrayOfMaps, Map, MapData, MapError, ProgramArray};
use aya::programs::{Program, ProgramError, SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use bytemuck::{Pod, Zeroable};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use switcher::datapath::kernel::OBJECT;
use switcher::datapath::pins::Pins;
use switcher_common::abi::{
    BUCKETS_PER_ELEMENT, CanaryShare, GroupName, NAME, SLOTS, TICK_SHIFT, map,
};
use switcher_common::verdict::Stage;

pub use changes::Changes;
pub use dump::Dump;

use crate::cases::Hook;
use crate::town::{COLOURS, GROUP, GROUP_NAME, NOW};

/// An ABI type as aya's maps want it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct Plain<T>(pub T);

// SAFETY: `T` is plain data without padding, which is all that aya's trait asks for.
unsafe impl<T: Pod> aya::Pod for Plain<T> {}

/// Masqueraded flows that there is room for in [`Kernel::small`].
pub const NAT_FLOWS: u32 = 1 << 9;
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
    /// And its buckets, which no program changes and which are most of what there is.
    buckets: Vec<[u16; BUCKETS_PER_ELEMENT as usize]>,
    /// Flow maps that are open, by the array and the group, and the room in them.
    rooms: BTreeMap<(&'static str, u16), usize>,
    /// The tick that maps were filled for, which is the town's [`NOW`].
    tick: u32,
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
            buckets: Vec::new(),
            rooms: BTreeMap::new(),
            tick: now()?,
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

    /// Whether it is still the tick that the maps were filled for: in the next one, flows have been silent for longer than
    /// the memory says.
    ///
    /// # Errors
    /// When there is no clock.
    pub fn is_as_filled(&self) -> anyhow::Result<bool> {
        Ok(now()? == self.tick)
    }

    /// Ticks between the town's clock and the maps'.
    const fn shift(&self) -> u32 {
        self.tick.wrapping_sub(NOW)
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

    fn data(&mut self, name: &str) -> anyhow::Result<&mut Map> {
        self.ebpf
            .map_mut(name)
            .with_context(|| format!("no map {name} in the object"))
    }
}

/// Shows every program of the object to the verifier. How many there are.
///
/// # Errors
/// When the kernel refuses one; says which.
pub fn load_every_program() -> anyhow::Result<usize> {
    let mut ebpf = small_loader().load(OBJECT).context("making the maps")?;
    let mut loaded = 0;
    for (name, program) in ebpf.programs_mut() {
        // A signal ends the verifier's walk, and says nothing of the program.
        let mut attempts = (0..10).map(|_| verified(program));
        let found = attempts.find(|found| !is_interrupted(found));
        found
            .context("interrupted again and again")
            .and_then(|found| found.map_err(Into::into))
            .with_context(|| format!("loading {name}"))?;
        loaded += 1;
    }
    Ok(loaded)
}

fn verified(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::Xdp(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn is_interrupted(found: &Result<(), ProgramError>) -> bool {
    let Err(ProgramError::LoadError { io_error, .. }) = found else {
        return false;
    };
    io_error.kind() == std::io::ErrorKind::WouldBlock
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

/// Now, in the ticks of tags, and by the clock of the programs, which a timer moves: it is some milliseconds behind others.
fn now() -> anyhow::Result<u32> {
    Ok((nanoseconds(ClockId::CLOCK_MONOTONIC_COARSE)? >> TICK_SHIFT) as u32)
}

/// Waits for a tick to begin.
///
/// # Errors
/// When there is no clock.
pub fn next_tick() -> anyhow::Result<()> {
    let last = now()?;
    while now()? == last {
        sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Now, in the nanoseconds of [`Times`].
fn clock() -> anyhow::Result<u64> {
    nanoseconds(ClockId::CLOCK_BOOTTIME)
}

fn nanoseconds(clock: ClockId) -> anyhow::Result<u64> {
    let now = clock_gettime(clock)?;
    Ok(now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned())
}
