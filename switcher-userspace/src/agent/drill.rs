//! Drills: a flip that the kernel undoes after a while, and what was lost by it.
//!
//! A drill is a flip to be confirmed, which nobody confirms, so it comes back without an agent, too. What it
//! cost is counted from before the flip until it is back.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tracing::{info, warn};

use super::Runner;
use super::terms::duration;
use crate::api::model::ChangeRequest;
use crate::exit::{Exit, Failure};
use crate::health::Verdict as Health;
use crate::journal::{CutoverRecord, DrillRecord, DrillVerdict, Loss};
use crate::release::{Bake, DEFAULT_BAKE, End, Stage, Terms, Verdict};

/// How long the other colour is live if nobody says.
const TIME: Duration = Duration::from_secs(10);

impl Runner {
    /// The terms of a drill, or why there can be none.
    pub(super) fn drill(&self, name: &str, request: &ChangeRequest) -> Result<Terms, Failure> {
        let time = match &request.duration {
            Some(text) => duration("for", text)?,
            None => TIME,
        };
        let group = self.group(name)?;
        let state = &group.state;
        if state.stage != Stage::Idle || state.canary().is_some() {
            let why = format!(
                "{name} is {}: a drill begins with one live colour",
                state.phase()
            );
            return Err(Failure::new(Exit::Precondition, "", why)
                .advise("wait until it is idle (switcher wait GROUP --for idle)"));
        }
        let live = &state.live;
        let mut blockers: Vec<String> = state
            .releases
            .misfit(live, state.releases.applied)
            .into_iter()
            .collect();
        let sick = self.health.verdict(name, live).blockers();
        blockers.extend(
            sick.into_iter()
                .map(|it| format!("{}: {}", it.what, it.why)),
        );
        if !blockers.is_empty() {
            let why = format!("there would be no way back to {live}");
            return Err(Failure::new(Exit::Refused, "", why)
                .blocked_by(blockers)
                .advise("a drill only flips where it can go back: repair this first"));
        }
        let bake = self.config.groups.get(name).and_then(|group| group.bake);
        Ok(Terms {
            confirm: Some(time),
            bake: Some(Bake {
                time,
                ..bake.unwrap_or(DEFAULT_BAKE)
            }),
            drill: true,
            ..Terms::default()
        })
    }

    /// What is kept of a drill from its beginning.
    pub(super) fn drill_record(&self, terms: &Terms) -> Option<DrillRecord> {
        let time = terms.confirm.filter(|_| terms.drill)?;
        Some(DrillRecord {
            for_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            verdict: DrillVerdict::UnderWay,
            interrupted: false,
            why: Vec::new(),
            counted_before: self.drops(),
            lost: Loss::default(),
            back: None,
        })
    }

    /// Reports on drills that are over.
    pub(super) fn finish_drills(&mut self) {
        let over = self.groups.values().filter(|group| {
            let under_way = group.state.cutover().is_some_and(|it| it.terms.drill);
            group.drilled && !under_way && group.pending.is_none()
        });
        let over: Vec<String> = over.map(|group| group.name.clone()).collect();
        for name in over {
            if let Some(group) = self.groups.get_mut(&name) {
                group.drilled = false;
            }
            let _about = self.about_what_goes_on(&name);
            if let Err(error) = self.finish_drill(&name) {
                warn!(group = name, "{error:#}");
            }
        }
    }

    fn finish_drill(&mut self, name: &str) -> anyhow::Result<()> {
        self.sample_of(Some(name));
        let history = self.journal.history(Some(name), 10)?;
        let drilled = |it: &CutoverRecord| {
            let drill = it.receipt.drill.as_ref();
            drill.is_some_and(|it| it.verdict == DrillVerdict::UnderWay)
        };
        let Some(mut record) = history.into_iter().find(drilled) else {
            return Ok(());
        };
        let Some(mut drill) = record.receipt.drill.take() else {
            return Ok(());
        };
        drill.interrupted = self.started_at > record.started;
        drill.lost = self.loss(name, &record, &drill);
        let back = record.result == Some(End::RolledBack);
        drill.back = back.then(Timestamp::now);
        drill.why = self.shortcomings(name, &record, &drill);
        drill.verdict = match record.result {
            Some(End::RolledBack) if drill.why.is_empty() => DrillVerdict::Passed,
            Some(End::Succeeded) => DrillVerdict::Kept,
            Some(_) | None => DrillVerdict::Failed,
        };
        let (group, cutover, verdict) = (name, &record.id, drill.verdict.name());
        let why = drill.why.join("; ");
        info!(group, cutover, verdict, why, "the drill is over");
        record.receipt.drill = Some(drill);
        self.commit(name, &record, false, Vec::new())
    }

    fn loss(&self, name: &str, record: &CutoverRecord, drill: &DrillRecord) -> Loss {
        let drops = self.drops().into_iter().filter_map(|(reason, now)| {
            let before = drill.counted_before.get(&reason).copied();
            let more = now.saturating_sub(before.unwrap_or_default());
            (more > 0).then_some((reason, more))
        });
        let mut loss = Loss {
            dropped: drops.collect(),
            ..Loss::default()
        };
        let activity = self.groups.get(name).map(|group| &group.activity);
        for (colour, traffic) in &record.receipt.traffic {
            let Some(now) = activity.and_then(|it| it.get(colour)) else {
                continue;
            };
            let (before, now) = (traffic.before, now.totals());
            loss.connections += now.connections.saturating_sub(before.connections);
            loss.resets += now.resets.saturating_sub(before.resets);
            loss.failed += now.failed.saturating_sub(before.failed);
        }
        loss
    }

    /// What a drill should not have come to.
    fn shortcomings(&self, name: &str, record: &CutoverRecord, drill: &DrillRecord) -> Vec<String> {
        let mut why = Vec::new();
        if let Some(bake) = &record.receipt.bake
            && matches!(bake.verdict, Verdict::RolledBack | Verdict::Degraded)
        {
            why.extend(bake.why.iter().cloned());
        }
        if record.stored.is_none() {
            why.push("nothing was switched".to_owned());
        }
        for (reason, count) in &drill.lost.dropped {
            why.push(format!("{count} packets dropped on this host: {reason}"));
        }
        if let Health::Unhealthy(blockers) = self.health.verdict(name, &record.from) {
            why.extend(
                blockers
                    .into_iter()
                    .map(|it| format!("{}: {}", it.what, it.why)),
            );
        }
        why
    }

    /// Packets of services that this host has dropped, by reason.
    fn drops(&self) -> BTreeMap<String, u64> {
        let reasons = self.datapath.reasons().unwrap_or_default();
        let dropped = reasons.into_iter().filter(|(reason, _)| reason.drops());
        dropped
            .map(|(reason, count)| (reason.label().to_owned(), count))
            .collect()
    }
}
