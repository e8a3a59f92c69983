//! A switch at a set instant: its word is stored long before, and the program goes by the clock.
//!
//! It is taken back in two steps, for the instant may come in between: first it is put off for ever, and
//! when that holds on every CPU the clock says whether anybody can have seen the switch.

use switcher_common::abi::Times;
use switcher_common::word::{Phase, flags};

use super::event::{Effect, Order, Outcome, Record, Refusal, Why};
use super::preparing::{call_off, go_live, target_word};
use super::state::{Called, Cutover, End, GroupState, Millis, Preparing, Stage, Stopping};
use super::{asked, gates};

/// Whether a word can say what the cut-over's terms ask for. What it counts as before its instant, or goes
/// back to, is its `previous` slot, which in an open window is where that began.
pub(super) fn possible(state: &GroupState, cutover: &Cutover, now: Millis) -> Result<(), Refusal> {
    if let Some(at) = cutover.terms.at
        && at < now + arming(state)
    {
        let detail = "there is not enough time left until then: connections have to be noted for \
                      `drain.arm` before";
        let advice = "choose a later instant";
        return Err(Refusal::new(Why::Precondition, detail, advice));
    }
    let (word, terms) = (state.word, cutover.terms);
    let previous = word.previous();
    let before = u32::from(state.slots.get(&cutover.from).copied().unwrap_or_default());
    let taken = match word.phase() {
        Phase::Steady | Phase::Draining => false,
        Phase::Arming | Phase::Open => {
            terms.at.is_some() && previous != word.current()
                || terms.confirm.is_some() && previous != before
        }
    };
    if taken {
        let detail = "which connections the last switch left behind is being learnt still, and a word \
                      has room for one way back";
        let advice = "wait for `drain.learn` to pass, or flip without --at and --confirm-within";
        return Err(Refusal::new(Why::Busy, detail, advice));
    }
    Ok(())
}

/// Stores the word when nothing else is waited for, and switches when its time has come.
pub(super) fn proceed(
    state: &mut GroupState,
    mut preparing: Preparing,
    at: Millis,
    now: Millis,
) -> Vec<Effect> {
    if preparing.stopping.is_some() {
        state.stage = Stage::Preparing(preparing);
        return Vec::new();
    }
    if preparing.scheduled {
        if at <= now {
            return activate(state, preparing);
        }
        state.stage = Stage::Preparing(preparing);
        return vec![Effect::WakeAt(at)];
    }
    if !preparing.prepared || !preparing.healthy || preparing.hooks != Called::Passed {
        state.stage = Stage::Preparing(preparing);
        return Vec::new();
    }
    if at < now + arming(state) {
        let why = "it was not ready in time for the instant it was set for".to_owned();
        return call_off(state, preparing, Outcome::Failed(why), End::Failed, now);
    }
    let blockers = gates::hold_up(state, &preparing.cutover, now);
    if !blockers.is_empty() {
        let colour = preparing.cutover.to.clone();
        let outcome = Outcome::Blocked { colour, blockers };
        return call_off(state, preparing, outcome, End::Aborted, now);
    }
    preparing.scheduled = true;
    let confirm = preparing.cutover.terms.confirm;
    let arm = u64::try_from(arming(state).as_millis()).unwrap_or(u64::MAX);
    state.times = Times {
        arm_at: Millis(at.0.saturating_sub(arm)).nanoseconds(),
        activate_at: at.nanoseconds(),
        revert_at: confirm.map_or(Times::NEVER, |confirm| (at + confirm).nanoseconds()),
        ..state.times
    };
    state.word = target_word(state, &preparing.cutover).with(flags::TIMED);
    let id = preparing.cutover.id.clone();
    state.stage = Stage::Preparing(preparing);
    vec![
        Effect::SetTimes(state.times),
        Effect::Store(state.word),
        Effect::Reply {
            id,
            outcome: Outcome::Scheduled,
        },
        Effect::WakeAt(at),
    ]
}

/// The program has switched. A word without a way back needs no clock any more.
fn activate(state: &mut GroupState, preparing: Preparing) -> Vec<Effect> {
    let Preparing {
        cutover,
        left,
        before,
        ..
    } = preparing;
    let mut effects = Vec::new();
    if cutover.terms.confirm.is_none() {
        state.word = state.word.without(flags::TIMED);
        effects.push(Effect::Store(state.word));
    }
    effects.push(Effect::Settle {
        id: cutover.id.clone(),
    });
    let at = cutover.terms.at.unwrap_or_default();
    effects.extend(go_live(state, cutover, left, before, at));
    effects
}

/// Puts the switch off for ever; [`stopped`] goes on.
pub(super) fn stop(
    state: &mut GroupState,
    mut preparing: Preparing,
    outcome: Outcome,
    end: End,
    order: Option<Order>,
) -> Vec<Effect> {
    if preparing.stopping.is_some() {
        state.stage = Stage::Preparing(preparing);
        return Vec::new();
    }
    state.times.activate_at = Times::NEVER;
    let id = preparing.cutover.id.clone();
    preparing.stopping = Some(Box::new(Stopping {
        end,
        outcome,
        order,
    }));
    state.stage = Stage::Preparing(preparing);
    vec![Effect::SetTimes(state.times), Effect::Settle { id }]
}

/// It holds on every CPU. If the instant has passed, the switch was made, and is undone like any other.
pub(super) fn stopped(
    state: &mut GroupState,
    mut preparing: Preparing,
    now: Millis,
) -> Vec<Effect> {
    let Some(stopping) = preparing.stopping.take() else {
        state.stage = Stage::Preparing(preparing);
        return Vec::new();
    };
    let Stopping {
        end,
        outcome,
        order,
    } = *stopping;
    let id = preparing.cutover.id.clone();
    if preparing.cutover.terms.at.is_some_and(|at| at <= now) {
        let order = order.unwrap_or_else(|| Order {
            id: way_back(&id),
            ..Order::default()
        });
        let mut effects = activate(state, preparing);
        effects.retain(|effect| !matches!(effect, Effect::Store(_) | Effect::Settle { .. }));
        effects.push(Effect::Record(Record::Switched { id }));
        let stage = std::mem::replace(&mut state.stage, Stage::Idle);
        effects.extend(asked::back(state, stage, order, now));
        return effects;
    }
    state.word = state.word.at(&state.times, now.nanoseconds());
    // As after arming, which its last hours were.
    (preparing.scheduled, preparing.armed) = (false, Some(now));
    let mut effects = call_off(state, preparing, outcome, end, now);
    effects.extend(order.map(|order| Effect::Reply {
        id: order.id,
        outcome: Outcome::Stopped { cutover: id },
    }));
    effects
}

/// Name of the rollback that nobody ordered.
pub(super) fn way_back(id: &str) -> String {
    format!("{id}-back")
}

fn arming(state: &GroupState) -> std::time::Duration {
    if state.timing.tagged {
        state.timing.arm
    } else {
        std::time::Duration::ZERO
    }
}
