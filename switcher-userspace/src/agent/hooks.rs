//! Calling hooks at moments of a group's life, and hearing of them.
//!
//! They run on the tokio runtime, one after the other, and tell the runner's thread what they come to. What is
//! called is recorded before, what came of it after; what an agent has not seen the end of is called again by
//! the next one if nobody waited for it, and up to the release logic otherwise.

use std::time::Duration;

use jiff::Timestamp;
use tokio::task::AbortHandle;
use tracing::{info, warn};

use super::Runner;
use super::handle::Handle;
use crate::config::{Hook, On};
use crate::hooks::{self, Occasion, Outcome};
use crate::journal::{Called, CutoverRecord, Unfinished, Who};
use crate::release::{Blocker, Call, Event, Kind, Moment, Releases, Stage};
use crate::traces::Part;

/// Time between two calls of Flagger's `rollback`.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Hooks that are running.
pub(super) struct Running {
    /// What they were told.
    occasion: String,
    /// The cut-over.
    id: String,
    moment: Moment,
    /// Their numbers in the journal.
    numbers: Vec<i64>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Runner {
    /// Calls the hooks of a moment. The answer comes at once if there are none any more.
    pub(super) fn call_hooks(
        &mut self,
        name: &str,
        call: &Call,
        who: Option<&Who>,
    ) -> Option<Event> {
        let Call { moment, id, .. } = call;
        let moment = *moment;
        let called: Vec<Hook> = self.hooks_of(name, call);
        if called.is_empty() {
            return moment.is_waited_for().then(|| Event::Hooks {
                id: id.clone(),
                moment,
                blockers: Vec::new(),
            });
        }
        let occasion = self.occasion(name, call, who);
        let what: Vec<(&str, bool)> = called
            .iter()
            .map(|hook| (hook.name.as_str(), hook.abort))
            .collect();
        let numbers = self.journal.calling(moment.name(), &occasion, &what);
        let numbers = numbers.unwrap_or_else(|error| {
            warn!(group = name, "called all the same: {error:#}");
            vec![0; called.len()]
        });
        info!(
            group = name,
            cutover = id,
            moment = moment.name(),
            "calling hooks"
        );
        self.run_hooks(name, (id.clone(), moment), occasion, called, numbers);
        None
    }

    fn hooks_of(&self, name: &str, call: &Call) -> Vec<Hook> {
        let hooks = self.config.groups.get(name).map(|group| &group.hooks);
        let hooks = hooks.into_iter().flatten();
        let wanted = hooks.filter(|hook| {
            let over_twice = hook.on == On::Over
                && call.moment == Moment::Drained
                && call.kind == Some(Kind::Rollback);
            hook.on.moments().contains(&call.moment) && !over_twice
        });
        wanted.cloned().collect()
    }

    fn run_hooks(
        &mut self,
        name: &str,
        (id, moment): (String, Moment),
        occasion: Occasion,
        called: Vec<Hook>,
        numbers: Vec<i64>,
    ) {
        let handle = self.handle.clone();
        let told = occasion.id.clone();
        let about = (name.to_owned(), id.clone(), moment);
        let listed: Vec<(Hook, i64)> = called.into_iter().zip(numbers.iter().copied()).collect();
        let task = self.runtime.spawn(run(handle, about, occasion, listed));
        let running = Running {
            occasion: told,
            id,
            moment,
            numbers,
            task: task.abort_handle(),
        };
        if let Some(group) = self.groups.get_mut(name) {
            group.calls.push(running);
        }
    }

    /// What a hook is told at a moment.
    fn occasion(&self, name: &str, call: &Call, who: Option<&Who>) -> Occasion {
        let group = self.groups.get(name);
        let record = self.record_of(name, &call.id);
        let unknown = Releases::default();
        let releases = group.map_or(&unknown, |group| &group.state.releases);
        let moment = call.moment.name();
        match (record, call.moment) {
            (Some(record), Moment::Drained) => {
                return drained(&record, &call.from, releases, &self.host);
            }
            (Some(record), _) => return told(&record, moment, releases, &self.host),
            (None, _) => {}
        }
        let id = match call.id.is_empty() {
            true => self.journal.fresh_id(Timestamp::now()),
            false => call.id.clone(),
        };
        let who = who.cloned().unwrap_or_default();
        let version = |colour: &str| releases.colours.get(colour)?.version.clone();
        let what = version(&call.to).map(|it| format!("{it} is on {}", call.to));
        Occasion {
            id: format!("{id}/{moment}"),
            event: moment.to_owned(),
            time: Timestamp::now(),
            host: self.host.clone(),
            group: name.to_owned(),
            from_version: version(&call.from),
            version: version(&call.to),
            from: Some(call.from.clone()),
            to: Some(call.to.clone()),
            cutover: Some(call.id.clone()).filter(|id| !id.is_empty()),
            kind: call.kind.map(|kind| kind.name().to_owned()),
            percent: None,
            actor: who.actor,
            reason: who.reason,
            message: format!("{name}: {}", what.unwrap_or_else(|| moment.to_owned())),
        }
    }

    /// A cut-over that may be over.
    pub(super) fn record_of(&self, name: &str, id: &str) -> Option<CutoverRecord> {
        let open = self.groups.get(name).and_then(|it| it.records.get(id));
        let over = || self.journal.cutover(id).ok().flatten();
        open.cloned().or_else(over)
    }

    /// One of them has ended.
    fn hook_ended(
        &mut self,
        (name, id): (&str, &str),
        hook: &Hook,
        (number, start): (i64, Timestamp),
        occasion: &Occasion,
        outcome: &Outcome,
    ) {
        let _about = self.about(name, id);
        self.trace_hook(id, hook, start, outcome);
        let called = if outcome.passed {
            Called::Passed
        } else {
            Called::Failed
        };
        if outcome.passed {
            info!(group = name, hook = hook.name, "passed: {}", outcome.why);
        } else {
            let attempts = outcome.attempts;
            warn!(
                group = name,
                hook = hook.name,
                attempts,
                "failed: {}",
                outcome.reason()
            );
        }
        let moment = &occasion.event;
        self.meters.hook(name, &hook.name, moment, called.name());
        let failed = (!outcome.passed).then(|| failed(hook, occasion, outcome));
        let events = failed.as_ref().map(|it| self.outgoing(it));
        let events = events.unwrap_or_default();
        self.told.occasions.extend(failed);
        if let Err(error) = self.journal.called(number, called, outcome, &events) {
            warn!(group = name, hook = hook.name, "{error:#}");
        }
        self.wake_outbox(name);
    }

    fn trace_hook(&self, id: &str, hook: &Hook, start: Timestamp, outcome: &Outcome) {
        let Outcome {
            passed, attempts, ..
        } = outcome;
        self.traces.did(Part {
            cutover: id,
            name: &format!("hook {}", hook.name),
            start,
            attributes: vec![
                ("switcher.hook.attempts", (*attempts).into()),
                ("switcher.hook.said", outcome.reason().into()),
            ],
            error: (!passed).then(|| outcome.reason()),
        });
    }

    /// All of them have.
    fn hooks_ended(&mut self, name: &str, id: &str, moment: Moment, blockers: Vec<Blocker>) {
        let _about = self.about(name, id);
        let Some(group) = self.groups.get_mut(name) else {
            return;
        };
        let place = group
            .calls
            .iter()
            .position(|it| it.id == id && it.moment == moment);
        // They were given up meanwhile.
        let Some(place) = place else {
            return;
        };
        let running = group.calls.swap_remove(place);
        self.not_called(&running);
        if moment.is_waited_for() {
            let passed = blockers.is_empty();
            self.heed(name, id, moment, blockers);
            if passed && moment == Moment::PostFlip {
                self.keep_asking(name, id);
            }
        }
        self.changes.send_modify(|count| *count += 1);
    }

    fn heed(&mut self, name: &str, id: &str, moment: Moment, blockers: Vec<Blocker>) {
        if let Some(group) = self.groups.get_mut(name)
            && moment == Moment::PostFlip
            && !blockers.is_empty()
        {
            let said: Vec<String> = blockers.iter().map(ToString::to_string).collect();
            group.undone_for = Some((id.to_owned(), said.join("; ")));
        }
        let id = id.to_owned();
        self.feed(
            name,
            Event::Hooks {
                id,
                moment,
                blockers,
            },
        );
    }

    /// Ends the hooks of a cut-over that were waited for.
    pub(super) fn stop_hooks(&mut self, name: &str, id: &str) {
        let Some(group) = self.groups.get_mut(name) else {
            return;
        };
        let waited = |it: &mut Running| it.id == id && it.moment.is_waited_for();
        let stopped: Vec<Running> = group.calls.extract_if(.., waited).collect();
        for running in &stopped {
            info!(
                group = name,
                cutover = id,
                moment = running.moment.name(),
                "hooks are ended"
            );
            self.not_called(running);
        }
    }

    /// Whichever have no end yet get none any more.
    fn not_called(&self, running: &Running) {
        for number in &running.numbers {
            let outcome = Outcome::default();
            let stopped = self.journal.called(*number, Called::Stopped, &outcome, &[]);
            if let Err(error) = stopped {
                warn!("{error:#}");
            }
        }
    }

    /// While a switch is to be confirmed or watched, Flagger's `rollback` is asked again and again.
    fn keep_asking(&mut self, name: &str, id: &str) {
        let hooks = self.config.groups.get(name).map(|group| &group.hooks);
        let hooks = hooks.into_iter().flatten();
        let hooks: Vec<Hook> = hooks.filter(|it| it.on == On::Rollback).cloned().collect();
        let Some(record) = self.groups.get(name).and_then(|it| it.records.get(id)) else {
            return;
        };
        if hooks.is_empty() || !self.is_undecided(name, id) {
            return;
        }
        let unknown = Releases::default();
        let releases = self
            .groups
            .get(name)
            .map_or(&unknown, |it| &it.state.releases);
        let occasion = told(record, Moment::PostFlip.name(), releases, &self.host);
        let (handle, name, id) = (self.handle.clone(), name.to_owned(), id.to_owned());
        self.runtime.spawn(async move {
            loop {
                tokio::time::sleep(ASK_AGAIN).await;
                let (group, cutover) = (name.clone(), id.clone());
                let goes_on = handle.ask(move |runner| runner.is_undecided(&group, &cutover));
                if !goes_on.await.unwrap_or(false) {
                    return;
                }
                for hook in &hooks {
                    let outcome = hooks::try_once(hook, &occasion).await;
                    if outcome.passed {
                        continue;
                    }
                    let (hook, occasion) = (hook.clone(), occasion.clone());
                    let (name, id) = (name.clone(), id.clone());
                    handle.tell(move |runner| {
                        runner.asked_back(&name, &id, &hook, &occasion, &outcome);
                    });
                    return;
                }
            }
        });
    }

    fn asked_back(
        &mut self,
        name: &str,
        id: &str,
        hook: &Hook,
        occasion: &Occasion,
        outcome: &Outcome,
    ) {
        let _about = self.about(name, id);
        let moment = Moment::PostFlip;
        let what = [(hook.name.as_str(), hook.abort)];
        match self.journal.calling(moment.name(), occasion, &what) {
            Ok(numbers) => {
                for number in numbers {
                    let called = (number, Timestamp::now());
                    self.hook_ended((name, id), hook, called, occasion, outcome);
                }
            }
            Err(error) => warn!(group = name, "{error:#}"),
        }
        self.heed(name, id, moment, vec![blocker(hook, outcome)]);
    }

    /// Whether a cut-over waits to be confirmed, or is watched.
    fn is_undecided(&self, name: &str, id: &str) -> bool {
        let stage = self.groups.get(name).map(|group| &group.state.stage);
        matches!(
            stage,
            Some(Stage::Confirming(window) | Stage::Baking(window)) if window.cutover.id == id
        )
    }

    /// What an agent before this one has called and not seen the end of: called again, unless somebody waited
    /// for it or this agent has called it already.
    pub(super) fn call_again(&mut self, name: &str, unfinished: Vec<Unfinished>) {
        for Unfinished {
            number,
            name: hook,
            moment,
            occasion,
        } in unfinished
        {
            let about = occasion.cutover.clone().unwrap_or_default();
            let _about = self.about(name, &about);
            let told = [Moment::Stage, Moment::RolledBack, Moment::Drained];
            let told = told.into_iter().find(|it| it.name() == moment);
            let running = self.groups.get(name).map(|group| &group.calls);
            let running = running.into_iter().flatten();
            let is_called = running.clone().any(|it| it.occasion == occasion.id);
            let hooks = self.config.groups.get(name).map(|group| &group.hooks);
            let known = hooks.into_iter().flatten().find(|it| it.name == hook);
            let known = known.filter(|it| told.is_some_and(|told| it.on.moments().contains(&told)));
            if let (Some(moment), Some(hook), false) = (told, known.cloned(), is_called) {
                info!(
                    group = name,
                    hook = hook.name,
                    moment = moment.name(),
                    "calling again"
                );
                let id = occasion.cutover.clone().unwrap_or_default();
                self.run_hooks(name, (id, moment), occasion, vec![hook], vec![number]);
                continue;
            }
            let outcome = Outcome {
                why: "the agent ended meanwhile".to_owned(),
                ..Outcome::default()
            };
            let ended = self
                .journal
                .called(number, Called::Interrupted, &outcome, &[]);
            if let Err(error) = ended {
                warn!(group = name, "{error:#}");
            }
        }
    }
}

/// Calls hooks, in order. The first that fails and matters is the last.
async fn run(
    handle: Handle,
    (name, id, moment): (String, String, Moment),
    occasion: Occasion,
    hooks: Vec<(Hook, i64)>,
) {
    let mut blockers = Vec::new();
    for (hook, number) in hooks {
        let called = (number, Timestamp::now());
        let outcome = hooks::call(&hook, &occasion).await;
        let matters = hook.abort || hook.on == On::Rollback;
        if !outcome.passed && matters && moment.is_waited_for() {
            blockers.push(blocker(&hook, &outcome));
        }
        let (name, id, told) = (name.clone(), id.clone(), occasion.clone());
        handle.tell(move |runner| {
            runner.hook_ended((&name, &id), &hook, called, &told, &outcome);
        });
        if !blockers.is_empty() {
            break;
        }
    }
    handle.tell(move |runner| runner.hooks_ended(&name, &id, moment, blockers));
}

fn blocker(hook: &Hook, outcome: &Outcome) -> Blocker {
    let reason = outcome.reason();
    Blocker {
        what: format!("hook {}", hook.name),
        why: match hook.on {
            On::Rollback => format!("it asks to roll back; {reason}"),
            On::Moment(_) | On::Event | On::Over => format!("it failed; {reason}"),
        },
    }
}

/// What is told of a hook that has failed, or asks to go back.
fn failed(hook: &Hook, occasion: &Occasion, outcome: &Outcome) -> Occasion {
    let Blocker { what, why } = blocker(hook, outcome);
    let (group, moment) = (&occasion.group, &occasion.event);
    Occasion {
        id: format!("{}/{}/failed", occasion.id, hook.name),
        event: "hook-failed".to_owned(),
        time: Timestamp::now(),
        message: format!("{group}: {what} ({moment}): {why}"),
        ..occasion.clone()
    }
}

/// What is told of a colour that a cut-over has left.
pub(super) fn drained(
    record: &CutoverRecord,
    colour: &str,
    releases: &Releases,
    host: &str,
) -> Occasion {
    let told = told(record, Moment::Drained.name(), releases, host);
    if record.from == colour {
        return told;
    }
    // A canary that another one has replaced, or that somebody has switched away from by hand.
    let release = releases.colours.get(colour);
    Occasion {
        id: format!("{}/{colour}", told.id),
        from: Some(colour.to_owned()),
        from_version: release.and_then(|it| it.version.clone()),
        message: format!("{}: {colour} has drained", record.group),
        ..told
    }
}

/// What is told of a cut-over.
pub(super) fn told(
    record: &CutoverRecord,
    event: &str,
    releases: &Releases,
    host: &str,
) -> Occasion {
    let CutoverRecord {
        id,
        group,
        kind,
        from,
        to,
        percent,
        actor,
        reason,
        ..
    } = record.clone();
    let version = |colour: &str| releases.colours.get(colour)?.version.clone();
    let said = |colour: &str| {
        let release = releases.colours.get(colour);
        release.map_or_else(|| colour.to_owned(), |it| it.said(colour))
    };
    let share = percent.map(|percent| format!(" {percent} %"));
    let share = share.unwrap_or_default();
    let message = format!("{group}: {} -> {}{share}: {event}", said(&from), said(&to));
    Occasion {
        id: format!("{id}/{event}"),
        event: event.to_owned(),
        time: Timestamp::now(),
        host: host.to_owned(),
        from_version: version(&from),
        version: version(&to),
        group,
        from: Some(from),
        to: Some(to),
        cutover: Some(id),
        kind: Some(kind.name().to_owned()),
        percent,
        actor,
        reason,
        message,
    }
}
