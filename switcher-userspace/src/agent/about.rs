//! Which cut-over something is done for, so that the log and traces say it.

use jiff::Timestamp;
use tracing::Span;
use tracing::span::EnteredSpan;

use super::Runner;
use super::feed::Passed;
use crate::journal::CutoverRecord;
use crate::log;
use crate::release::{Called, Effect, End, Event, Preparing, Record, Stage};
use crate::traces::Part;

impl Runner {
    /// Carries out an effect, and whatever is said of that is about its cut-over. Effects that name none are
    /// for the one that goes on, or for the one before, which has just ended.
    pub(super) fn carry_out_about(
        &mut self,
        name: &str,
        before: Option<&str>,
        effect: Effect,
        passed: Option<Passed>,
    ) -> Option<Event> {
        let _about = match named(&effect).or(before.filter(|_| self.going_on(name).is_none())) {
            Some(id) => self.about(name, id),
            None => self.about_what_goes_on(name),
        };
        let part = part(&effect);
        let over = self.over(name, &effect);
        let waited = passed.as_ref().map(|it| it.since);
        let start = waited.unwrap_or_else(Timestamp::now);
        let answer = self.carry_out(name, effect, passed);
        if let Some(part) = part {
            let cutover = self.going_on(name).unwrap_or_default();
            self.traces.did(Part {
                cutover,
                name: part,
                start,
                attributes: Vec::new(),
                error: None,
            });
        }
        if let Some((record, end)) = over {
            self.traces.ended(&record, end);
        }
        answer
    }

    /// The record of a cut-over that an effect ends.
    fn over(&self, name: &str, effect: &Effect) -> Option<(CutoverRecord, End)> {
        let Effect::Record(Record::Ended { id, end, .. }) = effect else {
            return None;
        };
        let record = self.groups.get(name)?.records.get(id)?;
        Some((record.clone(), *end))
    }

    /// Traces show the stages of a cut-over.
    pub(super) fn follow_stage(&mut self, name: &str) {
        let group = self.groups.get(name);
        let stage = group.and_then(|group| {
            let cutover = group.state.cutover()?;
            Some((cutover.id.as_str(), stage(&group.state.stage)))
        });
        self.traces.follow(name, stage);
    }

    /// From here on everything is about a cut-over.
    pub(super) fn about(&self, name: &str, id: &str) -> EnteredSpan {
        if id.is_empty() {
            return Span::none().entered();
        }
        let group = self.groups.get(name);
        let recorded = group.and_then(|it| Some(it.records.get(id)?.to.as_str()));
        let going_on = group.and_then(|it| it.state.cutover());
        let going_on = going_on.filter(|it| it.id == id).map(|it| it.to.as_str());
        let trace_id = self.traces.id(id);
        log::about(name, id, going_on.or(recorded), trace_id.as_deref()).entered()
    }

    /// From here on everything is about the cut-over that goes on in a group, if one does.
    pub(super) fn about_what_goes_on(&self, name: &str) -> EnteredSpan {
        self.about(name, self.going_on(name).unwrap_or_default())
    }

    fn going_on(&self, name: &str) -> Option<&str> {
        let cutover = self.groups.get(name)?.state.cutover()?;
        Some(&cutover.id)
    }
}

/// Effects that take their time.
const fn part(effect: &Effect) -> Option<&'static str> {
    match effect {
        Effect::Store(_) => Some("store"),
        Effect::Settle { .. } => Some("settle"),
        _ => None,
    }
}

/// A stage, as far as whoever waits can tell it from others.
fn stage(stage: &Stage) -> &'static str {
    match stage {
        Stage::Idle => "idle",
        Stage::Preparing(preparing) => preparation(preparing),
        Stage::Switching(_) => "switch",
        Stage::Confirming(_) => "confirm",
        Stage::Baking(_) => "bake",
        Stage::Draining(_) => "drain",
    }
}

fn preparation(preparing: &Preparing) -> &'static str {
    let Preparing {
        prepared,
        healthy,
        hooks,
        armed,
        scheduled,
        stopping,
        ..
    } = preparing;
    match hooks {
        _ if stopping.is_some() => "stop",
        _ if *scheduled => "wait",
        _ if armed.is_some() => "arm",
        _ if !prepared => "prepare",
        _ if !healthy => "gates",
        Called::Waiting => "hooks",
        Called::Due | Called::Passed => "prepare",
    }
}

/// The cut-over that an effect names. Hooks of a release that was put on a colour are for none.
fn named(effect: &Effect) -> Option<&str> {
    match effect {
        Effect::Prepare { cutover, .. } => Some(&cutover.id),
        Effect::CheckHealth { id, .. }
        | Effect::StopHooks { id }
        | Effect::Settle { id }
        | Effect::Observe { id }
        | Effect::Reply { id, .. } => Some(id),
        Effect::CallHooks(call) => Some(&call.id),
        Effect::Record(record) => Some(match record {
            Record::Switched { id }
            | Record::Ended { id, .. }
            | Record::Drained { id, .. }
            | Record::Confirmed { id }
            | Record::Hooked { id }
            | Record::Extended { id }
            | Record::Bake { id, .. } => id,
            Record::Found { cutover, .. } => &cutover.id,
        }),
        Effect::Hold
        | Effect::SetTimes(_)
        | Effect::Store(_)
        | Effect::Abandon(_)
        | Effect::CloseWindow
        | Effect::CountFlows
        | Effect::WakeAt(_) => None,
    }
}
