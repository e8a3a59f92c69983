//! Watching the live colour after a switch: what its checks say, and what the data path has counted.

use std::time::{Duration, Instant};

use switcher_common::abi::Counters;
use tracing::{info, warn};

use super::Runner;
use super::group::Activity;
use crate::health::Verdict as Health;
use crate::journal::{BakeRecord, CutoverRecord, Who};
use crate::release::{
    Bake, Blocker, Cutover, Event, Kind, Observed, Share, Stage, Traffic, Verdict,
};

/// What is usual for a colour is what the last one or two of these have seen.
const USUAL: Duration = Duration::from_secs(300);

impl Runner {
    /// What is kept of a cut-over that is to be watched: above all what was usual before it.
    pub(super) fn bake_record(&self, name: &str, cutover: &Cutover) -> Option<BakeRecord> {
        let limits = cutover.terms.bake?;
        let group = self.groups.get(name)?;
        let before = group.activity.get(&cutover.from);
        let before = before.map(|it| it.usual(&limits)).unwrap_or_default();
        Some(BakeRecord::new(&limits, before))
    }

    /// The watch begins, or goes on in another agent: from here on the new colour's traffic counts.
    pub(super) fn begin_bake(&mut self, name: &str, to: &str) {
        self.sample_of(Some(name));
        if let Some(group) = self.groups.get_mut(name) {
            let seen = group.activity.get(to).map(|it| it.tcp);
            group.switched_at = Some(seen.unwrap_or_default());
        }
    }

    /// Looks how the live colour does.
    pub(super) fn observe(&mut self, name: &str, id: &str) -> Event {
        self.sample_of(Some(name));
        let observed = self.observed(name, id).unwrap_or_default();
        if let Some(record) = self
            .groups
            .get_mut(name)
            .and_then(|it| it.records.get_mut(id))
            && let Some(bake) = &mut record.receipt.bake
        {
            bake.seen = observed.seen.into();
        }
        Event::Observed(observed)
    }

    /// Looks how a canary does, against what is usual for the live colour.
    pub(super) fn observe_canary(&mut self, name: &str, share: &Share, limits: &Bake) -> Observed {
        self.sample_of(Some(name));
        let usual = |runner: &Self| {
            let live = runner.groups.get(name)?.activity.get(&share.live)?;
            Some(live.usual(limits))
        };
        let usual = usual(self).unwrap_or_default();
        let seen = self.observed_since(name, &share.colour, usual);
        seen.unwrap_or_default()
    }

    fn observed(&mut self, name: &str, id: &str) -> Option<Observed> {
        let record = self.groups.get(name)?.records.get(id)?;
        let (to, before) = (record.to.clone(), record.receipt.bake.as_ref()?.before);
        self.observed_since(name, &to, before.into())
    }

    fn observed_since(&mut self, name: &str, to: &str, before: Traffic) -> Option<Observed> {
        let group = self.groups.get(name)?;
        if group.switched_at.is_none() {
            self.begin_bake(name, to);
        }
        let group = self.groups.get(name)?;
        let now = group.activity.get(to).map(|it| it.tcp).unwrap_or_default();
        let then = group.switched_at.unwrap_or_default();
        let (failing, unknown) = match self.health.verdict(name, to) {
            Health::Healthy => (Vec::new(), false),
            Health::Unhealthy(blockers) => (blockers, false),
            Health::Unknown(_) => (Vec::new(), true),
        };
        let rollback = self.rollback(group);
        let way_back = rollback.blockers.into_iter().map(|why| Blocker {
            what: "no way back".to_owned(),
            why,
        });
        Some(Observed {
            failing,
            unknown,
            seen: traffic(since(now, then)),
            before,
            way_back: way_back.collect(),
        })
    }

    /// A check has another result: who is watched is looked at now.
    pub(super) fn observe_now(&mut self, name: &str) {
        let Some(group) = self.groups.get(name) else {
            return;
        };
        let id = match &group.state.stage {
            Stage::Confirming(window) | Stage::Baking(window) if window.bake.is_some() => {
                window.cutover.id.clone()
            }
            Stage::Idle
            | Stage::Preparing(_)
            | Stage::Switching(_)
            | Stage::Confirming(_)
            | Stage::Baking(_)
            | Stage::Draining(_) => return,
        };
        let event = self.observe(name, &id);
        self.feed(name, event);
    }
}

/// Keeps how the watch goes.
pub(super) fn note(record: &mut CutoverRecord, verdict: Verdict, why: &[Blocker]) {
    let Some(bake) = &mut record.receipt.bake else {
        return;
    };
    bake.verdict = verdict;
    let said = why.iter().map(|it| format!("{}: {}", it.what, it.why));
    bake.why = said.collect();
    let (group, cutover, to) = (&record.group, &record.id, &record.to);
    let why = bake.why.join("; ");
    match verdict {
        Verdict::Watching => info!(group, cutover, "{to} does well again"),
        Verdict::Passed => info!(group, cutover, "{to} has been watched, and did well"),
        Verdict::Ended => info!(group, cutover, "{to} is no longer watched"),
        Verdict::RolledBack => warn!(group, cutover, "{to} does badly: {why}"),
        Verdict::Degraded => warn!(group, cutover, "{to} does badly, and stays: {why}"),
    }
}

/// Who is behind a rollback that nobody ordered, if it is this.
pub(super) fn behind(
    cutover: &Cutover,
    records: &std::collections::BTreeMap<String, CutoverRecord>,
) -> Option<Who> {
    let undone = cutover.id.strip_suffix("-back")?;
    let receipt = &records.get(undone)?.receipt;
    let bake = receipt.bake.as_ref()?;
    if receipt.drill.is_some() && bake.verdict != Verdict::RolledBack {
        return Some(Who {
            actor: "the kernel".to_owned(),
            reason: Some("the drill is over".to_owned()),
        });
    }
    let ours = cutover.kind == Kind::Rollback && bake.verdict == Verdict::RolledBack;
    ours.then(|| Who {
        actor: "agent".to_owned(),
        reason: Some(format!("it did badly: {}", bake.why.join("; "))),
    })
}

impl Activity {
    /// What is usual: lately, or ever if that is little.
    fn usual(&self, limits: &Bake) -> Traffic {
        let lately = traffic(since(self.tcp, self.marks[0]));
        match lately.connections < u64::from(limits.sample) {
            true => traffic(self.tcp),
            false => lately,
        }
    }

    /// Takes what is counted of TCP now.
    pub(super) fn count_tcp(&mut self, tcp: Counters) {
        self.tcp = tcp;
        let age = self.marked.map(|at| at.elapsed());
        match age {
            None => self.marks = [tcp; 2],
            Some(age) if age >= USUAL => self.marks = [self.marks[1], tcp],
            Some(_) => return,
        }
        self.marked = Some(Instant::now());
    }
}

fn traffic(counters: Counters) -> Traffic {
    let Counters {
        connections,
        resets,
        answers,
        ..
    } = counters;
    Traffic {
        connections,
        resets,
        failed: connections.saturating_sub(answers),
    }
}

fn since(now: Counters, then: Counters) -> Counters {
    Counters {
        packets: now.packets.saturating_sub(then.packets),
        bytes: now.bytes.saturating_sub(then.bytes),
        connections: now.connections.saturating_sub(then.connections),
        resets: now.resets.saturating_sub(then.resets),
        answers: now.answers.saturating_sub(then.answers),
    }
}
