//! From the store to the end of the window.

use switcher_common::word::Phase;

use super::event::{COUNT_EVERY, Effect, Outcome, Record};
use super::state::{End, GroupState, Millis, Stage, Window};

/// The percentage of the flow map from which on no more flows are learnt.
const FULL: u8 = 75;

/// No CPU acts on the old word any more: report, and wait for old flows.
pub(super) fn settled(state: &mut GroupState, mut window: Window, now: Millis) -> Vec<Effect> {
    let id = window.cutover.id.clone();
    let mut effects = vec![
        Effect::Record(Record::Switched { id: id.clone() }),
        Effect::Reply {
            id: id.clone(),
            outcome: Outcome::Switched,
        },
    ];
    if window.cutover.hard {
        effects.push(Effect::CloseWindow);
        effects.push(Effect::Record(Record::Ended {
            id,
            end: End::Succeeded,
            leftovers: 0,
        }));
        state.stage = Stage::Idle;
    } else {
        window.settled = true;
        effects.push(Effect::WakeAt(next_count(&window, now)));
        state.stage = Stage::Draining(window);
    }
    effects
}

/// How many flows are elsewhere, and how full the flow map is.
pub(super) fn counted(
    state: &mut GroupState,
    mut window: Window,
    elsewhere: Option<u64>,
    used: u8,
    now: Millis,
) -> Vec<Effect> {
    window.elsewhere = elsewhere.or(window.elsewhere);
    if window.deadline <= now {
        return end(state, window);
    }
    let mut effects = Vec::new();
    match state.word.phase() {
        Phase::Open if window.learnt <= now || used >= FULL => {
            state.word = state.word.drain();
            effects.push(Effect::Store(state.word));
        }
        Phase::Draining if elsewhere == Some(0) => return end(state, window),
        Phase::Open | Phase::Draining | Phase::Arming | Phase::Steady => {}
    }
    effects.push(Effect::WakeAt(next_count(&window, now)));
    state.stage = Stage::Draining(window);
    effects
}

/// Every so often, and when something is due.
fn next_count(window: &Window, now: Millis) -> Millis {
    let due = [window.learnt, window.deadline];
    let due = due.into_iter().filter(|due| *due > now);
    due.fold(now + COUNT_EVERY, Ord::min)
}

/// Nothing of the old table is needed any more, or not for any longer.
fn end(state: &mut GroupState, window: Window) -> Vec<Effect> {
    let leftovers = window.elsewhere.unwrap_or(0);
    state.word = state.word.settle();
    let mut effects = Vec::new();
    if leftovers > 0 {
        // UDP flows outlive a window; those that are left must not.
        let epoch = state.word.epoch().wrapping_add(1);
        state.word = state.word.with_epoch(epoch);
        effects.push(Effect::Store(state.word));
        effects.push(Effect::Abandon(epoch));
    } else {
        effects.push(Effect::Store(state.word));
    }
    effects.push(Effect::CloseWindow);
    let id = window.cutover.id;
    effects.push(Effect::Record(Record::Ended {
        id,
        end: End::Succeeded,
        leftovers,
    }));
    state.stage = Stage::Idle;
    effects
}
