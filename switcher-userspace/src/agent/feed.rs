//! Telling groups what has happened, and doing what is to be done about it.
//!
//! What has to wait for a grace period (11 to 15 ms) is put aside, with all that comes after it, until the settler
//! says that one has passed: a thousand groups wait for the same one, and the runner for none. Whatever else is to
//! happen to the group first waits for its grace period here, so that nothing comes in between.

use std::collections::VecDeque;

use jiff::Timestamp;
use tracing::{Span, warn};

use super::Runner;
use super::group::Group;
use super::settler::Ticket;
use crate::release::{Effect, Event, step};

/// What is left to do for a group.
pub(super) struct Work {
    effects: VecDeque<Effect>,
    events: VecDeque<Event>,
    /// The cut-over that went on before these effects.
    ended: Option<String>,
    /// The table of new flows before the first of them.
    before: Option<u32>,
}

/// What waits for a grace period.
pub(super) struct Pending {
    number: u64,
    since: Timestamp,
    /// What is said of it is about the same as before.
    about: Span,
    /// Begins with the effect that waits.
    work: Work,
}

/// A grace period that an effect has waited for.
#[derive(Clone)]
pub(super) struct Passed {
    /// Since when.
    pub(super) since: Timestamp,
    /// Why none was waited for.
    pub(super) result: Result<(), String>,
}

impl Runner {
    /// Tells a group what has happened, and does what is to be done about it.
    pub(super) fn feed(&mut self, name: &str, event: Event) {
        self.settle_now(name);
        let work = Work {
            effects: VecDeque::new(),
            events: VecDeque::from([event]),
            ended: None,
            before: self.current(name),
        };
        self.work_off(name, work, None);
    }

    /// Goes on with what has waited for a grace period, unless that was done without the settler.
    pub(super) fn settled(&mut self, tickets: Vec<Ticket>, result: &Result<(), String>) {
        self.datapath.forget_counts();
        for ticket in tickets {
            let group = self.groups.get_mut(&ticket.group);
            let ours = |pending: &mut Pending| pending.number == ticket.number;
            if let Some(pending) = group.and_then(|group| group.pending.take_if(ours)) {
                self.go_on(&ticket.group, pending, result.clone());
            }
        }
    }

    /// Nothing of a group waits any more.
    pub(super) fn settle_now(&mut self, name: &str) {
        while let Some(pending) = self.groups.get_mut(name).and_then(|it| it.pending.take()) {
            let result = self.wait_for_grace();
            self.go_on(name, pending, result);
        }
    }

    /// Nothing of any group waits any more.
    pub(super) fn settle_all(&mut self) {
        loop {
            let waiting = self.groups.values_mut();
            let waiting = waiting
                .filter_map(|group| Some((group.name.clone(), group.pending.take()?)))
                .collect::<Vec<_>>();
            if waiting.is_empty() {
                return;
            }
            let result = self.wait_for_grace();
            for (name, pending) in waiting {
                self.go_on(&name, pending, result.clone());
            }
        }
    }

    /// Waits for a grace period here and now.
    pub(super) fn wait_for_grace(&mut self) -> Result<(), String> {
        let settled = self.datapath.settle();
        settled.map(drop).map_err(|error| format!("{error:#}"))
    }

    fn go_on(&mut self, name: &str, pending: Pending, result: Result<(), String>) {
        let Pending {
            since, about, work, ..
        } = pending;
        let _about = about.entered();
        self.work_off(name, work, Some(Passed { since, result }));
    }

    fn work_off(&mut self, name: &str, mut work: Work, mut passed: Option<Passed>) {
        // What is fed while effects are carried out is done before the next of them.
        let within = self.enter(name, true);
        loop {
            while let Some(effect) = work.effects.pop_front() {
                if passed.is_none() && !within && needs_grace(&effect) && self.ask_settler(name) {
                    work.effects.push_front(effect);
                    self.tell_what_has_begun(name);
                    self.put_aside(name, work);
                    return;
                }
                if !leads_to_a_store(&effect) {
                    self.tell_what_has_begun(name);
                }
                let ended = work.ended.as_deref();
                let older = stores(&effect);
                let event = self.carry_out_about(name, ended, effect, passed.clone());
                work.events.extend(event);
                passed = passed.filter(|_| !older);
            }
            let Some(event) = work.events.pop_front() else {
                break;
            };
            let now = self.clock.now();
            let Some(group) = self.groups.get_mut(name) else {
                return;
            };
            work.ended = going_on(group);
            work.effects = step(&mut group.state, event, now).into();
            self.follow_stage(name);
        }
        self.tell_what_has_begun(name);
        if let Err(error) = self.journal.audit_what_waits() {
            warn!(group = name, "{error:#}");
        }
        self.enter(name, within);
        if self.current(name) != work.before {
            // Whoever is dead there has not mattered so far.
            self.tend(name);
        }
        self.changes.send_modify(|count| *count += 1);
    }

    /// Says whether something was being done for a group, and sets it.
    fn enter(&mut self, name: &str, within: bool) -> bool {
        let group = self.groups.get_mut(name);
        group.is_some_and(|group| std::mem::replace(&mut group.busy, within))
    }

    /// Has a grace period waited for elsewhere, if anybody does.
    fn ask_settler(&mut self, name: &str) -> bool {
        let number = self.tickets + 1;
        let group = name.to_owned();
        let settler = self.settler.as_ref();
        let asked = settler.is_some_and(|it| it.ask(Ticket { group, number }));
        self.tickets += u64::from(asked);
        asked
    }

    fn put_aside(&mut self, name: &str, work: Work) {
        debug_assert!(
            !work.effects.iter().any(stores),
            "what the state says is in the kernel by now"
        );
        if let Some(group) = self.groups.get_mut(name) {
            group.busy = false;
            group.pending = Some(Pending {
                number: self.tickets,
                since: Timestamp::now(),
                about: Span::current(),
                work,
            });
        }
        self.changes.send_modify(|count| *count += 1);
    }

    fn current(&self, name: &str) -> Option<u32> {
        let group = self.groups.get(name)?;
        Some(group.state.word.current())
    }
}

fn going_on(group: &Group) -> Option<String> {
    group.state.cutover().map(|it| it.id.clone())
}

/// What comes between an order and the word.
const fn leads_to_a_store(effect: &Effect) -> bool {
    matches!(effect, Effect::CheckHealth { .. } | Effect::Store(_))
}

/// What makes the grace periods before it too old.
const fn stores(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::Store(_) | Effect::SetTimes(_) | Effect::Abandon(_)
    )
}

/// What has to come after a grace period. All that the state says is in the kernel by then: who looks meanwhile sees both
/// agree.
const fn needs_grace(effect: &Effect) -> bool {
    matches!(effect, Effect::Settle { .. } | Effect::CloseWindow)
}
