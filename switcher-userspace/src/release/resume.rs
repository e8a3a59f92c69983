//! Taking over what is there: after a restart, and after somebody else has changed the word.

use std::collections::BTreeMap;

use switcher_common::abi::Times;
use switcher_common::word::{Phase, Word, flags};

use super::baking::{self, Baking};
use super::confirming;
use super::event::{Effect, Outcome, Record};
use super::gates::Gates;
use super::hooks::{self, Moment};
use super::left::{self, Left};
use super::preparing::superseded;
use super::releases::Releases;
use super::rollout;
use super::scheduled::way_back;
use super::state::{
    Called, Cutover, End, GroupState, Kind, Millis, Preparing, Stage, Terms, Timing, Window,
    ready_slots, shared_slots,
};
use crate::datapath::{HaveGroup, Slot};

/// A cut-over that the journal says was not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Which.
    pub cutover: Cutover,
    /// Whether it was recorded as switched.
    pub switched: bool,
    /// Whether it was to undo itself, and nobody had confirmed it.
    pub unconfirmed: bool,
    /// The watch over it, if that was not over.
    pub bake: Option<Baking>,
    /// Whether hooks were to decide whether it stays, and had not.
    pub undecided: bool,
    /// Colours that have been left when it is made, and that had not drained.
    pub left: Left,
}

/// The kernel's half of a group, and what it can't know.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    /// Its names, slots and word.
    pub have: &'a HaveGroup,
    /// When the word changes its meaning.
    pub times: Times,
    /// What was recorded to be on its colours.
    pub releases: Releases,
    /// What the configuration demands and people have decided.
    pub gates: Gates,
}

/// A group as the kernel has it, with what the journal knows of it: the kernel is the truth, and what was
/// going on is finished or undone against it. `id` is for the cut-over that somebody made meanwhile.
#[must_use]
pub fn resume(
    Found {
        have,
        times,
        releases,
        gates,
    }: Found<'_>,
    recorded: Option<(String, Option<String>, u64)>,
    open: Vec<Intent>,
    timing: Timing,
    id: String,
    now: Millis,
) -> (GroupState, Vec<Effect>) {
    let timed = Hour::of(have.word, &times, now);
    let shown = match timed {
        Hour::Before => have.word.at(&times, now.nanoseconds()),
        Hour::None | Hour::Made | Hour::Within | Hour::Over => have.word,
    };
    // What a word counts as tells which of a colour's tables serves, not what it will count as.
    let slots = match timed {
        Hour::Before => ready_slots(
            &HaveGroup {
                word: shown,
                ..have.clone()
            },
            None,
        ),
        Hour::None | Hour::Made | Hour::Within | Hour::Over => ready_slots(have, None),
    };
    let live = colour_at(have, &slots, shown).unwrap_or_default();
    let (was, previous, revision) = recorded.unwrap_or((live.clone(), None, 0));
    let mut state = GroupState {
        word: have.word,
        times,
        live: was,
        previous: previous.filter(|previous| slots.contains_key(previous)),
        revision,
        slots,
        shares: shared_slots(have),
        releases,
        gates,
        timing,
        stage: Stage::Idle,
    };
    let mut effects = Vec::new();
    let (mut last, mut to_come, mut expired): (Option<Window>, _, _) = (None, None, false);
    let mut bake = None;
    let mut undecided = None;
    for intent in open {
        let Intent {
            cutover,
            switched,
            unconfirmed,
            bake: watched,
            undecided: unheard,
            left,
        } = intent;
        if switched && cutover.kind == Kind::Canary && state.canary().is_none() {
            // Its share is gone with the last boot, or somebody has taken it back.
            effects.push(Effect::Record(Record::Ended {
                id: cutover.id,
                end: End::RolledBack,
                leftovers: 0,
            }));
            continue;
        }
        if switched {
            // Without its word, which is gone with the last boot: nobody has confirmed it.
            expired = unconfirmed && timed == Hour::None && live == cutover.from;
            bake = watched.map(|bake| (cutover.id.clone(), bake));
            undecided = unheard.then(|| cutover.id.clone());
            let window = settled(cutover.clone(), left, &timing, now);
            if let Some(before) = last.replace(window) {
                effects.extend(superseded(before, &cutover));
            }
            continue;
        }
        // What was put off for ever was being taken back.
        let comes = timed == Hour::Before && times.activate_at != Times::NEVER;
        if comes && u32::from(cutover.slot) == have.word.current() {
            to_come = Some((cutover, left));
            continue;
        }
        let stored = match cutover.kind {
            Kind::Update | Kind::Canary => shown.current() == u32::from(cutover.slot),
            Kind::Flip | Kind::Rollback | Kind::Emergency => {
                cutover.to == live && state.canary().is_none()
            }
        };
        if stored {
            undecided = Some(cutover.id.clone());
            state.make_live(&live, now);
            rollout::switched(&mut state, &cutover, now);
            let id = cutover.id.clone();
            bake = baking::begins(&cutover, now).map(|bake| (id.clone(), bake));
            effects.push(Effect::Record(Record::Switched { id }));
            let window = settled(cutover.clone(), left, &timing, now);
            if let Some(before) = last.replace(window) {
                effects.extend(superseded(before, &cutover));
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
        let cutover = match &last {
            Some(last) if expired => undone(&state, &live, way_back(&last.cutover.id)),
            Some(_) | None => emergency(&state, &live, id),
        };
        let before = last.take();
        let known = before.as_ref().map(|window| window.left.clone());
        // Which others were served meanwhile nobody has seen; the word tells.
        let left = left::after(known.unwrap_or_default(), in_use(&state), &state, &cutover);
        state.make_live(&live, now);
        // First what has happened, then what that ends: in between an agent may be killed.
        effects.push(found_record(&cutover, &left));
        effects.extend(
            before
                .into_iter()
                .flat_map(|before| superseded(before, &as_rollback(&cutover))),
        );
        if cutover.kind == Kind::Rollback {
            effects.extend(hooks::told(&state, &cutover, Moment::RolledBack));
        }
        last = Some(settled(cutover, left, &timing, now));
    }
    if state.paused_until().is_some_and(|until| until <= now) {
        state.word = state.word.without(flags::PAUSED);
        effects.push(Effect::Store(state.word));
    }
    let more = match (timed, to_come) {
        (Hour::Before, Some((cutover, left))) => wait_for(&mut state, cutover, left, last),
        (Hour::Before, None) => {
            // Nobody knows what for: nothing is switched.
            let mut more = fix(&mut state, now);
            more.extend(adopt(&mut state, last, now));
            more
        }
        (Hour::Made, _) => {
            let mut more = fix(&mut state, now);
            more.extend(adopt(&mut state, last, now));
            more
        }
        (Hour::Over, _) => over(&mut state, last, now),
        (Hour::None | Hour::Within, _) => adopt(&mut state, last, now),
    };
    effects.extend(more);
    effects.extend(call_again(&mut state, undecided.as_ref()));
    effects.extend(watch_on(&mut state, bake, now));
    (state, effects)
}

/// The watch over a cut-over goes on with its window.
fn watch_on(state: &mut GroupState, bake: Option<(String, Baking)>, now: Millis) -> Option<Effect> {
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

/// Hooks that may not have ended decide again on the switch that they were about.
fn call_again(state: &mut GroupState, undecided: Option<&String>) -> Option<Effect> {
    let mut stage = std::mem::replace(&mut state.stage, Stage::Idle);
    let called = match &mut stage {
        Stage::Confirming(window) | Stage::Draining(window) => {
            let asked = hooks::is_asked(state, &window.cutover, Moment::PostFlip);
            let same = undecided == Some(&window.cutover.id) && asked;
            same.then(|| hooks::settled(state, window)).flatten()
        }
        Stage::Idle | Stage::Preparing(_) | Stage::Switching(_) | Stage::Baking(_) => None,
    };
    state.stage = stage;
    called
}

/// What a word means at this hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hour {
    /// What it says, and no clock matters.
    None,
    /// Its switch is to come.
    Before,
    /// Its switch was made, for good.
    Made,
    /// It goes back unless somebody confirms.
    Within,
    /// It has gone back.
    Over,
}

impl Hour {
    fn of(word: Word, times: &Times, now: Millis) -> Self {
        let now = now.nanoseconds();
        match word.has(flags::TIMED) {
            false => Self::None,
            true if now < times.activate_at => Self::Before,
            true if times.revert_at == Times::NEVER => Self::Made,
            true if now < times.revert_at => Self::Within,
            true => Self::Over,
        }
    }
}

/// An untimed word that means the same.
fn fix(state: &mut GroupState, now: Millis) -> Vec<Effect> {
    state.word = state.word.at(&state.times, now.nanoseconds());
    vec![Effect::Store(state.word)]
}

/// A switch that is set goes on being set. Its health was asked when it was.
fn wait_for(
    state: &mut GroupState,
    mut cutover: Cutover,
    left: Left,
    last: Option<Window>,
) -> Vec<Effect> {
    let at = Millis::of(state.times.activate_at);
    let until = state.times.revert_at;
    cutover.terms = Terms {
        at: Some(at),
        confirm: (until != Times::NEVER).then(|| {
            std::time::Duration::from_nanos(until.saturating_sub(state.times.activate_at))
        }),
        ..cutover.terms
    };
    state.stage = Stage::Preparing(Preparing {
        cutover,
        prepared: true,
        healthy: true,
        hooks: Called::Passed,
        armed: None,
        scheduled: true,
        stopping: None,
        left,
        before: last,
    });
    vec![Effect::WakeAt(at)]
}

/// The program has gone back while nobody was there: the word is made to say so, and recorded.
fn over(state: &mut GroupState, last: Option<Window>, now: Millis) -> Vec<Effect> {
    let mut effects = fix(state, now);
    let live = state
        .colour_of(state.word.current() as Slot)
        .unwrap_or(&state.live)
        .to_owned();
    let id = last.as_ref().map_or("", |last| &last.cutover.id);
    let cutover = undone(state, &live, way_back(id));
    let left = left::by(state, last.as_ref(), &cutover);
    state.make_live(&live, now);
    effects.push(found_record(&cutover, &left));
    if let Some(last) = last {
        effects.extend(superseded(last, &cutover));
    }
    effects.extend(hooks::told(state, &cutover, Moment::RolledBack));
    let window = settled(cutover, left, &state.timing, now);
    effects.extend(adopt(state, Some(window), now));
    effects
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

/// Goes on where the word is: its phase survives, durations begin anew.
fn adopt(state: &mut GroupState, last: Option<Window>, now: Millis) -> Vec<Effect> {
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
fn settled(cutover: Cutover, left: Left, timing: &Timing, now: Millis) -> Window {
    Window {
        settled: true,
        left,
        ..Window::new(cutover, timing, now)
    }
}

fn found_record(cutover: &Cutover, left: &Left) -> Effect {
    let (cutover, left) = (cutover.clone(), left.clone());
    Effect::Record(Record::Found { cutover, left })
}

/// Colours that new flows have gone to, as far as the word and the record tell.
fn in_use(state: &GroupState) -> Vec<String> {
    let used = |slot: &&Slot| state.word.in_use() & 1 << **slot != 0;
    let pure = state.slots.iter().filter(|(_, slot)| used(slot));
    let shared = state.shares.iter().filter(|(slot, _)| used(slot));
    let shared = shared.flat_map(|(_, share)| [&share.live, &share.colour]);
    let all = pure.map(|(colour, _)| colour).chain(shared);
    all.chain([&state.live]).cloned().collect()
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
        terms: Terms::default(),
        percent: None,
    }
}

/// The way back that the program took.
fn undone(state: &GroupState, live: &str, id: String) -> Cutover {
    Cutover {
        kind: Kind::Rollback,
        forced: false,
        hard: false,
        ..emergency(state, live, id)
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
