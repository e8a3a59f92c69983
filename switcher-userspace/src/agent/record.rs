//! What is recorded of a cut-over, and told.

use jiff::Timestamp;
use tracing::{info, warn};

use super::Runner;
use super::{bake, hooks, outbox};
use crate::journal::{self, CutoverRecord, Outgoing, Who};
use crate::release::{Cutover, End, Kind, Left, Record, Releases, Stage, Verdict};

impl Runner {
    /// Records what has become of a cut-over, together with what is told of it.
    pub(super) fn record(&mut self, name: &str, record: Record) {
        let written = match record {
            Record::Switched { id } => self.switched(name, &id),
            Record::Ended { id, end, leftovers } => self.ended(name, &id, (end, leftovers)),
            Record::Drained {
                id,
                colour,
                leftovers,
            } => self.note_drained(name, &id, &colour, leftovers),
            Record::Found { cutover, left } => self.found(name, &cutover, left),
            Record::Confirmed { id } => self.confirmed(name, &id),
            Record::Extended { id } => self.extended(name, &id),
            Record::Bake { id, verdict, why } => {
                self.amend(name, &id, |record| bake::note(record, verdict, &why))
            }
            Record::Hooked { id } => self.amend(name, &id, |record| record.undecided = false),
        };
        if let Err(error) = written {
            warn!(group = name, "{error:#}");
        }
        self.wake_outbox(name);
    }

    /// Its colour is live, on every CPU.
    fn switched(&mut self, name: &str, id: &str) -> anyhow::Result<()> {
        self.note_live(name, id);
        let Some(group) = self.groups.get_mut(name) else {
            return Ok(());
        };
        let Some(record) = group.records.get_mut(id) else {
            return Ok(());
        };
        let now = Timestamp::now();
        let window = group.state.window();
        if let Some(bake) = &mut record.receipt.bake {
            let watched = window.and_then(|window| window.bake);
            bake.until = watched.map(|it| self.clock.wall(it.until));
        }
        record.stage = journal::Stage::Draining;
        record.result = Some(End::Switched);
        record.revision = Some(group.state.revision);
        record.stored = record.stored.or(Some(now));
        record.settled = record.settled.or(Some(now));
        let by = group.state.confirm_by();
        record.confirm_by = by.map(|by| self.clock.wall(by));
        record.undecided = window.is_some_and(|it| it.hooks);
        if let Some(window) = window {
            record.receipt.left.clone_from(&window.left);
        }
        info!(
            group = name,
            cutover = id,
            settled_us = record.store_to_settled_us,
            "{} is live",
            record.to
        );
        if record.from != record.to && record.to == group.state.live {
            group.since = record.stored.unwrap_or(now);
            group.by.clone_from(&record.actor);
        }
        let record = record.clone();
        let events = self.events(name, &record, &[outbox::switched(record.kind)]);
        let written = self.commit(name, &record, true, events);
        if record.receipt.bake.is_some() || record.receipt.policy {
            self.begin_bake(name, &record.to);
        }
        written
    }

    /// It is over.
    fn ended(&mut self, name: &str, id: &str, (end, leftovers): (End, u64)) -> anyhow::Result<()> {
        self.note_ended(name, id);
        let Some(group) = self.groups.get_mut(name) else {
            return Ok(());
        };
        let Some(mut record) = group.records.remove(id) else {
            return Ok(());
        };
        // A deadline that took flows has begun an epoch. While the next switch is made, its record has all.
        let calm = group.state.stage == Stage::Idle;
        record.stage = journal::Stage::Ended;
        record.result = Some(end);
        record.ended = Some(Timestamp::now());
        record.leftovers = leftovers;
        record.receipt.left.clear();
        if let Some(bake) = &mut record.receipt.bake
            && bake.verdict == Verdict::Watching
        {
            bake.verdict = Verdict::Ended;
        }
        record.undecided = false;
        self.meters.ended(&record);
        let events = self.events(name, &record, &outbox::ended(&record, end));
        info!(
            group = name,
            cutover = id,
            leftovers,
            "{} -> {}: {}",
            record.from,
            record.to,
            end.name()
        );
        self.commit(name, &record, calm, events)
    }

    /// It was made without the agent.
    fn found(&mut self, name: &str, cutover: &Cutover, left: Left) -> anyhow::Result<()> {
        let Some(group) = self.groups.get_mut(name) else {
            return Ok(());
        };
        let now = Timestamp::now();
        let mut record = CutoverRecord::new(name, cutover, by_itself(cutover), now);
        record.stage = journal::Stage::Draining;
        record.result = Some(End::Switched);
        record.revision = Some(group.state.revision);
        record.receipt.left = left;
        warn!(
            group = name,
            cutover = cutover.id,
            "{cutover}: found, adopted"
        );
        group.since = now;
        group.by.clone_from(&record.actor);
        group.records.insert(cutover.id.clone(), record.clone());
        let events = self.events(name, &record, &[outbox::switched(record.kind)]);
        self.commit(name, &record, true, events)
    }

    /// It stays.
    fn confirmed(&mut self, name: &str, id: &str) -> anyhow::Result<()> {
        let known = self.groups.get_mut(name);
        let Some(record) = known.and_then(|group| group.records.get_mut(id)) else {
            return Ok(());
        };
        record.confirmed = Some(Timestamp::now());
        info!(group = name, cutover = id, "{} is confirmed", record.to);
        let record = record.clone();
        let events = self.events(name, &record, &["confirmed"]);
        self.commit(name, &record, false, events)
    }

    /// Somebody has more time to confirm it.
    fn extended(&mut self, name: &str, id: &str) -> anyhow::Result<()> {
        let known = self.groups.get(name);
        let by = known.and_then(|group| group.state.confirm_by());
        let by = by.map(|by| self.clock.wall(by));
        let until = by.map(|by| by.to_string());
        info!(group = name, cutover = id, until, "prolonged");
        self.amend(name, id, |record| record.confirm_by = by)
    }

    /// Its record is another one, and nobody hears of it.
    fn amend(
        &mut self,
        name: &str,
        id: &str,
        change: impl FnOnce(&mut CutoverRecord),
    ) -> anyhow::Result<()> {
        let known = self.groups.get_mut(name);
        let Some(record) = known.and_then(|group| group.records.get_mut(id)) else {
            return Ok(());
        };
        change(record);
        let record = record.clone();
        self.commit(name, &record, false, Vec::new())
    }

    /// What others hear of a cut-over. It has happened, recorded or not.
    fn events(&mut self, name: &str, record: &CutoverRecord, events: &[&str]) -> Vec<Outgoing> {
        let releases = match self.groups.get(name) {
            Some(group) => &group.state.releases,
            None => &Releases::default(),
        };
        let told = |event: &&str| hooks::told(record, event, releases, &self.host);
        let occasions: Vec<_> = events.iter().map(told).collect();
        let outgoing = outbox::outgoing(&self.config, &occasions);
        self.told.occasions.extend(occasions);
        outgoing
    }
}

/// Who is behind a cut-over that nobody ordered.
pub(super) fn by_itself(cutover: &Cutover) -> Who {
    let (actor, reason) = match cutover.kind {
        Kind::Rollback => ("the kernel", Some("it was not confirmed")),
        Kind::Flip | Kind::Update | Kind::Canary | Kind::Emergency => {
            ("somebody, without the agent", None)
        }
    };
    Who {
        actor: actor.to_owned(),
        reason: reason.map(ToOwned::to_owned),
    }
}
