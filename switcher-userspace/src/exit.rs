//! How a command ends: exit codes that scripts rely on, and failures in full.

use std::fmt::{self, Display, Formatter};
use std::io;

use nix::errno::Errno;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::config;

/// Exit codes: a promise to scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Done, and the kernel shows the state asked for.
    Done = 0,
    /// Unexpected error.
    Unexpected = 1,
    /// Usage, or invalid configuration.
    Usage = 2,
    /// No such group, colour or cut-over.
    NotFound = 3,
    /// Revision or live colour is another one, or something else is in progress.
    Precondition = 4,
    /// Refused by policy.
    Refused = 5,
    /// The target is not healthy.
    Unhealthy = 6,
    /// It was carried out and then rolled back.
    RolledBack = 7,
    /// Timed out; it may still be going on.
    TimedOut = 8,
    /// The agent is not reachable.
    Unreachable = 9,
    /// Waiting for a person.
    WaitingForPerson = 10,
    /// Differences found.
    Differences = 11,
    /// Some hosts did not apply.
    Partial = 12,
    /// Not permitted.
    NotPermitted = 13,
}

/// What `title`, `type` and HTTP status say of each code, in the order of the codes.
const MEANINGS: [(Exit, &str, &str, u16); 14] = [
    (Exit::Done, "done", "done", 200),
    (Exit::Unexpected, "unexpected", "unexpected error", 500),
    (Exit::Usage, "invalid", "invalid input", 422),
    (Exit::NotFound, "not-found", "no such thing", 404),
    (
        Exit::Precondition,
        "precondition",
        "precondition failed",
        412,
    ),
    (Exit::Refused, "refused", "refused by policy", 403),
    (Exit::Unhealthy, "unhealthy", "target not healthy", 409),
    (
        Exit::RolledBack,
        "rolled-back",
        "carried out, then rolled back",
        409,
    ),
    (
        Exit::TimedOut,
        "timed-out",
        "timed out; it may still be going on",
        504,
    ),
    (Exit::Unreachable, "unreachable", "agent not reachable", 503),
    (
        Exit::WaitingForPerson,
        "waiting",
        "waiting for a person",
        409,
    ),
    (Exit::Differences, "differences", "differences found", 409),
    (
        Exit::Partial,
        "partial",
        "some hosts did not apply (not used yet)",
        502,
    ),
    (Exit::NotPermitted, "not-permitted", "not permitted", 403),
];

impl Exit {
    /// The number that a shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The exit of a number, if it is one of ours.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        MEANINGS.get(usize::from(code)).map(|(exit, ..)| *exit)
    }

    /// A word for it: the end of a problem's `type`.
    #[must_use]
    pub const fn slug(self) -> &'static str {
        MEANINGS[self as usize].1
    }

    /// What it means, in a few words.
    #[must_use]
    pub const fn title(self) -> &'static str {
        MEANINGS[self as usize].2
    }

    /// The page for who ends with it, in the project's tree; none if its words say enough.
    #[must_use]
    pub const fn page(self) -> Option<&'static str> {
        match self {
            Self::Done | Self::Unexpected | Self::Usage | Self::NotFound | Self::Partial => None,
            Self::Precondition => Some("docs/runbook.md#something-else-came-first"),
            Self::Refused => Some("docs/runbook.md#a-command-is-refused"),
            Self::Unhealthy => Some("docs/runbook.md#a-colour-is-not-healthy"),
            Self::RolledBack => Some("docs/runbook.md#a-flip-went-back"),
            Self::TimedOut => Some("docs/runbook.md#it-takes-too-long"),
            Self::Unreachable => Some("docs/runbook.md#the-agent-does-not-answer"),
            Self::WaitingForPerson => Some("docs/runbook.md#it-waits-for-somebody"),
            Self::Differences => Some("docs/runbook.md#drift"),
            Self::NotPermitted => Some("docs/security.md#who-may-do-what"),
        }
    }

    /// The HTTP status that goes with it, where nothing more exact is known.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        MEANINGS[self as usize].3
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// Why a command failed: what was tried, why it failed, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// What was tried, such as `flip shop to green`.
    pub tried: String,
    /// Why it failed.
    pub why: String,
    /// What to do about it; may be empty.
    pub advice: String,
    /// What stands in the way, one by one; may be empty.
    pub blockers: Vec<String>,
    /// The page about it, where that is another one than its exit code's.
    pub see: Option<&'static str>,
}

/// What to do when there is no room in the state directory.
pub const DISK_FULL: &str = "docs/runbook.md#the-disk-is-full";
/// What to do when the state file can't be read.
pub const STATE_DAMAGED: &str = "docs/runbook.md#a-state-file-is-damaged";
/// What to do when an interface is not there.
pub const NO_INTERFACE: &str = "docs/runbook.md#an-interface-has-gone";
/// What becomes of other programs on the same hooks.
pub const FOREIGN_PROGRAM: &str = "docs/coexistence.md";
/// Pages of failures that are not their exit code's.
pub const PAGES: [&str; 5] = [
    DISK_FULL,
    STATE_DAMAGED,
    NO_INTERFACE,
    FOREIGN_PROGRAM,
    config::PAGE,
];

/// An error that a page is about.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Documented {
    /// The error.
    pub what: String,
    /// The page.
    pub page: &'static str,
}

/// A failure as RFC 9457 describes it, with fields of our own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Which kind of problem, as a URI.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind, in a few words.
    pub title: String,
    /// The HTTP status, or the one that would go with it.
    pub status: u16,
    /// Why it failed.
    pub detail: String,
    /// What was tried.
    #[serde(default)]
    pub tried: String,
    /// What to do about it.
    #[serde(default)]
    pub advice: String,
    /// What stands in the way, one by one.
    #[serde(default)]
    pub blockers: Vec<String>,
    /// The exit code of the command line.
    pub exit_code: u8,
    /// The page that helps, in the project's tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub see: Option<String>,
}

impl Failure {
    /// A failure without advice and blockers.
    pub fn new(exit: Exit, tried: impl Into<String>, why: impl Into<String>) -> Self {
        let (tried, why) = (tried.into(), why.into());
        Self {
            exit,
            tried,
            why,
            advice: String::new(),
            blockers: Vec::new(),
            see: None,
        }
    }

    /// Names the page about it.
    #[must_use]
    pub const fn see(mut self, page: &'static str) -> Self {
        self.see = Some(page);
        self
    }

    /// The page that helps, in the project's tree; none if its words say enough.
    #[must_use]
    pub fn page(&self) -> Option<&'static str> {
        self.see.or(self.exit.page())
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    /// Adds what stands in the way.
    #[must_use]
    pub fn blocked_by(mut self, blockers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.blockers.extend(blockers.into_iter().map(Into::into));
        self
    }

    /// The failure for scripts.
    #[must_use]
    pub fn problem(&self) -> Problem {
        Problem {
            kind: format!("{PROBLEM_TYPE}{}", self.exit.slug()),
            title: self.exit.title().to_owned(),
            status: self.exit.http_status(),
            detail: self.why.clone(),
            tried: self.tried.clone(),
            advice: self.advice.clone(),
            blockers: self.blockers.clone(),
            exit_code: self.exit.code(),
            see: self.page().map(str::to_owned),
        }
    }
}

/// What a problem's `type` begins with.
const PROBLEM_TYPE: &str = "urn:switcher:problem:";

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let Problem {
            detail,
            tried,
            advice,
            blockers,
            exit_code,
            see,
            ..
        } = problem;
        let exit = Exit::from_code(exit_code).unwrap_or(Exit::Unexpected);
        Self {
            see: PAGES.into_iter().find(|page| see.as_deref() == Some(page)),
            exit,
            tried,
            why: detail,
            advice,
            blockers,
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.tried.is_empty() {
            write!(f, "{}: ", self.tried)?;
        }
        f.write_str(&self.why)?;
        for blocker in &self.blockers {
            write!(f, "\n  - {blocker}")?;
        }
        if !self.advice.is_empty() {
            write!(f, "\n{}", self.advice)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

impl From<anyhow::Error> for Failure {
    /// A failure that passed through anyhow keeps its exit code. What the kernel does not permit is told
    /// apart; everything else is unexpected. What is behind it may have a page.
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(failure) => failure,
            Err(error) => {
                let denied = error.chain().any(is_denied);
                let exit = if denied {
                    Exit::NotPermitted
                } else {
                    Exit::Unexpected
                };
                Self {
                    see: page(&error),
                    ..Self::new(exit, "", format!("{error:#}"))
                }
            }
        }
    }
}

/// The page about an error, by what is behind it.
fn page(error: &anyhow::Error) -> Option<&'static str> {
    let documented = error.downcast_ref().map(|it: &Documented| it.page);
    documented.or_else(|| error.chain().find_map(page_of_cause))
}

fn page_of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    use rusqlite::ErrorCode::{DatabaseCorrupt, DiskFull, NotADatabase};

    let state: Option<&rusqlite::Error> = cause.downcast_ref();
    let kind = cause.downcast_ref().map(io::Error::kind);
    match state.and_then(rusqlite::Error::sqlite_error_code) {
        Some(DatabaseCorrupt | NotADatabase) => Some(STATE_DAMAGED),
        Some(DiskFull) => Some(DISK_FULL),
        _ if kind == Some(io::ErrorKind::StorageFull) => Some(DISK_FULL),
        _ => None,
    }
}

fn is_denied(cause: &(dyn std::error::Error + 'static)) -> bool {
    let kind = cause.downcast_ref().map(io::Error::kind);
    kind == Some(io::ErrorKind::PermissionDenied)
        || matches!(cause.downcast_ref(), Some(Errno::EPERM | Errno::EACCES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Journal;

    #[test]
    fn meanings_are_in_the_order_of_codes() {
        for (index, (exit, ..)) in MEANINGS.iter().enumerate() {
            assert_eq!(usize::from(exit.code()), index);
        }
        assert_eq!(Exit::from_code(13), Some(Exit::NotPermitted));
        assert_eq!(Exit::from_code(14), None);
    }

    #[test]
    fn people_read_what_was_tried_why_it_failed_and_what_to_do() {
        assert_eq!(
            failure().to_string(),
            "flip shop to green: 1 of 2 endpoints fails\n  - web 10.0.0.2:80: refused\nrepair it, \
             or use --force"
        );
    }

    #[test]
    fn scripts_get_a_problem_that_turns_back_into_the_failure() {
        let json = serde_json::to_value(failure().problem()).expect("a problem is JSON");
        assert_eq!(json["type"], "urn:switcher:problem:unhealthy");
        assert_eq!(json["title"], "target not healthy");
        assert_eq!(json["status"], 409);
        assert_eq!(json["detail"], "1 of 2 endpoints fails");
        assert_eq!(json["blockers"][0], "web 10.0.0.2:80: refused");
        assert_eq!(json["see"], "docs/runbook.md#a-colour-is-not-healthy");
        let problem: Problem = serde_json::from_value(json).expect("JSON is a problem");
        assert_eq!(Failure::from(problem), failure());
    }

    #[test]
    fn a_failure_keeps_its_code_through_anyhow() {
        let error = anyhow::Error::new(failure()).context("in the client");
        assert_eq!(Failure::from(error).exit, Exit::Unhealthy);
        let other = Failure::from(anyhow::anyhow!("no space").context("write"));
        assert_eq!(
            (other.exit, other.why.as_str()),
            (Exit::Unexpected, "write: no space")
        );
    }

    #[test]
    fn what_the_kernel_does_not_permit_has_its_own_code() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = anyhow::Error::new(denied).context("make a map");
        assert_eq!(Failure::from(error).exit, Exit::NotPermitted);
        let error = anyhow::Error::new(Errno::EPERM).context("mount");
        assert_eq!(Failure::from(error).exit, Exit::NotPermitted);
    }

    #[test]
    fn what_has_a_page_of_its_own_names_it() {
        let page = |error: anyhow::Error| {
            let failure = Failure::from(error.context("start the agent"));
            assert_eq!(failure.exit, Exit::Unexpected);
            // Also by way of the API.
            assert_eq!(Failure::from(failure.problem()), failure);
            failure.page()
        };
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join(crate::journal::FILE);
        std::fs::write(file, "x".repeat(4096)).expect("written");
        let damaged = Journal::open(directory.path()).err().expect("is damaged");
        assert_eq!(page(damaged), Some(STATE_DAMAGED));

        let directory = tempfile::tempdir().expect("a directory");
        let small = rusqlite::Connection::open(directory.path().join("db")).expect("opens");
        small
            .pragma_update(None, "max_page_count", 1)
            .expect("is set");
        let full = small.execute_batch("CREATE TABLE a (b); CREATE TABLE c (d)");
        let full = anyhow::Error::new(full.expect_err("has no room"));
        assert_eq!(page(full), Some(DISK_FULL));
        let full = io::Error::from_raw_os_error(libc::ENOSPC);
        assert_eq!(page(full.into()), Some(DISK_FULL));
        assert_eq!(page(anyhow::anyhow!("odd")), None);
    }

    fn failure() -> Failure {
        Failure::new(
            Exit::Unhealthy,
            "flip shop to green",
            "1 of 2 endpoints fails",
        )
        .blocked_by(["web 10.0.0.2:80: refused"])
        .advise("repair it, or use --force")
    }
}
