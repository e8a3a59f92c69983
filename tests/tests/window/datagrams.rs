//! UDP flows, explored to the end: a tag at all times, whatever is switched.
//!
//! Time is relative: "now" never changes, the past moves away from it, and whatever is longer ago than the
//! idle time is equally long ago.

use std::cell::Cell;

use stateright::{Checker, Model, Property};
use switcher_common::abi::Tag;
use switcher_common::steer::{self, Flows};
use switcher_common::word::Word;

const NOW: u32 = 100;
const IDLE: u32 = 2;
const FLOOR: u32 = 7;

/// Any number of switches among three tables, whose buckets differ.
struct Traffic;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    word: Word,
    floor: u32,
    tag: Option<Tag>,
    flow: Flow,
    /// A datagram went elsewhere, or a new flow did not go where the current table says.
    strayed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Flow {
    /// Nobody has heard of it, or it was moved by force.
    New,
    /// It has to go to this endpoint, and this is when it was last known to be alive.
    At(u16, u32),
    /// The map refused its tag: nothing is promised.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// A datagram, seen by a CPU whose clock is so many ticks behind; and whether the map takes a tag.
    Send {
        behind: u32,
        fits: bool,
    },
    Tick,
    Arm,
    Switch(u32),
    Drain,
    Settle,
    Force(u32),
}

#[test]
fn one_flow_and_three_tables() {
    let checker = Traffic.checker().spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    checker.assert_properties();
}

impl Model for Traffic {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            word: Word::default().with_epoch(FLOOR),
            floor: FLOOR,
            tag: None,
            flow: Flow::New,
            strayed: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.strayed {
            return;
        }
        for (behind, fits) in [(0, true), (0, false), (1, true), (1, false)] {
            actions.push(Action::Send { behind, fits });
        }
        actions.extend([Action::Tick, Action::Arm, Action::Drain, Action::Settle]);
        for slot in 0..3 {
            actions.extend([Action::Switch(slot), Action::Force(slot)]);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        next.act(action);
        next.canonical();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("flows stay", |_, state: &State| !state.strayed),
            Property::sometimes("a flow outlives its window", |_, state: &State| {
                let current = endpoint(state.word.current());
                matches!(state.flow, Flow::At(home, _) if home != current)
            }),
        ]
    }
}

impl State {
    fn act(&mut self, action: Action) {
        match action {
            Action::Send { behind, fits } => self.send(NOW - behind, fits),
            Action::Tick => self.tick(),
            Action::Arm => self.word = self.word.arm(),
            Action::Switch(slot) => self.word = self.word.switch_to(slot),
            Action::Drain => self.word = self.word.drain(),
            Action::Settle => self.word = self.word.settle(),
            Action::Force(slot) => {
                self.word = self.word.force(slot);
                self.floor = self.word.epoch();
                self.flow = Flow::New;
            }
        }
    }

    fn send(&mut self, now: u32, fits: bool) {
        let entry = Entry {
            tag: Cell::new(self.tag),
            fits,
        };
        let new = endpoint(self.word.current());
        let ((went, _), begins) = steer::flow(self.word, self.floor, new, now, IDLE, &entry);
        self.tag = entry.tag.get();
        self.flow = match self.flow {
            Flow::At(home, seen) if now.saturating_sub(seen) <= IDLE => {
                self.strayed |= went != home || begins;
                Flow::At(home, if fits { seen.max(now) } else { seen })
            }
            Flow::New | Flow::At(..) => {
                self.strayed |= went != new || !begins;
                if fits {
                    Flow::At(new, now)
                } else {
                    Flow::Refused
                }
            }
            Flow::Refused if fits => Flow::At(went, now),
            Flow::Refused => Flow::Refused,
        };
    }

    fn tick(&mut self) {
        let age = |seen: u32| (seen - 1).max(NOW - IDLE - 3);
        if let Flow::At(_, seen) = &mut self.flow {
            *seen = age(*seen);
        }
        self.tag = self.tag.map(|tag| Tag {
            seen: age(tag.seen),
            ..tag
        });
    }

    /// Two states that differ only in names are one.
    fn canonical(&mut self) {
        let floor = self.floor;
        let canonical = |epoch: u32| match epoch {
            before if before < floor => FLOOR - 1,
            same if same == floor => FLOOR,
            _later => FLOOR + 1,
        };
        if let Some(tag) = &mut self.tag {
            tag.epoch = canonical(tag.epoch);
        }
        let epoch = canonical(self.word.epoch());
        self.word = self.word.with_epoch(epoch).with_staging(0).with_in_use(0);
        self.floor = FLOOR;
    }
}

const fn endpoint(slot: u32) -> u16 {
    slot as u16 + 1
}

struct Entry {
    tag: Cell<Option<Tag>>,
    fits: bool,
}

impl Flows for Entry {
    fn get(&self) -> Option<Tag> {
        self.tag.get()
    }

    fn put(&self, tag: Tag) -> bool {
        if self.fits {
            self.tag.set(Some(tag));
        }
        self.fits
    }

    fn refresh(&self, seen: u32) {
        if self.fits {
            self.tag.set(self.get().map(|tag| Tag { seen, ..tag }));
        }
    }

    fn remove(&self) {
        self.tag.set(None);
    }
}
