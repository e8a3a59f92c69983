//! How far something is that takes long, for whoever looks at a terminal meanwhile.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use jiff::Timestamp;

use crate::api::model::GroupStatus;
use crate::client::{Client, encode};
use crate::exit::Failure;
use crate::output::{Output, human_duration, human_flows};

/// What has not ended by then takes long.
const EVERY: Duration = Duration::from_secs(1);
/// A longer line would not be taken back where terminals are narrow.
const WIDTH: usize = 78;

/// Waits for an answer and says once a second, in one line of standard error, how far the group is.
pub(super) async fn beside<T>(
    output: &Output,
    (client, group): (&Client, &str),
    answer: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    if output.quiet || !std::io::stderr().is_terminal() {
        return answer.await;
    }
    tokio::select! {
        answer = answer => {
            say("");
            answer
        }
        never = tell(client, group) => match never {},
    }
}

async fn tell(client: &Client, group: &str) -> std::convert::Infallible {
    let path = format!("/v1/groups/{}", encode(group));
    loop {
        tokio::time::sleep(EVERY).await;
        if let Ok(status) = client.get::<GroupStatus>(&path).await {
            say(&line(&status, Timestamp::now()));
        }
    }
}

/// In place of what was said before.
fn say(line: &str) {
    eprint!("\r\x1b[K{line}");
    let _unseen = std::io::stderr().flush();
}

fn line(status: &GroupStatus, now: Timestamp) -> String {
    let mut line = format!("{}: {}", status.name, status.phase);
    if let Some(flows) = status.window.as_ref().and_then(|it| it.flows_on_old) {
        line += &format!(", {} on old endpoints", human_flows(flows));
    }
    if let Some(next) = &status.next {
        let left = next.at.duration_since(now).as_secs().max(0).unsigned_abs();
        let left = human_duration(Duration::from_secs(left.max(1)));
        line += &format!("; in {left}: {}", next.what);
    }
    match line.char_indices().nth(WIDTH) {
        Some((end, _)) => line[..end].to_owned() + "…",
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::model::Status;

    #[test]
    fn a_line_says_how_far_it_is_and_what_comes_next() {
        let status: Status = serde_json::from_str(include_str!("status.json")).expect("a status");
        let now = "2026-11-20T20:03:00Z".parse().expect("a time");
        let expected =
            "shop: draining, 12 flows on old endpoints; in 57m: drain deadline: 12 connecti…";
        assert_eq!(line(&status.groups[0], now), expected);
    }
}
