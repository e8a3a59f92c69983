//! Carrying out what the release logic asks.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use switcher_common::verdict::Reason;
use switcher_common::word::Phase;
use tracing::{error, info, warn};

use super::Runner;
use super::audit::{asked_entry, portrait};
use super::bake::behind;
use super::failed::failure;
use super::feed::Passed;
use super::group::{Begun, Counted, Gate, Waiting};
use super::record::by_itself;
use super::{hooks, outbox};
use crate::api::model::ChangeAnswer;
use crate::datapath::Datapath;
use crate::exit::Failure;
use crate::journal::{CutoverRecord, Entry, Who};
use crate::release::{Count, Cutover, Effect, End, Event, Outcome, Stage};

/// How long a held word is obeyed if the agent dies before it drains. Longer than it waits.
const HELD_AT_MOST: Duration = Duration::from_secs(4);

impl Runner {
    /// Does one thing, and says what came of it. Waits for a grace period that has not passed yet.
    pub(super) fn carry_out(
        &mut self,
        name: &str,
        effect: Effect,
        passed: Option<Passed>,
    ) -> Option<Event> {
        let group = self.groups.get_mut(name)?;
        match effect {
            Effect::Prepare {
                cutover,
                window,
                recorded,
            } => {
                let id = cutover.id.clone();
                return Some(match self.prepare(name, &cutover, window, recorded) {
                    Ok(()) => Event::Prepared { id },
                    Err(error) => Event::Unprepared {
                        id,
                        why: format!("{error:#}"),
                    },
                });
            }
            Effect::CheckHealth { id, colour } => {
                let health = &self.config.groups.get(name)?.health;
                let known = health.interval * health.rise + health.timeout;
                let patience = self.clock.now() + known + health.min_healthy;
                group.gate = Some(Gate {
                    id,
                    colour,
                    patience,
                    again: None,
                    passed: false,
                });
                return self.hear_gate(name);
            }
            Effect::CallHooks(call) => return self.call_hooks(name, &call, None),
            Effect::StopHooks { id } => self.stop_hooks(name, &id),
            Effect::Hold => self.datapath.hold_until(group.index, HELD_AT_MOST),
            Effect::SetTimes(times) => {
                self.datapath.set_times(group.index, times);
                if let Err(error) = self.datapath.settle() {
                    warn!(group = name, "no grace period: {error:#}");
                }
            }
            Effect::Store(word) => {
                if matches!(group.state.stage, Stage::Switching(_)) {
                    group.stored = Some(Instant::now());
                    group.first_packet = None;
                }
                self.datapath.store(group.index, word);
                let stored = self.datapath.word(group.index);
                if stored != word {
                    // Somebody else was as quick. What the kernel shows is what holds.
                    warn!(
                        group = name,
                        "the word read back is {:#018x}, not {:#018x}", stored.0, word.0
                    );
                    let id = self.journal.fresh_id(Timestamp::now());
                    return Some(Event::Found { id, word: stored });
                }
            }
            Effect::Abandon(epoch) => {
                self.datapath.give_up(group.index, epoch);
                match self.datapath.end_connections(group.index) {
                    Ok(ended) => info!(group = name, ended, "connections of other colours reset"),
                    Err(error) => {
                        warn!(group = name, "connections of other colours stay: {error:#}");
                    }
                }
            }
            Effect::Settle { id } => {
                self.settle(name, &id, passed);
                return Some(Event::Settled { id });
            }
            Effect::CloseWindow => {
                self.untended.insert(name.to_owned());
                let index = group.index;
                let passed = passed.map_or_else(|| self.wait_for_grace(), |it| it.result);
                let closed = passed.and_then(|()| {
                    let closed = self.datapath.close_window(index);
                    closed.map_err(|error| format!("{error:#}"))
                });
                if let Err(why) = closed {
                    error!(group = name, "the window's flow map stays in memory: {why}");
                }
            }
            Effect::CountFlows => return Some(self.count(name)),
            Effect::Observe { id } => return Some(self.observe(name, &id)),
            Effect::WakeAt(at) => group.wake = Some(at),
            Effect::Record(record) => self.record(name, record),
            Effect::Reply { id, outcome } => self.reply(name, &id, outcome),
        }
        None
    }

    /// The intent goes to disk before the word may be stored.
    fn prepare(
        &mut self,
        name: &str,
        cutover: &Cutover,
        window: bool,
        recorded: bool,
    ) -> anyhow::Result<()> {
        let receipt = self.receipt(name, cutover);
        let Some(group) = self.groups.get_mut(name) else {
            return Ok(());
        };
        let who = group
            .waiting
            .get(&cutover.id)
            .map(|waiting| waiting.who.clone());
        let undone = group.undone_for.take();
        let once = group
            .waiting
            .get(&cutover.id)
            .and_then(|it| it.once.clone());
        let who = who.or_else(|| undone_for(cutover, undone));
        let who = who.or_else(|| behind(cutover, &group.records));
        let who = who.unwrap_or_else(|| by_itself(cutover));
        let mut record = CutoverRecord::new(name, cutover, who, Timestamp::now());
        record.at = cutover.terms.at.map(|at| self.clock.wall(at));
        record.receipt = receipt;
        let occasion = hooks::told(&record, "started", &group.state.releases, &self.host);
        let events = outbox::outgoing(&self.config, std::slice::from_ref(&occasion));
        self.record_what_is_owed_by(name);
        match self.journal.begin_cutover(&record, once.as_ref(), &events) {
            Ok(()) => {}
            Err(error) if recorded => return Err(error),
            Err(error) => {
                warn!(
                    cutover = cutover.id,
                    "not recorded, carried out anyway: {error:#}"
                );
                if let Some(group) = self.groups.get_mut(name) {
                    group.owe(&record, events, &error);
                }
            }
        }
        let Some(group) = self.groups.get_mut(name) else {
            return Ok(());
        };
        group.drilled |= cutover.terms.drill;
        group.records.insert(cutover.id.clone(), record);
        group.begun = Some(Begun {
            cutover: cutover.clone(),
            occasion,
        });
        if window {
            if self.datapath.word(group.index).phase() == Phase::Steady {
                group.refused = refused_tags(self.datapath.as_ref());
            }
            self.datapath
                .open_window(group.index, self.config.agent.flows)?;
        }
        Ok(())
    }

    /// Tells what was prepared, unless that is known: on the way to its store nobody has to hear of it.
    pub(super) fn tell_what_has_begun(&mut self, name: &str) {
        let group = self.groups.get_mut(name);
        let Some(Begun { cutover, occasion }) = group.and_then(|it| it.begun.take()) else {
            return;
        };
        let _about = self.about(name, &cutover.id);
        info!(
            group = name,
            actor = occasion.actor,
            reason = occasion.reason,
            forced = cutover.forced,
            "{cutover}: preparing"
        );
        self.told.occasions.push(occasion);
        self.wake_outbox(name);
    }

    fn settle(&mut self, name: &str, id: &str, passed: Option<Passed>) {
        let settled = passed.map_or_else(|| self.wait_for_grace(), |it| it.result);
        let Some(group) = self.groups.get_mut(name) else {
            return;
        };
        // What was counted before belongs to another live colour.
        group.flows = None;
        let took = group.stored.take().map(|stored| stored.elapsed());
        let now = Timestamp::now();
        let Some(record) = group.records.get_mut(id) else {
            return;
        };
        match settled {
            Ok(()) => {
                if let Some(took) = took {
                    self.meters.settled(took);
                }
                let micros = took.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
                record.store_to_settled_us = micros;
            }
            Err(why) => warn!(group = name, cutover = id, "no grace period: {why}"),
        }
        let ago = took.and_then(|took| jiff::SignedDuration::try_from(took).ok());
        record.stored = ago.and_then(|ago| now.checked_sub(ago).ok()).or(Some(now));
        record.settled = Some(now);
    }

    /// Flows at endpoints that new flows don't go to.
    fn count(&mut self, name: &str) -> Event {
        self.count_flows(name);
        let used = match self
            .groups
            .get(name)
            .map(|group| self.datapath.flow_map_used(group.index))
        {
            Some(Ok(used)) => (used * 100.0) as u8,
            Some(Err(error)) => {
                warn!(
                    group = name,
                    "how full the flow map is can't be told: {error:#}"
                );
                0
            }
            None => 0,
        };
        Event::Flows(Count {
            elsewhere: self.elsewhere(name),
            used,
            refused: self.has_refused_tags(name),
        })
    }

    /// Whether tags were refused since the group's window opened. The counter is the host's: another group's
    /// refusals only make this one wait a little longer before it drains.
    fn has_refused_tags(&self, name: &str) -> bool {
        let before = self.groups.get(name).map_or(0, |group| group.refused);
        refused_tags(self.datapath.as_ref()) > before
    }

    /// Counts flows by endpoint.
    pub(super) fn count_flows(&mut self, name: &str) {
        let Some(group) = self.groups.get_mut(name) else {
            return;
        };
        let counted = self.datapath.flows(group.index, group.state.timing.learn);
        if let Err(error) = &counted {
            warn!(group = name, "flows can't be counted: {error:#}");
        }
        group.flows = Some(Counted {
            at: Instant::now(),
            flows: counted.ok(),
        });
    }

    fn reply(&mut self, name: &str, id: &str, outcome: Outcome) {
        let outcome = self.complete_blockers(name, outcome);
        let Some(group) = self.groups.get_mut(name) else {
            return;
        };
        let Some(waiting) = group.waiting.remove(id) else {
            return;
        };
        let answer = match outcome {
            Outcome::Switched => Ok(group.answer(id, false)),
            Outcome::Scheduled => Ok(ChangeAnswer {
                result: End::Scheduled,
                ..group.answer(id, false)
            }),
            Outcome::Unchanged => Ok(group.answer(id, true)),
            Outcome::Kept { cutover } => Ok(group.answer(&cutover, false)),
            Outcome::Stopped { cutover } => {
                let mut answer = group.answer(&cutover, true);
                (answer.id, answer.result) = (Some(cutover), End::Aborted);
                Ok(answer)
            }
            other => Err(failure(other)),
        };
        let Waiting {
            tried,
            who,
            once,
            asked,
            reply,
        } = waiting;
        let answer = answer.map_err(|failure| Failure {
            tried: tried.clone(),
            ..failure
        });
        if let Some((request, old)) = asked {
            let (old, new) = (portrait(&old), portrait(&group.state));
            let entry = asked_entry(Some(name), &who, tried, (&request, old, new));
            let cutover = answer.as_ref().ok().and_then(|it| it.id.clone());
            self.audit(Entry { cutover, ..entry }, &answer);
        }
        if let Err(failure) = &answer {
            info!(
                group = name,
                cutover = id,
                code = failure.exit.code(),
                "{failure}"
            );
        }
        if let Some(once) = once {
            self.answered_order(&once, &answer);
        }
        // Whoever asked may have gone; what was done stays done.
        let _gone = reply.send(answer);
    }
}

/// Tags refused on this host so far.
fn refused_tags(datapath: &dyn Datapath) -> u64 {
    let reasons = datapath.reasons().unwrap_or_default();
    let refused = reasons.iter().find(|(it, _)| *it == Reason::TagRefused);
    refused.map_or(0, |(_, count)| *count)
}

/// Who is behind a cut-over that undoes another one because of its hooks.
fn undone_for(cutover: &Cutover, undone: Option<(String, String)>) -> Option<Who> {
    let (id, why) = undone.filter(|(id, _)| cutover.id.strip_suffix("-back") == Some(id))?;
    Some(Who {
        actor: "agent".to_owned(),
        reason: Some(format!("hooks after {id}: {why}")),
    })
}
