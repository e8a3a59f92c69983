//! Canaries by policy: see [`release::advance`].

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tracing::warn;

use super::Runner;
use super::asked::{Asked, Verb};
use crate::api::model::{ChangeAnswer, ChangeRequest};
use crate::exit::{Exit, Failure};
use crate::journal::Who;
use crate::release::{self, Advance, Bake, DEFAULT_BAKE, Millis, Share};

/// How long to wait after a step that could not be made.
const RETRY: Duration = Duration::from_secs(5);
/// How often to look at a canary, and how often at least.
const LOOK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A canary that goes on by itself.
#[derive(Default)]
pub(super) struct Steps {
    /// When to look at it.
    look: Millis,
    /// The answer to the last step.
    answer: Option<oneshot::Receiver<Result<ChangeAnswer, Failure>>>,
}

impl Runner {
    /// Takes canaries further, or back.
    pub(super) fn advance_canaries(&mut self) {
        let now = self.clock.now();
        let due = self
            .groups
            .values()
            .filter(|group| group.steps.look <= now && release::rollout(&group.state).is_some());
        let due: Vec<String> = due.map(|group| group.name.clone()).collect();
        for name in due {
            self.advance(&name, now);
        }
    }

    /// When to look again, of all of them the first.
    pub(super) fn next_step(&self) -> Option<Millis> {
        let groups = self.groups.values();
        let stepped = groups.filter(|group| release::rollout(&group.state).is_some());
        stepped.map(|group| group.steps.look).min()
    }

    /// A check has another result: that may be the end of a canary.
    pub(super) fn look_at_canary(&mut self, name: &str) {
        if let Some(group) = self.groups.get_mut(name) {
            group.steps.look = Millis(0);
        }
    }

    fn advance(&mut self, name: &str, now: Millis) {
        let Some(group) = self.groups.get_mut(name) else {
            return;
        };
        let held = group.state.gates.policy.canary.iter();
        let shortest = held.map(|it| it.time).min().unwrap_or(LOOK.1);
        group.steps.look = now + (shortest / 10).clamp(LOOK.0, LOOK.1);
        if group.steps.is_refused(name) {
            group.steps.look = now + RETRY;
            return;
        }
        let Some(share) = group.state.canary().cloned() else {
            return;
        };
        let limits = self.limits(name);
        let observed = self.observe_canary(name, &share, &limits);
        let Some(group) = self.groups.get(name) else {
            return;
        };
        if let Some(next) = release::advance(&group.state, now, &limits, &observed) {
            self.step_by_itself(name, share, next);
        }
    }

    /// What is doing badly, as for a flip.
    fn limits(&self, name: &str) -> Bake {
        let bake = self.config.groups.get(name).and_then(|group| group.bake);
        bake.unwrap_or(DEFAULT_BAKE)
    }

    fn step_by_itself(&mut self, name: &str, share: Share, next: Advance) {
        let Share {
            colour, percent, ..
        } = share;
        let (verb, request, reason) = match next {
            Advance::Step { percent: next } => (
                Verb::Canary,
                ChangeRequest {
                    to: Some(colour),
                    policy: true,
                    ..ChangeRequest::default()
                },
                format!("it did well with {percent} %, and gets {next} %"),
            ),
            Advance::Finish => (
                Verb::Flip,
                ChangeRequest {
                    to: Some(colour),
                    no_confirm: true,
                    ..ChangeRequest::default()
                },
                format!("it did well with {percent} %"),
            ),
            Advance::Back { why } => {
                let why = why.iter().map(|it| format!("{}: {}", it.what, it.why));
                let why = why.collect::<Vec<_>>().join("; ");
                let reason = format!("{colour} did badly with {percent} %: {why}");
                let _about = self.about_what_goes_on(name);
                warn!(group = name, "{reason}");
                (Verb::Abort, ChangeRequest::default(), reason)
            }
        };
        let (reply, answer) = oneshot::channel();
        let who = Who {
            actor: "agent".to_owned(),
            reason: Some(reason),
        };
        let group = name.to_owned();
        let asked = Asked {
            group,
            verb,
            request,
            who,
        };
        self.order(asked, reply);
        if let Some(group) = self.groups.get_mut(name) {
            group.steps.answer = Some(answer);
        }
    }

    /// The share that a canary by policy begins with, or goes on with.
    pub(super) fn first_share(&self, name: &str, colour: &str) -> Result<u8, Failure> {
        let group = self.group(name)?;
        let holds = &group.state.gates.policy.canary;
        let share = group.state.canary().filter(|share| share.colour == colour);
        let percent = share.map_or(0, |share| share.percent);
        release::step_above(holds, percent).ok_or_else(|| {
            let (exit, why, advice) = match holds.is_empty() {
                true => (
                    Exit::Usage,
                    format!("group {name} has no policy for canaries"),
                    "configure one: canary = { steps = [{ percent = 5, hold = \"2m\" }] }",
                ),
                false => (
                    Exit::Precondition,
                    format!("{colour} has {percent} % already, and the policy no larger share"),
                    "`flip` finishes it",
                ),
            };
            Failure::new(exit, "", why).advise(advice)
        })
    }
}

impl Steps {
    /// Whether the last step could not be made. One that is still being made is none.
    fn is_refused(&mut self, name: &str) -> bool {
        let Some(mut answer) = self.answer.take() else {
            return false;
        };
        match answer.try_recv() {
            Err(TryRecvError::Empty) => {
                self.answer = Some(answer);
                false
            }
            Ok(Ok(_)) | Err(TryRecvError::Closed) => false,
            Ok(Err(failure)) => {
                warn!(group = name, "{failure}");
                true
            }
        }
    }
}
