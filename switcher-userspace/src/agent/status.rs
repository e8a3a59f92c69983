//! What the agent says of itself and its groups.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use switcher_common::verdict::Reason;
use switcher_common::word::Phase;
use tracing::warn;

use super::Runner;
use super::events::interface;
use super::group::{Activity, Group};
use super::tend::Relieved;
use crate::api::model::{
    AgentStatus, CanaryStatus, ColourStatus, CutoverStatus, EndpointStatus, GroupStatus,
    MasqueradeStatus, NextStatus, PortsStatus, RollbackStatus, Status, WindowStatus,
};
use crate::config::{AgentConfig, GroupConfig};
use crate::exit::{Exit, Failure};
use crate::health::{Target, Verdict};
use crate::journal::CutoverRecord;
use crate::release::{self, Advance, Elsewhere, Stage, Window, no_previous};

/// Counting flows takes time with many of them; a count serves for this long.
const COUNT_KEEPS: Duration = Duration::from_secs(1);

impl Runner {
    /// Everything, or one group.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn status(&mut self, only: Option<&str>) -> Result<Status, Failure> {
        let tried = |failure| Failure {
            tried: "show the status".to_owned(),
            ..failure
        };
        if let Some(only) = only {
            self.group(only).map_err(tried)?;
        }
        self.sample();
        self.hear();
        let wanted = |name: &&String| only.is_none_or(|only| only == *name);
        let names: Vec<String> = self.groups.keys().filter(wanted).cloned().collect();
        let groups = names
            .iter()
            .filter_map(|name| self.group_status(name))
            .collect();
        let interfaces = self.datapath.attachments();
        let interfaces = interfaces.iter().map(interface);
        Ok(Status {
            agent: self.agent_status(),
            interfaces: interfaces.collect(),
            masquerade: self.masquerade_status(),
            local_clients: self.datapath.local_clients(),
            groups,
            reasons: self.reasons(),
        })
    }

    fn reasons(&self) -> BTreeMap<String, u64> {
        let counts = self.datapath.reasons().unwrap_or_default();
        let counted = counts.into_iter().filter(|(_, count)| *count > 0);
        counted
            .map(|(reason, count)| (reason.label().to_owned(), count))
            .collect()
    }

    fn masquerade_status(&self) -> Option<MasqueradeStatus> {
        let masqueraded = self.datapath.masqueraded();
        let masqueraded = masqueraded.inspect_err(|error| warn!("{error:#}"));
        let masqueraded = masqueraded.ok().flatten()?;
        let reasons = self.datapath.reasons().unwrap_or_default();
        let count = |reason: Reason| {
            let found = reasons.iter().find(|(known, _)| *known == reason);
            found.map_or(0, |(_, count)| *count)
        };
        let ports = masqueraded.ports.iter().filter_map(|(id, (used, of))| {
            let endpoint = self.have.endpoints.get(id)?;
            let address = SocketAddr::new(endpoint.address.into(), endpoint.port.number());
            Some(PortsStatus {
                endpoint: address.to_string(),
                used: *used,
                of: *of,
            })
        });
        Some(MasqueradeStatus {
            flows: masqueraded.flows,
            capacity: masqueraded.capacity,
            ports: ports.collect(),
            exhausted: count(Reason::NatExhausted),
            full: count(Reason::NatFull),
        })
    }

    /// Cut-overs of one group or all, the newest first.
    ///
    /// # Errors
    /// When there is no such group and never was, or the journal can't be read.
    pub fn history(&self, only: Option<&str>, limit: u32) -> Result<Vec<CutoverRecord>, Failure> {
        let history = self.journal.history(only, limit)?;
        if let (Some(only), true) = (only, history.is_empty()) {
            self.group(only)?;
        }
        Ok(history)
    }

    /// One cut-over.
    ///
    /// # Errors
    /// When there is none of this id, or the journal can't be read.
    pub fn cutover(&self, id: &str) -> Result<CutoverRecord, Failure> {
        let record = self.journal.cutover(id)?.ok_or_else(|| {
            Failure::new(Exit::NotFound, "", format!("there is no cut-over {id}"))
                .advise("`switcher history` lists them")
        })?;
        Ok(CutoverRecord {
            hooks: self.journal.hooks(id)?,
            ..record
        })
    }

    /// What a change that follows can be bound to: the revision of a group, or of the configuration.
    #[must_use]
    pub fn revision(&self, group: Option<&str>) -> u64 {
        let group = group.and_then(|name| self.groups.get(name));
        group.map_or(self.config_revision, |group| group.state.revision)
    }

    /// What the configuration says of the agent.
    #[must_use]
    pub fn agent_config(&self) -> AgentConfig {
        self.config.agent.clone()
    }

    /// Where programs and maps are pinned.
    #[must_use]
    pub fn bpffs(&self) -> &Path {
        &self.config.agent.bpffs
    }

    fn agent_status(&self) -> AgentStatus {
        AgentStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: self.started_at,
            config: self.config_file.display().to_string(),
            config_digest: self.config.digest.clone(),
            config_source: self.journal.config_source().unwrap_or_default(),
            config_revision: self.config_revision,
            pending: self.pending.clone(),
            api: self.secure.clone(),
        }
    }

    fn group_status(&mut self, name: &str) -> Option<GroupStatus> {
        let fresh = |group: &Group| {
            group
                .flows
                .as_ref()
                .is_some_and(|counted| counted.at.elapsed() < COUNT_KEEPS)
        };
        if !self.groups.get(name).is_some_and(fresh) {
            self.count_flows(name);
        }
        let group = self.groups.get(name)?;
        let config = self.config.groups.get(name)?;
        let state = &group.state;
        let relieved = self.relieved(group);
        let colours = config.colours.iter().map(|colour| {
            let status = self.colour_status(group, config, colour, &relieved);
            (colour.clone(), status)
        });
        let cutover = state.cutover().map(|cutover| CutoverStatus {
            id: cutover.id.clone(),
            kind: cutover.kind,
            from: cutover.from.clone(),
            to: cutover.to.clone(),
            stage: state.phase().to_owned(),
            deadline: state
                .window()
                .map(|window| self.clock.wall(window.deadline)),
            at: cutover.terms.at.map(|at| self.clock.wall(at)),
            confirm_by: state.confirm_by().map(|by| self.clock.wall(by)),
            first_packet_at: group.first_packet,
            bake: group
                .records
                .get(&cutover.id)
                .and_then(|record| record.receipt.bake.clone()),
        });
        Some(GroupStatus {
            name: name.to_owned(),
            live: state.live.clone(),
            previous: state.previous.clone(),
            phase: self.phase(group).to_owned(),
            degraded: self.degraded(group),
            outbox: self.outbox_status(name),
            revision: state.revision,
            epoch: state.word.epoch(),
            since: group.since,
            by: group.by.clone(),
            paused_until: state.paused_until().map(|until| self.clock.wall(until)),
            next: self.next(group),
            window: self.window_status(group),
            colours: colours.collect(),
            rollback: self.rollback(group),
            schema: state.releases.applied,
            gates: self.gate_status(&state.gates),
            frozen: self.freeze_status(&state.gates),
            blockers: self
                .in_the_way(group)
                .into_iter()
                .map(|it| format!("{}: {}", it.what, it.why))
                .collect(),
            warnings: self.warnings(group, &relieved),
            canary: state.canary().map(|share| CanaryStatus {
                colour: share.colour.clone(),
                percent: share.percent,
                policy: release::rollout(state).is_some(),
            }),
            cutover,
        })
    }

    fn colour_status(
        &self,
        group: &Group,
        config: &GroupConfig,
        colour: &str,
        relieved: &Relieved<'_>,
    ) -> ColourStatus {
        let state = &group.state;
        let release = state.releases.colours.get(colour);
        let healthy = match self.health.verdict(&group.name, colour) {
            Verdict::Healthy => Some(true),
            Verdict::Unhealthy(_) => Some(false),
            Verdict::Unknown(_) => None,
        };
        let flows = self.flows_of(group, colour);
        let Activity {
            counters,
            last_packet,
            ..
        } = group.activity.get(colour).copied().unwrap_or_default();
        ColourStatus {
            role: state.role(colour).name().to_owned(),
            version: release.and_then(|it| it.version.clone()),
            schema: release.and_then(|it| it.schema).map(|it| it.to_string()),
            healthy,
            endpoints: self.endpoints(group, config, colour, relieved),
            packets: counters.packets,
            bytes: counters.bytes,
            connections: counters.connections,
            resets: counters.resets,
            flows,
            last_packet_at: last_packet,
        }
    }

    fn endpoints(
        &self,
        group: &Group,
        config: &GroupConfig,
        colour: &str,
        relieved: &Relieved<'_>,
    ) -> Vec<EndpointStatus> {
        let services = config.services.values();
        let of_service = services.flat_map(|service| {
            let endpoints = service.endpoints.get(colour).into_iter().flatten();
            endpoints.map(move |endpoint| (service, endpoint))
        });
        let status = of_service.map(|(service, endpoint)| {
            let target = Target {
                group: group.name.clone(),
                service: service.name.clone(),
                colour: colour.to_owned(),
                address: endpoint.address,
            };
            // Who isn't probed counts as healthy.
            let (healthy, reason) = self.health.of(&target).unwrap_or((Some(true), None));
            EndpointStatus {
                service: service.name.clone(),
                address: endpoint.address.to_string(),
                weight: endpoint.weight,
                healthy,
                reason: reason.map(ToOwned::to_owned),
                handed_over: relieved.contains(&(&*service.name, endpoint.address)),
            }
        });
        status.collect()
    }

    /// A colour's flows when they were last counted.
    pub(super) fn flows_of(&self, group: &Group, colour: &str) -> Option<u64> {
        let counted = &group.flows.as_ref()?.flows.as_ref()?.by_endpoint;
        let place = self.place(group, colour);
        let is_ours = |id: u16| place.is_some() && self.place_of(id) == place;
        let ours = counted.iter().filter(|(id, _)| is_ours(**id));
        Some(ours.map(|(_, flows)| flows).sum())
    }

    /// Flows that would go astray if the window closed now, when they were last counted, by colour; `""` for
    /// endpoints that the kernel has no more.
    pub(super) fn elsewhere(&self, name: &str) -> Option<Elsewhere> {
        let group = self.groups.get(name)?;
        let colours = &self.have.groups.get(&group.index)?.colours;
        let mut elsewhere = Elsewhere::new();
        for (id, flows) in &group.flows.as_ref()?.flows.as_ref()?.astray {
            let place = self
                .place_of(*id)
                .filter(|(index, _)| *index == group.index);
            let colour = place.and_then(|(_, colour)| colours.get(&colour).cloned());
            *elsewhere.entry(colour.unwrap_or_default()).or_default() += flows;
        }
        Some(elsewhere)
    }

    fn window_status(&self, group: &Group) -> Option<WindowStatus> {
        let phase = match group.state.word.phase() {
            Phase::Steady => return None,
            Phase::Arming => "arming",
            Phase::Open => "open",
            Phase::Draining => "draining",
        };
        let elsewhere = self.elsewhere(&group.name);
        let flows = |colour: &String| Some(*elsewhere.as_ref()?.get(colour).unwrap_or(&0));
        let left = group.state.window().into_iter();
        let left = left.flat_map(|window| window.left.keys());
        Some(WindowStatus {
            phase: phase.to_owned(),
            flows_on_old: elsewhere.as_ref().map(|it| it.values().sum()),
            left: left.map(|colour| (colour.clone(), flows(colour))).collect(),
            flow_map_used: self.datapath.flow_map_used(group.index).unwrap_or_default(),
        })
    }

    /// Whether a rollback would do good, and why not.
    pub(super) fn rollback(&self, group: &Group) -> RollbackStatus {
        let state = &group.state;
        let canary = state.canary().map(|share| &share.live);
        let Some(to) = canary.or(state.previous.as_ref()) else {
            return RollbackStatus {
                eligible: false,
                to: None,
                blockers: vec![no_previous(state)],
            };
        };
        let mut blockers = Vec::new();
        if !state.slots.contains_key(to) {
            blockers.push(format!("{to} has no endpoints any more"));
        }
        blockers.extend(state.releases.misfit(to, state.releases.applied));
        let unhealthy = self.health.verdict(&group.name, to).blockers();
        blockers.extend(
            unhealthy
                .into_iter()
                .map(|it| format!("{}: {}", it.what, it.why)),
        );
        RollbackStatus {
            eligible: blockers.is_empty(),
            to: Some(to.clone()),
            blockers,
        }
    }

    fn next(&self, group: &Group) -> Option<NextStatus> {
        let at = |at, what| {
            Some(NextStatus {
                at: self.clock.wall(at),
                what,
            })
        };
        match &group.state.stage {
            Stage::Idle | Stage::Draining(_) if group.state.paused_until().is_some() => {
                let until = group.state.paused_until().unwrap_or_default();
                at(until, "new connections are let in again".to_owned())
            }
            Stage::Idle | Stage::Draining(_) if release::rollout(&group.state).is_some() => {
                let (then, next) = release::next_share(&group.state)?;
                let (_, share) = release::rollout(&group.state)?;
                let what = match next {
                    Advance::Step { percent } => format!("{percent} % of new connections"),
                    Advance::Finish | Advance::Back { .. } => "all new connections".to_owned(),
                };
                at(
                    then,
                    format!("{} gets {what} if it does well", share.colour),
                )
            }
            Stage::Idle => {
                let (to, then) = group.automatic.coming.as_ref()?;
                at(*then, format!("{to} goes live by itself"))
            }
            Stage::Switching(_) => None,
            Stage::Preparing(preparing) if preparing.scheduled => {
                let to = &preparing.cutover.to;
                let then = preparing.cutover.terms.at.unwrap_or_default();
                at(then, format!("new connections go to {to}"))
            }
            Stage::Confirming(window) => {
                let by = group.state.confirm_by().unwrap_or(window.deadline);
                let from = &window.cutover.from;
                at(
                    by,
                    format!("{from} is live again, unless this is confirmed"),
                )
            }
            Stage::Baking(window) => {
                let until = window.bake.map_or(window.deadline, |bake| bake.until);
                let to = &window.cutover.to;
                let back = &window.cutover.from;
                at(
                    until,
                    format!(
                        "{to} has been watched for long enough; before, {back} is live again if it does badly"
                    ),
                )
            }
            Stage::Preparing(preparing) => {
                let to = &preparing.cutover.to;
                match (&group.gate, preparing.armed) {
                    (Some(gate), _) if !gate.passed => {
                        at(gate.patience, format!("the health of {to} has to be known"))
                    }
                    (_, Some(armed)) => at(armed, format!("new connections go to {to}")),
                    (_, None) => None,
                }
            }
            Stage::Draining(window) if group.state.word.phase() == Phase::Open => {
                let from = &window.cutover.from;
                at(
                    window.learnt,
                    format!("the connections of {from} are known"),
                )
            }
            Stage::Draining(window) => at(window.deadline, self.at_deadline(group, window)),
        }
    }

    fn at_deadline(&self, group: &Group, window: &Window) -> String {
        let elsewhere = self.elsewhere(&group.name);
        let flows = elsewhere.map(|it| it.values().sum());
        match flows.or_else(|| window.flows_elsewhere()) {
            Some(0) => "drain deadline: no connection is left".to_owned(),
            Some(1) => "drain deadline: 1 connection left would be reset".to_owned(),
            Some(left) => format!("drain deadline: {left} connections left would be reset"),
            None => "drain deadline: connections left would be reset".to_owned(),
        }
    }
}
