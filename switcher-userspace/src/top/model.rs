//! What is shown, and what keys make of it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::dialog::{Dialog, Step};
use super::series::Series;
use crate::api::model::{ChangeAnswer, GroupStatus, Status};
use crate::exit::Failure;
use crate::journal::CutoverRecord;

/// What the agent has said at one time.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When, since some moment in the past; never goes back.
    pub at: Duration,
    /// When, by the wall clock.
    pub wall: Timestamp,
    /// Itself and its groups.
    pub status: Status,
    /// The latest cut-overs, the newest first.
    pub cutovers: Vec<CutoverRecord>,
}

/// What somebody can do to a group from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// To the other colour.
    Flip,
    /// To the previous one.
    Rollback,
    /// Keep what would undo itself.
    Confirm,
    /// Stop what is going on.
    Abort,
}

/// A change that somebody may want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What.
    pub verb: Verb,
    /// Of which group,
    pub group: String,
    /// as it was when they looked.
    pub revision: u64,
}

/// What a key asks of whoever has the agent and the terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// What would become of a change?
    Foresee(Change),
    /// Make it.
    Make(Change),
    /// The end.
    Quit,
}

/// Keys that mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A letter or sign.
    Char(char),
    /// To the group above.
    Up,
    /// To the group below.
    Down,
    /// Away with it.
    Escape,
}

/// Everything there is to show.
#[derive(Clone, Debug, Default)]
pub struct Top {
    pub(super) last: Option<Sample>,
    /// By group, by colour: packets, and connections.
    pub(super) traffic: BTreeMap<String, BTreeMap<String, (Series, Series)>>,
    /// The group that keys concern.
    pub(super) selected: Option<String>,
    pub(super) dialog: Option<Dialog>,
    /// Why nothing new comes.
    pub(super) trouble: Option<Failure>,
    /// How the last change came out.
    pub(super) said: Option<Result<String, String>>,
}

impl Verb {
    /// As the API and the command line call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flip => "flip",
            Self::Rollback => "rollback",
            Self::Confirm => "confirm",
            Self::Abort => "abort",
        }
    }

    const fn of(key: char) -> Option<Self> {
        Some(match key {
            'f' => Self::Flip,
            'r' => Self::Rollback,
            'c' => Self::Confirm,
            'a' => Self::Abort,
            _ => return None,
        })
    }
}

impl Top {
    /// The agent has answered.
    pub fn take(&mut self, sample: Sample) {
        for group in &sample.status.groups {
            let colours = self.traffic.entry(group.name.clone()).or_default();
            for (name, colour) in &group.colours {
                let (packets, connections) = colours.entry(name.clone()).or_default();
                packets.read(sample.at, colour.packets);
                connections.read(sample.at, colour.connections);
            }
        }
        let known = |name: &String| sample.status.groups.iter().any(|it| it.name == *name);
        if !self.selected.as_ref().is_some_and(known) {
            self.selected = sample.status.groups.first().map(|it| it.name.clone());
        }
        (self.last, self.trouble) = (Some(sample), None);
    }

    /// The agent can't be asked.
    pub fn lose(&mut self, why: Failure) {
        self.trouble = Some(why);
    }

    /// What a change would do, or why it can't be made.
    pub fn foreseen(&mut self, change: &Change, answer: Result<ChangeAnswer, Failure>) {
        let step = match answer {
            Ok(answer) if answer.unchanged && change.verb != Verb::Abort => {
                Step::Needless(answer.to)
            }
            Ok(answer) => Step::Foreseen(answer.steps),
            Err(failure) => Step::Refused(failure),
        };
        self.step(change, step);
    }

    /// How a change came out: a line, or why it was not made.
    pub fn made(&mut self, change: &Change, answer: Result<String, Failure>) {
        match answer {
            Ok(line) => {
                self.said = Some(Ok(line));
                if self.is_asked(change) {
                    self.dialog = None;
                }
            }
            Err(failure) if self.is_asked(change) => self.step(change, Step::Refused(failure)),
            Err(failure) => self.said = Some(Err(failure.to_string())),
        }
    }

    /// What a key means.
    pub fn press(&mut self, key: Key) -> Option<Ask> {
        if let Some(dialog) = self.dialog.take() {
            return self.decide(dialog, key);
        }
        match key {
            Key::Char('q') | Key::Escape => return Some(Ask::Quit),
            Key::Char('?' | 'h') => self.dialog = Some(Dialog::Help),
            Key::Up | Key::Char('k') => self.select(-1),
            Key::Down | Key::Char('j') => self.select(1),
            Key::Char(letter) => {
                let change = self.change(Verb::of(letter)?)?;
                self.said = None;
                self.dialog = Some(Dialog::Change(change.clone(), Step::Asked));
                return Some(Ask::Foresee(change));
            }
        }
        None
    }

    fn decide(&mut self, dialog: Dialog, key: Key) -> Option<Ask> {
        match (dialog, key) {
            (Dialog::Change(change, Step::Foreseen(_)), Key::Char('y')) => {
                self.dialog = Some(Dialog::Change(change.clone(), Step::Made));
                Some(Ask::Make(change))
            }
            (_, Key::Escape | Key::Char('n' | 'q')) | (Dialog::Help, _) => None,
            (dialog, _) => {
                self.dialog = Some(dialog);
                None
            }
        }
    }

    fn step(&mut self, wanted: &Change, to: Step) {
        if let Some(Dialog::Change(change, step)) = &mut self.dialog
            && change == wanted
        {
            *step = to;
        }
    }

    fn is_asked(&self, wanted: &Change) -> bool {
        matches!(&self.dialog, Some(Dialog::Change(change, _)) if change == wanted)
    }

    fn change(&self, verb: Verb) -> Option<Change> {
        let group = self.group()?;
        Some(Change {
            verb,
            group: group.name.clone(),
            revision: group.revision,
        })
    }

    fn select(&mut self, by: isize) {
        let groups = self.groups();
        let Some(at) = self.at() else {
            return;
        };
        let next = at.saturating_add_signed(by).min(groups.len() - 1);
        self.selected = Some(groups[next].name.clone());
    }

    pub(super) fn groups(&self) -> &[GroupStatus] {
        self.last.as_ref().map_or(&[], |it| &it.status.groups)
    }

    /// Where in the list the selected group is.
    pub(super) fn at(&self) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        self.groups().iter().position(|it| it.name == *selected)
    }

    pub(super) fn group(&self) -> Option<&GroupStatus> {
        self.groups().get(self.at()?)
    }

    /// Packets, and connections, of a colour.
    pub(super) fn series(&self, group: &str, colour: &str) -> Option<&(Series, Series)> {
        self.traffic.get(group)?.get(colour)
    }
}
