//! Somebody else has stored a word while the agent looks on.

use switcher_common::word::Word;

use super::adopt::{adopt, as_rollback, emergency, found_record, settled, watch_on};
use super::event::{Effect, Outcome, Record};
use super::hooks;
use super::left;
use super::preparing::superseded;
use super::state::{Called, Cutover, End, GroupState, Kind, Millis, Preparing, Stage, Window};
use crate::datapath::Slot;

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
    let held = state.canary().cloned();
    let served = left::served(state);
    state.word = word;
    let live = state
        .colour_of(word.current() as Slot)
        .unwrap_or(&state.live)
        .to_owned();
    let mut effects = Vec::new();
    let (mut last, mut bake): (Option<Window>, _) = (None, None);
    match stage {
        Stage::Idle => {}
        Stage::Preparing(Preparing {
            cutover,
            before,
            stopping,
            hooks,
            ..
        }) => {
            if hooks == Called::Waiting {
                let id = cutover.id.clone();
                effects.push(Effect::StopHooks { id });
            }
            if let Some(order) = stopping.and_then(|stopping| stopping.order) {
                let cutover = cutover.id.clone();
                effects.push(Effect::Reply {
                    id: order.id,
                    outcome: Outcome::Stopped { cutover },
                });
            }
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
                bake = window.bake.map(|it| (window.cutover.id.clone(), it));
                last = Some(settled(window.cutover, window.left, &state.timing, now));
            }
        }
        Stage::Switching(window)
        | Stage::Confirming(window)
        | Stage::Baking(window)
        | Stage::Draining(window) => {
            let Cutover { from, kind, .. } = &window.cutover;
            // Whoever waits for it hears below that it was undone.
            match live != state.live && live == *from && *kind != Kind::Update {
                true => effects.extend(hooks::give_up(&window)),
                false => effects.extend(answer(&window)),
            }
            bake = window.bake.map(|it| (window.cutover.id.clone(), it));
            last = Some(settled(window.cutover, window.left, &state.timing, now));
        }
    }
    let ended = held.filter(|_| state.canary().is_none());
    if live != state.live || ended.is_some() {
        let mut cutover = emergency(state, &live, id);
        if let (Some(share), true) = (ended, live == state.live) {
            cutover.from = share.colour;
        }
        let before = last.take();
        let left = before.as_ref().map(|window| window.left.clone());
        let left = left::after(left.unwrap_or_default(), served, state, &cutover);
        state.make_live(&live, now);
        effects.insert(0, found_record(&cutover, &left));
        if let Some(before) = before {
            effects.extend(superseded(before, &as_rollback(&cutover)));
        }
        last = Some(settled(cutover, left, &state.timing, now));
    }
    effects.extend(adopt(state, last, now));
    effects.extend(watch_on(state, bake, now));
    effects
}

/// Whoever waits for the switch hears of it now: what comes next isn't part of it.
fn answer(window: &Window) -> Vec<Effect> {
    if window.settled && !window.hooks {
        return Vec::new();
    }
    let id = window.cutover.id.clone();
    let outcome = Outcome::Switched;
    let settled = (!window.settled).then(|| Record::Switched { id: id.clone() });
    let given_up = hooks::give_up(window).into_iter();
    let settled = settled.map(Effect::Record);
    given_up
        .chain(settled)
        .chain([Effect::Reply { id, outcome }])
        .collect()
}
