//! Taking over what is there after a restart.

use std::collections::BTreeMap;

use switcher_common::abi::Times;
use switcher_common::word::{Word, flags};

use super::adopt::{
    adopt, as_rollback, emergency, found_record, in_use, settled, undone, watch_on,
};
use super::baking::{self, Baking};
use super::event::{Effect, Record};
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

fn colour_at(have: &HaveGroup, slots: &BTreeMap<String, Slot>, word: Word) -> Option<String> {
    let ready = slots
        .iter()
        .find(|(_, slot)| u32::from(**slot) == word.current());
    ready.map(|(colour, _)| colour.clone()).or_else(|| {
        let slot = word.current() as Slot;
        have.colours.get(&have.slots.get(&slot)?.colour).cloned()
    })
}
