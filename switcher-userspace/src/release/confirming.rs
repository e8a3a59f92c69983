//! A switch that undoes itself: kept, prolonged, or over.

use std::time::Duration;

use switcher_common::word::{Phase, flags};

use super::asked::{answer, back, busy, preconditions};
use super::baking;
use super::event::{COUNT_EVERY, Count, Effect, Order, Outcome, Record, Refusal, Why};
use super::scheduled::way_back;
use super::state::{GroupState, Millis, Stage, Window};
use super::window::{FULL, close, next_count};

/// One store, and the word has no way back any more. The window has been learning all the time; now it can
/// end, counted from here.
pub(super) fn confirm(
    state: &mut GroupState,
    stage: Stage,
    order: Order,
    now: Millis,
) -> Vec<Effect> {
    let stage = match stage {
        Stage::Baking(window) if preconditions(state, &order).is_ok() => {
            return baking::end(state, window, order.id, now);
        }
        stage => stage,
    };
    let mut window = match pending(state, stage, &order, now) {
        Ok(window) => window,
        Err(refused) => return refused,
    };
    state.word = state.word.without(flags::TIMED);
    window.deadline = now + state.timing.deadline;
    let id = window.cutover.id.clone();
    let wake = match window.bake {
        Some(_) => baking::enter(state, window, now),
        None => {
            let wake = Effect::WakeAt(next_count(&window, now));
            state.stage = Stage::Draining(window);
            wake
        }
    };
    vec![
        Effect::Store(state.word),
        Effect::Record(Record::Confirmed { id: id.clone() }),
        Effect::Reply {
            id: order.id,
            outcome: Outcome::Kept { cutover: id },
        },
        wake,
    ]
}

/// One store of the instant.
pub(super) fn extend(
    state: &mut GroupState,
    stage: Stage,
    order: Order,
    by: Duration,
    now: Millis,
) -> Vec<Effect> {
    let window = match pending(state, stage, &order, now) {
        Ok(window) => window,
        Err(refused) => return refused,
    };
    let later = Millis::of(state.times.revert_at) + by;
    state.times.revert_at = later.nanoseconds();
    let id = window.cutover.id.clone();
    let wake = next(state, &window, now);
    state.stage = Stage::Confirming(window);
    vec![
        Effect::SetTimes(state.times),
        Effect::Record(Record::Extended { id: id.clone() }),
        Effect::Reply {
            id: order.id,
            outcome: Outcome::Kept { cutover: id },
        },
        wake,
    ]
}

/// Time is over, or flows are to be counted.
pub(super) fn wake(state: &mut GroupState, window: Window, now: Millis) -> Vec<Effect> {
    if state.confirm_by().is_none_or(|by| now < by) {
        let id = window.cutover.id.clone();
        let watched = window.bake.map(|_| Effect::Observe { id });
        state.stage = Stage::Confirming(window);
        return std::iter::once(Effect::CountFlows).chain(watched).collect();
    }
    let order = Order {
        id: way_back(&window.cutover.id),
        ..Order::default()
    };
    // The program has gone back already. The rollback stores the word that it has been acting on.
    back(state, Stage::Confirming(window), order, now)
}

/// Flows were counted in a window that goes on learning: it closes if the flow map is nearly full.
pub(super) fn learnt(
    state: &mut GroupState,
    window: &mut Window,
    count: &Count,
    now: Millis,
) -> Vec<Effect> {
    window.elsewhere = count.elsewhere.clone().or(window.elsewhere.take());
    let full = state.word.phase() == Phase::Open && count.used >= FULL;
    match full {
        true => close(state, window, count.refused, now),
        false => Vec::new(),
    }
}

/// The window goes on learning until somebody confirms, unless the flow map is nearly full: a word that goes
/// back from `open` needs no tags for that.
pub(super) fn counted(
    state: &mut GroupState,
    mut window: Window,
    count: &Count,
    now: Millis,
) -> Vec<Effect> {
    let mut effects = learnt(state, &mut window, count, now);
    effects.push(next(state, &window, now));
    state.stage = Stage::Confirming(window);
    effects
}

/// Every so often, and when time is over.
pub(super) fn next(state: &GroupState, window: &Window, now: Millis) -> Effect {
    let held = window.held_until.filter(|until| *until > now);
    let look = window.bake.as_ref().map(|bake| baking::look_at(bake, now));
    let due = [state.confirm_by(), held, look].into_iter().flatten();
    Effect::WakeAt(due.fold(now + COUNT_EVERY, Ord::min))
}

/// The window of a switch that can still be kept; or the answer that there is none.
fn pending(
    state: &mut GroupState,
    stage: Stage,
    order: &Order,
    now: Millis,
) -> Result<Window, Vec<Effect>> {
    let refusal = match (preconditions(state, order), stage) {
        (Err(refusal), stage) => (refusal, stage),
        (Ok(()), Stage::Confirming(window)) => {
            if state.confirm_by().is_some_and(|by| now < by) {
                return Ok(window);
            }
            let detail = format!("the time to confirm {} is over", window.cutover);
            let advice = "it is rolled back; `flip` to go forward again";
            let refusal = Refusal::new(Why::Expired, detail, advice);
            (refusal, Stage::Confirming(window))
        }
        (
            Ok(()),
            stage @ (Stage::Idle
            | Stage::Preparing(_)
            | Stage::Switching(_)
            | Stage::Baking(_)
            | Stage::Draining(_)),
        ) => {
            let advice = "`flip --confirm-within` makes a switch that has to be confirmed";
            (busy("nothing is waiting to be confirmed", advice), stage)
        }
    };
    let (refusal, stage) = refusal;
    let outcome = Outcome::Refused(refusal);
    Err(answer(state, stage, order.id.clone(), outcome))
}
