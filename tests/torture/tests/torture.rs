//! A short torture, in two modes; and one that must find something. All at once: they hardly need a processor.

use std::time::Duration;

use switcher_harness::{Mode, netns, privilege};
use switcher_torture::Run;
use switcher_torture::plan::{Action, Step};
use switcher_torture::report::Report;

/// In each mode.
const TIME: Duration = Duration::from_secs(15);
/// The longest that a flow lives: all have to end.
const LIFE: Duration = Duration::from_secs(3);

#[test]
fn nothing_is_broken_and_what_would_be_is_found() {
    if !privilege::is_root("nothing_is_broken_and_what_would_be_is_found") {
        return;
    }
    netns::sweep();
    let seed = seed();
    println!("SWITCHER_TEST_SEED={seed}");
    std::thread::scope(|scope| {
        scope.spawn(|| is_well(&short(Mode::Local, seed)));
        scope.spawn(|| is_well(&short(Mode::Routed, seed)));
        scope.spawn(wrong_expectations_are_not_met);
    });
}

fn is_well(run: &Run) {
    let report = done(run);
    println!("{}", report.markdown());
    assert!(
        report.is_well(),
        "{} promises were broken",
        report.record.broken
    );
    let flows: u64 = report.record.flows.values().map(|flows| flows.begun).sum();
    assert!(flows > 20 && report.counts.total() > 0, "nothing was tried");
}

fn wrong_expectations_are_not_met() {
    let step = |action| Step {
        pause_ms: 300,
        action,
    };
    let report = done(&Run {
        steps: Some(vec![step(Action::Flip), step(Action::Read)]),
        sabotage: true,
        ..short(Mode::Local, 1)
    });
    assert!(
        !report.is_well(),
        "flips that change nothing were believed in"
    );
}

fn done(run: &Run) -> Report {
    switcher_torture::run(run).unwrap_or_else(|error| panic!("{}: {error:#}", run.mode))
}

/// `SWITCHER_TEST_SEED`, or by the clock: each run of the suite tries something else.
fn seed() -> u64 {
    let given = std::env::var("SWITCHER_TEST_SEED").ok();
    let by_clock = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(1, |since| since.as_secs());
    given.and_then(|seed| seed.parse().ok()).unwrap_or(by_clock)
}

fn short(mode: Mode, seed: u64) -> Run {
    Run {
        mode,
        seed,
        time: TIME,
        life: LIFE,
        steps: None,
        directory: std::env::temp_dir().join(format!("switcher-torture-{}", std::process::id())),
        sabotage: false,
    }
}
