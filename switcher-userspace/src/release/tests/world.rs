//! What effects come to, and what has to hold whatever happens.

mod happening;

use std::collections::BTreeSet;

use super::durable::Durable;
use super::random::Do;
use super::*;

/// What effects have come to.
pub(super) struct World {
    now: Millis,
    /// Slots that hold a table, now or until the window ends.
    tables: Vec<u8>,
    asked: u32,
    waiting: Vec<String>,
    /// Hooks that are waited for.
    running: Option<(Moment, String)>,
    switched: Millis,
    /// What a killed agent leaves.
    durable: Durable,
    /// Colours that new flows went to last.
    served: Vec<String>,
    /// Colours that they have left, and nobody was told that they have drained.
    left: BTreeSet<String>,
    /// One may be told of that nobody has seen: an agent has been killed, and the next one may tell again what
    /// that one has, clocks switch, which nobody looks at here, or somebody has stored a word.
    unsure: bool,
}

impl World {
    pub(super) fn new(state: &GroupState) -> Self {
        Self {
            now: Millis(0),
            tables: state.slots.values().copied().collect(),
            asked: 0,
            waiting: Vec::new(),
            running: None,
            switched: Millis(0),
            durable: Durable::new(state),
            served: vec![state.live.clone()],
            left: BTreeSet::new(),
            unsure: false,
        }
    }

    /// Something happens, and the agent may be killed while it does what is to be done about it.
    pub(super) fn play(
        &mut self,
        state: &mut GroupState,
        what: Do,
        killed: Option<(u8, Option<u8>)>,
    ) {
        let event = self.event(state, what);
        self.follow();
        let Some(event) = event else {
            return;
        };
        let before = state.clone();
        if let Event::Flip(Order { id, .. })
        | Event::Rollback(Order { id, .. })
        | Event::Abort(Order { id, .. })
        | Event::Confirm(Order { id, .. })
        | Event::Resume(Order { id, .. })
        | Event::Extend {
            order: Order { id, .. },
            ..
        }
        | Event::Pause {
            order: Order { id, .. },
            ..
        }
        | Event::Unfreeze(Order { id, .. })
        | Event::Freeze {
            order: Order { id, .. },
            ..
        }
        | Event::Gate {
            order: Order { id, .. },
            ..
        }
        | Event::Stage {
            order: Order { id, .. },
            ..
        }
        | Event::Schema {
            order: Order { id, .. },
            ..
        }
        | Event::Canary {
            order: Order { id, .. },
            ..
        }
        | Event::Update { id, .. } = &event
        {
            self.waiting.push(id.clone());
        }
        let effects = step(state, event.clone(), self.now);
        let done = killed.map_or(effects.len(), |(after, _)| after.into());
        let noted = |effect: &Effect| {
            matches!(
                effect,
                Effect::Reply {
                    outcome: Outcome::Noted { .. },
                    ..
                }
            )
        };
        if done > 0 && effects.iter().any(noted) {
            self.durable.note(state);
        }
        for effect in effects.iter().take(done) {
            self.check(&before, &event, effect);
            self.keep(state, effect);
        }
        if matches!(&before.stage, Stage::Preparing(it) if it.scheduled) {
            self.forget(&event);
        }
        if let Some((_, again)) = killed {
            *state = self.restart(again);
            if done == 0 && before.window().is_some_and(|window| !window.settled) {
                self.forget(&event);
            }
            return;
        }
        if state.stage == Stage::Idle {
            self.durable.clear(state);
        }
        self.is_sound(state);
        let misfit = state.releases.misfit(&state.live, state.releases.applied);
        let by_people = matches!(
            event,
            Event::Prepared { .. }
                | Event::Health { .. }
                | Event::Hooks {
                    moment: Moment::PreFlip,
                    ..
                }
        );
        assert!(
            !by_people || misfit.is_none() || before.live == state.live,
            "{misfit:?}"
        );
        if by_people && before.live != state.live {
            let made = state.cutover().expect("it is under way");
            let held_up = blockers(&before, &state.live, self.now);
            let free = made.forced || made.kind == Kind::Rollback;
            assert!(free || held_up.is_empty(), "{held_up:?}");
        }
        if let Event::Observed(observed) = &event
            && matches!(state.stage, Stage::Preparing(_))
            && before.stage != state.stage
        {
            assert!(!observed.failing.is_empty() && observed.way_back.is_empty());
            let back = state.cutover().expect("it is under way");
            assert_eq!((back.kind, &back.from), (Kind::Rollback, &before.live));
        }
        if let Some((rollout, share)) = rollout(state) {
            assert!(share.live == state.live && rollout.since <= self.now);
        }
        let changed = u64::from(before.live != state.live);
        assert_eq!(
            state.revision,
            before.revision + changed,
            "each change of live counts"
        );
    }

    /// What holds after whatever has happened.
    fn is_sound(&self, state: &GroupState) {
        assert!(state.slots.contains_key(&state.live), "{state:?}");
        assert_ne!(state.previous.as_ref(), Some(&state.live));
        let counts = self.counts(state);
        match state.canary() {
            Some(share) => assert_eq!(share.live, state.live, "{state:?}"),
            None => assert_eq!(
                u32::from(state.slots[&state.live]),
                counts.current(),
                "{state:?}"
            ),
        }
        let staged = state.releases.is_staged(&state.live);
        assert!(!staged, "what is live does not wait to be: {state:?}");
        let idle = matches!(state.stage, Stage::Idle);
        assert_eq!(
            idle,
            state.word.phase() == Phase::Steady && !self.pending(state),
            "{state:?}"
        );
    }

    /// What an effect leaves behind, and where new flows go then.
    fn keep(&mut self, state: &GroupState, effect: &Effect) {
        self.durable.keep(state, effect);
        self.follow();
        self.unsure |= matches!(effect, Effect::SetTimes(_));
        if let Effect::Record(Record::Drained { colour, .. }) = effect {
            assert!(!self.served.contains(colour), "{colour} is not left");
            assert!(self.left.remove(colour) || self.unsure, "{colour}, again");
        }
    }

    /// What was undone by hand before it was recorded nobody knows.
    fn forget(&mut self, event: &Event) {
        if matches!(event, Event::Found { .. }) {
            self.left.clear();
        }
    }

    /// Where new flows go now, and where they did before.
    fn follow(&mut self) {
        let served = self.durable.served(self.now);
        if served != self.served {
            let before = std::mem::replace(&mut self.served, served);
            self.left.extend(before);
            self.left.retain(|colour| !self.served.contains(colour));
        }
    }

    /// The agent is killed, and another one takes over, which may be killed as well. That moves no flow.
    fn restart(&mut self, again: Option<u8>) -> GroupState {
        self.unsure = true;
        self.waiting.clear();
        self.running = None;
        for killed in [again, None] {
            self.asked += 1;
            let (state, effects) = self.durable.resume(format!("c{}", self.asked), self.now);
            let done = killed.map_or(effects.len(), usize::from);
            let served = self.served.clone();
            for effect in effects.iter().take(done) {
                if let Effect::CallHooks(Call {
                    moment: Moment::PostFlip,
                    id,
                    ..
                }) = effect
                {
                    self.running = Some((Moment::PostFlip, id.clone()));
                }
                self.keep(&state, effect);
                assert_eq!(self.served, served, "{effect:?}: {state:?}");
            }
            if killed.is_some() {
                self.running = None;
                continue;
            }
            self.switched = self.now;
            if state.stage == Stage::Idle {
                self.durable.clear(&state);
            }
            self.durable.check(&state);
            self.is_sound(&state);
            assert!(self.served.contains(&state.live), "{state:?}");
            return state;
        }
        unreachable!("the last one is not killed");
    }

    /// What the word counts as: if its time has come and nobody has looked yet, as it did before.
    fn counts(&self, state: &GroupState) -> Word {
        match &state.stage {
            Stage::Preparing(preparing) if preparing.scheduled => {
                let never = Times {
                    activate_at: Times::NEVER,
                    ..state.times
                };
                state.word.at(&never, 0)
            }
            Stage::Confirming(_) | Stage::Preparing(_) => state.word.without(flags::TIMED),
            Stage::Baking(window) => {
                assert!(window.bake.is_some() && window.cutover.to == state.live);
                assert!(!state.word.has(flags::TIMED), "{state:?}");
                state.word
            }
            Stage::Idle | Stage::Switching(_) | Stage::Draining(_) => {
                let timed = state.word.has(flags::TIMED);
                assert!(
                    !timed || matches!(state.stage, Stage::Switching(_)),
                    "{state:?}"
                );
                state.word
            }
        }
    }

    /// Steady words in which something is going on: not armed yet, or hard.
    fn pending(&self, state: &GroupState) -> bool {
        matches!(state.stage, Stage::Preparing(_) | Stage::Switching(_))
    }

    /// In the end everybody is answered and the group is idle.
    pub(super) fn play_out(&mut self, state: &mut GroupState) {
        for _ in 0..6 {
            let enough = [
                Do::Prepared(true),
                Do::Health(true),
                Do::Hooks(true),
                Do::Later(4_000_000),
                Do::Timer,
            ];
            let flows = Do::Flows {
                elsewhere: Some([0; 3]),
                used: 0,
                refused: false,
            };
            let well = Do::Observed {
                failing: false,
                unknown: false,
                way_back: true,
            };
            for what in enough.into_iter().chain([
                Do::Settled,
                Do::Hooks(true),
                Do::Later(4_000_000),
                well,
                flows,
            ]) {
                self.play(state, what, None);
            }
        }
        assert_eq!(state.stage, Stage::Idle);
        assert_eq!(self.waiting, [""; 0], "nobody is left without an answer");
        assert!(self.left.is_empty(), "nobody was told of {:?}", self.left);
    }

    fn check(&mut self, before: &GroupState, event: &Event, effect: &Effect) {
        match effect {
            Effect::Store(word) => {
                for slot in [word.current(), word.previous()].map(|slot| slot as u8) {
                    assert!(
                        self.tables.contains(&slot),
                        "slot {slot} of {word:?} is absent"
                    );
                }
                assert_ne!(word.in_use() & 1 << word.current(), 0);
                if let Event::Flows(Count { used: ..60, .. }) = event
                    && (before.word.phase(), word.phase()) == (Phase::Open, Phase::Draining)
                    && before.timing.tagged
                {
                    assert!(self.now >= self.switched + before.timing.learn);
                }
                if word.current() != before.word.current() {
                    self.switched = self.now;
                }
            }
            Effect::CallHooks(Call {
                moment: Moment::PreFlip,
                id,
                ..
            }) => {
                let cutover = before.cutover().map(|it| &it.id);
                assert_eq!(cutover, Some(id), "{event:?}");
                assert_eq!(self.running.replace((Moment::PreFlip, id.clone())), None);
            }
            Effect::CallHooks(Call {
                moment: Moment::PostFlip,
                id,
                ..
            }) => {
                assert_eq!(
                    self.running.take().filter(|(it, _)| *it == Moment::PreFlip),
                    None
                );
                // What was forced is not undone: nobody waits for these.
                let forced = before.cutover().is_some_and(|it| it.forced);
                self.running = (!forced).then(|| (Moment::PostFlip, id.clone()));
            }
            Effect::CallHooks(_) => {}
            Effect::StopHooks { id } => {
                let stopped = self.running.take().map(|(_, id)| id);
                assert_eq!(stopped.as_ref(), Some(id), "{event:?}");
            }
            Effect::Reply { id, .. } => self.waiting.retain(|waiting| waiting != id),
            Effect::SetTimes(_)
            | Effect::Prepare { .. }
            | Effect::CheckHealth { .. }
            | Effect::Hold
            | Effect::Abandon(_)
            | Effect::Settle { .. }
            | Effect::CloseWindow
            | Effect::CountFlows
            | Effect::Observe { .. }
            | Effect::WakeAt(_)
            | Effect::Record(_) => {}
        }
    }
}
