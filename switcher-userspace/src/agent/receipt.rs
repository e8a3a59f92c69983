//! What is kept of a cut-over for afterwards: who let it through, and what traffic made of it.

use std::time::Duration;

use jiff::Timestamp;
use switcher_common::abi::Counters;
use switcher_common::word::Word;
use tracing::info;

use super::Runner;
use super::group::{Activity, Group};
use super::hooks::drained;
use super::outbox::outgoing;
use crate::health::Verdict;
use crate::journal::{ColourTraffic, GateRecord, Receipt, Totals};
use crate::release::{self, Blocker, Cutover, Kind, Left, Stage, Window};

/// How long counters serve that were read for the cut-over that comes next.
const SERVES: Duration = Duration::from_millis(100);

impl Runner {
    /// Before the store.
    pub(super) fn receipt(&mut self, name: &str, cutover: &Cutover) -> Receipt {
        self.sample_of(Some(name));
        let bake = self.bake_record(name, cutover);
        let Some(group) = self.groups.get(name) else {
            return Receipt::default();
        };
        let asked = matches!(cutover.kind, Kind::Flip | Kind::Canary);
        let at = cutover.terms.at.unwrap_or_else(|| self.clock.now());
        let gate = |passed: bool| {
            move |it: Blocker| GateRecord {
                what: it.what,
                passed,
                why: it.why,
            }
        };
        let mut gates = Vec::new();
        if asked {
            let passed = release::passed(&group.state, &cutover.to, at);
            gates.extend(passed.into_iter().map(gate(true)));
            let skipped = release::blockers(&group.state, &cutover.to, at);
            gates.extend(skipped.into_iter().map(gate(false)));
        }
        let traffic = group.activity.iter().map(|(colour, activity)| {
            let before = activity.totals();
            let traffic = ColourTraffic {
                before,
                after: before,
            };
            (colour.clone(), traffic)
        });
        let left = match &group.state.stage {
            Stage::Preparing(preparing) => preparing.left.clone(),
            Stage::Idle
            | Stage::Switching(_)
            | Stage::Confirming(_)
            | Stage::Baking(_)
            | Stage::Draining(_) => Left::new(),
        };
        Receipt {
            left,
            bake,
            policy: cutover.terms.policy,
            drill: self.drill_record(&cutover.terms),
            trace_id: self.traces.id(&cutover.id),
            word_before: Some(word(group.state.word)),
            gates,
            traffic: traffic.collect(),
            ..Receipt::default()
        }
    }

    /// Its colour is live.
    pub(super) fn note_live(&mut self, name: &str, id: &str) {
        let Some((group, record)) = self
            .groups
            .get(name)
            .and_then(|group| Some((group, group.records.get(id)?)))
        else {
            return;
        };
        let asked = matches!(record.kind, Kind::Flip | Kind::Canary);
        let health = asked.then(|| self.asked_health(group, &record.to, record.forced));
        let after = word(group.state.word);
        let record = self.groups.get_mut(name);
        if let Some(record) = record.and_then(|group| group.records.get_mut(id)) {
            record.receipt.word_after = Some(after);
            record.receipt.gates.extend(health);
        }
    }

    fn asked_health(&self, group: &Group, to: &str, forced: bool) -> GateRecord {
        let endpoints = self.config.groups.get(&group.name).map_or(0, |config| {
            let services = config.services.values();
            let endpoints = services.filter_map(|it| it.endpoints.get(to));
            endpoints.map(Vec::len).sum()
        });
        let health = |passed, why| GateRecord {
            what: "health".to_owned(),
            passed,
            why,
        };
        match self.health.verdict(&group.name, to) {
            Verdict::Healthy if self.health.passing(&group.name, to).is_none() => {
                health(true, "nobody asks".to_owned())
            }
            Verdict::Healthy => health(true, format!("all of {endpoints} endpoints")),
            // It was passed when the switch was set, and is finished by an agent that has asked nobody yet.
            Verdict::Unknown(_) if !forced => health(true, "before this agent began".to_owned()),
            Verdict::Unhealthy(blockers) | Verdict::Unknown(blockers) => {
                let all = blockers.iter().map(|it| format!("{}: {}", it.what, it.why));
                health(false, all.collect::<Vec<_>>().join("; "))
            }
        }
    }

    /// A colour that it has left has no flows any more, or none that are waited for.
    pub(super) fn note_drained(
        &mut self,
        name: &str,
        id: &str,
        colour: &str,
        leftovers: u64,
    ) -> anyhow::Result<()> {
        let record = self.record_of(name, id);
        let Some(group) = self.groups.get_mut(name) else {
            return Ok(());
        };
        info!(
            group = name,
            cutover = id,
            leftovers,
            "{colour} has drained"
        );
        let Some(mut record) = record else {
            // Nobody knows by what it was left.
            return Ok(());
        };
        if record.from == colour {
            record.receipt.drained = Some(Timestamp::now());
            record.leftovers = record.leftovers.max(leftovers);
        }
        // Only this one: others may have drained as well, and are recorded one after the other.
        record.receipt.left.remove(colour);
        let mut window = None;
        if let Some(Window { cutover, .. }) = group.state.window()
            && cutover.id != id
            && let Some(current) = group.records.get_mut(&cutover.id)
        {
            current.receipt.left.remove(colour);
            window = Some(current.clone());
        }
        if let Some(known) = group.records.get_mut(id) {
            known.clone_from(&record);
        }
        let occasion = drained(&record, colour, &group.state.releases, &self.host);
        let events = outgoing(&self.config, std::slice::from_ref(&occasion));
        self.told.occasions.push(occasion);
        let told = (&record, colour);
        let written = self.journal.tell_drained(told, window.as_ref(), &events);
        if let Err(error) = &written {
            group.owe(&record, events, error);
            if let Some(current) = &window {
                group.owe(current, Vec::new(), error);
            }
        }
        written
    }

    /// It is over.
    pub(super) fn note_ended(&mut self, name: &str, id: &str) {
        // What takes its place may just have looked, and begins where this ends.
        let looked = self.groups.get(name).is_some_and(|group| {
            let replaced = group.state.cutover().is_some_and(|it| it.id != id);
            replaced && group.sampled.is_some_and(|at| at.elapsed() < SERVES)
        });
        if !looked {
            self.sample_of(Some(name));
        }
        let Some(group) = self.groups.get_mut(name) else {
            return;
        };
        let Some(record) = group.records.get_mut(id) else {
            return;
        };
        let receipt = &mut record.receipt;
        for (colour, traffic) in &mut receipt.traffic {
            if let Some(activity) = group.activity.get(colour) {
                traffic.after = activity.totals();
            }
        }
        if record.result.is_none() || record.from == record.to {
            return;
        }
        receipt.first_packet_at = group.first_packet.filter(|at| record.stored <= Some(*at));
        let old = group.activity.get(&record.from);
        receipt.last_packet_to_old_at = old.and_then(|it| it.last_packet);
    }
}

impl Activity {
    /// For the record.
    pub(super) fn totals(&self) -> Totals {
        let Counters {
            packets,
            bytes,
            connections,
            resets,
            answers: _,
        } = self.counters;
        Totals {
            packets,
            bytes,
            connections,
            resets,
            failed: self.tcp.connections.saturating_sub(self.tcp.answers),
        }
    }
}

fn word(word: Word) -> String {
    format!("{:#018x}", word.0)
}
