//! What people have decided of a group, as it is kept: with times on the wall.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What people have decided of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GatesRecord {
    /// Why nobody flips.
    pub frozen: Option<FreezeRecord>,
    /// By manual gate.
    pub decisions: BTreeMap<String, DecisionRecord>,
    /// Colours that are not flipped to by themselves.
    pub declined: BTreeSet<String>,
    /// A canary that goes on by itself.
    pub rollout: Option<RolloutRecord>,
    /// Until when new flows are held; only the kernel knows whether they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Timestamp>,
}

impl GatesRecord {
    /// It without times, which are taken from another clock each time.
    pub(super) fn without_times(&self) -> Self {
        let mut gates = self.clone();
        let decisions = gates.decisions.values_mut().map(|it| &mut it.until);
        let frozen = gates.frozen.as_mut().map(|it| &mut it.until);
        decisions.chain(frozen).for_each(|until| *until = None);
        if let Some(rollout) = &mut gates.rollout {
            rollout.since = Timestamp::default();
        }
        gates.paused = None;
        gates
    }
}

/// A canary that goes on by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutRecord {
    /// Its colour.
    pub colour: String,
    /// Since when it has the share that it has.
    pub since: Timestamp,
}

/// Why nobody flips.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeRecord {
    /// What for.
    pub reason: String,
    /// Who has said so.
    pub by: String,
    /// Until when, if it ends by itself.
    pub until: Option<Timestamp>,
}

/// What somebody has decided of a manual gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// Open, or closed.
    pub open: bool,
    /// Who.
    pub by: String,
    /// Until when it holds, if it ends by itself.
    pub until: Option<Timestamp>,
}
