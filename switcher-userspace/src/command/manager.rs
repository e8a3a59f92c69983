//! What systemd is told of the agent (sd_notify(3)). Without a service manager nobody listens, and nothing happens.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::{debug, warn};

use crate::agent::{Handle, Runner};

/// Bytes of a status line.
const LONGEST: usize = 400;
/// Status lines come at most that often.
const PAUSE: Duration = Duration::from_secs(1);

/// All that is configured, or was there before, is in the kernel, and requests are answered.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is being taken again; [`ready`] ends that.
pub(super) fn reloading() {
    let now = NotifyState::monotonic_usec_now();
    tell(&[
        NotifyState::Reloading,
        now.unwrap_or(NotifyState::MonotonicUsec(0)),
    ]);
}

/// The agent ends; traffic goes on.
pub(super) fn stopping() {
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("stopped; traffic goes on as it is"),
    ]);
}

/// Shows which colours are live, whenever that changes, until the agent ends.
pub(super) async fn show(agent: Handle) {
    let mut changes = agent.changes();
    let mut shown = String::new();
    while let Ok(line) = agent.ask(|runner| line(runner)).await {
        if line != shown {
            tell(&[NotifyState::Status(&line)]);
            shown = line;
        }
        tokio::time::sleep(PAUSE).await;
        if changes.changed().await.is_err() {
            break;
        }
    }
}

/// Says that the agent is well, twice as often as asked for, as long as it answers.
pub(super) async fn watch(agent: Handle) {
    let Some(period) = sd_notify::watchdog_enabled() else {
        return;
    };
    debug!(?period, "watched");
    while agent.ask(|_| ()).await.is_ok() {
        tell(&[NotifyState::Watchdog]);
        tokio::time::sleep(period / 2).await;
    }
}

/// `shop: green, blog: blue (draining)`
fn line(runner: &Runner) -> String {
    let said = runner.live().map(|(group, live, phase)| match phase {
        "idle" => format!("{group}: {live}"),
        phase => format!("{group}: {live} ({phase})"),
    });
    let mut line = said.collect::<Vec<_>>().join(", ");
    if let Some((end, _)) = line.char_indices().nth(LONGEST) {
        line.truncate(end);
        line.push('…');
    }
    line
}

fn tell(state: &[NotifyState<'_>]) {
    match sd_notify::notify(state) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!("the service manager can't be told: {error}");
        }
        Ok(()) | Err(_) => {}
    }
}
