//! A canary by policy: its share grows by itself while its colour does well, until it is live.
//!
//! What there is to remember is since when the present share has been there; which comes next follows from it.

use std::time::Duration;

use super::baking::{Bake, Observed, troubles};
use super::event::Blocker;
use super::gates::blockers;
use super::state::{Cutover, GroupState, Kind, Millis, Share, Stage};

/// A share of new flows, and how long it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// In percent, 1 to 99.
    pub percent: u8,
    /// For how long at least.
    pub time: Duration,
}

/// A canary that goes on by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// Its colour.
    pub colour: String,
    /// Since when it has the share that it has.
    pub since: Millis,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advance {
    /// Another share.
    Step {
        /// In percent.
        percent: u8,
    },
    /// All new flows: the flip.
    Finish,
    /// None: it does badly.
    Back {
        /// What it does badly.
        why: Vec<Blocker>,
    },
}

/// The canary that goes on by itself, with its share, if there is one.
#[must_use]
pub fn rollout(state: &GroupState) -> Option<(&Rollout, &Share)> {
    let rollout = state.gates.rollout.as_ref()?;
    let share = state.canary()?;
    (share.colour == rollout.colour).then_some((rollout, share))
}

/// When its share is to change, and what to, if it does well.
#[must_use]
pub fn next_share(state: &GroupState) -> Option<(Millis, Advance)> {
    let (rollout, share) = rollout(state)?;
    let holds = &state.gates.policy.canary;
    let held = holds.iter().rfind(|hold| hold.percent <= share.percent);
    let time = held.map(|hold| hold.time).unwrap_or_default();
    let next = match step_above(holds, share.percent) {
        Some(percent) => Advance::Step { percent },
        None => Advance::Finish,
    };
    Some((rollout.since + time, next))
}

/// The first share that is larger than this one.
#[must_use]
pub fn step_above(holds: &[Hold], percent: u8) -> Option<u8> {
    let mut above = holds.iter().map(|hold| hold.percent);
    above.find(|it| *it > percent)
}

/// What is to be done now, if anything. Only while nothing else goes on; and forward only if nothing is in the
/// way. There is no way back to a live colour that is no better.
#[must_use]
pub fn advance(
    state: &GroupState,
    now: Millis,
    limits: &Bake,
    observed: &Observed,
) -> Option<Advance> {
    let (at, next) = next_share(state)?;
    let calm = matches!(state.stage, Stage::Idle | Stage::Draining(_));
    if !calm || state.paused_until().is_some() {
        return None;
    }
    let why = troubles(limits, observed);
    if !why.is_empty() {
        return observed
            .way_back
            .is_empty()
            .then_some(Advance::Back { why });
    }
    let (_, share) = rollout(state)?;
    let free = blockers(state, &share.colour, now).is_empty();
    (at <= now && free && !observed.unknown).then_some(next)
}

/// A switch has been made: it may have been a step, or the end of them.
pub(super) fn switched(state: &mut GroupState, cutover: &Cutover, now: Millis) {
    if cutover.kind == Kind::Flip {
        state.gates.flipped();
    }
    state.gates.rollout = match cutover.kind {
        Kind::Canary => cutover.terms.policy.then(|| Rollout {
            colour: cutover.to.clone(),
            since: now,
        }),
        // The same share of other endpoints.
        Kind::Update => state.gates.rollout.take(),
        Kind::Flip | Kind::Rollback | Kind::Emergency => None,
    };
}
