//! What stands in front of everything else until somebody has decided.

use super::model::{Change, Verb};
use crate::exit::Failure;

/// What is in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialog {
    /// What keys mean.
    Help,
    /// A change that somebody may want, and how far that has come.
    Change(Change, Step),
}

/// How far a change has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The agent is asked what it would do.
    Asked,
    /// This, in order; somebody has to decide.
    Foreseen(Vec<String>),
    /// Nothing: this colour is live already.
    Needless(String),
    /// It is being made.
    Made,
    /// It can't be made.
    Refused(Failure),
}

/// How a line of a dialog looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Bad,
    Keys,
}

const HELP: [&str; 9] = [
    "up, down, k, j   another group",
    "f                flip to the other colour",
    "r                roll back to the previous one",
    "c                confirm a flip that would undo itself",
    "a                abort what is going on",
    "q, Esc           leave; nothing is changed",
    "",
    "A change is first tried without making it. You see what it",
    "would do, or what is in its way, and decide.",
];

impl Dialog {
    pub(super) fn title(&self) -> String {
        match self {
            Self::Help => "keys".to_owned(),
            Self::Change(Change { verb, group, .. }, _) => match verb {
                Verb::Flip => format!("flip {group}?"),
                Verb::Rollback => format!("roll {group} back?"),
                Verb::Confirm => format!("confirm the flip of {group}?"),
                Verb::Abort => format!("abort what {group} is at?"),
            },
        }
    }

    /// What it says, before lines are wrapped, and the keys that it takes.
    pub(super) fn lines(&self) -> Vec<(Tone, String)> {
        let (mut lines, keys) = match self {
            Self::Help => (
                HELP.map(|it| (Tone::Plain, it.to_owned())).to_vec(),
                "Esc: back",
            ),
            Self::Change(change, step) => match step {
                Step::Asked => (said("the agent is asked what it would do …"), "Esc: back"),
                Step::Made => (said("under way …"), "Esc: leave it to the agent"),
                Step::Needless(colour) => (
                    said(&format!("Nothing to do: {colour} is live.")),
                    "Esc: back",
                ),
                Step::Foreseen(steps) => (foreseen(change.verb, steps), "y: do it   n, Esc: back"),
                Step::Refused(failure) => (refused(failure), "Esc: back"),
            },
        };
        lines.push((Tone::Plain, String::new()));
        lines.push((Tone::Keys, keys.to_owned()));
        lines
    }
}

fn said(line: &str) -> Vec<(Tone, String)> {
    vec![(Tone::Plain, line.to_owned())]
}

fn foreseen(verb: Verb, steps: &[String]) -> Vec<(Tone, String)> {
    if steps.is_empty() {
        return said(match verb {
            Verb::Confirm => "The new colour stays.",
            Verb::Abort => "What is going on is stopped.",
            Verb::Flip | Verb::Rollback => "Nothing stands in its way.",
        });
    }
    let mut lines = said("Nothing stands in its way. This will be done:");
    let steps = steps.iter().enumerate();
    lines.extend(steps.map(|(index, step)| (Tone::Plain, format!("{:>2}. {step}", index + 1))));
    lines
}

fn refused(failure: &Failure) -> Vec<(Tone, String)> {
    let mut lines = vec![(Tone::Bad, format!("No: {}", failure.why))];
    let blockers = failure.blockers.iter();
    lines.extend(blockers.map(|it| (Tone::Bad, format!(" - {it}"))));
    if !failure.advice.is_empty() {
        lines.push((Tone::Plain, failure.advice.clone()));
    }
    lines
}
