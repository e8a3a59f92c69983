//! Holding new flows, and letting them in again.

use std::time::Duration;

use tracing::{info, warn};

use super::Runner;
use super::asked::Asked;
use super::audit::asked_entry;
use super::failed::failure;
use super::group::Group;
use super::terms::duration;
use crate::api::model::PauseAnswer;
use crate::exit::{Exit, Failure};
use crate::journal::{GroupRecord, Who};
use crate::release::{Effect, Event, Order, Outcome, step};
use jiff::Timestamp;
use serde_json::json;

/// The longest pause. Clients that get no answer for two minutes give up.
const LONGEST: Duration = Duration::from_secs(600);

impl Runner {
    /// Carries out a pause or its end, at once.
    ///
    /// # Errors
    /// When there is no such group, a precondition does not hold, or the time makes no sense.
    pub fn pause(&mut self, asked: &Asked) -> Result<PauseAnswer, Failure> {
        self.settle_now(&asked.group);
        let old = self.portrait(&asked.group);
        let done = self.try_pause(asked).map_err(|failure| Failure {
            tried: asked.tried(),
            ..failure
        });
        if asked.counts(&done) {
            let new = self.portrait(&asked.group);
            self.audit(asked.entry(old, new), &done);
        }
        done
    }

    fn try_pause(&mut self, asked: &Asked) -> Result<PauseAnswer, Failure> {
        let Asked {
            group: name,
            request,
            who,
            ..
        } = asked;
        asked.check()?;
        self.group(name)?;
        let order = Order {
            if_revision: request.if_revision,
            if_live: request.if_live.clone(),
            ..Order::default()
        };
        let event = match &request.duration {
            Some(text) => {
                let time = duration("for", text)?;
                if time > LONGEST {
                    let why = format!("for: {text} is longer than any client waits");
                    let most = humantime::format_duration(LONGEST);
                    return Err(
                        Failure::new(Exit::Usage, "", why).advise(format!("choose at most {most}"))
                    );
                }
                Event::Pause { order, time }
            }
            None => Event::Resume(order),
        };
        if !request.dry_run {
            let (actor, reason) = (&who.actor, &who.reason);
            info!(
                group = name,
                actor,
                reason,
                r#for = request.duration,
                "{}",
                asked.tried()
            );
        }
        let outcome = self.decide(name, event, request.dry_run);
        match outcome {
            Outcome::Held | Outcome::Unchanged => {}
            other => return Err(failure(other)),
        }
        let group = self.group(name)?;
        if outcome == Outcome::Held && !request.dry_run {
            // The kernel holds them whether or not it is recorded.
            let recorded = self.journal.put_group(&group.record(), None);
            recorded.unwrap_or_else(|error| warn!(group = name, "{error:#}"));
        }
        let until = group.state.paused_until();
        Ok(PauseAnswer {
            group: name.clone(),
            live: group.state.live.clone(),
            paused_until: until.map(|until| self.clock.wall(until)),
            revision: group.state.revision,
            unchanged: outcome == Outcome::Unchanged,
            dry_run: request.dry_run,
        })
    }

    /// Says of a pause that was recorded, and that the kernel knows nothing of, that it is over.
    pub(super) fn miss_pause(&self, name: &str, record: &GroupRecord) {
        let held = |group: &Group| group.state.paused_until().is_some();
        let now = Timestamp::now();
        let (Some(until), Some(group)) = (record.gates.paused, self.groups.get(name)) else {
            return;
        };
        if until <= now || held(group) {
            return;
        }
        let why = format!(
            "new connections are let in again before {until:.0}: the kernel knows of no pause any more, as after a \
             boot"
        );
        warn!(group = name, "the pause is over: {why}");
        let who = Who {
            actor: "agent".to_owned(),
            reason: Some(why),
        };
        let (old, new) = (json!({ "paused_until": until }), self.portrait(name));
        let what = format!("end the pause of {name}");
        self.audit(
            asked_entry(Some(name), &who, what, (&(), old, new)),
            &Ok(()),
        );
        let recorded = self.journal.put_group(&group.record(), None);
        recorded.unwrap_or_else(|error| warn!(group = name, "{error:#}"));
    }

    /// Has an event answered that needs nobody's answer itself.
    fn decide(&mut self, name: &str, event: Event, dry_run: bool) -> Outcome {
        let now = self.clock.now();
        let Some(group) = self.groups.get_mut(name) else {
            return Outcome::Unchanged;
        };
        let effects = if dry_run {
            step(&mut group.state.clone(), event, now)
        } else {
            step(&mut group.state, event, now)
        };
        let (mut answer, mut found) = (Outcome::Unchanged, Vec::new());
        for effect in effects {
            if let Effect::Reply { outcome, .. } = effect {
                answer = outcome;
            } else if !dry_run {
                found.extend(self.carry_out(name, effect, None));
            }
        }
        for event in found {
            self.feed(name, event);
        }
        self.changes.send_modify(|count| *count += 1);
        answer
    }
}
