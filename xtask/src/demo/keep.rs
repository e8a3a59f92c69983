//! `--keep`: everything stays, and someone tries it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use switcher_harness::config::GROUP;
use switcher_harness::load::Second;
use switcher_harness::{Load, Plan, Stand, interrupt};

use super::acts::plan;
use super::screen::{Screen, Style};

/// Until someone presses Enter or Ctrl-C, or for so long.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Shows traffic until Enter or Ctrl-C.
pub(super) fn running(stand: &Stand, screen: &Screen) -> Result<()> {
    let plan = Plan {
        pause: Duration::from_millis(20),
        at_most: LONGEST,
        ..plan()
    };
    let load = Load::start(&stand.topology, &plan)?;
    advise(stand, screen);
    screen.head();
    let enough = enter();
    let begun = load.recorder().begun();
    for second in 1.. {
        let next = begun + Duration::from_secs(second as u64);
        if interrupt::sleep_until(next).is_err() || enough.load(Ordering::Relaxed) {
            break;
        }
        let mut counts = Second::default();
        for answer in load.recorder().take() {
            counts.add(&answer);
        }
        screen.row(second, &counts);
    }
    println!("\n  cleaning up");
    Ok(())
}

fn advise(stand: &Stand, screen: &Screen) {
    let enter = |namespace: &Path| format!("nsenter --net={}", namespace.display());
    let switch = enter(&stand.topology.switch.path());
    let place = stand.agent.place();
    println!("\n  It goes on. In another terminal, as root:\n");
    let prefix = format!(
        "alias s='{switch} env SWITCHER_SOCKET={} {}'",
        place.socket().display(),
        stand.agent.binary().display()
    );
    let client = enter(&stand.topology.client.path());
    let web = stand.topology.web();
    let commands = [
        prefix,
        "s status --watch".to_owned(),
        format!("s flip {GROUP}"),
        format!("s rollback {GROUP}"),
        format!("s history {GROUP}"),
        format!("s explain {GROUP} tcp 10.77.0.2:40000 {web} --syn"),
        format!("{client} curl -s http://{web}/"),
        format!(
            "s emergency {GROUP} blue --bpffs {}",
            place.bpffs().display()
        ),
    ];
    for command in commands {
        println!("    {}", screen.paint(Style::Bold, &command));
    }
    println!("\n  Enter or Ctrl-C ends it.\n");
}

/// Set once someone pressed Enter. A closed standard input never does.
fn enter() -> Arc<AtomicBool> {
    let enough = Arc::new(AtomicBool::new(false));
    let setting = Arc::clone(&enough);
    std::thread::spawn(move || {
        let read = std::io::stdin().read_line(&mut String::new());
        setting.store(read.is_ok_and(|size| size > 0), Ordering::Relaxed);
    });
    enough
}
