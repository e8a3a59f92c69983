//! From an order to the store.

use switcher_common::abi::Times;
use switcher_common::word::{Phase, Word, flags};

use super::event::{Blocker, COUNT_EVERY, Count, Effect, Outcome, Record};
use super::left::{self, Left};
use super::state::{Called, Cutover, End, GroupState, Kind, Millis, Preparing, Stage, Window};
use super::window::{FULL, close, next_count};
use super::{baking, gates, hooks, scheduled};

/// Enters preparing.
pub(super) fn begin(
    state: &mut GroupState,
    cutover: Cutover,
    before: Option<Window>,
    _now: Millis,
) -> Vec<Effect> {
    let left = left::by(state, before.as_ref(), &cutover);
    let gated = matches!(cutover.kind, Kind::Flip | Kind::Canary) && !cutover.forced;
    let mut effects = vec![Effect::Prepare {
        cutover: cutover.clone(),
        window: state.timing.tagged && !cutover.hard,
        recorded: cutover.kind != Kind::Rollback,
    }];
    if gated {
        effects.push(Effect::CheckHealth {
            id: cutover.id.clone(),
            colour: cutover.to.clone(),
        });
    }
    state.stage = Stage::Preparing(Preparing {
        hooks: hooks::due(state, &cutover),
        cutover,
        prepared: false,
        healthy: !gated,
        armed: None,
        scheduled: false,
        stopping: None,
        left,
        before,
    });
    effects
}

/// The intent is on disk, the flow map is there: hooks may be called, and SYNs tagged.
pub(super) fn prepared(
    state: &mut GroupState,
    mut preparing: Preparing,
    now: Millis,
) -> Vec<Effect> {
    preparing.prepared = true;
    advance(state, preparing, now)
}

/// Hooks are called when nothing else stands in the way. After them SYNs are tagged: that takes seconds and
/// memory, and hooks may take minutes.
pub(super) fn advance(
    state: &mut GroupState,
    mut preparing: Preparing,
    now: Millis,
) -> Vec<Effect> {
    match preparing.hooks {
        Called::Due if preparing.prepared && preparing.healthy => {
            let blockers = gates::hold_up(state, &preparing.cutover, now);
            if !blockers.is_empty() {
                let colour = preparing.cutover.to.clone();
                let outcome = Outcome::Blocked { colour, blockers };
                return call_off(state, preparing, outcome, End::Aborted, now);
            }
            let called = hooks::call(&mut preparing);
            let tended = preparing.before.is_some().then_some(Effect::WakeAt(now));
            state.stage = Stage::Preparing(preparing);
            return std::iter::once(called).chain(tended).collect();
        }
        Called::Due | Called::Waiting => {
            state.stage = Stage::Preparing(preparing);
            return Vec::new();
        }
        Called::Passed => {}
    }
    let at = preparing.cutover.terms.at;
    let armed = preparing.armed.is_some() || !needs_arming(state, &preparing.cutover);
    if !preparing.prepared || at.is_some() || armed {
        return proceed(state, preparing, now);
    }
    let armed = now + state.timing.arm;
    preparing.armed = Some(armed);
    state.word = state.word.arm();
    state.stage = Stage::Preparing(preparing);
    vec![Effect::Store(state.word), Effect::WakeAt(armed)]
}

/// What the target's health is, for the first time or again.
pub(super) fn health(
    state: &mut GroupState,
    mut preparing: Preparing,
    blockers: Vec<Blocker>,
    now: Millis,
) -> Vec<Effect> {
    if !blockers.is_empty() {
        return call_off(
            state,
            preparing,
            Outcome::Unhealthy(blockers),
            End::Aborted,
            now,
        );
    }
    preparing.healthy = true;
    advance(state, preparing, now)
}

/// Something is due; while hooks run, the window that was open before.
pub(super) fn wake(state: &mut GroupState, preparing: Preparing, now: Millis) -> Vec<Effect> {
    if preparing.hooks == Called::Waiting && preparing.before.is_some() {
        state.stage = Stage::Preparing(preparing);
        return vec![Effect::CountFlows];
    }
    proceed(state, preparing, now)
}

/// While hooks run, an earlier window learns and drains as ever. It ends afterwards.
pub(super) fn counted(
    state: &mut GroupState,
    mut preparing: Preparing,
    count: Count,
    now: Millis,
) -> Vec<Effect> {
    let mut effects = Vec::new();
    if let (Called::Waiting, Some(window)) = (preparing.hooks, preparing.before.as_mut()) {
        window.elsewhere = count.elsewhere.or(window.elsewhere.take());
        let closes = window.learnt <= now || count.used >= FULL;
        if state.word.phase() == Phase::Open && closes {
            effects.extend(close(state, window, count.refused, now));
        }
        effects.push(Effect::WakeAt(next_count(window, now)));
    }
    state.stage = Stage::Preparing(preparing);
    effects
}

/// It could not be prepared.
pub(super) fn fail(
    state: &mut GroupState,
    preparing: Preparing,
    why: String,
    now: Millis,
) -> Vec<Effect> {
    call_off(state, preparing, Outcome::Failed(why), End::Failed, now)
}

/// Switches if nothing is waited for any more.
pub(super) fn proceed(state: &mut GroupState, preparing: Preparing, now: Millis) -> Vec<Effect> {
    if let Some(at) = preparing.cutover.terms.at {
        return scheduled::proceed(state, preparing, at, now);
    }
    let armed = preparing.armed.is_none_or(|armed| armed <= now);
    let passed = preparing.hooks == Called::Passed;
    if preparing.prepared && preparing.healthy && passed && armed {
        let blockers = gates::hold_up(state, &preparing.cutover, now);
        if !blockers.is_empty() {
            let colour = preparing.cutover.to.clone();
            let outcome = Outcome::Blocked { colour, blockers };
            return call_off(state, preparing, outcome, End::Aborted, now);
        }
        return switch(state, preparing, now);
    }
    state.stage = Stage::Preparing(preparing);
    Vec::new()
}

/// Back to where it began: idle, or the window that was open.
pub(super) fn call_off(
    state: &mut GroupState,
    preparing: Preparing,
    outcome: Outcome,
    end: End,
    now: Millis,
) -> Vec<Effect> {
    if preparing.scheduled {
        return scheduled::stop(state, preparing, outcome, end, None);
    }
    let Preparing {
        cutover,
        prepared,
        healthy: _,
        hooks,
        armed,
        scheduled: _,
        stopping: _,
        left: _,
        before,
    } = preparing;
    let mut effects = Vec::new();
    if hooks == Called::Waiting {
        effects.push(Effect::StopHooks {
            id: cutover.id.clone(),
        });
    }
    let opened = prepared && state.timing.tagged && !cutover.hard;
    match before {
        None => {
            if armed.is_some() {
                state.word = state.word.settle();
                effects.push(Effect::Store(state.word));
            }
            if opened {
                effects.push(Effect::CloseWindow);
            }
            state.stage = Stage::Idle;
        }
        Some(window) => {
            if armed.is_some() {
                // Right after `draining` too: `previous` is `current` then, so old and new agree.
                state.word = state.word.with_phase(Phase::Open);
                effects.push(Effect::Store(state.word));
            }
            effects.push(resume_window(state, window, now));
        }
    }
    let id = cutover.id;
    effects.push(Effect::Record(Record::Ended {
        id: id.clone(),
        end,
        leftovers: 0,
    }));
    effects.push(Effect::Reply { id, outcome });
    effects
}

/// The window goes on where it was when something else came in between.
fn resume_window(state: &mut GroupState, window: Window, now: Millis) -> Effect {
    if window.settled && state.word.has(flags::TIMED) {
        state.stage = Stage::Confirming(window);
        return Effect::WakeAt(now + COUNT_EVERY);
    }
    if window.settled && window.bake.is_some() {
        return baking::enter(state, window, now);
    }
    if window.settled {
        state.stage = Stage::Draining(window);
        return Effect::WakeAt(now);
    }
    let id = window.cutover.id.clone();
    state.stage = Stage::Switching(window);
    Effect::Settle { id }
}

/// The store. What is wanted of the kernel afterwards is in [`super::window`].
fn switch(state: &mut GroupState, preparing: Preparing, now: Millis) -> Vec<Effect> {
    let Preparing {
        cutover,
        left,
        before,
        ..
    } = preparing;
    state.word = target_word(state, &cutover);
    let mut effects = Vec::new();
    if let Some(confirm) = cutover.terms.confirm {
        state.times = Times {
            arm_at: 0,
            activate_at: 0,
            revert_at: (now + confirm).nanoseconds(),
            ..state.times
        };
        state.word = state.word.with(flags::TIMED);
        effects.push(Effect::SetTimes(state.times));
    }
    effects.push(Effect::Store(state.word));
    if cutover.hard {
        effects.push(Effect::Abandon(state.word.epoch()));
    }
    effects.push(Effect::Settle {
        id: cutover.id.clone(),
    });
    effects.extend(go_live(state, cutover, left, before, now));
    effects
}

/// From now on the cut-over's colour is live.
pub(super) fn go_live(
    state: &mut GroupState,
    cutover: Cutover,
    left: Left,
    before: Option<Window>,
    now: Millis,
) -> Vec<Effect> {
    let effects = before.map(|window| superseded(window, &cutover));
    if !state.shares.contains_key(&cutover.slot) {
        state.slots.insert(cutover.to.clone(), cutover.slot);
    }
    if cutover.kind != Kind::Canary {
        state.make_live(&cutover.to, now);
    }
    state.stage = Stage::Switching(Window {
        left,
        ..Window::new(cutover, &state.timing, now)
    });
    effects.unwrap_or_default()
}

/// The word that a cut-over stores.
pub(super) fn target_word(state: &GroupState, cutover: &Cutover) -> Word {
    let Cutover {
        kind, slot, hard, ..
    } = *cutover;
    // A canary's slot is nobody's to preview.
    let staging = match kind {
        Kind::Canary | Kind::Update => state.word.staging(),
        Kind::Flip | Kind::Rollback | Kind::Emergency if cutover.to == state.live => {
            state.word.staging()
        }
        Kind::Flip | Kind::Rollback | Kind::Emergency => {
            let waits = state.previewed(&cutover.to).map(u32::from);
            let alone = state.canary().and_then(|_| state.slots.get(&state.live));
            let from = alone.map_or(state.word.current(), |slot| u32::from(*slot));
            waits.unwrap_or(from)
        }
    };
    if hard {
        return state.word.force(slot.into()).with_staging(staging);
    }
    let switched = state.word.switch_to(slot.into()).with_staging(staging);
    if state.timing.tagged {
        switched
    } else {
        switched.drain()
    }
}

/// How a cut-over ends when another one follows in its window.
pub(super) fn superseded(window: Window, by: &Cutover) -> Vec<Effect> {
    let given_up = hooks::give_up(&window);
    let id = window.cutover.id;
    let undone = by.kind == Kind::Rollback
        && by.to == window.cutover.from
        && window.cutover.kind != Kind::Update;
    let end = if undone {
        End::RolledBack
    } else {
        End::Succeeded
    };
    let given_up = given_up.into_iter();
    let ended = Effect::Record(Record::Ended {
        id: id.clone(),
        end,
        leftovers: 0,
    });
    let mut effects: Vec<Effect> = given_up.chain([ended]).collect();
    if undone {
        let outcome = Outcome::RolledBack { by: by.id.clone() };
        effects.push(Effect::Reply { id, outcome });
    } else if !window.settled || window.hooks {
        let outcome = Outcome::Switched;
        effects.push(Effect::Reply { id, outcome });
    }
    effects
}

/// A rollback doesn't wait. In `open`, a SYN on its way to where the window began can't go astray.
fn needs_arming(state: &GroupState, cutover: &Cutover) -> bool {
    let astray = match state.word.phase() {
        Phase::Steady | Phase::Draining => true,
        Phase::Open => u32::from(cutover.slot) != state.word.previous(),
        Phase::Arming => false,
    };
    astray && state.timing.tagged && !state.timing.arm.is_zero() && cutover.kind != Kind::Rollback
}
