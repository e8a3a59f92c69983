//! Frames that really go: how many a second, by one core and by two.

use std::net::SocketAddrV4;
use std::sync::Barrier;
use std::thread::ScopedJoinHandle;

use anyhow::Context as _;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use switcher_tests::cases::steady;
use switcher_tests::frame::{Build, flag};
use switcher_tests::kernel::Kernel;
use switcher_tests::site;
use switcher_tests::town::{CLIENT, DOOR, INSIDE, Interface, OUTSIDE, SHOP, State, WEB};

use crate::drive::{Driver, Load, Servers, Target, UNTOUCHED};
use crate::packets::median;
use crate::report::Report;

/// Frames of each core in a round.
const FRAMES: u32 = 1 << 19;
/// The least of them that have to arrive: a ring may be full now and then.
const ARRIVE: f64 = 0.99;
const CORES: usize = 2;

/// A way for frames.
struct Way {
    name: [&'static str; CORES],
    to: SocketAddrV4,
    /// Where they leave; to this host's stack if nowhere.
    leave: Option<Interface>,
}

const WAYS: [Way; 3] = [
    Way {
        name: ["TX, one core", "TX, two cores"],
        to: DOOR,
        leave: Some(OUTSIDE),
    },
    Way {
        name: ["REDIRECT, one core", "REDIRECT, two cores"],
        to: SHOP,
        leave: Some(INSIDE),
    },
    Way {
        name: ["PASS, one core", "PASS, two cores"],
        to: WEB,
        leave: None,
    },
];

pub(crate) fn measure(rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    site::build()?.inside(|| {
        let mut kernel = Kernel::load()?;
        kernel.fill(&State::new(steady()).memory)?;
        let mut drivers = (0..CORES)
            .map(|_| Driver::new(&mut kernel))
            .collect::<anyhow::Result<Vec<_>>>()?;
        for interface in [OUTSIDE, INSIDE] {
            drivers[0].swallow(&format!("{}-peer", interface.name))?;
        }
        for way in &WAYS {
            for cores in 1..=CORES {
                let (mut ours, mut bare) = (Vec::new(), Vec::new());
                for _ in 0..rounds {
                    ours.push(rate(&mut drivers[..cores], way, Target::Switcher)?);
                    bare.push(rate(&mut drivers[..cores], way, way.bare())?);
                }
                let (ours, bare) = (median(&mut ours), median(&mut bare));
                report.figure(way.name[cores - 1], ours / 1e6, "million frames/s", None);
                report.figure("  of a bare program's", ours / bare, "times", None);
            }
        }
        Ok(())
    })?
}

impl Way {
    fn bare(&self) -> Target {
        match self.leave {
            Some(_) => Target::Across,
            None => Target::Empty,
        }
    }
}

/// Frames a second of so many cores that send at the same time.
fn rate(drivers: &mut [Driver], way: &Way, target: Target) -> anyhow::Result<f64> {
    let load = Load {
        frame: Build::tcp(CLIENT, way.to, flag::ACK).bytes(),
        client: CLIENT,
        server: way.to,
        flows: 1,
        sequences: false,
        servers: Servers::ONE,
        touches: UNTOUCHED,
        interface: way.leave.map_or(0, |it| it.index),
    };
    let before = drivers[0].swallowed()?;
    let start = Barrier::new(drivers.len());
    let seconds = std::thread::scope(|scope| {
        let run = |(core, driver): (usize, &mut Driver)| {
            stay_on(core)?;
            start.wait();
            driver.live(target, &load, OUTSIDE.index, FRAMES)
        };
        let running: Vec<_> = drivers
            .iter_mut()
            .enumerate()
            .map(|it| scope.spawn(move || run(it)))
            .collect();
        let ended = running.into_iter().map(ScopedJoinHandle::join);
        let seconds = ended.map(|it| it.map_err(|_| anyhow::anyhow!("a sender panicked"))?);
        seconds.collect::<anyhow::Result<Vec<f64>>>()
    })?;
    let arrived = drivers[0].swallowed()? - before;
    let sent = FRAMES as f64 * drivers.len() as f64;
    anyhow::ensure!(
        way.leave.is_none() || arrived as f64 >= sent * ARRIVE,
        "{arrived} of {sent} frames arrived"
    );
    let longest = seconds.into_iter().reduce(f64::max).context("a sender")?;
    Ok(sent / longest)
}

fn stay_on(core: usize) -> anyhow::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cores)?)
}
