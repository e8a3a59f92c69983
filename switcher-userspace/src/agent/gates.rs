//! What stands in the way of switches: from the configuration and the journal, and for people.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use tracing::warn;

use super::Runner;
use super::clock::Clock;
use super::group::Group;
use crate::api::model::{FreezeStatus, GateStatus};
use crate::config::GroupConfig;
use crate::exit::{Exit, Failure};
use crate::journal::{DecisionRecord, FreezeRecord, GatesRecord, RolloutRecord};
use crate::release::{self, Blocker, Decision, Freeze, Gates, Outcome, ROLLBACK, Rollout};

impl Runner {
    /// What was decided of a group before this agent, and how often it has switched lately.
    pub(super) fn recall_gates(&self, name: &str, record: Option<&GatesRecord>) -> Gates {
        let policy = self.config.groups.get(name).map(GroupConfig::policy);
        let policy = policy.unwrap_or_default();
        let within = policy.budget.unwrap_or(release::DEFAULT_BUDGET).within;
        let ago = SignedDuration::try_from(within).unwrap_or_default();
        let now = Timestamp::now();
        let switches = self.journal.switches(name, now - ago, now);
        let switches = switches.unwrap_or_else(|error| {
            warn!(group = name, "{error:#}");
            Vec::new()
        });
        let then = |at: Timestamp| self.clock.then(at);
        let decided = |(name, it): (&String, &DecisionRecord)| {
            let decision = Decision {
                open: it.open,
                by: it.by.clone(),
                until: it.until.map(then),
            };
            (name.clone(), decision)
        };
        let frozen = record.and_then(|it| it.frozen.as_ref());
        Gates {
            policy,
            frozen: frozen.map(|it| Freeze {
                reason: it.reason.clone(),
                by: it.by.clone(),
                until: it.until.map(then),
            }),
            decisions: record
                .map(|it| it.decisions.iter().map(decided).collect())
                .unwrap_or_default(),
            switches: switches.into_iter().map(then).collect(),
            declined: record.map(|it| it.declined.clone()).unwrap_or_default(),
            rollout: record.and_then(|it| it.rollout.as_ref()).map(|it| Rollout {
                colour: it.colour.clone(),
                since: then(it.since),
            }),
        }
    }

    /// Adds what ails a blocked switch's target: one answer lists everything.
    pub(super) fn complete_blockers(&self, name: &str, outcome: Outcome) -> Outcome {
        let Outcome::Blocked {
            colour,
            mut blockers,
        } = outcome
        else {
            return outcome;
        };
        blockers.extend(self.readiness(name, &colour).0.blockers());
        Outcome::Blocked { colour, blockers }
    }

    /// Everything that stands in the way of the flip that comes next, if it is clear which one that is.
    pub(super) fn in_the_way(&self, group: &Group) -> Vec<Blocker> {
        let Some(to) = release::next_flip(&group.state) else {
            return Vec::new();
        };
        let mut blockers = release::blockers(&group.state, &to, self.clock.now());
        blockers.extend(self.readiness(&group.name, &to).0.blockers());
        blockers
    }

    /// What keeps those from going on who ask for one gate of a group, or for all that a flip would ask but
    /// health; nothing if they may.
    ///
    /// # Errors
    /// When there is no such group or gate.
    pub fn halts(&self, name: &str, gate: Option<&str>) -> Result<Vec<String>, Failure> {
        let state = &self.group(name)?.state;
        let now = self.clock.now();
        let Some(gate) = gate else {
            let to = release::next_flip(state);
            let to = to.as_deref().unwrap_or(&state.live);
            let blockers = release::blockers(state, to, now);
            return Ok(blockers.into_iter().map(|it| it.what).collect());
        };
        let rule = state.gates.policy.gates.get(gate).copied();
        let rule = rule.ok_or_else(|| no_gate(name, gate))?;
        let (open, _) = state.gates.gate(gate, rule, now);
        Ok(match open {
            true => Vec::new(),
            false => vec![format!("gate {gate}")],
        })
    }

    /// A group's gate, if a switch asks exactly one.
    ///
    /// # Errors
    /// When there is no such group, or it has none or several.
    pub fn only_gate(&self, name: &str) -> Result<String, Failure> {
        let gates = &self.group(name)?.state.gates.policy.gates;
        let mut asked = gates.keys().filter(|gate| *gate != ROLLBACK);
        match (asked.next(), asked.next()) {
            (Some(only), None) => Ok(only.clone()),
            _ => {
                let why = format!("which gate of {name}?");
                let advice = "name it: \"metadata\": {\"gate\": \"NAME\"}";
                Err(Failure::new(Exit::Usage, "", why).advise(advice))
            }
        }
    }

    pub(super) fn gate_status(&self, gates: &Gates) -> BTreeMap<String, GateStatus> {
        let now = self.clock.now();
        let status = gates.policy.gates.iter().map(|(name, rule)| {
            let (open, decision) = gates.gate(name, *rule, now);
            let until = decision.and_then(|it| it.until);
            let status = GateStatus {
                open,
                by: decision.map(|it| it.by.clone()),
                until: until.map(|until| self.clock.wall(until)),
            };
            (name.clone(), status)
        });
        status.collect()
    }

    pub(super) fn freeze_status(&self, gates: &Gates) -> Option<FreezeStatus> {
        let Some(frozen) = gates.frozen(self.clock.now()) else {
            let reason = gates.policy.freeze.clone()?;
            return Some(FreezeStatus {
                reason,
                by: "the configuration".to_owned(),
                until: None,
            });
        };
        Some(FreezeStatus {
            reason: frozen.reason.clone(),
            by: frozen.by.clone(),
            until: frozen.until.map(|until| self.clock.wall(until)),
        })
    }
}

fn no_gate(group: &str, gate: &str) -> Failure {
    let why = format!("{group} has no gate {gate}");
    let advice = format!("`gates.{gate} = {{}}` under [groups.{group}] makes one");
    Failure::new(Exit::NotFound, "", why).advise(advice)
}

/// For the journal.
pub(super) fn gates_record(gates: &Gates) -> GatesRecord {
    let decided = |(name, it): (&String, &Decision)| {
        let record = DecisionRecord {
            open: it.open,
            by: it.by.clone(),
            until: it.until.map(|until| Clock.wall(until)),
        };
        (name.clone(), record)
    };
    GatesRecord {
        frozen: gates.frozen.as_ref().map(|it| FreezeRecord {
            reason: it.reason.clone(),
            by: it.by.clone(),
            until: it.until.map(|until| Clock.wall(until)),
        }),
        decisions: gates.decisions.iter().map(decided).collect(),
        declined: gates.declined.clone(),
        rollout: gates.rollout.as_ref().map(|it| RolloutRecord {
            colour: it.colour.clone(),
            since: Clock.wall(it.since),
        }),
        paused: None,
    }
}
