//! What people ask of a group.

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::Runner;
use super::effects::failure;
use super::group::{Group, Waiting};
use crate::api::model::{ChangeAnswer, ChangeRequest};
use crate::exit::{Exit, Failure};
use crate::journal::Who;
use crate::release::{Effect, End, Event, Foreseen, Kind, Order, Outcome, foresee};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Another colour.
    Flip,
    /// The previous colour.
    Rollback,
    /// An end to what is going on.
    Abort,
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
        let tried = asked.tried();
        let id = self.journal.fresh_id(Timestamp::now());
        if let Err(failure) = asked
            .check()
            .and_then(|()| self.group(&asked.group).map(drop))
        {
            let _gone = reply.send(Err(Failure { tried, ..failure }));
            return;
        }
        let Asked {
            group: name,
            verb,
            request,
            who,
        } = asked;
        let dry_run = request.dry_run;
        let event = event(verb, request, id.clone());
        if dry_run {
            let answer = self.foresee(&name, &id, event);
            let _gone = reply.send(answer.map_err(|failure| Failure { tried, ..failure }));
            return;
        }
        if let Some(group) = self.groups.get_mut(&name) {
            group.waiting.insert(id, Waiting { tried, who, reply });
        }
        self.feed(&name, event);
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
        let health = |colour: &str| self.health.verdict(name, colour).blockers();
        let foreseen = foresee(&group.state, id, event, self.clock.now(), health);
        let Foreseen {
            outcome,
            effects,
            state,
        } = foreseen;
        let unchanged = match outcome {
            Outcome::Switched => false,
            Outcome::Unchanged | Outcome::Stopped { .. } => true,
            other => return Err(failure(other)),
        };
        let begun = effects.iter().find_map(|effect| match effect {
            Effect::Prepare { cutover, .. } => Some(cutover.clone()),
            _ => None,
        });
        let mut steps = self.steps(name, &effects);
        if let Some(window) = state.window().filter(|_| !unchanged) {
            let timing = &state.timing;
            if timing.tagged {
                let learn = humantime::format_duration(timing.learn);
                steps.push(format!("learn for {learn} which flows are old"));
            }
            let deadline = humantime::format_duration(timing.deadline);
            let from = &window.cutover.from;
            steps.push(format!(
                "wait until no flow is left on {from}, for at most {deadline}"
            ));
        }
        let (kind, forced) = begun.map_or((Kind::Flip, false), |it| (it.kind, it.forced));
        Ok(ChangeAnswer {
            id: None,
            group: name.to_owned(),
            kind,
            from: group.state.live.clone(),
            to: state.live,
            result: if matches!(outcome, Outcome::Stopped { .. }) {
                End::Aborted
            } else {
                End::Switched
            },
            revision: state.revision,
            store_to_settled_us: None,
            forced,
            unchanged,
            dry_run: true,
            steps,
        })
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
            Effect::Reply { .. } | Effect::Record(_) | Effect::CountFlows => None,
            Effect::Prepare { .. }
            | Effect::CheckHealth { .. }
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
        let record = self.records.get(id);
        let live = || self.state.live.clone();
        ChangeAnswer {
            id: record.map(|record| record.id.clone()),
            group: self.name.clone(),
            kind: record.map_or(Kind::Flip, |record| record.kind),
            from: record.map_or_else(live, |record| record.from.clone()),
            to: record.map_or_else(live, |record| record.to.clone()),
            result: End::Switched,
            revision: self.state.revision,
            store_to_settled_us: record.and_then(|record| record.store_to_settled_us),
            forced: record.is_some_and(|record| record.forced),
            unchanged,
            dry_run: false,
            steps: Vec::new(),
        }
    }
}

impl Asked {
    /// In words.
    fn tried(&self) -> String {
        let group = &self.group;
        match (self.verb, &self.request.to) {
            (Verb::Flip, Some(to)) => format!("flip {group} to {to}"),
            (Verb::Flip, None) => format!("flip {group}"),
            (Verb::Rollback, _) => format!("roll back {group}"),
            (Verb::Abort, _) => format!("abort {group}"),
        }
    }

    /// Each verb has its own fields.
    fn check(&self) -> Result<(), Failure> {
        let ChangeRequest {
            to, force, hard, ..
        } = &self.request;
        let odd = match self.verb {
            Verb::Flip => hard.then_some("hard"),
            Verb::Rollback | Verb::Abort if to.is_some() => Some("to"),
            Verb::Rollback | Verb::Abort if *force => Some("force"),
            Verb::Abort => hard.then_some("hard"),
            Verb::Rollback => None,
        };
        odd.map_or(Ok(()), |field| {
            Err(Failure::new(
                Exit::Usage,
                "",
                format!("field `{field}` has no meaning here"),
            ))
        })
    }
}

fn event(verb: Verb, request: ChangeRequest, id: String) -> Event {
    let ChangeRequest {
        to,
        force,
        hard,
        if_revision,
        if_live,
        ..
    } = request;
    let order = Order {
        id,
        to,
        force,
        hard,
        if_revision,
        if_live,
    };
    match verb {
        Verb::Flip => Event::Flip(order),
        Verb::Rollback => Event::Rollback(order),
        Verb::Abort => Event::Abort(order),
    }
}
