//! Holding new flows for a while. The program ends a pause by itself; the agent only tidies up.

use std::time::Duration;

use switcher_common::word::flags;

use super::asked::{answer, preconditions};
use super::event::{Effect, Order, Outcome};
use super::state::{GroupState, Millis, Stage};

/// Whatever goes on. A pause that is on lasts until the new time, be it sooner or later.
pub(super) fn pause(
    state: &mut GroupState,
    stage: Stage,
    order: Order,
    time: Duration,
    now: Millis,
) -> Vec<Effect> {
    if let Err(refusal) = preconditions(state, &order) {
        return answer(state, stage, order.id, Outcome::Refused(refusal));
    }
    state.stage = stage;
    state.times.paused_until = (now + time).nanoseconds();
    let mut effects = vec![Effect::SetTimes(state.times)];
    if !state.word.has(flags::PAUSED) {
        state.word = state.word.with(flags::PAUSED);
        effects.push(Effect::Store(state.word));
    }
    effects.push(Effect::Reply {
        id: order.id,
        outcome: Outcome::Held,
    });
    effects
}

/// Lets new flows in.
pub(super) fn resume(state: &mut GroupState, stage: Stage, order: Order) -> Vec<Effect> {
    if let Err(refusal) = preconditions(state, &order) {
        return answer(state, stage, order.id, Outcome::Refused(refusal));
    }
    if !state.word.has(flags::PAUSED) {
        return answer(state, stage, order.id, Outcome::Unchanged);
    }
    state.stage = stage;
    let mut effects = end(state);
    effects.push(Effect::Reply {
        id: order.id,
        outcome: Outcome::Held,
    });
    effects
}

/// Time is over: the word says so, too.
pub(super) fn over(state: &mut GroupState, stage: Stage, now: Millis) -> Vec<Effect> {
    state.stage = stage;
    match state.paused_until() {
        Some(until) if until <= now => end(state),
        Some(_) | None => Vec::new(),
    }
}

fn end(state: &mut GroupState) -> Vec<Effect> {
    state.word = state.word.without(flags::PAUSED);
    vec![Effect::Store(state.word)]
}
