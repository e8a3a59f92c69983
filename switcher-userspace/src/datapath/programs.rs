//! The programs: loaded once, pinned, and taken over by every agent that has the same ones.
//!
//! To load them takes seconds, since the verifier walks through each. A directory of pins is named after the
//! object that they come from, and the kernel says which maps a program uses. So an agent takes over what
//! comes from its own object and uses the maps that are pinned, and loads what is missing.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use aya::maps::{Map, MapData, MapInfo, ProgramArray};
use aya::programs::{Program, ProgramError, ProgramFd, ProgramInfo, SchedClassifier};
use aya::{Ebpf, EbpfLoader};
use sha2::{Digest, Sha256};
use switcher_common::abi::map;
use switcher_common::abi::trace::place;
use switcher_common::verdict::Stage;

use super::kernel::OBJECT;
use super::pins::Pins;
use super::refusal;
use crate::config::Masquerade;

/// How often a program is given to the verifier when signals interrupt it.
const ATTEMPTS: u32 = 10;

/// What is at a hook, and what takes its place while somebody traces.
pub(super) struct Turns<P> {
    plain: P,
    tracing: P,
}

impl<P> Turns<P> {
    /// What is there.
    pub(super) const fn plain(&mut self) -> &mut P {
        &mut self.plain
    }

    /// What takes its place.
    pub(super) const fn tracing(&mut self) -> &mut P {
        &mut self.tracing
    }
}

/// The programs of this version's object.
pub(super) struct Programs {
    pins: Pins,
    /// The directory of their pins, within that of all programs.
    object: String,
    /// Ids of the pinned maps.
    maps: BTreeSet<u32>,
    flows: u32,
    log: PathBuf,
    /// Read when something has to be made of it.
    read: Option<Ebpf>,
}

impl Programs {
    /// Makes the maps that are missing. Where a program is refused, the verifier's log goes to `log`.
    pub(super) fn open(pins: &Pins, masquerade: &Masquerade, log: PathBuf) -> anyhow::Result<Self> {
        let mut programs = Self {
            pins: pins.clone(),
            object: digest(OBJECT),
            maps: BTreeSet::new(),
            flows: masquerade.flows,
            log,
            read: None,
        };
        if !map::ALL.iter().all(|name| pins.map(name).exists()) {
            programs.read()?;
        }
        for name in map::ALL {
            let info = MapInfo::from_pin(pins.map(name));
            let info = info.with_context(|| format!("map {name} can't be opened"))?;
            programs.maps.insert(info.id());
        }
        Ok(programs)
    }

    /// The XDP program, once those that take over from it are where it finds them.
    pub(super) fn xdp(&mut self) -> anyhow::Result<ProgramFd> {
        self.stages(map::STAGES, Stage::program)?;
        self.get("switcher_ingress")
    }

    /// Likewise at tc ingress.
    pub(super) fn tc_ingress(&mut self) -> anyhow::Result<SchedClassifier> {
        self.stages(map::TC_STAGES, Stage::tc_program)?;
        self.classifier("switcher_tc_ingress")
    }

    /// Likewise at tc egress.
    pub(super) fn tc_egress(&mut self) -> anyhow::Result<SchedClassifier> {
        let stage = self.get(Stage::AT_EGRESS)?;
        self.stage_array(map::EGRESS_STAGES)?.set(0, &stage, 0)?;
        self.classifier("switcher_egress")
    }

    /// The plain XDP program, and the one that takes its place while somebody traces; likewise.
    pub(super) fn xdp_trace(&mut self) -> anyhow::Result<Turns<ProgramFd>> {
        let plain = self.xdp()?;
        self.stages(map::TRACE_STAGES, Stage::traced)?;
        self.put(map::TRACE_STAGES, [(place::OTHERS, "switcher_ingress")])?;
        let tracing = self.get("switcher_trace")?;
        Ok(Turns { plain, tracing })
    }

    /// Likewise at tc ingress.
    pub(super) fn tc_ingress_trace(&mut self) -> anyhow::Result<Turns<SchedClassifier>> {
        let plain = self.tc_ingress()?;
        self.stages(map::TC_TRACE_STAGES, Stage::tc_traced)?;
        self.put(
            map::TC_TRACE_STAGES,
            [(place::OTHERS, "switcher_tc_ingress")],
        )?;
        let tracing = self.classifier("switcher_tc_trace")?;
        Ok(Turns { plain, tracing })
    }

    /// Likewise at tc egress.
    pub(super) fn tc_egress_trace(&mut self) -> anyhow::Result<Turns<SchedClassifier>> {
        let plain = self.tc_egress()?;
        self.put(
            map::TC_TRACE_STAGES,
            [
                (place::LEAVES, "traced_egress"),
                (place::LEAVES_OTHERS, "switcher_egress"),
                (place::LEAVES_ODD, Stage::AT_EGRESS_TRACED),
            ],
        )?;
        let tracing = self.classifier("switcher_trace_egress")?;
        Ok(Turns { plain, tracing })
    }

    fn put<const N: usize>(&mut self, array: &str, all: [(u32, &str); N]) -> anyhow::Result<()> {
        let mut array = self.stage_array(array)?;
        for (place, name) in all {
            array.set(place, &self.get(name)?, 0)?;
        }
        Ok(())
    }

    /// Programs of an earlier agent find these, too: every stage begins from the frame as it came in.
    fn stages(&mut self, array: &str, name: fn(Stage) -> &'static str) -> anyhow::Result<()> {
        let mut array = self.stage_array(array)?;
        for stage in Stage::ALL {
            array.set(stage as u32, &self.get(name(stage))?, 0)?;
        }
        Ok(())
    }

    fn stage_array(&self, name: &str) -> anyhow::Result<ProgramArray<MapData>> {
        let map = MapData::from_pin(self.pins.map(name)).and_then(Map::from_map_data);
        map.and_then(ProgramArray::try_from)
            .with_context(|| format!("map {name} can't be opened"))
    }

    /// A program, taken over or loaded and pinned.
    pub(super) fn get(&mut self, name: &str) -> anyhow::Result<ProgramFd> {
        if let Some(program) = self.pinned(name) {
            return Ok(program);
        }
        let pin = self.pin(name);
        self.load(name)?;
        ProgramInfo::from_pin(&pin)
            .and_then(|info| info.fd())
            .with_context(|| format!("{}: can't be opened", pin.display()))
    }

    /// A program of a tc hook.
    fn classifier(&mut self, name: &str) -> anyhow::Result<SchedClassifier> {
        self.get(name)?;
        let pin = self.pin(name);
        SchedClassifier::from_pin(&pin)
            .with_context(|| format!("{}: can't be opened", pin.display()))
    }

    /// Removes the pins of other objects' programs. Right when nothing is attached that was theirs.
    pub(super) fn forget_others(&self) -> anyhow::Result<()> {
        for other in self.pins.objects() {
            if other != self.object {
                let pins = self.pins.programs(&other);
                fs::remove_dir_all(&pins)
                    .with_context(|| format!("{}: can't be removed", pins.display()))?;
            }
        }
        Ok(())
    }

    fn pin(&self, name: &str) -> PathBuf {
        self.pins.programs(&self.object).join(name)
    }

    /// Nothing if it is not there, or uses a map that is not pinned any more.
    fn pinned(&self, name: &str) -> Option<ProgramFd> {
        let info = ProgramInfo::from_pin(self.pin(name)).ok()?;
        let used = info.map_ids().ok()??;
        let ours = |id: &u32| self.maps.contains(id) || is_constant(*id);
        let ours = used.iter().all(ours);
        ours.then(|| info.fd().ok())?
    }

    fn load(&mut self, name: &str) -> anyhow::Result<()> {
        let (pin, log) = (self.pin(name), self.log.clone());
        let directory = self.pins.programs(&self.object);
        fs::create_dir_all(&directory)
            .with_context(|| format!("{}: can't be made", directory.display()))?;
        // What is there uses maps that have gone.
        let _absent = fs::remove_file(&pin);
        let program = self.read()?.program_mut(name);
        let program = program.with_context(|| format!("the object has no program {name}"))?;
        verified(program).map_err(|error| refusal::load(name, error, &log))?;
        program
            .pin(&pin)
            .with_context(|| format!("{}: can't be pinned", pin.display()))
    }

    fn read(&mut self) -> anyhow::Result<&mut Ebpf> {
        if let Some(ref mut object) = self.read {
            return Ok(object);
        }
        tracing::info!(
            "loading maps and programs into the kernel; to verify them takes it some seconds"
        );
        let mut loader = EbpfLoader::new();
        for name in [map::NAT_FLOWS, map::NAT_PORTS] {
            loader.map_max_entries(name, self.flows);
        }
        for name in map::ALL {
            loader.map_pin_path(name, self.pins.map(name));
        }
        let object = loader.load(OBJECT).context(
            "the BPF maps can't be made: it takes root (or CAP_BPF and CAP_NET_ADMIN) and a kernel with \
             BTF; `switcher doctor` tells which",
        )?;
        Ok(self.read.insert(object))
    }
}

/// Whether a map only holds constants of a program, which come with it.
fn is_constant(id: u32) -> bool {
    let info = MapInfo::from_id(id);
    info.is_ok_and(|info| {
        info.name_as_str()
            .is_some_and(|name| name.starts_with(".rodata"))
    })
}

/// Loads a program. A signal ends the verifier's walk with EAGAIN, which says nothing of the program.
fn verified(program: &mut Program) -> Result<(), ProgramError> {
    for _ in 1..ATTEMPTS {
        match load(program) {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.raw_os_error() == Some(libc::EAGAIN) => {}
            other => return other,
        }
    }
    load(program)
}

fn load(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::Xdp(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// The object's name among pins, which can't hold a dot: half of its SHA-256.
fn digest(object: &[u8]) -> String {
    let digest = Sha256::digest(object);
    digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
