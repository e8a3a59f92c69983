//! Whether the kernel, the record and the configuration are what the agent has left; and their repair.
//!
//! What the planner would change in a kernel that is read anew, and would not in the one that the agent knows,
//! was changed by somebody else. So a repair is what `apply` would do, in an order that keeps traffic served.

use std::time::{Duration, Instant};

use serde_json::json;
use tracing::{error, info, warn};

use super::Runner;
use super::audit::asked_entry;
use crate::api::model::{Difference, DifferenceKind, Drift};
use crate::config;
use crate::datapath::Hold;
use crate::exit::Failure;
use crate::journal::Who;
use crate::reconcile::Plan;
use crate::release::{Millis, Stage};

/// The least time between two comparisons. Reading a large host's maps takes long; it gets a hundredth of
/// the time at most.
const LEAST: Duration = Duration::from_secs(10);
const SHARE: u32 = 100;
/// Repairs in [`WITHIN`]: whoever goes on changing things means it, or is broken.
const REPAIRS: usize = 3;
const WITHIN: Duration = Duration::from_secs(3600);

/// What is known of comparisons so far.
pub(super) struct Comparisons {
    /// Not before.
    pub(super) next: Instant,
    /// When something was repaired.
    pub(super) repairs: Vec<Millis>,
    /// What was said of it last.
    pub(super) said: Vec<Difference>,
    /// It is not repaired.
    pub(super) left: bool,
}

impl Default for Comparisons {
    fn default() -> Self {
        Self {
            next: Instant::now() + LEAST,
            repairs: Vec::new(),
            said: Vec::new(),
            left: false,
        }
    }
}

impl Comparisons {
    /// As soon as may be: something is wrong.
    pub(super) fn soon(&mut self) {
        self.next = Instant::now();
    }
}

impl Runner {
    /// Compares, and changes nothing.
    ///
    /// # Errors
    /// When the kernel's maps can't be read.
    pub fn drift(&mut self) -> Result<Drift, Failure> {
        Ok(self.compare()?.0)
    }

    /// Compares every so often, and repairs what may be.
    pub(super) fn repair_drift(&mut self) {
        if Instant::now() < self.comparisons.next {
            return;
        }
        let begun = Instant::now();
        self.renew_tunnels();
        match self.compare() {
            Ok((drift, plan)) => self.repair(drift, plan.as_ref()),
            Err(error) => warn!("the kernel can't be compared: {error:#}"),
        }
        self.comparisons.next = Instant::now() + (begun.elapsed() * SHARE).max(LEAST);
    }

    fn repair(&mut self, drift: Drift, plan: Option<&Plan>) {
        let changed = drift.differences != self.comparisons.said;
        for difference in drift.differences.iter().filter(|_| changed) {
            warn!(kind = difference.kind.name(), "{}", difference.what);
        }
        let repairable = drift.differences.iter().any(Difference::is_repaired);
        self.comparisons.said = drift.differences;
        let repairs = self.config.agent.repair && drift.repairs_left > 0;
        self.comparisons.left = repairable && !repairs;
        if !repairable || !self.config.agent.repair {
            return;
        }
        if !repairs {
            if changed {
                error!(
                    "repaired {REPAIRS} times within an hour, and changed again: left as it is; who changes it?"
                );
            }
            return;
        }
        let who = Who {
            actor: "agent".to_owned(),
            reason: Some("it was changed by somebody else".to_owned()),
        };
        let now = self.clock.now();
        self.comparisons.repairs.push(now);
        for group in self.groups.values() {
            if let Err(error) = self.journal.put_group(&group.record(), None) {
                warn!(group = group.name, "{error:#}");
            }
        }
        let programs = self.restore_programs();
        let done = match plan {
            Some(plan) => programs.and(self.carry_out_repair(plan, &who)),
            None => programs,
        };
        let done = done.map_err(Failure::from);
        let new = json!({ "differences": self.comparisons.said });
        let what = "repair what was changed".to_owned();
        self.audit(
            asked_entry(None, &who, what, (&(), json!(null), new)),
            &done,
        );
        match done {
            Ok(()) => info!("repaired"),
            Err(failure) => {
                self.comparisons.left = true;
                error!("not repaired: {failure}");
            }
        }
    }

    fn carry_out_repair(&mut self, plan: &Plan, who: &Who) -> anyhow::Result<()> {
        // Numbers are given by what is there.
        self.refresh()?;
        self.carry_out_plan(plan, who).map(drop)
    }

    /// What differs, and what to do about the kernel.
    fn compare(&mut self) -> anyhow::Result<(Drift, Option<Plan>)> {
        let mut differences = Vec::new();
        let mut differ = |kind, what: String| differences.push(Difference { kind, what });
        for attachment in self.datapath.attachments() {
            if let Some(missing) = attachment.hold.missing() {
                let kind = match attachment.hold {
                    Hold::Absent => DifferenceKind::Interface,
                    _ => DifferenceKind::Program,
                };
                differ(kind, format!("{}: {missing}", attachment.interface));
            }
        }
        if self.clients_are_lost() {
            let reason = self.datapath.local_clients().reason.unwrap_or_default();
            let what = format!("clients on this host are not steered: {reason}");
            differ(DifferenceKind::Program, what);
        }
        for group in self.groups.values() {
            let (name, word) = (&group.name, self.datapath.word(group.index));
            if word != group.state.word {
                let (found, left) = (word.0, group.state.word.0);
                let what = format!(
                    "group {name}: the word is {found:#018x}, and was left as {left:#018x}"
                );
                differ(DifferenceKind::Word, what);
            }
            // Before a switch is recorded the two differ for good reason.
            let calm = group.pending.is_none()
                && matches!(group.state.stage, Stage::Idle | Stage::Draining(_));
            if calm
                && self.journal.group(name)?.map(|it| it.facts()) != Some(group.record().facts())
            {
                let what = format!("group {name}: the state file has another state of it");
                differ(DifferenceKind::Record, what);
            }
        }
        match config::load(&self.config_file) {
            Ok(config) if config.digest == self.config.digest => {}
            Ok(_) => differ(
                DifferenceKind::Config,
                "the configuration file has changed; `plan` shows what `apply` would do".to_owned(),
            ),
            Err(_) => differ(
                DifferenceKind::Config,
                "the configuration file can't be taken as it is; `check` says why".to_owned(),
            ),
        }
        let plan = match self.not_compared() {
            None => self.kernel_differs()?,
            Some(_) => None,
        };
        for sentence in plan.iter().flat_map(said) {
            differ(DifferenceKind::Kernel, sentence);
        }
        let now = self.clock.now();
        self.comparisons.repairs.retain(|at| now < *at + WITHIN);
        let drift = Drift {
            differences,
            not_compared: self.not_compared(),
            repairs: self.config.agent.repair,
            repairs_left: REPAIRS.saturating_sub(self.comparisons.repairs.len()),
        };
        Ok((drift, plan))
    }

    /// Why the kernel's tables can't be held against anything now.
    fn not_compared(&self) -> Option<String> {
        if let Some(pending) = &self.pending {
            return Some(pending.clone());
        }
        let busy = |group: &&super::group::Group| {
            group.state.stage != Stage::Idle || group.pending.is_some()
        };
        let busy = self.groups.values().find(busy);
        if let Some(group) = busy {
            return Some(format!("group {} is {}", group.name, group.phase()));
        }
        let waits = self.untended.iter().chain(&self.unfinished).next();
        waits.map(|name| format!("group {name}'s tables are about to change"))
    }

    /// The plan that a kernel read anew needs and the known one does not.
    fn kernel_differs(&mut self) -> anyhow::Result<Option<Plan>> {
        let mut fresh = self.datapath.have()?;
        for (index, group) in &mut fresh.groups {
            // Words are looked at by themselves.
            let known = self.have.groups.get(index);
            group.word = known.map_or(group.word, |known| known.word);
        }
        if fresh == self.have {
            // To plan takes longer than to read.
            return Ok(None);
        }
        let known = self.plan_for(&self.config);
        if !known.is_ok_and(|plan| plan.is_empty()) {
            // Something is to be done anyway; it is compared when that is done.
            return Ok(None);
        }
        let kept = std::mem::replace(&mut self.have, fresh);
        let plan = self.plan_for(&self.config);
        self.have = kept;
        Ok(Some(plan?).filter(|plan| !plan.is_empty()))
    }
}

/// A plan in sentences: what is to be done says what is missing.
fn said(plan: &Plan) -> Vec<String> {
    let changes = plan.changes.iter().map(|change| format!("to {change}"));
    let changes = changes.collect::<Vec<_>>();
    match plan.summary.is_empty() {
        true => changes,
        false => plan.summary.clone(),
    }
}
