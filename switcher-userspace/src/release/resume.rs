//! Taking over what is there: after a restart, and after somebody else has changed the word.

use std::collections::BTreeMap;

use switcher_common::word::{Phase, Word};

use super::event::{Effect, Outcome, Record};
use super::preparing::superseded;
use super::state::{
    Cutover, End, GroupState, Kind, Millis, Preparing, Stage, Timing, Window, ready_slots,
};
use crate::datapath::{HaveGroup, Slot};

/// A cut-over that the journal says was not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Which.
    pub cutover: Cutover,
    /// Whether it was recorded as switched.
    pub switched: bool,
}

/// A group as the kernel has it, with what the journal knows of it: the kernel is the truth, and what was
/// going on is finished or undone against it. `id` is for the cut-over that somebody made meanwhile.
#[must_use]
pub fn resume(
    have: &HaveGroup,
    recorded: Option<(String, Option<String>, u64)>,
    open: Vec<Intent>,
    timing: Timing,
    id: String,
    now: Millis,
) -> (GroupState, Vec<Effect>) {
    let slots = ready_slots(have, None);
    let live = colour_at(have, &slots, have.word).unwrap_or_default();
    let (was, previous, revision) = recorded.unwrap_or((live.clone(), None, 0));
    let mut state = GroupState {
        word: have.word,
        live: was,
        previous: previous.filter(|previous| slots.contains_key(previous)),
        revision,
        slots,
        timing,
        stage: Stage::Idle,
    };
    let mut effects = Vec::new();
    let mut last = None;
    for intent in open {
        let Intent { cutover, switched } = intent;
        if switched {
            last = Some(cutover);
            continue;
        }
        let stored = match cutover.kind {
            Kind::Update => have.word.current() == u32::from(cutover.slot),
            Kind::Flip | Kind::Rollback | Kind::Emergency => cutover.to == live,
        };
        if stored {
            go_live(&mut state, &live);
            effects.push(Effect::Record(Record::Switched {
                id: cutover.id.clone(),
            }));
            if let Some(before) = last.replace(cutover.clone()) {
                effects.extend(superseded(settled(before, &timing, now), &cutover));
            }
        } else {
            let end = End::Aborted;
            effects.push(Effect::Record(Record::Ended {
                id: cutover.id,
                end,
                leftovers: 0,
            }));
        }
    }
    if state.live != live {
        let cutover = emergency(&state, &live, id);
        effects.extend(
            last.take().into_iter().flat_map(|before| {
                superseded(settled(before, &timing, now), &as_rollback(&cutover))
            }),
        );
        go_live(&mut state, &live);
        effects.push(Effect::Record(Record::Found(cutover.clone())));
        last = Some(cutover);
    }
    effects.extend(adopt(&mut state, last, now));
    (state, effects)
}

/// Somebody else has stored another word.
pub(super) fn found(
    state: &mut GroupState,
    stage: Stage,
    id: String,
    word: Word,
    now: Millis,
) -> Vec<Effect> {
    if word == state.word {
        state.stage = stage;
        return Vec::new();
    }
    state.word = word;
    let live = state
        .colour_of(word.current() as Slot)
        .unwrap_or(&state.live)
        .to_owned();
    let mut effects = Vec::new();
    let mut last = None;
    match stage {
        Stage::Idle => {}
        Stage::Preparing(Preparing {
            cutover, before, ..
        }) => {
            let ended = Record::Ended {
                id: cutover.id.clone(),
                end: End::Aborted,
                leftovers: 0,
            };
            effects.push(Effect::Record(ended));
            effects.push(Effect::Reply {
                id: cutover.id,
                outcome: Outcome::Aborted,
            });
            if let Some(window) = before {
                effects.extend(answer(&window));
                last = Some(window.cutover);
            }
        }
        Stage::Switching(window) | Stage::Draining(window) => {
            effects.extend(answer(&window));
            last = Some(window.cutover);
        }
    }
    if live != state.live {
        let cutover = emergency(state, &live, id);
        if let Some(before) = last.take() {
            let window = settled(before, &state.timing, now);
            effects.extend(superseded(window, &as_rollback(&cutover)));
        }
        go_live(state, &live);
        effects.push(Effect::Record(Record::Found(cutover.clone())));
        last = Some(cutover);
    }
    effects.extend(adopt(state, last, now));
    effects
}

/// Whoever waits for the switch hears of it now: what comes next isn't part of it.
fn answer(window: &Window) -> Vec<Effect> {
    if window.settled {
        return Vec::new();
    }
    let id = window.cutover.id.clone();
    let outcome = Outcome::Switched;
    vec![
        Effect::Record(Record::Switched { id: id.clone() }),
        Effect::Reply { id, outcome },
    ]
}

/// Goes on where the word is: its phase survives, durations begin anew.
fn adopt(state: &mut GroupState, last: Option<Cutover>, now: Millis) -> Vec<Effect> {
    match state.word.phase() {
        Phase::Steady => {
            let ended = last.map(|cutover| Record::Ended {
                id: cutover.id,
                end: End::Succeeded,
                leftovers: 0,
            });
            // Whoever stored this word may have left the flow map.
            let close = Some(Effect::CloseWindow).filter(|_| ended.is_some());
            close.into_iter().chain(ended.map(Effect::Record)).collect()
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

fn watch(state: &mut GroupState, last: Option<Cutover>, now: Millis) -> Vec<Effect> {
    let cutover = last.unwrap_or_else(|| Cutover {
        id: String::new(),
        kind: Kind::Emergency,
        from: state.previous.clone().unwrap_or_else(|| state.live.clone()),
        to: state.live.clone(),
        slot: state.word.current() as Slot,
        forced: true,
        hard: false,
    });
    state.stage = Stage::Draining(settled(cutover, &state.timing, now));
    vec![Effect::WakeAt(now)]
}

/// Whoever stored the word has waited, or is dead.
fn settled(cutover: Cutover, timing: &Timing, now: Millis) -> Window {
    Window {
        settled: true,
        ..Window::new(cutover, timing, now)
    }
}

fn go_live(state: &mut GroupState, live: &str) {
    if state.live != live {
        state.previous = Some(std::mem::replace(&mut state.live, live.to_owned()));
        state.revision += 1;
    }
}

fn emergency(state: &GroupState, live: &str, id: String) -> Cutover {
    Cutover {
        id,
        kind: Kind::Emergency,
        from: state.live.clone(),
        to: live.to_owned(),
        slot: state.word.current() as Slot,
        forced: true,
        hard: state.word.phase() == Phase::Steady,
    }
}

/// Whoever goes back by hand rolls back.
fn as_rollback(cutover: &Cutover) -> Cutover {
    Cutover {
        kind: Kind::Rollback,
        ..cutover.clone()
    }
}

fn colour_at(have: &HaveGroup, slots: &BTreeMap<String, Slot>, word: Word) -> Option<String> {
    let ready = slots
        .iter()
        .find(|(_, slot)| u32::from(**slot) == word.current());
    ready.map(|(colour, _)| colour.clone()).or_else(|| {
        let slot = word.current() as Slot;
        have.colours.get(&have.slots.get(&slot)?.colour).cloned()
    })
}
