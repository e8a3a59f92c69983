//! What happens: status, flip, rollback, flip, and all the while traffic.

use std::time::{Duration, Instant};

use anyhow::Result;
use switcher_harness::agent::Output;
use switcher_harness::config::GROUP;
use switcher_harness::load::{Report, Second};
use switcher_harness::stats::Counters;
use switcher_harness::topology::COLOURS;
use switcher_harness::{Load, Plan, Stand, interrupt};

use super::screen::{Screen, Style};

/// A change of the live colour, as it went.
pub(super) struct Change {
    pub(super) to: &'static str,
    pub(super) output: Output,
    /// From the command's start to the first answer of the new colour to a new connection.
    pub(super) first: Option<Duration>,
}

/// All that is known at the end.
pub(super) struct Played {
    pub(super) changes: Vec<Change>,
    pub(super) report: Report,
    pub(super) kernel: Counters,
    pub(super) live: String,
    pub(super) status_was_right: bool,
}

/// Long enough for the first answer of the new colour.
const FIRST_ANSWER: Duration = Duration::from_secs(2);

/// Plays all acts in `seconds`.
pub(super) fn play(stand: &Stand, screen: &Screen, seconds: u16) -> Result<Played> {
    let before = Counters::read(&stand.topology.client)?;
    let load = Load::start(&stand.topology, &plan())?;
    let mut watch = Watch::new(&load, screen);
    let steps = [
        (0.2, "flip", COLOURS[1]),
        (0.5, "rollback", COLOURS[0]),
        (0.75, "flip", COLOURS[1]),
    ];
    let mut changes = Vec::new();
    let mut status_was_right = true;
    status(stand, screen)?;
    println!();
    screen.head();
    for (at, verb, to) in steps {
        watch.until(f64::from(seconds) * at)?;
        let change = change(stand, screen, &load, verb, to)?;
        status_was_right &= stand.agent.live()? == to;
        changes.push(change);
    }
    watch.until(f64::from(seconds))?;
    status(stand, screen)?;
    let live = stand.agent.live()?;
    println!(
        "\n  {}",
        screen.paint(Style::Dim, "letting the last download finish")
    );
    let report = load.stop()?;
    let kernel = Counters::read(&stand.topology.client)?.since(&before);
    Ok(Played {
        changes,
        report,
        kernel,
        live,
        status_was_right,
    })
}

/// Connections of every kind, and not more of them than two processors like.
pub(super) fn plan() -> Plan {
    Plan {
        download: Duration::from_secs(4),
        requests: 60,
        ..Plan::default()
    }
}

fn change(
    stand: &Stand,
    screen: &Screen,
    load: &Load,
    verb: &str,
    to: &'static str,
) -> Result<Change> {
    let output = stand.agent.cli(&[verb, GROUP, "--reason", "demo"])?;
    screen.command(&format!("{verb} {GROUP} --reason demo"), &output.stdout);
    for line in output.stderr.lines() {
        println!("    {}", screen.paint(Style::Red, line));
    }
    let first = first_answer(load, to, output.begun)?.map(|at| at.duration_since(output.begun));
    let first_came = first.map_or_else(
        || "has not come".to_owned(),
        |after| format!("after {}", milliseconds(after)),
    );
    let took = milliseconds(output.took());
    println!(
        "    first answer of {} {first_came}; the command took {took}\n",
        screen.colour(to)
    );
    Ok(Change { to, output, first })
}

/// When the first new connection begun after `begun` was answered by `colour`.
fn first_answer(load: &Load, colour: &str, begun: Instant) -> Result<Option<Instant>> {
    let deadline = Instant::now() + FIRST_ANSWER;
    loop {
        let first = load.recorder().first_of(colour, begun);
        if first.is_some() || Instant::now() > deadline {
            return Ok(first.map(|answer| answer.at));
        }
        interrupt::sleep_until(Instant::now() + Duration::from_millis(5))?;
    }
}

pub(super) fn status(stand: &Stand, screen: &Screen) -> Result<()> {
    let output = stand.agent.cli(&["status", GROUP])?;
    screen.command(&format!("status {GROUP}"), &output.stdout);
    Ok(())
}

pub(super) fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

/// Prints a row for each second that has passed.
pub(super) struct Watch<'a> {
    load: &'a Load,
    screen: &'a Screen,
    seen: usize,
    /// Seconds that were shown already.
    shown: usize,
    waiting: Vec<Second>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(load: &'a Load, screen: &'a Screen) -> Self {
        Self {
            load,
            screen,
            seen: 0,
            shown: 0,
            waiting: Vec::new(),
        }
    }

    /// Shows whole seconds until `seconds` of the load have passed.
    pub(super) fn until(&mut self, seconds: f64) -> Result<()> {
        let begun = self.load.recorder().begun();
        let end = begun + Duration::from_secs_f64(seconds);
        loop {
            let next = begun + Duration::from_secs(self.shown as u64 + 1);
            interrupt::sleep_until(next.min(end))?;
            if next > end {
                return Ok(());
            }
            self.show_next(begun);
        }
    }

    fn show_next(&mut self, begun: Instant) {
        let answers = self.load.recorder().from(self.seen);
        self.seen += answers.len();
        for answer in &answers {
            let second = answer.at.duration_since(begun).as_secs() as usize;
            let place = second.saturating_sub(self.shown);
            if self.waiting.len() <= place {
                self.waiting.resize(place + 1, Second::default());
            }
            self.waiting[place].add(answer);
        }
        let counts = if self.waiting.is_empty() {
            Second::default()
        } else {
            self.waiting.remove(0)
        };
        self.shown += 1;
        self.screen.row(self.shown, &counts);
    }
}
