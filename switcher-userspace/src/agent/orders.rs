//! How what people ask of a group is carried out, foreseen and answered.

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::Runner;
use super::asked::{Asked, Verb};
use super::failed::failure;
use super::group::{Group, Waiting};
use super::notes::{named, range};
use super::terms::duration;
use crate::api::model::{ChangeAnswer, ChangeRequest};
use crate::exit::{Exit, Failure};
use crate::journal::{CutoverRecord, Who};
use crate::output::human_flows;
use crate::release::{
    Effect, End, Event, Foreseen, GroupState, Kind, Order, Outcome, Terms, foresee,
};

type Answer = Result<ChangeAnswer, Failure>;

impl Runner {
    /// Carries out an order. The answer comes when the switch has settled, or with the refusal.
    pub fn order(&mut self, asked: Asked, reply: oneshot::Sender<Answer>) {
        debug_assert!(!asked.verb.is_at_once(), "answered at once");
        // What is asked for is decided on what holds then.
        self.settle_now(&asked.group);
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
                asked: Some((request, group.state.clone())),
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
