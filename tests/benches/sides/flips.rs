//! The switch itself, by each product, in turn.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use switcher_harness::{Mode, interrupt};

use crate::probe::{Kept, Probe, Probers};
use crate::report::{Better, Column, Report};
use crate::site::Site;
use crate::switch::{Product, Switch};
use crate::wrk::{Load, Work};

/// Connections that are there before a switch and after it.
const KEPT: usize = 8;
/// Between two switches.
const PAUSE: Duration = Duration::from_millis(80);

const COLUMNS: [Column; 9] = [
    Column::new("command ms", Better::Less, true),
    Column::new("longest", Better::Less, false),
    Column::new("to the first new connection, ms", Better::Less, true),
    Column::new("longest", Better::Less, false),
    Column::new("both colours, flips of 100", Better::Less, false),
    Column::new("for at most ms", Better::Less, false),
    Column::new("failed new connections", Better::Less, false),
    Column::new("established lost, of 100", Better::Less, false),
    Column::new("failed requests of the load", Better::Less, false),
];

pub(crate) fn measure(flips: usize) -> Result<Report> {
    let mut report = Report::new("The switch", "nftables", &COLUMNS);
    report.note(format!(
        "{flips} switches each. nftables: `nft -f` replaces the table in one transaction. HAProxy: `set map` over its \
         socket, without a process for it. nginx: `nginx -s reload`, which returns before anything is switched. \
         Switcher: `switcher flip`, which returns when no CPU can act on the old table; it first notes SYNs for 20 ms \
         (`drain.arm`, seconds by default) where servers are other hosts, and learns connections for a second afterwards \
         (`drain.learn`)."
    ));
    report.note(
        "Both colours: a connection that began after another had been answered by the new colour came to the old one.",
    );
    for mode in [Mode::Local, Mode::Routed, Mode::Masquerade] {
        let site = Site::new(mode, false)?;
        for loaded in [false, true] {
            let place = format!("{mode}, {}", if loaded { "loaded" } else { "idle" });
            eprintln!("{place}");
            for product in Product::ALL {
                if matches!(product, Product::Direct | Product::SwitcherAtTc) {
                    continue;
                }
                let row = (place.clone(), product.to_string());
                let done = run(&site, product, loaded, flips);
                let values = done.with_context(|| format!("{product}, {place}"))?;
                for (column, value) in values.into_iter().enumerate() {
                    report.add(&row, column, value);
                }
            }
        }
    }
    Ok(report)
}

/// One switch: when its command began and ended, and where to.
struct Flip {
    begun: Instant,
    took: Duration,
    to: usize,
}

fn run(site: &Site, product: Product, loaded: bool, flips: usize) -> Result<[f64; 9]> {
    let mut switch = product.set_up(site, false)?;
    let [web, _] = product.services(site);
    // More than all of it takes.
    let load = loaded.then(|| Load::start(site, web, Work::KeepAlive, 600));
    let load = load.transpose()?;
    let probers = Probers::start(&site.topology.client, web)?;
    let (done, lost) = site
        .topology
        .client
        .inside(|| flip(switch.as_mut(), web, flips))??;
    let probes = probers.stop()?;
    let failed = match load {
        Some(load) => load.stop()?.errors,
        None => 0.0,
    };
    let mut seen: Vec<Seen> = Vec::new();
    for (number, flip) in done.iter().enumerate() {
        let end = done.get(number + 1).map(|next| next.begun);
        // One that was still on its way when the next switch began may have come to either.
        let within =
            |probe: &&Probe| probe.begun >= flip.begun && end.is_none_or(|end| probe.ended < end);
        seen.extend(Seen::new(flip, probes.iter().filter(within)));
    }
    let failures = probes.iter().filter(|probe| probe.place.is_none()).count();
    let commands = done.iter().map(|flip| milliseconds(flip.took));
    let (command, longest) = typical(commands.collect());
    let (first, latest) = typical(seen.iter().map(|it| milliseconds(it.first)).collect());
    let mixed = seen.iter().filter_map(|it| it.mixed);
    let per_hundred = 100.0 / flips as f64;
    Ok([
        command,
        longest,
        first,
        latest,
        mixed.clone().count() as f64 * per_hundred,
        mixed.map(milliseconds).fold(0.0, f64::max),
        failures as f64,
        lost as f64 * 100.0 / (KEPT * flips) as f64,
        failed,
    ])
}

/// Switches to and fro. Returns how many of the connections that were there got lost.
fn flip(
    switch: &mut dyn Switch,
    at: std::net::SocketAddr,
    flips: usize,
) -> Result<(Vec<Flip>, usize)> {
    let open = || -> Result<(Kept, usize)> {
        let mut kept = Kept::open(at)?;
        let place = kept.ask()?;
        Ok((kept, place))
    };
    let mut kept = (0..KEPT).map(|_| open()).collect::<Result<Vec<_>>>()?;
    let (mut done, mut lost) = (Vec::new(), 0);
    for number in 1..=flips {
        interrupt::check()?;
        let (begun, to) = (Instant::now(), number % 2);
        switch.flip(to)?;
        let took = begun.elapsed();
        done.push(Flip { begun, took, to });
        for (connection, place) in &mut kept {
            if !connection.ask().is_ok_and(|now| now == *place) {
                lost += 1;
            }
        }
        std::thread::sleep(PAUSE);
        // Some are as old as the first switch, and some are new.
        kept.retain_mut(|(connection, place)| connection.ask().is_ok_and(|now| now == *place));
        kept.truncate(KEPT - 2);
        while kept.len() < KEPT {
            kept.push(open()?);
        }
    }
    Ok((done, lost))
}

/// What clients saw of a switch.
struct Seen {
    /// From the command's start until the first connection that the new colour answered had its answer.
    first: Duration,
    /// From then to the last begin of one that the old colour answered.
    mixed: Option<Duration>,
}

impl Seen {
    /// Nothing, if none came to the new colour.
    fn new<'a>(flip: &Flip, probes: impl Iterator<Item = &'a Probe> + Clone) -> Option<Self> {
        let new = probes.clone().filter(|it| it.place == Some(flip.to));
        let first = new.map(|it| it.ended).min()?;
        let old = probes.filter(|it| it.place.is_some_and(|place| place != flip.to));
        let last = old.map(|it| it.begun).max();
        Some(Self {
            first: first - flip.begun,
            mixed: last.and_then(|last| last.checked_duration_since(first)),
        })
    }
}

/// The median and the longest.
fn typical(values: Vec<f64>) -> (f64, f64) {
    let longest = values.iter().copied().fold(0.0, f64::max);
    (crate::report::spread(values).0, longest)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
