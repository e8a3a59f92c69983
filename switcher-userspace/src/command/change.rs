//! What the verbs that change a group have in common.

use std::time::Duration;

use super::progress;
use crate::api::model::{ChangeAnswer, ChangeRequest};
use crate::cli::{ChangeArgs, Globals, WaitArgs};
use crate::client::{Client, converse, encode};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::release::{End, Kind};

/// Asks for a change, and prints what came of it.
pub(super) fn run(
    globals: &Globals,
    output: &Output,
    (verb, group): (&str, &str),
    request: &ChangeRequest,
    wait: &WaitArgs,
) -> Result<Exit, Failure> {
    let mut path = format!("/v1/groups/{}/{verb}", encode(group));
    if let Some(condition) = &wait.wait {
        path += &format!("?wait={}", encode(&condition.to_string()));
        path += &wait
            .timeout
            .map(|timeout| format!("&{}", query(timeout)))
            .unwrap_or_default();
    }
    let client = Client::new(globals)?;
    let answer = client.post::<ChangeAnswer>(&path, request);
    let answer = converse(progress::beside(output, (&client, group), answer))?;
    output.print(&answer, |_| describe(verb, &answer))?;
    Ok(Exit::Done)
}

/// A request with what every change takes.
pub(super) fn request(change: ChangeArgs) -> ChangeRequest {
    let ChangeArgs {
        reason,
        dry_run,
        if_revision,
        if_live,
        idempotency_key,
    } = change;
    ChangeRequest {
        reason,
        dry_run,
        if_revision,
        if_live,
        idempotency_key,
        ..ChangeRequest::default()
    }
}

/// `timeout=` with a duration.
pub(super) fn query(timeout: Duration) -> String {
    format!("timeout={}", encode(&written(timeout)))
}

/// A duration in one word, as it is read.
pub(super) fn written(duration: Duration) -> String {
    let text = humantime::format_duration(duration).to_string();
    text.replace(' ', "")
}

pub(super) fn describe(verb: &str, answer: &ChangeAnswer) -> String {
    let warnings = answer.warnings.iter();
    let warnings: String = warnings.map(|it| format!("\n  {it}")).collect();
    done(verb, answer) + &warnings
}

fn done(verb: &str, answer: &ChangeAnswer) -> String {
    let ChangeAnswer {
        group,
        from,
        to,
        revision,
        ..
    } = answer;
    if answer.dry_run {
        return foreseen(answer);
    }
    let id = answer.id.as_deref().unwrap_or_default();
    let unless = answer.confirm_by.map_or_else(String::new, |by| {
        format!("; goes back to {from} at {by:.0} unless it is confirmed")
    });
    let watched = answer
        .baked_at
        .map_or_else(String::new, |at| format!("; watched until {at:.0}"));
    match verb {
        "confirm" => return format!("{group}: {to} is confirmed (cut-over {id})"),
        "extend" => return format!("{group}: {to} (cut-over {id}){unless}"),
        _ => {}
    }
    if let (End::Scheduled, Some(at)) = (answer.result, answer.at) {
        return format!("{group}: {from} -> {to} at {at:.0} (cut-over {id})");
    }
    match (answer.result, answer.unchanged) {
        (End::Aborted, _) => format!("{group}: cut-over {id} stopped; {to} stays live"),
        (_, true) if answer.kind == Kind::Canary => format!("{group}: {to} has that share already"),
        (_, true) => format!("{group}: {to} is live already (revision {revision})"),
        _ => {
            let verb = match answer.kind {
                Kind::Flip | Kind::Emergency => "switched",
                Kind::Rollback => "rolled back",
                Kind::Canary => "shared",
                Kind::Update => "updated",
            };
            let settled = answer
                .store_to_settled_us
                .map_or_else(String::new, |micros| {
                    format!(", settled after {}", micros_said(micros))
                });
            if let Some(percent) = answer.percent {
                return format!(
                    "{group}: {percent} % of new connections go to {to}, the others to {from}\
                     {settled} (cut-over {id})"
                );
            }
            format!(
                "{group}: {from} -> {to}, {verb}{settled} (cut-over {id}, revision {revision}){unless}{watched}"
            )
        }
    }
}

fn foreseen(answer: &ChangeAnswer) -> String {
    let ChangeAnswer {
        group,
        from,
        to,
        steps,
        ..
    } = answer;
    if answer.unchanged {
        return format!("{group}: nothing would be switched; {to} is live");
    }
    let steps = steps
        .iter()
        .enumerate()
        .map(|(index, step)| format!("\n  {}. {step}", index + 1));
    let steps: String = steps.collect();
    format!("{group}: {from} -> {to} would be carried out (nothing was changed):{steps}")
}

/// `870 µs`, `4.2 ms`.
pub(super) fn micros_said(micros: u64) -> String {
    match micros {
        ..1000 => format!("{micros} µs"),
        1000..1_000_000 => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
        _ => format!("{}.{} s", micros / 1_000_000, micros % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_line() {
        let flip = answer();
        assert_eq!(
            describe("flip", &flip),
            "shop: blue -> green, switched, settled after 4.2 ms (cut-over c, revision 3)"
        );
        let stopped = ChangeAnswer {
            result: End::Aborted,
            to: "blue".into(),
            ..answer()
        };
        assert_eq!(
            describe("flip", &stopped),
            "shop: cut-over c stopped; blue stays live"
        );
        let same = ChangeAnswer {
            unchanged: true,
            ..answer()
        };
        assert_eq!(
            describe("flip", &same),
            "shop: green is live already (revision 3)"
        );
    }

    #[test]
    fn what_is_not_final_says_so() {
        let at = "2026-11-28T12:00:00Z".parse().ok();
        let unconfirmed = ChangeAnswer {
            confirm_by: at,
            ..answer()
        };
        let text = describe("flip", &unconfirmed);
        assert!(
            text.ends_with("; goes back to blue at 2026-11-28T12:00:00Z unless it is confirmed"),
            "{text}"
        );
        let set = ChangeAnswer {
            at,
            result: End::Scheduled,
            ..answer()
        };
        assert_eq!(
            describe("flip", &set),
            "shop: blue -> green at 2026-11-28T12:00:00Z (cut-over c)"
        );
        assert_eq!(
            describe("confirm", &answer()),
            "shop: green is confirmed (cut-over c)"
        );
    }

    #[test]
    fn a_dry_run_lists_its_steps() {
        let steps = vec!["store".into(), "wait".into()];
        let dry = ChangeAnswer {
            dry_run: true,
            steps,
            ..answer()
        };
        let text = describe("flip", &dry);
        assert!(
            text.contains("nothing was changed") && text.ends_with("\n  1. store\n  2. wait"),
            "{text}"
        );
    }

    #[test]
    fn times_have_two_digits_or_so() {
        assert_eq!(
            [870, 4_250, 1_200_000].map(micros_said),
            ["870 µs", "4.2 ms", "1.2 s"]
        );
    }

    fn answer() -> ChangeAnswer {
        ChangeAnswer {
            id: Some("c".into()),
            group: "shop".into(),
            kind: Kind::Flip,
            from: "blue".into(),
            to: "green".into(),
            result: End::Switched,
            revision: 3,
            percent: None,
            store_to_settled_us: Some(4_250),
            forced: false,
            unchanged: false,
            dry_run: false,
            at: None,
            confirm_by: None,
            baked_at: None,
            steps: Vec::new(),
            warnings: Vec::new(),
        }
    }
}
