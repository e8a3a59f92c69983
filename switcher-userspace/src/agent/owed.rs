//! What could not be recorded of cut-overs: it has happened all the same, and is recorded once there is room.

use tracing::info;

use super::Runner;
use super::group::Group;
use crate::journal::{CutoverRecord, Outgoing};

/// What could not be recorded of a cut-over.
pub(super) struct Owed {
    record: CutoverRecord,
    /// Its group's record, too.
    with_group: bool,
    /// What others have not heard of it.
    events: Vec<Outgoing>,
    /// Why, when it was last tried.
    why: String,
}

impl Owed {
    /// What is known of it.
    pub(super) const fn record(&self) -> &CutoverRecord {
        &self.record
    }
}

impl Runner {
    /// Commits what is known of a cut-over, with its group's record if that has changed.
    pub(super) fn commit(
        &mut self,
        name: &str,
        record: &CutoverRecord,
        with_group: bool,
        events: Vec<Outgoing>,
    ) -> anyhow::Result<()> {
        let Some(group) = self.groups.get_mut(name) else {
            return Ok(());
        };
        let owed = group.all_owed(record, with_group, events);
        let known = owed.with_group.then(|| group.record());
        let written = self
            .journal
            .tell_cutover(record, known.as_ref(), &owed.events);
        if let Err(error) = &written {
            group.keep(owed, error);
        }
        written
    }

    /// Tries again, the oldest first.
    pub(super) fn record_what_is_owed(&mut self) {
        let owing = self.groups.values().filter(|it| !it.owed.is_empty());
        let owing: Vec<_> = owing.map(|it| it.name.clone()).collect();
        for name in owing {
            self.record_what_is_owed_by(&name);
        }
    }

    /// The same for one group.
    pub(super) fn record_what_is_owed_by(&mut self, name: &str) {
        let group = self.groups.get(name);
        let Some(group) = group.filter(|it| !it.owed.is_empty()) else {
            return;
        };
        let owed: Vec<_> = group.owed.values().map(|it| it.record.clone()).collect();
        for record in owed {
            let id = &record.id;
            match self.commit(name, &record, false, Vec::new()) {
                Ok(()) => info!(group = name, cutover = id, "recorded now"),
                Err(_still) => return,
            }
        }
        self.changes.send_modify(|count| *count += 1);
        self.wake_outbox(name);
    }
}

impl Group {
    /// It could not be committed.
    pub(super) fn owe(
        &mut self,
        record: &CutoverRecord,
        events: Vec<Outgoing>,
        error: &anyhow::Error,
    ) {
        let owed = self.all_owed(record, false, events);
        self.keep(owed, error);
    }

    /// This, and what was owed of the same cut-over before.
    fn all_owed(
        &mut self,
        record: &CutoverRecord,
        with_group: bool,
        events: Vec<Outgoing>,
    ) -> Owed {
        let before = self.owed.remove(&record.id);
        Owed {
            record: record.clone(),
            with_group: with_group || before.as_ref().is_some_and(|it| it.with_group),
            events: before
                .into_iter()
                .flat_map(|it| it.events)
                .chain(events)
                .collect(),
            why: String::new(),
        }
    }

    fn keep(&mut self, owed: Owed, error: &anyhow::Error) {
        let why = format!("{error:#}");
        let id = owed.record.id.clone();
        self.owed.insert(id, Owed { why, ..owed });
    }

    /// What somebody should know as long as something is not recorded.
    pub(super) fn unrecorded(&self) -> impl Iterator<Item = String> {
        self.owed.values().map(|owed| {
            format!(
                "{} -> {} ({}) could not be recorded: {}; it is tried again every few seconds; if this host starts \
                 anew before that, the agent goes by what was recorded before",
                owed.record.from, owed.record.to, owed.record.id, owed.why
            )
        })
    }
}
