//! Runs programs on the same frame, or on a million flows of it.
//!
//! `BPF_PROG_TEST_RUN` repeats a program on the frame that the repetition before left behind, so a program
//! that rewrites needs a new one each time. `drive` (in `tests/ebpf`) writes it, of the next flow, and tail
//! calls the program in question. What that costs is known from driving the empty program, and is taken off:
//!
//! total(program) = run(empty) + driven(program) - driven(empty)

use std::net::SocketAddrV4;
use std::time::Instant;

use anyhow::Context as _;
use aya::maps::{Array, PerCpuArray, ProgramArray};
use aya::programs::xdp::XdpMode;
use aya::programs::{ProgramFd, TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use bytemuck::{Pod, Zeroable};
use nix::time::{ClockId, clock_gettime};
use switcher_tests::kernel::{INGRESS, Kernel};
pub(crate) use switcher_tests_ebpf::LINES;
use switcher_tests_ebpf::TOUCHES;

/// The object with the baseline programs.
const BASELINE: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/baseline"));

/// Which program is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Empty = 0,
    Minimal = 1,
    Switcher = 2,
    Touch = 3,
    /// Sends the frame on as it is.
    Across = 4,
    /// Knows every flow, and does nothing else.
    LookUp = 5,
}

/// What is sent.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) frame: Vec<u8>,
    pub(crate) client: SocketAddrV4,
    pub(crate) server: SocketAddrV4,
    /// A power of two.
    pub(crate) flows: u32,
    /// Every frame has another sequence number.
    pub(crate) sequences: bool,
    /// Services that flows go to, besides.
    pub(crate) servers: Servers,
    /// What [`Target::Touch`] reads.
    pub(crate) touches: Touches,
    /// Where [`Target::Across`] sends it.
    pub(crate) interface: u32,
}

/// Frames that the kernel sends at once (`NAPI_POLL_WEIGHT`).
const LIVE_BATCH: u32 = 64;

/// What is read for a frame, one line of the cache after the other: of each structure one, which has so many
/// lines. Zero where nothing more is read, else a power of two, [`LINES`] at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touches {
    lines: [u32; TOUCHES as usize],
}

/// Nothing is read.
pub(crate) const UNTOUCHED: Touches = Touches {
    lines: [0; TOUCHES as usize],
};

impl Touches {
    /// Reads from structures with so many lines each, in this order.
    pub(crate) fn of(structures: &[u32]) -> Self {
        let mut touches = UNTOUCHED;
        touches.lines[..structures.len()].copy_from_slice(structures);
        touches
    }
}

/// Services that flows are spread over; both are powers of two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Servers {
    /// With addresses in a row, from the load's on.
    pub(crate) addresses: u32,
    /// With ports in a row.
    pub(crate) ports: u32,
}

impl Servers {
    /// The load's server alone.
    pub(crate) const ONE: Self = Self {
        addresses: 1,
        ports: 1,
    };
}

/// `switcher_tests_ebpf::Plan`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Plan {
    next: u32,
    mask: u32,
    target: u32,
    sequences: u32,
    client: u32,
    destination: u32,
    addresses: u32,
    ports: u32,
    interface: u32,
    client_port: u16,
    destination_port: u16,
    touches: [u32; TOUCHES as usize],
}

// SAFETY: plain integers without padding, as derived above.
unsafe impl aya::Pod for Plan {}

/// The baseline programs, with Switcher's among the targets.
pub(crate) struct Driver {
    baseline: Ebpf,
    /// The kernel empties a map of programs when its last descriptor goes.
    _targets: ProgramArray<aya::maps::MapData>,
    /// Frames so far: the next batch goes on with the flows where the last one stopped.
    driven: u32,
}

impl Driver {
    pub(crate) fn new(kernel: &mut Kernel) -> anyhow::Result<Self> {
        let mut loader = EbpfLoader::new();
        let mut baseline = loader.map_max_entries("LINES", LINES).load(BASELINE)?;
        let targets = baseline.take_map("TARGETS").context("no TARGETS")?;
        let mut targets = ProgramArray::try_from(targets)?;
        for name in [
            "empty", "minimal", "touch", "across", "look_up", "swallow", "drive",
        ] {
            let program: &mut Xdp = baseline.program_mut(name).context(name)?.try_into()?;
            program.load().with_context(|| format!("loading {name}"))?;
        }
        targets.set(Target::Empty as u32, descriptor(&baseline, "empty")?, 0)?;
        targets.set(Target::Minimal as u32, descriptor(&baseline, "minimal")?, 0)?;
        targets.set(Target::Touch as u32, descriptor(&baseline, "touch")?, 0)?;
        targets.set(Target::Across as u32, descriptor(&baseline, "across")?, 0)?;
        targets.set(Target::LookUp as u32, descriptor(&baseline, "look_up")?, 0)?;
        let ours = descriptor(kernel.ebpf(), INGRESS)?;
        targets.set(Target::Switcher as u32, ours, 0)?;
        Ok(Self {
            baseline,
            _targets: targets,
            driven: 0,
        })
    }

    /// Nanoseconds for one repetition of the empty program by itself.
    pub(crate) fn empty(&self, frame: &[u8], repeat: u32) -> anyhow::Result<f64> {
        run(&self.baseline, "empty", frame, repeat)
    }

    /// Nanoseconds for one packet of `load`, driven into `target`.
    pub(crate) fn driven(
        &mut self,
        target: Target,
        load: &Load,
        repeat: u32,
    ) -> anyhow::Result<f64> {
        self.plan(target, load, repeat)?;
        run(&self.baseline, "drive", &load.frame, repeat)
    }

    /// Sends frames of `load` through `target` for real, as if they had come in by `interface`, and says how many seconds
    /// that took.
    pub(crate) fn live(
        &mut self,
        target: Target,
        load: &Load,
        interface: u32,
        repeat: u32,
    ) -> anyhow::Result<f64> {
        self.plan(target, load, repeat)?;
        let program: &Xdp = self
            .baseline
            .program("drive")
            .context("no drive")?
            .try_into()?;
        // `struct xdp_md`: data, its end, metadata, interface, queue, egress.
        let length = u32::try_from(load.frame.len())?;
        let context = [0, length, 0, interface, 0, 0];
        let options = TestRunOptions {
            data_in: Some(&load.frame),
            ctx_in: Some(bytemuck::cast_slice(&context)),
            repeat,
            attrs: TestRunAttrs::new().xdp_live_frames(LIVE_BATCH),
            ..TestRunOptions::default()
        };
        let start = Instant::now();
        program.test_run(options)?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Counts at `interface` what arrives there, and nobody else gets it.
    pub(crate) fn swallow(&mut self, interface: &str) -> anyhow::Result<()> {
        let program = self.baseline.program_mut("swallow").context("no swallow")?;
        let program: &mut Xdp = program.try_into()?;
        program.attach(interface, XdpMode::Driver)?;
        Ok(())
    }

    /// What has been swallowed so far.
    pub(crate) fn swallowed(&self) -> anyhow::Result<u64> {
        let map = self.baseline.map("SWALLOWED").context("no SWALLOWED")?;
        let counts = PerCpuArray::<_, u64>::try_from(map)?.get(&0, 0)?;
        Ok(counts.iter().sum())
    }

    /// What the next frames are.
    fn plan(&mut self, target: Target, load: &Load, repeat: u32) -> anyhow::Result<()> {
        let map = self.baseline.map_mut("PLAN").context("no PLAN")?;
        let plan = Plan {
            next: self.driven,
            mask: load.flows - 1,
            target: target as u32,
            sequences: u32::from(load.sequences),
            client: u32::from_ne_bytes(load.client.ip().octets()),
            destination: u32::from_ne_bytes(load.server.ip().octets()),
            addresses: load.servers.addresses - 1,
            ports: load.servers.ports - 1,
            interface: load.interface,
            client_port: load.client.port().to_be(),
            destination_port: load.server.port().to_be(),
            touches: load.touches.lines,
        };
        self.driven = self.driven.wrapping_add(repeat);
        Ok(Array::try_from(map)?.set(0, plan, 0)?)
    }
}

fn run(object: &Ebpf, name: &str, frame: &[u8], repeat: u32) -> anyhow::Result<f64> {
    let program: &Xdp = object
        .program(name)
        .context("no such program")?
        .try_into()?;
    let options = TestRunOptions {
        data_in: Some(frame),
        repeat,
        ..TestRunOptions::default()
    };
    // The kernel's own figure is in whole nanoseconds. The call's overhead is lost in so many repetitions.
    // This thread's time and not the wall's: others want the CPU too.
    let start = processor_time()?;
    let result = program.test_run(options)?;
    let elapsed = processor_time()? - start;
    anyhow::ensure!(
        result.return_value != 0,
        "{name} was not able to hand the frame on"
    );
    Ok(elapsed * 1e9 / f64::from(repeat))
}

/// Seconds that this thread has run.
fn processor_time() -> anyhow::Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}

fn descriptor<'a>(object: &'a Ebpf, name: &str) -> anyhow::Result<&'a ProgramFd> {
    let program: &Xdp = object
        .program(name)
        .context("no such program")?
        .try_into()?;
    Ok(program.fd()?)
}
