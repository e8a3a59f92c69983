//! What people ask of a group.

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::Runner;
use super::audit::portrait;
use super::failed::failure;
use super::group::{Group, Waiting};
use super::notes::{named, range};
use super::terms::duration;
use crate::api::model::{ChangeAnswer, ChangeRequest};
use crate::exit::{Exit, Failure};
use crate::journal::{CutoverRecord, Once, Who};
use crate::output::human_flows;
use crate::release::{
    Effect, End, Event, Foreseen, GroupState, Kind, Order, Outcome, Terms, foresee,
};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Another colour.
    Flip,
    /// The previous colour.
    Rollback,
    /// A share for another colour.
    Canary,
    /// Another colour for a while.
    Drill,
    /// An end to what is going on.
    Abort,
    /// That a switch stays.
    Confirm,
    /// That it may stay for longer without.
    Extend,
    /// No new flows for a while; see [`Runner::pause`].
    Pause,
    /// New flows again.
    Resume,
    /// That a release is on a colour; see [`Runner::note`].
    Stage,
    /// That a version of the database's schema is applied.
    Schema,
    /// That nobody flips.
    Freeze,
    /// That people may flip again.
    Unfreeze,
    /// A manual gate, to be opened or closed.
    Gate,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Flip,
        Self::Rollback,
        Self::Canary,
        Self::Drill,
        Self::Abort,
        Self::Confirm,
        Self::Extend,
        Self::Pause,
        Self::Resume,
        Self::Stage,
        Self::Schema,
        Self::Freeze,
        Self::Unfreeze,
        Self::Gate,
    ];

    /// As in paths of the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flip => "flip",
            Self::Rollback => "rollback",
            Self::Canary => "canary",
            Self::Drill => "drill",
            Self::Abort => "abort",
            Self::Confirm => "confirm",
            Self::Extend => "extend",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Stage => "stage",
            Self::Schema => "schema",
            Self::Freeze => "freeze",
            Self::Unfreeze => "unfreeze",
            Self::Gate => "gate",
        }
    }

    /// The fields that every change takes.
    pub(crate) const ALL_TAKE: [&str; 5] = [
        "reason",
        "if_revision",
        "if_live",
        "dry_run",
        "idempotency_key",
    ];

    /// The fields of a request that have a meaning for this one alone.
    pub(crate) const fn takes(self) -> &'static [&'static str] {
        match self {
            Self::Flip => &[
                "to",
                "force",
                "at",
                "confirm_within",
                "no_confirm",
                "no_bake",
            ],
            Self::Drill => &["to", "for"],
            Self::Canary => &["to", "percent", "policy", "force"],
            Self::Rollback => &["hard"],
            Self::Stage => &["to", "version", "schema"],
            Self::Schema => &["applied", "close_rollback"],
            Self::Gate => &["gate", "open"],
            Self::Extend | Self::Pause | Self::Freeze => &["for"],
            Self::Abort | Self::Confirm | Self::Resume | Self::Unfreeze => &[],
        }
    }

    /// Those of all fields that have to be there.
    pub(crate) const fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Canary => &["to"],
            Self::Stage => &["version"],
            Self::Schema => &["applied"],
            Self::Gate => &["gate", "open"],
            Self::Extend | Self::Pause => &["for"],
            Self::Freeze => &["reason"],
            Self::Flip
            | Self::Drill
            | Self::Rollback
            | Self::Abort
            | Self::Confirm
            | Self::Resume
            | Self::Unfreeze => &[],
        }
    }
}

/// What is asked of which group, and by whom.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The group.
    pub group: String,
    /// What.
    pub verb: Verb,
    /// In detail.
    pub request: ChangeRequest,
    /// By whom.
    pub who: Who,
}

type Answer = Result<ChangeAnswer, Failure>;

impl Runner {
    /// Carries out an order. The answer comes when the switch has settled, or with the refusal.
    pub fn order(&mut self, asked: Asked, reply: oneshot::Sender<Answer>) {
        debug_assert!(!asked.verb.is_at_once(), "answered at once");
        let (tried, once) = (asked.tried(), asked.once());
        let id = self.journal.fresh_id(Timestamp::now());
        let event = match self.understand(&asked, id.clone()) {
            Ok(event) => event,
            Err(failure) => {
                let answer = Err(Failure { tried, ..failure });
                if asked.counts(&answer) {
                    let now = self.portrait(&asked.group);
                    self.audit(asked.entry(now.clone(), now), &answer);
                }
                if let Some(once) = once {
                    self.answered_order(&once, &answer);
                }
                let _gone = reply.send(answer);
                return;
            }
        };
        let Asked {
            group: name,
            request,
            who,
            ..
        } = asked;
        let dry_run = request.dry_run;
        if dry_run {
            self.count_flows(&name);
            let answer = self.foresee(&name, &id, event);
            let _gone = reply.send(answer.map_err(|failure| Failure { tried, ..failure }));
            return;
        }
        if let Some(group) = self.groups.get_mut(&name) {
            let waiting = Waiting {
                tried,
                who,
                once,
                old: portrait(&group.state),
                request: Some(request),
                reply,
            };
            group.waiting.insert(id, waiting);
        }
        self.feed(&name, event);
    }

    fn understand(&mut self, asked: &Asked, id: String) -> Result<Event, Failure> {
        asked.check()?;
        self.group(&asked.group)?;
        let request = asked.request.clone();
        self.event(asked.verb, &asked.group, request, (id, &asked.who))
    }

    /// A group, or that there is none of this name.
    pub(super) fn group(&self, name: &str) -> Result<&Group, Failure> {
        self.groups.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.groups.keys().map(String::as_str).collect();
            let advice = match known.as_slice() {
                [] => "no groups are configured".to_owned(),
                known => format!("choose one of: {}", known.join(", ")),
            };
            Failure::new(Exit::NotFound, "", format!("there is no group {name}")).advise(advice)
        })
    }

    fn foresee(&self, name: &str, id: &str, event: Event) -> Answer {
        let group = self.group(name)?;
        let health = |colour: &str| self.readiness(name, colour).0.blockers();
        let foreseen = foresee(&group.state, id, event, self.clock.now(), health);
        let Foreseen {
            outcome,
            effects,
            state,
        } = foreseen;
        let unchanged = match outcome {
            Outcome::Switched | Outcome::Scheduled => false,
            Outcome::Unchanged | Outcome::Stopped { .. } | Outcome::Kept { .. } => true,
            other => return Err(failure(self.complete_blockers(name, other))),
        };
        let begun = effects.iter().find_map(|effect| match effect {
            Effect::Prepare { cutover, .. } => Some(cutover.clone()),
            _ => None,
        });
        let mut steps = self.steps(name, &effects);
        steps.extend(self.by_itself(&state));
        if let Some(window) = state.window().filter(|_| !unchanged) {
            let timing = &state.timing;
            if timing.tagged {
                let learn = humantime::format_duration(timing.learn);
                steps.push(format!("learn for {learn} which flows are old"));
            }
            let deadline = humantime::format_duration(timing.deadline);
            let from = &window.cutover.from;
            let now = self.flows_of(group, from);
            let now = now.map_or_else(String::new, |it| format!(", {} now", human_flows(it)));
            steps.push(format!(
                "wait until no flow is left on {from}{now}, for at most {deadline}; then reset its connections"
            ));
        }
        let confirm_by = state.confirm_by().map(|by| self.clock.wall(by));
        let percent = begun.as_ref().and_then(|it| it.percent);
        let to = begun
            .as_ref()
            .filter(|it| it.kind == Kind::Canary)
            .map(|it| it.to.clone());
        let (kind, forced) = begun.map_or((Kind::Flip, false), |it| (it.kind, it.forced));
        Ok(ChangeAnswer {
            id: None,
            group: name.to_owned(),
            kind,
            from: group.state.live.clone(),
            to: to.unwrap_or(state.live),
            percent,
            result: match outcome {
                Outcome::Stopped { .. } => End::Aborted,
                Outcome::Scheduled => End::Scheduled,
                _ => End::Switched,
            },
            revision: state.revision,
            store_to_settled_us: None,
            forced,
            unchanged,
            dry_run: true,
            at: None,
            confirm_by,
            baked_at: None,
            steps,
            warnings: Vec::new(),
        })
    }

    /// What the kernel would do by its clock, in words.
    fn by_itself(&self, state: &GroupState) -> Vec<String> {
        let mut steps = Vec::new();
        if let Some(at) = state.cutover().and_then(|cutover| cutover.terms.at) {
            let at = self.clock.wall(at);
            steps.push(format!("at {at:.0} the kernel sends new flows there"));
        }
        if let Some(by) = state.confirm_by() {
            let (by, from) = (self.clock.wall(by), state.cutover().map(|it| &*it.from));
            let from = from.unwrap_or_default();
            steps.push(format!(
                "at {by:.0} the kernel goes back to {from}, unless it was confirmed"
            ));
        }
        if let Some(bake) = state.window().and_then(|window| window.bake) {
            let time = humantime::format_duration(bake.limits.time);
            let to = &state.live;
            steps.push(format!(
                "watch {to} for {time}, and go back if it does worse than what was live before"
            ));
        }
        steps
    }

    /// Effects in words, without those that only concern the agent.
    fn steps(&self, name: &str, effects: &[Effect]) -> Vec<String> {
        let arm = self
            .groups
            .get(name)
            .map(|group| group.state.timing.arm)
            .unwrap_or_default();
        let step = |effect: &Effect| match effect {
            Effect::WakeAt(_) => Some(format!("wait {}", humantime::format_duration(arm))),
            Effect::Reply { .. }
            | Effect::Record(_)
            | Effect::CountFlows
            | Effect::Observe { .. } => None,
            Effect::Prepare { .. }
            | Effect::CheckHealth { .. }
            | Effect::CallHooks(_)
            | Effect::StopHooks { .. }
            | Effect::SetTimes(_)
            | Effect::Store(_)
            | Effect::Abandon(_)
            | Effect::Settle { .. }
            | Effect::Hold
            | Effect::CloseWindow => Some(effect.to_string()),
        };
        let answered = effects
            .iter()
            .position(|effect| matches!(effect, Effect::Reply { .. }));
        let before = &effects[..answered.unwrap_or(effects.len())];
        before.iter().filter_map(step).collect()
    }
}

impl Group {
    /// The answer to an order.
    pub(super) fn answer(&self, id: &str, unchanged: bool) -> ChangeAnswer {
        self.answer_by(self.records.get(id), unchanged)
    }

    /// The same by the cut-over's record.
    pub(super) fn answer_by(
        &self,
        record: Option<&CutoverRecord>,
        unchanged: bool,
    ) -> ChangeAnswer {
        let live = || self.state.live.clone();
        ChangeAnswer {
            id: record.map(|record| record.id.clone()),
            group: self.name.clone(),
            kind: record.map_or(Kind::Flip, |record| record.kind),
            from: record.map_or_else(live, |record| record.from.clone()),
            to: record.map_or_else(live, |record| record.to.clone()),
            percent: record.and_then(|record| record.percent),
            result: End::Switched,
            revision: self.state.revision,
            store_to_settled_us: record.and_then(|record| record.store_to_settled_us),
            forced: record.is_some_and(|record| record.forced),
            unchanged,
            dry_run: false,
            at: record.and_then(|record| record.at),
            confirm_by: record.and_then(CutoverRecord::to_confirm),
            baked_at: record.and_then(CutoverRecord::watched_until),
            steps: Vec::new(),
            warnings: self.unrecorded().collect(),
        }
    }
}

impl Asked {
    /// What makes it the same change as another one, if it is to be carried out once.
    #[must_use]
    pub fn once(&self) -> Option<Once> {
        let mut request = self.request.clone();
        let key = request
            .idempotency_key
            .take()
            .filter(|_| !request.dry_run)?;
        let request = serde_json::to_string(&request).unwrap_or_default();
        let (verb, group) = (self.verb, &self.group);
        Some(Once {
            key,
            request: format!("{verb:?} {group} {request}"),
        })
    }

    /// In words.
    pub(super) fn tried(&self) -> String {
        let group = &self.group;
        match (self.verb, &self.request.to) {
            (Verb::Flip, Some(to)) => format!("flip {group} to {to}"),
            (Verb::Flip, None) => format!("flip {group}"),
            (Verb::Drill, _) => format!("drill {group}"),
            (Verb::Rollback, _) => format!("roll back {group}"),
            (Verb::Canary, Some(to)) if self.request.policy => {
                format!("let {to} of {group} have shares by policy")
            }
            (Verb::Canary, to) => format!(
                "send {} % of {group} to {}",
                self.request.percent.unwrap_or_default(),
                to.as_deref().unwrap_or("?")
            ),
            (Verb::Abort, _) => format!("abort {group}"),
            (Verb::Confirm, _) => format!("confirm {group}"),
            (Verb::Extend, _) => format!("extend the time to confirm {group}"),
            (Verb::Pause, _) => format!("pause {group}"),
            (Verb::Resume, _) => format!("resume {group}"),
            (Verb::Stage, Some(to)) => format!("stage {to} of {group}"),
            (Verb::Stage, None) => format!("stage a release of {group}"),
            (Verb::Freeze, _) => format!("freeze {group}"),
            (Verb::Unfreeze, _) => format!("unfreeze {group}"),
            (Verb::Gate, _) => match &self.request.gate {
                Some(gate) => format!("decide on gate {gate} of {group}"),
                None => format!("decide on a gate of {group}"),
            },
            (Verb::Schema, _) => format!("record the database's schema for {group}"),
        }
    }

    /// Each verb has its own fields.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let request = &self.request;
        let canary = self.verb == Verb::Canary;
        let given = [
            ("to", request.to.is_some()),
            ("version", request.version.is_some()),
            ("schema", request.schema.is_some()),
            ("applied", request.applied.is_some()),
            ("gate", request.gate.is_some()),
            ("open", request.open.is_some()),
            ("close_rollback", request.close_rollback),
            ("percent", request.percent.is_some()),
            ("policy", request.policy),
            ("force", request.force),
            ("hard", request.hard),
            ("at", request.at.is_some()),
            ("confirm_within", request.confirm_within.is_some()),
            ("no_confirm", request.no_confirm),
            ("no_bake", request.no_bake),
            ("for", request.duration.is_some()),
            ("reason", self.who.reason.is_some()),
        ];
        let refuse = |why: String| Err(Failure::new(Exit::Usage, "", why));
        let (takes, needs) = (self.verb.takes(), self.verb.needs());
        for (field, given) in given {
            let takes = takes.contains(&field) || Verb::ALL_TAKE.contains(&field);
            if given && !takes {
                return refuse(format!("field `{field}` has no meaning here"));
            }
        }
        let share = request.percent.filter(|percent| (1..=99).contains(percent));
        let one = share.is_some() != request.policy;
        if canary && (request.to.is_none() || !one || request.policy && request.percent.is_some()) {
            let why = "a canary takes a colour `to`, and a `percent` from 1 to 99 or `policy`";
            let advice = "use `flip` for all new connections, `abort` for none";
            return Err(Failure::new(Exit::Usage, "", why.to_owned()).advise(advice));
        }
        for (field, given) in given {
            if needs.contains(&field) && !given {
                let say = if field == "for" {
                    ": say for how long"
                } else {
                    ""
                };
                return refuse(format!("field `{field}` is missing{say}"));
            }
        }
        if request.no_confirm && request.confirm_within.is_some() {
            return refuse("either `confirm_within` or `no_confirm`".to_owned());
        }
        Ok(())
    }
}

impl Runner {
    /// What is asked for, as the release logic takes it. The tables for a canary are made ready.
    pub(super) fn event(
        &mut self,
        verb: Verb,
        name: &str,
        request: ChangeRequest,
        (id, who): (String, &Who),
    ) -> Result<Event, Failure> {
        let terms = match verb {
            Verb::Flip => self.terms(name, &request)?,
            Verb::Drill => self.drill(name, &request)?,
            _ => Terms {
                policy: request.policy,
                ..Terms::default()
            },
        };
        let by = match &request.duration {
            Some(text) => duration("for", text)?,
            None => std::time::Duration::ZERO,
        };
        let ChangeRequest {
            to,
            force,
            hard,
            if_revision,
            if_live,
            percent,
            dry_run,
            version,
            schema,
            applied,
            close_rollback,
            gate,
            open,
            duration,
            ..
        } = request;
        let order = Order {
            id,
            to,
            force,
            hard,
            if_revision,
            if_live,
            terms,
        };
        Ok(match verb {
            Verb::Flip | Verb::Drill => Event::Flip(order),
            Verb::Rollback => Event::Rollback(order),
            Verb::Abort => Event::Abort(order),
            Verb::Confirm => Event::Confirm(order),
            Verb::Extend => Event::Extend { order, by },
            Verb::Pause => Event::Pause { order, time: by },
            Verb::Resume => Event::Resume(order),
            Verb::Stage => Event::Stage {
                order,
                version: named("version", &version.unwrap_or_default())?,
                schema: schema.as_deref().map(range).transpose()?,
            },
            Verb::Schema => Event::Schema {
                order,
                applied: applied.unwrap_or_default(),
                close: close_rollback,
            },
            Verb::Freeze => Event::Freeze {
                order,
                reason: who.reason.clone().unwrap_or_default(),
                by: who.actor.clone(),
                time: duration.is_some().then_some(by),
            },
            Verb::Unfreeze => Event::Unfreeze(order),
            Verb::Gate => Event::Gate {
                order,
                name: gate.unwrap_or_default(),
                open: open.unwrap_or_default(),
                by: who.actor.clone(),
            },
            Verb::Canary => {
                let percent = match percent {
                    Some(percent) => percent,
                    None => self.first_share(name, order.to.as_deref().unwrap_or_default())?,
                };
                return self.canary(name, order, percent, dry_run);
            }
        })
    }
}
