//! From the store to the end of the window.

use std::time::Duration;

use switcher_common::word::{Phase, flags};

use super::event::{COUNT_EVERY, Count, Effect, Outcome, Record};
use super::state::{End, GroupState, Millis, Stage, Window};
use super::{baking, confirming, hooks, left, rollout};

/// The percentage of the flow map from which on no more flows are learnt.
///
/// The rest is for what is tagged until the next count, and while the word is held.
pub(super) const FULL: u8 = 60;
/// How long the word is held before it drains, if tags were refused: two ticks and more, in which whoever was
/// sent to the old endpoint has answered its SYN-ACK, or repeated it.
const HOLD: Duration = Duration::from_millis(2_200);

/// No CPU acts on the old word any more: report, and wait for old flows.
pub(super) fn settled(state: &mut GroupState, mut window: Window, now: Millis) -> Vec<Effect> {
    let id = window.cutover.id.clone();
    window.bake = baking::begins(&window.cutover, now);
    rollout::switched(state, &window.cutover, now);
    let mut effects = vec![Effect::Record(Record::Switched { id: id.clone() })];
    effects.extend(hooks::settled(state, &mut window));
    if !window.hooks {
        let (id, outcome) = (id.clone(), Outcome::Switched);
        effects.push(Effect::Reply { id, outcome });
    }
    if window.cutover.hard {
        effects.push(Effect::CloseWindow);
        effects.extend(left::end(state, window.left, None));
        effects.push(Effect::Record(Record::Ended {
            id,
            end: End::Succeeded,
            leftovers: 0,
        }));
        state.stage = Stage::Idle;
    } else if state.word.has(flags::TIMED) {
        window.settled = true;
        effects.push(confirming::next(state, &window, now));
        state.stage = Stage::Confirming(window);
    } else if window.bake.is_some() {
        window.settled = true;
        effects.push(baking::enter(state, window, now));
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
    count: &Count,
    now: Millis,
) -> Vec<Effect> {
    let none_left = count
        .elsewhere
        .as_ref()
        .is_some_and(|it| it.values().all(|flows| *flows == 0));
    window.elsewhere = count.elsewhere.clone().or(window.elsewhere.take());
    // While hooks decide, it is their flip that would be undone.
    if window.deadline <= now && !window.hooks {
        return end(state, window);
    }
    let mut effects = Vec::new();
    match state.word.phase() {
        Phase::Open if window.learnt <= now || count.used >= FULL => {
            effects.extend(close(state, &mut window, count.refused, now));
        }
        Phase::Draining if window.hooks => {}
        Phase::Draining if none_left => return end(state, window),
        Phase::Draining => effects.extend(left::drained(state, &mut window, count)),
        Phase::Open | Phase::Arming | Phase::Steady => {}
    }
    effects.push(Effect::WakeAt(next_count(&window, now)));
    state.stage = Stage::Draining(window);
    effects
}

/// Unknown flows become new ones, but not before those whose tags were refused had a chance to be learnt.
pub(super) fn close(
    state: &mut GroupState,
    window: &mut Window,
    refused: bool,
    now: Millis,
) -> Vec<Effect> {
    match window.held_until {
        Some(until) if state.word.is_held() && until > now => Vec::new(),
        None if refused => {
            window.held_until = Some(now + HOLD);
            state.word = state.word.hold();
            vec![Effect::Hold, Effect::Store(state.word)]
        }
        Some(_) | None => {
            window.held_until = None;
            state.word = state.word.drain();
            vec![Effect::Store(state.word)]
        }
    }
}

/// Every so often, and when something is due.
pub(super) fn next_count(window: &Window, now: Millis) -> Millis {
    let due = [
        Some(window.learnt),
        Some(window.deadline),
        window.held_until,
    ];
    let due = due.into_iter().flatten().filter(|due| *due > now);
    due.fold(now + COUNT_EVERY, Ord::min)
}

/// Nothing of the old table is needed any more, or not for any longer.
fn end(state: &mut GroupState, window: Window) -> Vec<Effect> {
    let leftovers = window.flows_elsewhere().unwrap_or(0);
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
    let elsewhere = window.elsewhere.as_ref();
    effects.extend(left::end(state, window.left, elsewhere));
    let id = window.cutover.id;
    effects.push(Effect::Record(Record::Ended {
        id,
        end: End::Succeeded,
        leftovers,
    }));
    state.stage = Stage::Idle;
    effects
}
