//! From a configuration to the kernel.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context;
use jiff::Timestamp;
use serde_json::json;
use switcher_common::abi::service_flags;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::Runner;
use super::audit::asked_entry;
use super::group::{Group, Waiting};
use super::settings::differences;
use super::slots::up_to_date;
use crate::api::model::{ChangeAnswer, ConfigAnswer, ConfigRequest};
use crate::config::{self, AgentConfig, Config, ConfigErrors};
use crate::datapath::{Change, GroupIndex, Have};
use crate::exit::{Exit, Failure};
use crate::health;
use crate::host::route;
use crate::journal::{CutoverRecord, DrillVerdict, Who};
use crate::reconcile::{Plan, Refusal, Want, plan};
use crate::release::{Baking, Event, Found, Intent, Timing, Verdict, resume};

/// Answers that an applied configuration still waits for: the switches it has begun.
pub(super) type Switches = Vec<oneshot::Receiver<Result<ChangeAnswer, Failure>>>;

impl Runner {
    /// What a configuration would change.
    ///
    /// # Errors
    /// When it is invalid, or can't be carried out now or here.
    pub fn plan(&self, request: &ConfigRequest) -> Result<ConfigAnswer, Failure> {
        let tried = "plan a configuration";
        let config = self.read(request, tried)?;
        self.same_agent(&config.agent, tried)?;
        let plan = self
            .plan_for(&config)
            .map_err(|refusal| refused(&refusal, tried))?;
        Ok(self.answer(&config, &plan))
    }

    /// Takes a configuration. What it switches is under way then, and answers by itself.
    ///
    /// # Errors
    /// When it is invalid, when it can't be carried out now or here, and when the kernel refuses.
    pub fn apply(
        &mut self,
        request: &ConfigRequest,
        who: &Who,
    ) -> Result<(ConfigAnswer, Switches), Failure> {
        let old = self.config.digest.clone();
        let done = self.try_apply(request, who);
        if !request.dry_run {
            // The text itself may be long, and hold what is nobody's business.
            let asked = json!({
                "name": request.name, "source": request.source, "if_revision": request.if_revision
            });
            let summary = done.as_ref().map(|(answer, _)| answer.summary.clone());
            let new =
                json!({ "digest": self.config.digest, "summary": summary.unwrap_or_default() });
            let what = "apply a configuration".to_owned();
            let entry = asked_entry(None, who, what, (&asked, json!({ "digest": old }), new));
            self.audit(entry, &done);
        }
        done
    }

    fn try_apply(
        &mut self,
        request: &ConfigRequest,
        who: &Who,
    ) -> Result<(ConfigAnswer, Switches), Failure> {
        let tried = "apply a configuration";
        if let Some(revision) = request.if_revision
            && revision != self.config_revision
        {
            let why = format!(
                "the configuration is at revision {}, not {revision}",
                self.config_revision
            );
            return Err(Failure::new(Exit::Precondition, tried, why)
                .advise("look at `plan` and decide again"));
        }
        let config = self.read(request, tried)?;
        self.same_agent(&config.agent, tried)?;
        if !request.dry_run {
            // What somebody else has changed meanwhile is as wrong as what the old configuration had.
            self.refresh()?;
            if let Err(error) = self.restore_programs() {
                warn!("{error:#}");
            }
        }
        let plan = self
            .plan_for(&config)
            .map_err(|refusal| refused(&refusal, tried))?;
        let mut answer = self.answer(&config, &plan);
        if request.dry_run {
            return Ok((answer, Vec::new()));
        }
        let (actor, reason) = (&who.actor, &who.reason);
        let changes = answer.changes.len();
        info!(actor, reason, changes, "taking a configuration");
        self.take(config, request.source.as_deref());
        let switches = self.carry_out_plan(&plan, who).map_err(|error| {
            let failure = Failure {
                tried: tried.into(),
                ..Failure::from(error)
            };
            failure.advise("what was done so far is consistent, and traffic is served; apply again")
        })?;
        (answer.applied, answer.revision) = (true, self.config_revision);
        Ok((answer, switches))
    }

    /// From now on this is what is wanted.
    pub(super) fn take(&mut self, config: Config, source: Option<&str>) {
        let before = std::mem::replace(&mut self.config, config);
        self.taken.send_replace(Arc::new(self.config.agent.clone()));
        let arms = self.config.groups.values().map(|it| it.drain.arm);
        self.datapath.set_arming(arms.max().unwrap_or_default());
        self.sync_outbox(&before);
        match self.journal.count_config(&self.config.digest, source) {
            Ok(revision) => self.config_revision = revision,
            Err(error) => warn!("{error:#}"),
        }
        self.health
            .keep(health::targets(&self.config).map(|(target, _)| target));
        self.monitor.sync(&self.config);
        self.neighbours.sync(&self.config);
    }

    /// The steps from the kernel as it is to a configuration.
    pub(super) fn plan_for(&self, config: &Config) -> Result<Plan, Refusal> {
        let mut want = Want::new(config, &self.is_own)?;
        want.fill_sources(|address| route::way(address).ok().flatten()?.source);
        for (name, group) in &mut want.groups {
            self.complete(name, group);
            // A group that is new to the kernel may not be new to us: the host was started again.
            if let Ok(Some(mut record)) = self.journal.group(name) {
                // What nobody had confirmed when the host went down is not kept.
                if let Some(from) = self.unconfirmed(name, &record.live) {
                    record.live = from;
                }
                if group.colours.contains(&record.live) {
                    group.initial = record.live;
                } else {
                    warn!(
                        group = name,
                        "{} was live and is no colour any more: {} is initial",
                        record.live,
                        group.initial
                    );
                }
            }
        }
        plan(&self.known(), &want, self.seed)
    }

    /// What the kernel holds, with the words that were stored last.
    pub(super) fn known(&self) -> Have {
        let mut have = self.have.clone();
        for group in self.groups.values() {
            if let Some(have) = have.groups.get_mut(&group.index) {
                have.word = group.state.word;
            }
        }
        have
    }

    /// The colour before, if the recorded one was to be confirmed and was not.
    fn unconfirmed(&self, name: &str, live: &str) -> Option<String> {
        let open = self.journal.open_cutovers(name).ok()?;
        let last = open.into_iter().rfind(|record| record.result.is_some())?;
        (last.to == live && last.to_confirm().is_some()).then_some(last.from)
    }

    /// Changes the kernel step by step. Switches are begun, not waited for.
    pub(super) fn carry_out_plan(&mut self, plan: &Plan, who: &Who) -> anyhow::Result<Switches> {
        let switches = self.carry_out_changes(plan, who)?;
        self.unfinished = plan.unfinished.iter().cloned().collect();
        self.pending = None;
        Ok(switches)
    }

    /// The steps alone.
    pub(super) fn carry_out_changes(&mut self, plan: &Plan, who: &Who) -> anyhow::Result<Switches> {
        // What tables are in use is known then.
        self.settle_all();
        let mut switches = Vec::new();
        let mut fresh = false;
        for change in &plan.changes {
            if let Change::Switch { group, slot } = change {
                // The new table's slot has to be known by then. Switches come last.
                if !fresh {
                    self.refresh()?;
                }
                fresh = true;
                switches.extend(self.begin_update(*group, *slot, who));
                continue;
            }
            self.datapath
                .apply(change)
                .with_context(|| change.to_string())?;
            fresh = false;
        }
        if !fresh {
            self.refresh()?;
        }
        Ok(switches)
    }

    /// Reads the kernel, and makes groups of what is there and wanted.
    pub(super) fn refresh(&mut self) -> anyhow::Result<()> {
        self.have = self
            .datapath
            .have()
            .context("read the kernel's maps back")?;
        let have = std::mem::take(&mut self.have);
        let mut known = BTreeSet::new();
        for (index, in_kernel) in &have.groups {
            let Some(config) = self.config.groups.get(&in_kernel.name) else {
                continue;
            };
            known.insert(in_kernel.name.clone());
            let timing = Timing {
                arm: config.drain.arm,
                learn: config.drain.learn,
                deadline: config.drain.deadline,
                tagged: needs_tags(&have, *index),
            };
            let current = up_to_date(&have, (*index, in_kernel), config);
            match self.groups.get_mut(&in_kernel.name) {
                Some(group) if group.index == *index => {
                    group.state.refit(&current, timing);
                    group.state.gates.policy = config.policy();
                }
                Some(_) | None => self.meet(*index, &current, timing),
            }
        }
        self.groups.retain(|name, _| known.contains(name));
        self.have = have;
        self.turn_previews();
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }

    /// A group that this agent hasn't seen yet: takes over what is there.
    fn meet(&mut self, index: GroupIndex, have: &crate::datapath::HaveGroup, timing: Timing) {
        let name = have.name.clone();
        let unreadable = |error: &anyhow::Error| warn!(group = name, "{error:#}");
        let record = self
            .journal
            .group(&name)
            .inspect_err(unreadable)
            .ok()
            .flatten();
        let open = self
            .journal
            .open_cutovers(&name)
            .inspect_err(unreadable)
            .unwrap_or_default();
        let intents = open.iter().map(|record| self.intent(record)).collect();
        let now = Timestamp::now();
        let id = self.journal.fresh_id(now);
        let found = Found {
            have,
            times: self.datapath.times(index),
            releases: record.clone().map(|it| it.releases).unwrap_or_default(),
            gates: self.recall_gates(&name, record.as_ref().map(|it| &it.gates)),
        };
        let recorded = record.clone().map(|it| (it.live, it.previous, it.revision));
        let (state, effects) = resume(found, recorded, intents, timing, id, self.clock.now());
        let is_new = record.is_none();
        let (since, by) = match &record {
            Some(record) => (record.since, record.by.clone()),
            None => (now, "the configuration".to_owned()),
        };
        info!(
            group = name,
            live = state.live,
            phase = state.phase(),
            revision = state.revision,
            "taken over"
        );
        let group = Group {
            name: name.clone(),
            index,
            state,
            wake: None,
            automatic: super::automatic::Automatic::default(),
            steps: super::rollout::Steps::default(),
            gate: None,
            records: open
                .into_iter()
                .map(|record| (record.id.clone(), record))
                .collect(),
            owed: std::collections::BTreeMap::new(),
            waiting: std::collections::BTreeMap::new(),
            drilled: self.journal.history(Some(&name), 10).is_ok_and(|all| {
                let drills = all.iter().filter_map(|it| it.receipt.drill.as_ref());
                drills
                    .into_iter()
                    .any(|it| it.verdict == DrillVerdict::UnderWay)
            }),
            switched_at: None,
            calls: Vec::new(),
            undone_for: None,
            stored: None,
            pending: None,
            busy: false,
            since,
            by,
            flows: None,
            first_packet: None,
            refused: 0,
            activity: std::collections::BTreeMap::new(),
            sampled: None,
            begun: None,
        };
        if is_new && let Err(error) = self.journal.put_group(&group.record(), None) {
            warn!(group = name, "{error:#}");
        }
        self.groups.insert(name.clone(), group);
        if let Some(record) = &record {
            self.miss_pause(&name, record);
        }
        let unfinished = self.journal.unfinished_calls(&name);
        for effect in effects {
            if let Some(event) = self.carry_out_about(&name, None, effect, None) {
                self.feed(&name, event);
            }
        }
        let unfinished = unfinished.inspect_err(unreadable).unwrap_or_default();
        self.call_again(&name, unfinished);
    }

    /// What the journal says of a cut-over that was not over.
    fn intent(&self, record: &CutoverRecord) -> Intent {
        let mut intent = record.intent();
        let bake = record.receipt.bake.as_ref();
        let limits = intent.cutover.terms.bake;
        let until = bake.and_then(|it| it.until);
        intent.bake = limits.zip(until).map(|(limits, until)| Baking {
            limits,
            until: self.clock.then(until),
            degraded: bake.is_some_and(|it| it.verdict == Verdict::Degraded),
        });
        intent
    }

    /// Does what had to wait for a window to close.
    pub(super) fn finish_configuration(&mut self) {
        let idle = |name: &String| {
            let group = self.groups.get(name);
            group.is_none_or(|group| group.state.cutover().is_none())
        };
        if self.unfinished.is_empty() || !self.unfinished.iter().any(idle) {
            return;
        }
        let who = Who {
            actor: "agent".to_owned(),
            reason: Some("finish the configuration".to_owned()),
        };
        match self.plan_for(&self.config) {
            Ok(plan) => {
                if let Err(error) = self.carry_out_plan(&plan, &who) {
                    self.set_pending(format!("{error:#}"));
                }
            }
            Err(refusal) => self.set_pending(refusal.to_string()),
        }
    }

    /// Remembers why the kernel isn't what the configuration asks for; says it once.
    pub(super) fn set_pending(&mut self, why: String) {
        if self.pending.as_ref() != Some(&why) {
            warn!("the configuration is not in the kernel yet: {why}");
        }
        self.pending = Some(why);
    }

    fn begin_update(
        &mut self,
        index: GroupIndex,
        slot: u8,
        who: &Who,
    ) -> Option<oneshot::Receiver<Result<ChangeAnswer, Failure>>> {
        let id = self.journal.fresh_id(Timestamp::now());
        let group = self
            .groups
            .values_mut()
            .find(|group| group.index == index)?;
        let (reply, answer) = oneshot::channel();
        let name = group.name.clone();
        let tried = format!("switch {name} to its new endpoints");
        group.waiting.insert(
            id.clone(),
            Waiting {
                tried,
                who: who.clone(),
                once: None,
                asked: None,
                reply,
            },
        );
        self.feed(&name, Event::Update { id, slot });
        Some(answer)
    }

    fn read(&self, request: &ConfigRequest, tried: &str) -> Result<Config, Failure> {
        let read = match &request.text {
            Some(text) => {
                let name = request.name.as_deref().unwrap_or("configuration");
                config::parse(name, text.as_bytes())
            }
            None => config::load(&self.config_file),
        };
        read.map_err(|errors| invalid(&errors, tried))
    }

    /// What the agent itself is made of doesn't change while it runs.
    fn same_agent(&self, new: &AgentConfig, tried: &str) -> Result<(), Failure> {
        let now = &self.config.agent;
        let listen = |it: &AgentConfig| it.api.as_ref().map(|api| api.listen);
        let differs = [
            ("interfaces", now.interfaces != new.interfaces),
            ("socket", now.socket != new.socket),
            ("state_dir", now.state_dir != new.state_dir),
            ("listen", now.listen != new.listen),
            ("log", now.log != new.log),
            ("traces", now.traces != new.traces),
            ("bpffs", now.bpffs != new.bpffs),
            ("masquerade", now.masquerade != new.masquerade),
            ("local_clients", now.local_clients != new.local_clients),
            ("cgroup", now.cgroup != new.cgroup),
            ("api.listen", listen(now) != listen(new)),
        ];
        let differs: Vec<String> = differs
            .into_iter()
            .filter(|(_, differs)| *differs)
            .map(|(key, _)| format!("agent.{key}"))
            .collect();
        if differs.is_empty() {
            return Ok(());
        }
        let why = format!("{} can't change while the agent runs", differs.join(", "));
        Err(Failure::new(Exit::Precondition, tried, why)
            .advise("restart the agent with this configuration; traffic goes on meanwhile"))
    }

    /// What it comes to, before it is carried out.
    fn answer(&self, config: &Config, plan: &Plan) -> ConfigAnswer {
        let settings = differences(&self.config, config);
        let steps = plan.changes.iter().map(ToString::to_string);
        ConfigAnswer {
            digest: config.digest.clone(),
            revision: self.config_revision,
            changes: settings.iter().cloned().chain(steps).collect(),
            summary: settings
                .into_iter()
                .chain(plan.summary.iter().cloned())
                .collect(),
            unfinished: plan.unfinished.clone(),
            applied: false,
        }
    }
}

/// Whether a group has TCP or QUIC services whose flows only tags can tell.
fn needs_tags(have: &Have, group: GroupIndex) -> bool {
    have.services
        .values()
        .map(|have| &have.service)
        .any(|service| {
            service.group == group
                && service.has_connections()
                && service.has(service_flags::PRESENT)
                && !service.has(service_flags::PREVIEW)
                && !service.has(service_flags::SOCKETS)
                && !service.has(service_flags::MASQUERADE)
        })
}

pub(super) fn invalid(errors: &ConfigErrors, tried: &str) -> Failure {
    let count = errors.0.len();
    let plural = if count == 1 { "" } else { "s" };
    Failure::new(
        Exit::Usage,
        tried,
        format!("the configuration has {count} error{plural}"),
    )
    .blocked_by(errors.0.iter().map(ToString::to_string))
    .see(config::PAGE)
}

pub(super) fn refused(refusal: &Refusal, tried: &str) -> Failure {
    let exit = match refusal {
        Refusal::Window { .. } | Refusal::LiveColour { .. } | Refusal::CanaryColour { .. } => {
            Exit::Precondition
        }
        Refusal::Slots { .. }
        | Refusal::Space { .. }
        | Refusal::Full { .. }
        | Refusal::Initial { .. }
        | Refusal::Forward { .. } => Exit::Usage,
    };
    Failure::new(exit, tried, refusal.to_string())
}
