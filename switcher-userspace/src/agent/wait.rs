//! Whether what somebody waits for holds.

use super::Runner;
use crate::api::model::ChangeAnswer;
use crate::cli::WaitCondition;
use crate::exit::{Exit, Failure};
use crate::health::Verdict;
use crate::output::human_flows;
use crate::release::{self, End, GroupState, Kind, Stage};

/// Whether a condition holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Met {
    /// It does.
    Yes,
    /// Not yet, and what it looks like now.
    NotYet(String),
    /// Not yet, and not before a person acts.
    Waits(String),
}

impl Runner {
    /// Whether a condition holds for a group. `cutover` is the one that somebody has just begun; without
    /// it, the last one counts.
    ///
    /// # Errors
    /// When there is no such group or colour, and when it can't hold any more.
    pub fn met(
        &self,
        name: &str,
        condition: &WaitCondition,
        cutover: Option<&str>,
    ) -> Result<Met, Failure> {
        let group = self.group(name)?;
        let state = &group.state;
        if group.pending.is_some() {
            return Ok(Met::NotYet(format!("the group is {}", group.phase())));
        }
        Ok(match condition {
            WaitCondition::Scheduled => {
                self.undone(name, cutover)?;
                let waits = matches!(&state.stage, Stage::Preparing(it) if !it.scheduled);
                holds(!waits, || format!("the group is {}", state.phase()))
            }
            WaitCondition::Switched | WaitCondition::Settled => {
                self.undone(name, cutover)?;
                holds(!before_settled(state), || {
                    format!("the group is {}", state.phase())
                })
            }
            WaitCondition::Drained => {
                self.undone(name, cutover)?;
                over(state.cutover().is_none(), state)
            }
            WaitCondition::Baked => {
                self.undone(name, cutover)?;
                self.gone_back(name, cutover)?;
                let watched = state.window().is_some_and(|window| window.bake.is_some());
                let grows = release::rollout(state).is_some();
                over(!before_settled(state) && !watched && !grows, state)
            }
            WaitCondition::Idle => {
                let held = state.paused_until().is_some() || state.canary().is_some();
                let idle = state.cutover().is_none() && !held;
                over(idle, state)
            }
            WaitCondition::Healthy { colour } => {
                let colours = self.config.groups.get(name).map(|group| &group.colours);
                if !colours.is_some_and(|colours| colours.contains(colour)) {
                    return Err(Failure::new(
                        Exit::NotFound,
                        "",
                        format!("there is no colour {colour}"),
                    ));
                }
                match self.health.verdict(name, colour) {
                    Verdict::Healthy => Met::Yes,
                    Verdict::Unhealthy(blockers) | Verdict::Unknown(blockers) => {
                        let all = blockers.iter().map(|it| format!("{}: {}", it.what, it.why));
                        Met::NotYet(all.collect::<Vec<_>>().join(", "))
                    }
                }
            }
            WaitCondition::RollbackEligible => {
                let rollback = self.rollback(self.group(name)?);
                holds(rollback.eligible, || rollback.blockers.join(", "))
            }
        })
    }

    /// The cut-over that is going on: what somebody who waits means.
    #[must_use]
    pub fn under_way(&self, name: &str) -> Option<String> {
        let state = &self.groups.get(name)?.state;
        if let Some(cutover) = state.cutover() {
            return Some(cutover.id.clone()).filter(|id| !id.is_empty());
        }
        // A canary that goes on by itself has made its last step, and others will follow.
        release::rollout(state)?;
        let last = self.journal.history(Some(name), 1).ok()?.pop()?;
        Some(last.id)
    }

    /// What has become of a cut-over that an order was answered for.
    #[must_use]
    pub fn outcome(&self, name: &str, id: &str) -> Option<ChangeAnswer> {
        let group = self.groups.get(name)?;
        if group.records.contains_key(id) {
            return Some(group.answer(id, false));
        }
        let owed = group.owed.get(id).map(|it| it.record().clone());
        let record = owed.or_else(|| self.journal.cutover(id).ok().flatten())?;
        let revision = record.revision.unwrap_or(group.state.revision);
        Some(ChangeAnswer {
            revision,
            ..group.answer_by(Some(&record), false)
        })
    }

    /// That a canary that went on by itself was taken back later.
    fn gone_back(&self, name: &str, cutover: Option<&str>) -> Result<(), Failure> {
        let begun = cutover.and_then(|id| self.journal.cutover(id).ok().flatten());
        let last = self.journal.history(Some(name), 1).ok();
        let last = last.and_then(|mut it| it.pop());
        let (Some(begun), Some(last)) = (begun, last) else {
            return Ok(());
        };
        let undone = last.kind == Kind::Rollback && last.from == begun.to;
        if !begun.receipt.policy || !undone {
            return Ok(());
        }
        let (id, by, to) = (&begun.id, &last.id, &begun.to);
        let why = format!("{to} was taken back by cut-over {by}, after canary {id}");
        Err(Failure::new(Exit::RolledBack, "", why)
            .advise(format!("`switcher show {by}` says by whom and why")))
    }

    /// That the cut-over waited for was stopped or undone.
    fn undone(&self, name: &str, cutover: Option<&str>) -> Result<(), Failure> {
        let record = match cutover {
            Some(id) => self.journal.cutover(id).ok().flatten(),
            None => self
                .journal
                .history(Some(name), 1)
                .ok()
                .and_then(|mut it| it.pop()),
        };
        let Some(record) = record else {
            return Ok(());
        };
        let id = &record.id;
        let (exit, why) = match record.result {
            Some(End::RolledBack) => (Exit::RolledBack, "was rolled back"),
            Some(End::Aborted) => (
                Exit::Precondition,
                "was stopped before anything was switched",
            ),
            Some(End::Failed) => (Exit::Unexpected, "could not be carried out"),
            Some(End::Scheduled | End::Switched | End::Succeeded) | None => return Ok(()),
        };
        Err(Failure::new(exit, "", format!("cut-over {id} {why}"))
            .advise(format!("`switcher show {id}` says more")))
    }
}

fn holds(condition: bool, otherwise: impl FnOnce() -> String) -> Met {
    if condition {
        Met::Yes
    } else {
        Met::NotYet(otherwise())
    }
}

fn before_settled(state: &GroupState) -> bool {
    match state.stage {
        Stage::Preparing(_) | Stage::Switching(_) => true,
        Stage::Idle | Stage::Confirming(_) | Stage::Baking(_) | Stage::Draining(_) => false,
    }
}

/// As [`holds`], of a window that has to end.
fn over(condition: bool, state: &GroupState) -> Met {
    match holds(condition, || left(state)) {
        Met::NotYet(now) if matches!(state.stage, Stage::Confirming(_)) => Met::Waits(now),
        met => met,
    }
}

fn left(state: &GroupState) -> String {
    match state.window().and_then(release::Window::flows_elsewhere) {
        Some(flows) => format!(
            "the group is {}, {} on the old endpoints",
            state.phase(),
            human_flows(flows)
        ),
        None => format!("the group is {}", state.phase()),
    }
}
