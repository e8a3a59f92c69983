//! The packet cases, and random frames, through the loaded programs: what they do to a frame and to their
//! maps must be what the core does on the host, byte for byte.

#[path = "kernel/cap.rs"]
mod cap;
#[path = "kernel/explain.rs"]
mod explain;
#[path = "kernel/trace.rs"]
mod trace;

use std::fmt::Debug;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use switcher_common::pipeline;
use switcher_common::verdict::Verdict;
use switcher_harness::privilege::is_root;
use switcher_tests::cases::{self, Case};
use switcher_tests::frame::{Build, flag, sound};
use switcher_tests::kernel::{Changes, Entry, Kernel, load_every_program};
use switcher_tests::site::{self, Servers};
use switcher_tests::skb::Skb;
use switcher_tests::town::{NEAR, OUTSIDE, State, WEB, endpoint};

/// Random frames for each base state and hook.
const FRAMES: u32 = 1500;
/// The shortest frame that `BPF_PROG_TEST_RUN` takes: an Ethernet header.
const SHORTEST: usize = 14;
/// The shortest that it takes as an outgoing packet: with an IPv6 header behind it, if it says so.
const SHORTEST_OUT: usize = 54;
/// How often a case is tried at most. It takes milliseconds, and a tick a second.
const ATTEMPTS: u32 = 5;
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;
/// `TC_ACT_UNSPEC`: whatever comes next decides.
const NEXT: u32 = u32::MAX;
const TC_SHOT: u32 = 2;
const TC_REDIRECT: u32 = 7;

#[test]
fn every_case() -> anyhow::Result<()> {
    if !is_root("kernel::every_case") {
        return Ok(());
    }
    site::build()?.inside(|| {
        let servers = Servers::start()?;
        let mut kernel = Kernel::small()?;
        let wrong: Vec<String> = entries(&cases::all())
            .filter_map(|(case, entry)| run(&mut kernel, &servers, case, entry).err())
            .map(|error| format!("{error:#}"))
            .collect();
        anyhow::ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })?
}

/// Those of the agent, of every hook, and those that trace.
#[test]
fn every_program_loads() -> anyhow::Result<()> {
    if !is_root("kernel::every_program_loads") {
        return Ok(());
    }
    let loaded = load_every_program()?;
    anyhow::ensure!(loaded > 30, "only {loaded} programs");
    Ok(())
}

#[test]
fn random_frames() -> anyhow::Result<()> {
    if !is_root("kernel::random_frames") {
        return Ok(());
    }
    site::build()?.inside(|| {
        let _servers = Servers::start()?;
        let mut kernel = Kernel::small()?;
        let seed = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), seed);
        let without_sockets = |case: &Case| case.state.told.sockets.is_empty();
        let cases: Vec<Case> = cases::all().into_iter().filter(without_sockets).collect();
        for (index, base) in cases.iter().enumerate().step_by(17) {
            let frames = frame(cases.iter().map(|case| case.frame.clone()).collect());
            mixed(&mut kernel, &base.state, &mut runner, &frames)
                .map_err(|error| error.context(format!("case {index}: {}", base.sentence)))?;
        }
        Ok(())
    })?
}

/// The last segment of a handshake that blue answered with a SYN cookie before the switch. Nothing but the
/// cookie says whose it is, and it was made for blue's address, not for the VIP in the packet.
#[test]
fn a_cookie_of_blue_is_known_after_the_switch() -> anyhow::Result<()> {
    if !is_root("kernel::a_cookie_of_blue_is_known_after_the_switch") {
        return Ok(());
    }
    let namespace = site::build()?;
    namespace.sysctl("ipv4/tcp_syncookies", "2")?;
    namespace.inside(|| {
        let _servers = Servers::start()?;
        let mut kernel = Kernel::small()?;
        let blue = endpoint(WEB, 0);
        let cookie = site::cookie(NEAR, blue)?;
        let ack = Build::tcp(NEAR, WEB, flag::ACK).acknowledging(cookie.wrapping_add(1));
        let wrong = ack.clone().acknowledging(cookie);
        let state = State::new(cases::open());
        for entry in [Entry::Xdp, Entry::Tc] {
            kernel.fill(&state.memory)?;
            let known = kernel.run(entry, &ack.bytes(), OUTSIDE.index)?;
            same("frame", &ack.clone().to(blue).bytes(), &known.frame)?;
            let unknown = kernel.run(entry, &wrong.bytes(), OUTSIDE.index)?;
            let green = endpoint(WEB, 1);
            same("frame", &wrong.clone().to(green).bytes(), &unknown.frame)?;
        }
        Ok(())
    })?
}

/// Cases, and the programs that they go through.
fn entries(cases: &[Case]) -> impl Iterator<Item = (&Case, Entry)> {
    let all = cases
        .iter()
        .flat_map(|case| Entry::of(case.hook).iter().map(move |entry| (case, *entry)));
    all.filter(|(case, entry)| *entry == Entry::Xdp || case.frame.len() >= SHORTEST_OUT)
}

/// A case at one of its programs, again if a tick has begun meanwhile.
fn run(
    kernel: &mut Kernel,
    servers: &Servers,
    case: &Case,
    entry: Entry,
) -> anyhow::Result<Verdict> {
    let mut attempts = 0;
    loop {
        let found = once(kernel, servers, case, entry);
        attempts += 1;
        if attempts == ATTEMPTS || kernel.is_as_filled()? {
            return found.map_err(|it| it.context(format!("{} ({entry:?})", case.sentence)));
        }
    }
}

fn once(
    kernel: &mut Kernel,
    servers: &Servers,
    case: &Case,
    entry: Entry,
) -> anyhow::Result<Verdict> {
    let state = case.state.clone();
    let _sockets = servers.connect(&state)?;
    kernel.fill(&state.memory)?;
    let verdict = agree(kernel, &state, entry, &case.frame)?;
    let theirs = kernel.read(&state.memory)?;
    same("maps", &Changes::of(&state.memory), &theirs)?;
    Ok(verdict)
}

/// Many frames one after another, which find what the ones before left behind.
fn mixed(
    kernel: &mut Kernel,
    state: &State,
    runner: &mut TestRunner,
    frames: &impl Strategy<Value = Vec<u8>>,
) -> anyhow::Result<()> {
    let mut state = state.clone();
    kernel.fill(&state.memory)?;
    for _ in 0..FRAMES {
        let tree = frames
            .new_tree(runner)
            .map_err(|reason| anyhow::anyhow!("{reason}"))?;
        let frame = tree.current();
        for entry in Entry::ALL {
            if entry == Entry::Xdp || frame.len() >= SHORTEST_OUT {
                let _verdict = agree(kernel, &state, entry, &frame)?;
                note(&mut state);
            }
        }
    }
    same(
        "maps",
        &Changes::of(&state.memory),
        &kernel.read(&state.memory)?,
    )
}

/// Sends a frame through the core here and in the kernel.
fn agree(kernel: &Kernel, state: &State, entry: Entry, frame: &[u8]) -> anyhow::Result<Verdict> {
    let mut ours = frame.to_vec();
    let (verdict, action) = match entry {
        Entry::Xdp => {
            let verdict = pipeline::run(&mut ours, &state.memory, &state.told);
            (verdict, xdp_action(verdict))
        }
        Entry::Tc => {
            let verdict = pipeline::run(&mut Skb(&mut ours), &state.memory, &state.told);
            (verdict, tc_action(verdict))
        }
        Entry::Egress => (
            pipeline::run_egress(ours.as_mut_slice(), &state.memory, &state.told),
            NEXT,
        ),
    };
    let what = || format!("{entry:?} {verdict:?} {frame:02x?}");
    let theirs = kernel
        .run(entry, frame, OUTSIDE.index)
        .map_err(|error| error.context(what()))?;
    same("action", &action, &theirs.action).map_err(|error| error.context(what()))?;
    same("frame", &ours, &theirs.frame).map_err(|error| error.context(what()))?;
    // An unfinished checksum may have been completed.
    let kept = !sound_where_it_counts(frame) || sound_where_it_counts(&theirs.frame);
    anyhow::ensure!(kept, "checksums of {:02x?}: {}", theirs.frame, what());
    Ok(verdict)
}

/// The part of a frame that its IP header speaks of may be shorter or longer than the frame.
fn sound_where_it_counts(frame: &[u8]) -> bool {
    let length = |at: usize| match frame.get(at..at + 2) {
        Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])),
        _ => 0,
    };
    let ends = match frame.get(12..14) {
        Some([0x08, 0x00]) => SHORTEST + length(16),
        Some([0x86, 0xdd]) => SHORTEST + 40 + length(18),
        _ => 0,
    };
    frame.len() == ends && sound(frame)
}

const fn xdp_action(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Pass(_) | Verdict::Deliver => XDP_PASS,
        Verdict::Transmit => XDP_TX,
        Verdict::Redirect(_) => XDP_REDIRECT,
        Verdict::Drop(_) => XDP_DROP,
        // A stage that is not there: the frame passes.
        Verdict::Continue(_) => XDP_PASS,
    }
}

const fn tc_action(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Pass(_) | Verdict::Deliver | Verdict::Continue(_) => NEXT,
        Verdict::Transmit | Verdict::Redirect(_) => TC_REDIRECT,
        Verdict::Drop(_) => TC_SHOT,
    }
}

/// The memory twin hands out endpoints by reference, so marks are put in afterwards.
fn note(state: &mut State) {
    for id in state.memory.noted.take() {
        if let Some(endpoint) = state.memory.endpoints.get_mut(&id) {
            endpoint.noted = 1;
        }
    }
}

/// Frames of the cases, whole, with bytes changed, cut off or continued; and plain noise.
fn frame(bases: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let base = prop::sample::select(bases);
    let changes = prop::collection::vec((0..60_usize, any::<u8>()), 0..3);
    let length = prop_oneof![3 => Just(None), 1 => (SHORTEST..80).prop_map(Some)];
    let near = (base, changes, length).prop_map(|(mut frame, changes, length)| {
        for (at, byte) in changes {
            let at = at % frame.len();
            frame[at] = byte;
        }
        frame.resize(length.unwrap_or(frame.len()).max(SHORTEST), 0x5a);
        frame
    });
    let noise = prop::collection::vec(any::<u8>(), SHORTEST..100);
    prop_oneof![9 => near, 1 => noise]
}

fn same<T: PartialEq + Debug>(what: &str, ours: &T, theirs: &T) -> anyhow::Result<()> {
    anyhow::ensure!(
        ours == theirs,
        "{what} on the host and in the kernel differ:\n{ours:02x?}\n{theirs:02x?}"
    );
    Ok(())
}
