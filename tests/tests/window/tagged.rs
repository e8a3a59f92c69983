//! Flows that tags speak for, explored to the end.
//!
//! A flow is one client tuple: its bucket (an endpoint per slot), its entry in the flow map and the
//! connection it has now. Whether a tag fits is left open at every packet, so flows do not meet in the map;
//! they meet only in what the operator has to wait for, and more flows make it wait longer. One flow
//! therefore stands for any number of them; two are explored as well, with two slots.
//!
//! States are made canonical (epochs count from the current one, `staging` and `in use` are not read by
//! `tagged`), which makes the space finite: the exploration has no depth limit.

use std::cell::Cell;

use stateright::{Checker, Model, Property};
use switcher_common::abi::Tag;
use switcher_common::steer::{self, Flows, How, Segment};
use switcher_common::word::{Phase, Word};

use crate::client::{Connection, Met, known, names};
use crate::timed::{SWITCHED, Timed};

/// The endpoint of each slot, for one flow's bucket.
type Bucket<const SLOTS: usize> = [u16; SLOTS];

/// Any number of switches among `SLOTS` tables, under `FLOWS` flows.
struct Window<const FLOWS: usize, const SLOTS: usize> {
    /// Initial sequence numbers; 0 is what a tag that no SYN made has in its place.
    sequences: &'static [u32],
    buckets: Vec<[Bucket<SLOTS>; FLOWS]>,
    /// Switches may be set for an instant, or undo themselves: many times as many states.
    timed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State<const FLOWS: usize, const SLOTS: usize> {
    timed: Timed,
    flows: [Flow<SLOTS>; FLOWS],
    /// A packet of a live connection went astray.
    strayed: bool,
    /// A new connection, whose tag fitted, did not go where the current table says.
    stale: bool,
    /// A SYN went to the old endpoint unknown, although the word was held.
    unsafe_while_held: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Flow<const SLOTS: usize> {
    bucket: Bucket<SLOTS>,
    tag: Option<Tag>,
    connection: Option<Connection>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// A client begins a connection with this initial sequence number.
    Begin(usize, u32, Fits),
    /// It repeats its SYN.
    Repeat(usize, Fits),
    /// It sends something else.
    Speak(usize, Fits),
    /// It is done. Its tag stays.
    Close(usize),
    Arm,
    Switch(u32),
    Hold,
    Drain,
    Settle,
    Force(u32),
    /// A switch at this hour, with a way back.
    Schedule(u32, u8),
    /// The next hour of a timed word.
    Pass,
    /// A timed switch is confirmed.
    Keep,
    /// The agent stores what a timed word counts as.
    Fix,
}

/// Whether the map takes a tag.
type Fits = bool;

#[test]
fn one_flow_and_three_tables() {
    let buckets = [[1, 1, 1], [1, 1, 2], [1, 2, 1], [1, 2, 2], [1, 2, 3]];
    explore(Window {
        sequences: &[0, 1, 2],
        buckets: buckets.map(|bucket| [bucket]).to_vec(),
        timed: true,
    });
}

#[test]
fn two_flows_and_two_tables() {
    explore(Window {
        sequences: &[0, 1],
        buckets: vec![[[1, 2], [1, 2]]],
        timed: false,
    });
}

fn explore<const FLOWS: usize, const SLOTS: usize>(window: Window<FLOWS, SLOTS>) {
    let checker = window.checker().spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    assert!(checker.is_done());
    checker.assert_properties();
}

impl<const FLOWS: usize, const SLOTS: usize> Model for Window<FLOWS, SLOTS> {
    type State = State<FLOWS, SLOTS>;
    type Action = Action;

    fn init_states(&self) -> Vec<Self::State> {
        let start = |buckets: &[Bucket<SLOTS>; FLOWS]| State {
            timed: Timed::new(Word::default()),
            flows: buckets.map(|bucket| Flow {
                bucket,
                tag: None,
                connection: None,
            }),
            strayed: false,
            stale: false,
            unsafe_while_held: false,
        };
        self.buckets.iter().map(start).collect()
    }

    fn actions(&self, state: &Self::State, actions: &mut Vec<Action>) {
        if state.strayed || state.stale || state.unsafe_while_held {
            return;
        }
        for (index, flow) in state.flows.iter().enumerate() {
            flow.actions(index, self.sequences, actions);
        }
        state.operator(self.timed, actions);
    }

    fn next_state(&self, last: &Self::State, action: Action) -> Option<Self::State> {
        let mut next = last.clone();
        next.act(action);
        next.canonical();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("packets follow their SYN", |_, state: &Self::State| {
                !state.strayed
            }),
            Property::always("new connections are current", |_, state: &Self::State| {
                !state.stale
            }),
            Property::always(
                "a held word leaves no SYN unknown",
                |_, state: &Self::State| !state.unsafe_while_held,
            ),
            Property::sometimes(
                "an old connection outlives open",
                |_, state: &Self::State| {
                    state.now().phase() == Phase::Draining && !state.may_settle()
                },
            ),
            Property::sometimes("a window opens twice", |_, state: &Self::State| {
                state.now().phase() == Phase::Arming && !state.may_settle()
            }),
            Property::sometimes(
                "a connection outlives a way back",
                |window: &Self, state: &Self::State| {
                    !window.timed
                        || state.timed.pending()
                            && state.timed.hour > SWITCHED
                            && !state.may_settle()
                },
            ),
        ]
    }
}

impl<const SLOTS: usize> Flow<SLOTS> {
    fn actions(&self, index: usize, sequences: &[u32], actions: &mut Vec<Action>) {
        for fits in [true, false] {
            let fresh = |sequence: &&u32| !self.remembers(**sequence);
            let begin = |sequence: &u32| Action::Begin(index, *sequence, fits);
            actions.extend(sequences.iter().filter(fresh).map(begin));
            if let Some(connection) = self.connection {
                actions.push(Action::Speak(index, fits));
                if connection.may_repeat() {
                    actions.push(Action::Repeat(index, fits));
                }
            }
        }
        if self.connection.is_some() {
            actions.push(Action::Close(index));
        }
    }

    /// Clients do not use an initial sequence number twice in a row (RFC 6528).
    fn remembers(&self, sequence: u32) -> bool {
        let tag = self.tag.filter(|tag| tag.from_syn == 1);
        tag.is_some_and(|tag| tag.sequence == sequence)
            || self.connection.is_some_and(|c| c.sequence == sequence)
    }

    fn at(&self, slot: u32) -> u16 {
        self.bucket[slot as usize]
    }

    /// Sends a segment through the algorithm.
    fn send(&mut self, word: Word, segment: Segment, fits: Fits) -> Met {
        let (old, new) = (self.at(word.previous()), self.at(word.current()));
        let entry = Entry {
            tag: Cell::new(self.tag),
            fits,
            refused: Cell::new(false),
        };
        let short = known(word, new, segment, 0, &entry);
        let (went, how) = match word.phase() {
            Phase::Steady => (new, How::Current),
            _ => steer::tagged(word, || old, new, segment, 0, &entry),
        };
        assert!(short.is_none_or(|short| (short, self.tag) == ((went, how), entry.tag.get())));
        self.tag = entry.tag.get();
        Met {
            word,
            old,
            new,
            went,
            refused: entry.refused.get() && how != How::Tag,
            nowhere: how == How::Held,
            tagged: names(self.tag, word, went),
        }
    }
}

impl<const FLOWS: usize, const SLOTS: usize> State<FLOWS, SLOTS> {
    /// What the operator may do now. Tables may be switched at any time, also without arming.
    fn operator(&self, may_time: bool, actions: &mut Vec<Action>) {
        let timed = self.timed;
        if timed.may_drain() && self.live().all(|(_, c)| c.lets_drain()) {
            actions.push(Action::Drain);
        }
        if timed.may_hold() {
            actions.push(Action::Hold);
        }
        if timed.may_pass() {
            actions.push(Action::Pass);
        }
        if timed.may_keep() {
            actions.push(Action::Keep);
        }
        if timed.pending() {
            actions.push(Action::Fix);
            return;
        }
        actions.push(Action::Arm);
        for slot in 0..SLOTS as u32 {
            actions.push(Action::Switch(slot));
            actions.push(Action::Force(slot));
            let hours = [0, SWITCHED].into_iter();
            let hours = hours.filter(|hour| may_time && timed.may_schedule(*hour));
            actions.extend(hours.map(|hour| Action::Schedule(slot, hour)));
        }
        if timed.word.phase() != Phase::Steady && self.may_settle() {
            actions.push(Action::Settle);
        }
    }

    fn now(&self) -> Word {
        self.timed.now()
    }

    /// The operator's move.
    fn store(&mut self, word: Word) {
        self.timed = Timed::new(word);
    }

    /// The table changes, or is about to.
    fn switched(&mut self, slot: u32) {
        let before = self.now();
        self.each(|connection, _| connection.switched(before, slot));
    }

    fn pass(&mut self) {
        let next = self.timed.pass();
        if next.now().current() != self.now().current() {
            self.switched(next.now().current());
        }
        self.timed = next;
    }

    fn live(&self) -> impl Iterator<Item = (&Flow<SLOTS>, &Connection)> {
        let live = |flow: &'_ Flow<SLOTS>| flow.connection.is_some();
        let flows = self.flows.iter().filter(move |flow| live(flow));
        flows.filter_map(|flow| Some((flow, flow.connection.as_ref()?)))
    }

    fn may_settle(&self) -> bool {
        let current = self.now().current();
        self.live().all(|(flow, c)| c.lets_settle(flow.at(current)))
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Begin(flow, sequence, fits) => self.begin(flow, sequence, fits),
            Action::Repeat(flow, fits) => self.repeat(flow, fits),
            Action::Speak(flow, fits) => self.speak(flow, fits),
            Action::Close(flow) => self.flows[flow].connection = None,
            Action::Arm => self.store(self.now().arm()),
            Action::Switch(slot) => {
                self.switched(slot);
                self.store(self.now().switch_to(slot));
            }
            Action::Hold => self.timed.word = self.timed.word.hold(),
            Action::Drain => {
                let new = self.now().current();
                self.each(|connection, flow| connection.drained(flow.at(new)));
                // A timed word stays one.
                self.timed.word = self.timed.word.drain();
            }
            Action::Settle => {
                self.each(|connection, _| connection.settled());
                self.store(self.now().settle());
            }
            Action::Force(slot) => {
                self.each(|connection, flow| connection.forced(flow.at(slot)));
                self.store(self.now().force(slot));
            }
            Action::Schedule(slot, hour) => {
                if hour == SWITCHED {
                    self.switched(slot);
                }
                self.timed = self.timed.schedule(slot, hour);
            }
            Action::Pass => self.pass(),
            Action::Keep => self.timed = self.timed.keep(),
            Action::Fix => self.timed = self.timed.fix(),
        }
    }

    fn begin(&mut self, flow: usize, sequence: u32, fits: Fits) {
        let word = self.now();
        let flow = &mut self.flows[flow];
        let met = flow.send(word, Segment::syn(sequence), fits);
        self.unsafe_while_held |= !met.is_safe();
        if met.nowhere {
            flow.connection = None;
            return;
        }
        flow.connection = Some(Connection::begin(sequence, &met));
        self.stale |= !met.refused && met.went != met.new;
    }

    fn repeat(&mut self, flow: usize, fits: Fits) {
        let word = self.now();
        let flow = &mut self.flows[flow];
        let Some(mut connection) = flow.connection else {
            return;
        };
        let sequence = connection.sequence;
        let met = flow.send(word, Segment::syn(sequence), fits);
        self.strayed |= !connection.repeat(&met);
        flow.connection = Some(connection);
    }

    fn speak(&mut self, flow: usize, fits: Fits) {
        let word = self.now();
        let flow = &mut self.flows[flow];
        let met = flow.send(word, Segment::OTHER, fits);
        if let Some(connection) = &mut flow.connection {
            self.strayed |= !connection.speak(&met);
        }
    }

    fn each(&mut self, mut change: impl FnMut(&mut Connection, &Flow<SLOTS>)) {
        for flow in &mut self.flows {
            let before = *flow;
            if let Some(connection) = &mut flow.connection {
                change(connection, &before);
            }
        }
    }

    /// Two states that differ only in names are one.
    fn canonical(&mut self) {
        let word = self.timed.word;
        let epoch = word.epoch();
        for tag in self.flows.iter_mut().filter_map(|flow| flow.tag.as_mut()) {
            tag.epoch = if tag.epoch == epoch { 1 } else { 0 };
        }
        self.timed.word = word.with_epoch(1).with_staging(0).with_in_use(0);
        self.flows.sort_unstable();
    }
}

/// The flow map, as one packet finds it.
struct Entry {
    tag: Cell<Option<Tag>>,
    fits: Fits,
    refused: Cell<bool>,
}

impl Flows for Entry {
    fn get(&self) -> Option<Tag> {
        self.tag.get()
    }

    fn put(&self, tag: Tag) -> bool {
        if self.fits {
            self.tag.set(Some(tag));
        }
        self.refused.set(!self.fits);
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
