//! Going on from a word that was not stored by the release logic, or by that of another agent.

use switcher_common::word::{Phase, flags};

use super::baking::Baking;
use super::confirming;
use super::event::{Effect, Record};
use super::left::{self, Left};
use super::state::{Cutover, End, GroupState, Kind, Millis, Stage, Terms, Timing, Window};
use crate::datapath::Slot;

/// Goes on where the word is: its phase survives, durations begin anew.
pub(super) fn adopt(state: &mut GroupState, last: Option<Window>, now: Millis) -> Vec<Effect> {
    match state.word.phase() {
        Phase::Steady => {
            // Whoever stored this word may have left the flow map, and flows that it had given up.
            let epoch = state.word.epoch();
            let close = [Effect::Abandon(epoch), Effect::CloseWindow];
            let close = last.is_some().then_some(close).into_iter().flatten();
            let over = last.into_iter().flat_map(|window| {
                let ended = Effect::Record(Record::Ended {
                    id: window.cutover.id,
                    end: End::Succeeded,
                    leftovers: 0,
                });
                let drained = left::end(state, window.left, None);
                drained.into_iter().chain([ended])
            });
            close.chain(over).collect()
        }
        // Armed from steady, for a switch that didn't come.
        Phase::Arming if state.word.in_use().count_ones() <= 1 => {
            state.word = state.word.settle();
            vec![Effect::Store(state.word), Effect::CloseWindow]
        }
        // Armed in a window: it goes on without the switch.
        Phase::Arming => {
            state.word = state.word.with_phase(Phase::Open);
            let mut effects = vec![Effect::Store(state.word)];
            effects.extend(watch(state, last, now));
            effects
        }
        Phase::Open | Phase::Draining => watch(state, last, now),
    }
}

fn watch(state: &mut GroupState, last: Option<Window>, now: Millis) -> Vec<Effect> {
    let window = last.unwrap_or_else(|| {
        let cutover = Cutover {
            from: state.previous.clone().unwrap_or_else(|| state.live.clone()),
            hard: false,
            ..emergency(state, &state.live, String::new())
        };
        let left = left::after(Left::new(), in_use(state), state, &cutover);
        settled(cutover, left, &state.timing, now)
    });
    if state.word.has(flags::TIMED) {
        let wake = confirming::next(state, &window, now);
        state.stage = Stage::Confirming(window);
        return vec![wake];
    }
    state.stage = Stage::Draining(window);
    vec![Effect::WakeAt(now)]
}

/// Whoever stored the word has waited, or is dead.
pub(super) fn settled(cutover: Cutover, left: Left, timing: &Timing, now: Millis) -> Window {
    Window {
        settled: true,
        left,
        ..Window::new(cutover, timing, now)
    }
}

pub(super) fn found_record(cutover: &Cutover, left: &Left) -> Effect {
    let (cutover, left) = (cutover.clone(), left.clone());
    Effect::Record(Record::Found { cutover, left })
}

/// Colours that new flows have gone to, as far as the word and the record tell.
pub(super) fn in_use(state: &GroupState) -> Vec<String> {
    let used = |slot: &&Slot| state.word.in_use() & 1 << **slot != 0;
    let pure = state.slots.iter().filter(|(_, slot)| used(slot));
    let shared = state.shares.iter().filter(|(slot, _)| used(slot));
    let shared = shared.flat_map(|(_, share)| [&share.live, &share.colour]);
    let all = pure.map(|(colour, _)| colour).chain(shared);
    all.chain([&state.live]).cloned().collect()
}

pub(super) fn emergency(state: &GroupState, live: &str, id: String) -> Cutover {
    Cutover {
        id,
        kind: Kind::Emergency,
        from: state.live.clone(),
        to: live.to_owned(),
        slot: state.word.current() as Slot,
        forced: true,
        hard: state.word.phase() == Phase::Steady,
        terms: Terms::default(),
        percent: None,
    }
}

/// The way back that the program took.
pub(super) fn undone(state: &GroupState, live: &str, id: String) -> Cutover {
    Cutover {
        kind: Kind::Rollback,
        forced: false,
        hard: false,
        ..emergency(state, live, id)
    }
}

/// Whoever goes back by hand rolls back.
pub(super) fn as_rollback(cutover: &Cutover) -> Cutover {
    Cutover {
        kind: Kind::Rollback,
        ..cutover.clone()
    }
}

/// The watch over a cut-over goes on with its window.
pub(super) fn watch_on(
    state: &mut GroupState,
    bake: Option<(String, Baking)>,
    now: Millis,
) -> Option<Effect> {
    let (id, bake) = bake?;
    match &mut state.stage {
        Stage::Confirming(window) if window.cutover.id == id => {
            window.bake = Some(bake);
            Some(Effect::WakeAt(now))
        }
        Stage::Draining(window) if window.cutover.id == id => {
            window.bake = Some(bake);
            let window = window.clone();
            state.stage = Stage::Baking(window);
            Some(Effect::WakeAt(now))
        }
        Stage::Idle
        | Stage::Preparing(_)
        | Stage::Switching(_)
        | Stage::Confirming(_)
        | Stage::Baking(_)
        | Stage::Draining(_) => None,
    }
}
