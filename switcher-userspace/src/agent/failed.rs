//! How orders fail, in words and with an exit code.

use crate::exit::{self, Exit, Failure};
use crate::release::{Outcome, Why};

/// How an order failed.
pub(super) fn failure(outcome: Outcome) -> Failure {
    let new = |exit, why: String| Failure::new(exit, "", why);
    match outcome {
        Outcome::Switched
        | Outcome::Scheduled
        | Outcome::Unchanged
        | Outcome::Kept { .. }
        | Outcome::Held
        | Outcome::Noted { .. }
        | Outcome::Stopped { .. } => new(Exit::Unexpected, "it did not fail".to_owned()),
        Outcome::Aborted => new(
            Exit::Precondition,
            "it was stopped before anything was switched".to_owned(),
        )
        .advise("`switcher history` says by whom"),
        Outcome::RolledBack { by } => new(
            Exit::RolledBack,
            format!("it was switched, and rolled back by cut-over {by}"),
        )
        .advise(format!("`switcher show {by}` says by whom and why")),
        Outcome::Unhealthy(blockers) => {
            let all = blockers
                .into_iter()
                .map(|blocker| format!("{}: {}", blocker.what, blocker.why));
            new(
                Exit::Unhealthy,
                "the target is not healthy; nothing was switched".to_owned(),
            )
            .blocked_by(all)
            .advise("repair these endpoints, or skip the check with --force, which is recorded")
        }
        Outcome::Blocked { colour, blockers } => {
            let count = blockers.len();
            let all = blockers
                .into_iter()
                .map(|blocker| format!("{}: {}", blocker.what, blocker.why));
            let why = match count {
                1 => format!("one thing keeps {colour} from being live; nothing was switched"),
                _ => format!("{count} things keep {colour} from being live; nothing was switched"),
            };
            new(Exit::Refused, why)
                .blocked_by(all)
                .advise("clear them, or skip gates and health with --force, which is recorded")
        }
        Outcome::Refused(refusal) => {
            let exit = match refusal.why {
                Why::NoSuchColour | Why::NoSuchGate => Exit::NotFound,
                Why::WhichColour => Exit::Usage,
                Why::Precondition | Why::Busy => Exit::Precondition,
                Why::NotEligible | Why::Schema => Exit::Refused,
                Why::Unconfirmed => Exit::WaitingForPerson,
                Why::Expired => Exit::RolledBack,
            };
            new(exit, refusal.detail).advise(refusal.advice)
        }
        Outcome::Failed(why) => new(Exit::Unexpected, why)
            .advise("nothing was switched; if the disk is full, `rollback` still works")
            .see(exit::DISK_FULL),
    }
}
