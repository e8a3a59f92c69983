//! What kinds of packets cost.

use std::net::SocketAddrV4;

use switcher_common::memory::FlowMap;
use switcher_common::steer::Ownership;
use switcher_common::word::Word;
use switcher_tests::cases::{open, steady};
use switcher_tests::frame::{Build, flag};
use switcher_tests::kernel::Kernel;
use switcher_tests::site::{self, Servers};
use switcher_tests::town::{CALLS, CELL, CLIENT, FAR, GROUP, NEAR, SHOP, State, WEB, endpoint};

use crate::drive::{Driver, Load, Servers as Spread, Target, Touches, UNTOUCHED};
use crate::report::{Cost, Packet, Report};

/// Many flows.
pub(crate) const MANY: u32 = 1 << 20;
/// Repetitions in a batch: short enough that most are not disturbed.
const BATCH: u32 = 1 << 17;

/// A kind of packet.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) target: Target,
    pub(crate) word: Word,
    pub(crate) frame: Build,
    pub(crate) sequences: bool,
    /// Services that a million flows are spread over.
    pub(crate) servers: Spread,
    pub(crate) goal: Option<f64>,
    pub(crate) goal_many: Option<f64>,
}

pub(crate) fn measure(rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    site::build()?.inside(|| {
        stay_on_this_cpu()?;
        let servers = Servers::start()?;
        let state = State::new(steady()).socket(NEAR, endpoint(WEB, 0), Ownership::Owns);
        let _connection = servers.connect(&state)?;
        let mut kernel = Kernel::load()?;
        let mut driver = Driver::new(&mut kernel)?;
        for kind in kinds() {
            prepare(&mut kernel, &kind)?;
            let packet = packet(&mut driver, &kind, rounds, report)?;
            report.packets.push(packet);
        }
        Ok(())
    })?
}

fn kinds() -> Vec<Kind> {
    let ack = |client: SocketAddrV4, vip: SocketAddrV4| Build::tcp(client, vip, flag::ACK);
    let on_red = steady().with_current(2);
    let nobody = SocketAddrV4::new(*WEB.ip(), 12_345);
    let kind = |name, word, frame, goal| Kind {
        name,
        target: Target::Switcher,
        word,
        frame,
        sequences: false,
        servers: Spread::ONE,
        goal,
        goal_many: None,
    };
    vec![
        Kind {
            target: Target::Minimal,
            ..kind("minimal rewrite", steady(), ack(CLIENT, WEB), None)
        },
        kind("nobody's packet", steady(), ack(CLIENT, nobody), Some(1.2)),
        Kind {
            goal_many: Some(1.1),
            ..kind(
                "steady TCP, this host",
                steady(),
                ack(CLIENT, WEB),
                Some(2.0),
            )
        },
        kind("steady TCP, forwarded", steady(), ack(CLIENT, SHOP), None),
        kind("steady TCP, crowded port", on_red, ack(CLIENT, FAR), None),
        tagged(),
        kind(
            "socket look-up in a window",
            open(),
            ack(NEAR, WEB),
            Some(5.0),
        ),
        Kind {
            sequences: true,
            ..kind(
                "SYN in a window",
                open(),
                Build::tcp(CLIENT, CELL, flag::SYN),
                None,
            )
        },
        kind("UDP flow", steady(), Build::udp(CLIENT, CALLS), None),
    ]
}

/// Found by its tag.
pub(crate) fn tagged() -> Kind {
    Kind {
        name: "tag hit in a window",
        target: Target::Switcher,
        word: open(),
        frame: Build::tcp(CLIENT, CELL, flag::ACK),
        sequences: false,
        servers: Spread::ONE,
        goal: Some(3.5),
        goal_many: None,
    }
}

/// Maps for one kind, with room for all flows.
pub(crate) fn prepare(kernel: &mut Kernel, kind: &Kind) -> anyhow::Result<()> {
    let state = State::new(kind.word);
    let roomy = FlowMap {
        capacity: 2 * MANY as usize,
        ..Default::default()
    };
    state.memory.windows.borrow_mut().insert(GROUP, roomy);
    kernel.fill(&state.memory)
}

pub(crate) fn packet(
    driver: &mut Driver,
    kind: &Kind,
    rounds: usize,
    report: &mut Report,
) -> anyhow::Result<Packet> {
    let frame = kind.frame.bytes();
    let load = |flows, servers| Load {
        frame: frame.clone(),
        client: kind.frame.source,
        server: kind.frame.destination,
        flows,
        sequences: kind.sequences,
        servers,
        touches: UNTOUCHED,
        interface: 0,
    };
    let (one, many) = (load(1, Spread::ONE), load(MANY, kind.servers));
    // Tags are made, and caches are warm.
    driver.driven(kind.target, &many, MANY)?;
    driver.driven(kind.target, &one, BATCH)?;
    let mut samples = Samples::default();
    for _ in 0..rounds {
        samples.empty.push(driver.empty(&frame, BATCH)?);
        samples
            .one_empty
            .push(driver.driven(Target::Empty, &one, BATCH)?);
        samples.one.push(driver.driven(kind.target, &one, BATCH)?);
        samples
            .many_empty
            .push(driver.driven(Target::Empty, &many, BATCH)?);
        samples.many.push(driver.driven(kind.target, &many, BATCH)?);
    }
    let empty = median(&mut samples.empty);
    report.empty = empty;
    let cost = |driven: &mut Vec<f64>, driven_empty: &mut Vec<f64>| {
        let total = empty + median(driven) - median(driven_empty);
        Cost {
            total,
            ratio: total / empty,
        }
    };
    Ok(Packet {
        name: kind.name,
        one: cost(&mut samples.one, &mut samples.one_empty),
        many: cost(&mut samples.many, &mut samples.many_empty),
        goal: kind.goal,
        goal_many: kind.goal_many,
    })
}

/// Nanoseconds for a packet to one server, from so many flows.
pub(crate) fn total(
    driver: &mut Driver,
    kind: &Kind,
    flows: u32,
    rounds: usize,
) -> anyhow::Result<f64> {
    let frame = kind.frame.bytes();
    let load = Load {
        frame: frame.clone(),
        client: kind.frame.source,
        server: kind.frame.destination,
        flows,
        sequences: kind.sequences,
        servers: Spread::ONE,
        touches: UNTOUCHED,
        interface: 0,
    };
    driver.driven(kind.target, &load, BATCH.max(flows))?;
    let (mut empty, mut driven_empty, mut driven) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        empty.push(driver.empty(&frame, BATCH)?);
        driven_empty.push(driver.driven(Target::Empty, &load, BATCH)?);
        driven.push(driver.driven(kind.target, &load, BATCH)?);
    }
    Ok(median(&mut empty) + median(&mut driven) - median(&mut driven_empty))
}

/// What of a packet's time is the caches' share.
pub(crate) struct Share {
    /// Nanoseconds that a bare program takes more for many flows than for one, when it touches as much memory as ours does.
    pub(crate) share: f64,
    /// Nanoseconds that are left of ours when that is taken off.
    pub(crate) without: f64,
}

/// Measures ours and a bare one side by side: memory is a matter of neighbours, too, and they come and go.
pub(crate) fn share(
    driver: &mut Driver,
    kind: &Kind,
    (bare, touches): (Target, Touches),
    rounds: usize,
) -> anyhow::Result<Share> {
    let frame = kind.frame.bytes();
    let load = |flows, servers| Load {
        frame: frame.clone(),
        client: kind.frame.source,
        server: kind.frame.destination,
        flows,
        sequences: kind.sequences,
        servers,
        touches,
        interface: 0,
    };
    let (one, many) = (load(1, Spread::ONE), load(MANY, kind.servers));
    driver.driven(bare, &many, MANY)?;
    driver.driven(kind.target, &many, MANY)?;
    let (mut shares, mut left) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let empty = driver.driven(Target::Empty, &one, BATCH)?;
        let alone = driver.driven(bare, &one, BATCH)? - empty;
        let empty = driver.driven(Target::Empty, &many, BATCH)?;
        let spread = driver.driven(bare, &many, BATCH)? - empty;
        let ours = driver.driven(kind.target, &many, BATCH)? - empty;
        let share = spread - alone;
        shares.push(share);
        left.push(driver.empty(&frame, BATCH)? + ours - share);
    }
    Ok(Share {
        share: median(&mut shares),
        without: median(&mut left),
    })
}

/// Nanoseconds, one value a round.
#[derive(Default)]
struct Samples {
    empty: Vec<f64>,
    one_empty: Vec<f64>,
    one: Vec<f64>,
    many_empty: Vec<f64>,
    many: Vec<f64>,
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(crate) fn stay_on_this_cpu() -> anyhow::Result<()> {
    let mut cpus = nix::sched::CpuSet::new();
    cpus.set(nix::sched::sched_getcpu()?)?;
    Ok(nix::sched::sched_setaffinity(
        nix::unistd::Pid::from_raw(0),
        &cpus,
    )?)
}
