//! What was promised, and whether it was kept.

use std::time::Instant;

use switcher_harness::load::Kind;
use switcher_harness::topology::COLOURS;

use super::acts::{Played, milliseconds};
use super::screen::{Screen, Style};

/// One promise.
struct Promise {
    says: String,
    /// Why it is broken; empty if it is kept.
    broken: Vec<String>,
}

/// Prints the summary. Whether everything was kept.
pub(super) fn show(screen: &Screen, played: &Played) -> bool {
    println!(
        "\n  {}  {}",
        screen.paint(Style::Dim, "new connections by second"),
        screen.strip(&played.report.seconds_table())
    );
    println!();
    let promises = [
        carried_out(played),
        nothing_broken(played),
        whole_downloads(played),
        no_strays(played),
        status_right(played),
    ];
    for promise in &promises {
        line(screen, promise);
    }
    promises.iter().all(|promise| promise.broken.is_empty())
}

fn line(screen: &Screen, promise: &Promise) {
    let mark = if promise.broken.is_empty() {
        screen.paint(Style::Green, "✓")
    } else {
        screen.paint(Style::Red, "✗")
    };
    println!("  {mark} {}", promise.says);
    for why in promise.broken.iter().take(5) {
        println!("      {}", screen.paint(Style::Red, why));
    }
    if promise.broken.len() > 5 {
        println!("      and {} more", promise.broken.len() - 5);
    }
}

fn carried_out(played: &Played) -> Promise {
    let first = played.changes.iter().filter_map(|change| change.first);
    let first: Vec<String> = first.map(|after| after.as_millis().to_string()).collect();
    let failed = played
        .changes
        .iter()
        .filter(|change| change.output.code != 0 || change.first.is_none());
    Promise {
        says: format!(
            "{} switches; first answer of the new colour after {} ms",
            played.changes.len(),
            first.join(", ")
        ),
        broken: failed
            .map(|change| format!("{} exited {}", change.output.command, change.output.code))
            .collect(),
    }
}

fn nothing_broken(played: &Played) -> Promise {
    let mut broken = played.report.failures();
    let kernel = &played.kernel;
    if kernel.resets + kernel.failed_opens > 0 {
        broken.push(format!(
            "the kernel counted {} resets and {} failed opens",
            kernel.resets, kernel.failed_opens
        ));
    }
    let answers: usize = Kind::ALL
        .into_iter()
        .map(|kind| played.report.count(kind))
        .sum();
    Promise {
        says: format!(
            "{answers} answers, {} connections or datagrams broken; slowest answer {}",
            broken.len(),
            milliseconds(played.report.slowest())
        ),
        broken,
    }
}

fn whole_downloads(played: &Played) -> Promise {
    let whole = played.report.count(Kind::Download);
    Promise {
        says: format!("{whole} downloads across the switches, every byte as it should be"),
        broken: if whole == 0 {
            vec!["no download was finished".to_owned()]
        } else {
            Vec::new()
        },
    }
}

/// New connections belong to the new colour from the moment the command returned.
fn no_strays(played: &Played) -> Promise {
    let ends = played
        .changes
        .iter()
        .skip(1)
        .map(|next| next.output.begun)
        .chain([Instant::now()]);
    let (mut new, mut strays) = (0, Vec::new());
    for (change, end) in played.changes.iter().zip(ends) {
        new += played.report.begun_between(change.output.ended, end);
        strays.extend(played.report.strays(change.to, change.output.ended, end));
    }
    Promise {
        says: format!(
            "{new} new connections and flows after a switch, {} of them on the old colour",
            strays.len()
        ),
        broken: strays,
    }
}

fn status_right(played: &Played) -> Promise {
    let mut broken = Vec::new();
    if !played.status_was_right || played.live != COLOURS[1] {
        broken.push(format!("at the end it says {}", played.live));
    }
    Promise {
        says: "`switcher status` named the live colour each time".to_owned(),
        broken,
    }
}
