//! Telling those who listen what happens: the occasions of hooks, and groups and agent whenever they have changed.

use std::time::{Duration, Instant};

use super::Runner;
use crate::api::model::{AgentState, CanaryStatus, ColourState, GroupState, InterfaceStatus};
use crate::datapath::{Attachment, Hold};
use crate::exit::Failure;
use crate::health::Verdict;
use crate::hooks::Occasion;
use crate::journal::CutoverRecord;
use crate::release;

/// Changes that follow each other faster are told of at once.
const PAUSE: Duration = Duration::from_millis(100);

/// What listeners know.
#[derive(Default)]
pub(super) struct Known {
    /// What has happened since they were told.
    pub(super) occasions: Vec<Occasion>,
    /// The number of changes that they know of.
    changes: u64,
    /// When they were told.
    at: Option<Instant>,
    groups: std::collections::BTreeMap<String, GroupState>,
    agent: Option<AgentState>,
}

impl Runner {
    /// Tells what there is to tell, if it is time.
    pub(super) fn publish(&mut self) {
        for occasion in std::mem::take(&mut self.told.occasions) {
            let group = Some(occasion.group.as_str());
            self.events.tell(&occasion.event, group, &occasion);
        }
        let changes = *self.changes.borrow();
        let waits = self.told.at.is_some_and(|at| at.elapsed() < PAUSE);
        if changes == self.told.changes || waits {
            return;
        }
        self.told.changes = changes;
        self.told.at = Some(Instant::now());
        self.publish_states();
    }

    /// How long listeners may have to wait yet, if there is anything to tell them.
    pub(super) fn next_publication(&self) -> Option<Duration> {
        let behind = *self.changes.borrow() != self.told.changes;
        let elapsed = self.told.at.map(|at| at.elapsed());
        behind.then(|| PAUSE.saturating_sub(elapsed.unwrap_or(PAUSE)))
    }

    fn publish_states(&mut self) {
        let agent = self.agent_state();
        if self.told.agent.as_ref() != Some(&agent) {
            self.events.tell("agent", None, &agent);
            self.told.agent = Some(agent);
        }
        // Who waits for a grace period is in between.
        let settled = self.groups.iter().filter(|(_, it)| it.pending.is_none());
        let states = settled.filter_map(|(name, _)| self.group_state(name));
        let states: Vec<GroupState> = states.collect();
        self.told
            .groups
            .retain(|name, _| self.groups.contains_key(name));
        for state in states {
            if self.told.groups.get(&state.group) != Some(&state) {
                self.events.tell("state", Some(&state.group), &state);
                self.told.groups.insert(state.group.clone(), state);
            }
        }
    }

    /// What whoever begins to listen has to know, and the number of the event that this comes after.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn states(
        &mut self,
        only: Option<&str>,
    ) -> Result<(u64, AgentState, Vec<GroupState>), Failure> {
        if let Some(only) = only {
            self.group(only)?;
        }
        self.publish();
        let names = self.groups.keys();
        let names = names.filter(|name| only.is_none_or(|only| only == *name));
        let states = names.filter_map(|name| self.group_state(name));
        let newest = *self.events.newest().borrow();
        Ok((newest, self.agent_state(), states.collect()))
    }

    fn agent_state(&self) -> AgentState {
        AgentState {
            config_revision: self.config_revision,
            config_digest: self.config.digest.clone(),
            pending: self.pending.clone(),
            interfaces: self.attachments.iter().map(interface).collect(),
        }
    }

    fn group_state(&self, name: &str) -> Option<GroupState> {
        let group = self.groups.get(name)?;
        let config = self.config.groups.get(name)?;
        let state = &group.state;
        // As it was recorded: a time that is worked out anew is another one each time.
        let record = state.cutover().and_then(|it| group.records.get(&it.id));
        let colours = config.colours.iter().map(|colour| {
            let release = state.releases.colours.get(colour);
            let state = ColourState {
                role: state.role(colour).name().to_owned(),
                version: release.and_then(|it| it.version.clone()),
                healthy: match self.health.verdict(name, colour) {
                    Verdict::Healthy => Some(true),
                    Verdict::Unhealthy(_) => Some(false),
                    Verdict::Unknown(_) => None,
                },
            };
            (colour.clone(), state)
        });
        Some(GroupState {
            group: name.to_owned(),
            live: state.live.clone(),
            previous: state.previous.clone(),
            phase: self.phase(group).to_owned(),
            revision: state.revision,
            since: group.since,
            by: group.by.clone(),
            cutover: state.cutover().map(|cutover| cutover.id.clone()),
            confirm_by: record.and_then(CutoverRecord::to_confirm),
            paused: state.paused_until().is_some(),
            frozen: self.freeze_status(&state.gates),
            canary: state.canary().map(|share| CanaryStatus {
                colour: share.colour.clone(),
                percent: share.percent,
                policy: release::rollout(state).is_some(),
            }),
            colours: colours.collect(),
        })
    }
}

pub(super) fn interface(it: &Attachment) -> InterfaceStatus {
    InterfaceStatus {
        name: it.interface.clone(),
        xdp: it.xdp.clone(),
        attached: it.hold == Hold::Attached,
        reason: it.hold.missing().map(str::to_owned),
    }
}
