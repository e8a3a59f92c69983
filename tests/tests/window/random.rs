//! Hundreds of flows, long random sequences, a flow map that is too small and refuses when it is asked too
//! often; every decision is compared with a reference that remembers each connection for ever.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use switcher_common::abi::Tag;
use switcher_common::steer::{self, Flows, How, Segment};
use switcher_common::word::{Phase, Word};

use crate::client::{Connection, Met, known, names};
use crate::timed::{SWITCHED, Timed};

const FLOWS: usize = 300;
const SLOTS: usize = 4;
const BUCKETS: usize = 16;
const ENDPOINTS: u16 = 6;
/// Longer than any run.
const IDLE: u32 = 1 << 20;

#[derive(Clone, Copy, Debug)]
enum Step {
    Begin(usize),
    Repeat(usize),
    Speak(usize),
    Close(usize),
    /// Time passes.
    Tick,
    Arm,
    Switch(u32),
    /// Before it drains.
    Hold,
    /// After every client has spoken: an idle one is not promised anything.
    Drain,
    /// After every client on an endpoint that the current table would not choose is done.
    Settle,
    Force(u32),
    /// A switch at this hour, with a way back; if one may be set now.
    Schedule(u32, u8),
    /// The next hour of a timed word.
    Pass,
    Keep,
    /// The agent stores what a timed word counts as.
    Fix,
}

#[derive(Clone, Debug)]
struct Start {
    tables: [[u16; BUCKETS]; SLOTS],
    /// Entries that the flow map takes.
    capacity: usize,
    /// Tags that it takes in one tick.
    rate: u32,
    /// Flows are QUIC's: Initials instead of SYNs.
    quic: bool,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_packet_follows_its_syn(
        start in start(),
        steps in prop::collection::vec(step(), 0..4000),
    ) {
        let mut world = World::new(start);
        for step in steps {
            world.act(step)?;
        }
    }
}

fn start() -> impl Strategy<Value = Start> {
    let table = prop::array::uniform16(1..=ENDPOINTS);
    let capacity = prop_oneof![Just(FLOWS), 0..FLOWS];
    let rate = prop_oneof![Just(u32::MAX), 0..200_u32];
    let all = (prop::array::uniform4(table), capacity, rate, any::<bool>());
    all.prop_map(|(tables, capacity, rate, quic)| Start {
        tables,
        capacity,
        rate,
        quic,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        150 => (0..FLOWS).prop_map(Step::Begin),
        50 => (0..FLOWS).prop_map(Step::Repeat),
        300 => (0..FLOWS).prop_map(Step::Speak),
        50 => (0..FLOWS).prop_map(Step::Close),
        10 => Just(Step::Tick),
        4 => Just(Step::Arm),
        6 => (0..SLOTS as u32).prop_map(Step::Switch),
        2 => Just(Step::Hold),
        4 => Just(Step::Drain),
        2 => Just(Step::Settle),
        1 => (0..SLOTS as u32).prop_map(Step::Force),
        4 => (0..SLOTS as u32, 0..=SWITCHED).prop_map(|(slot, hour)| Step::Schedule(slot, hour)),
        10 => Just(Step::Pass),
        2 => Just(Step::Keep),
        4 => Just(Step::Fix),
    ]
}

struct World {
    start: Start,
    timed: Timed,
    now: u32,
    tags: RefCell<BTreeMap<usize, Tag>>,
    /// Tags the map still takes in this tick.
    budget: Cell<u32>,
    /// What the reference knows.
    connections: BTreeMap<usize, Connection>,
    begun: u32,
}

impl World {
    fn new(start: Start) -> Self {
        let budget = Cell::new(start.rate);
        Self {
            start,
            budget,
            timed: Timed::new(Word::default()),
            now: u32::MAX - 3,
            tags: RefCell::default(),
            connections: BTreeMap::new(),
            begun: 0,
        }
    }

    fn act(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Begin(flow) => self.begin(flow)?,
            Step::Repeat(flow) => self.repeat(flow)?,
            Step::Speak(flow) => self.speak(flow)?,
            Step::Close(flow) => _ = self.connections.remove(&flow),
            Step::Tick => {
                self.now = self.now.wrapping_add(1);
                self.budget.set(self.start.rate);
            }
            Step::Arm if !self.timed.pending() => self.store(self.word().arm()),
            Step::Switch(slot) if !self.timed.pending() => {
                self.switched(slot);
                self.store(self.word().switch_to(slot));
            }
            Step::Hold if self.timed.may_hold() => self.timed.word = self.timed.word.hold(),
            Step::Hold => {}
            Step::Arm | Step::Switch(_) => {}
            Step::Schedule(slot, hour) => {
                if self.timed.may_schedule(hour) {
                    if hour == SWITCHED {
                        self.switched(slot);
                    }
                    self.timed = self.timed.schedule(slot, hour);
                }
            }
            Step::Pass => self.pass(),
            Step::Keep if self.timed.may_keep() => self.timed = self.timed.keep(),
            Step::Keep => {}
            Step::Fix => self.timed = self.timed.fix(),
            Step::Drain => self.drain()?,
            Step::Settle => self.settle(),
            Step::Force(slot) => {
                let table = self.start.tables[slot as usize];
                self.each(|connection, bucket| connection.forced(table[bucket]));
                self.store(self.word().force(slot));
            }
        }
        Ok(())
    }

    fn word(&self) -> Word {
        self.timed.now()
    }

    fn store(&mut self, word: Word) {
        self.timed = Timed::new(word);
    }

    fn switched(&mut self, slot: u32) {
        let before = self.word();
        self.each(|connection, _| connection.switched(before, slot));
    }

    fn pass(&mut self) {
        if !self.timed.may_pass() {
            return;
        }
        let next = self.timed.pass();
        if next.now().current() != self.word().current() {
            self.switched(next.now().current());
        }
        self.timed = next;
    }

    fn begin(&mut self, flow: usize) -> Result<(), TestCaseError> {
        let sequence = self.begun;
        self.begun += 1;
        let met = self.send(flow, Segment::syn(sequence));
        prop_assert!(met.is_safe(), "{met:?}");
        if met.nowhere {
            self.connections.remove(&flow);
            return Ok(());
        }
        // A client's socket may carry another connection, which stays where it is.
        let stays = self.start.quic && met.tagged;
        prop_assert!(met.refused || met.went == met.new || stays, "{met:?}");
        self.connections
            .insert(flow, Connection::begin(sequence, &met));
        Ok(())
    }

    fn repeat(&mut self, flow: usize) -> Result<(), TestCaseError> {
        let Some(mut connection) = self.connections.get(&flow).copied() else {
            return Ok(());
        };
        if !connection.may_repeat() {
            return Ok(());
        }
        let sequence = connection.sequence;
        let met = self.send(flow, Segment::syn(sequence));
        prop_assert!(connection.repeat(&met), "{connection:?} {met:?}");
        self.connections.insert(flow, connection);
        Ok(())
    }

    fn speak(&mut self, flow: usize) -> Result<(), TestCaseError> {
        let Some(mut connection) = self.connections.get(&flow).copied() else {
            return Ok(());
        };
        let met = self.send(flow, Segment::OTHER);
        prop_assert!(connection.speak(&met), "{connection:?} {met:?}");
        self.connections.insert(flow, connection);
        Ok(())
    }

    fn drain(&mut self) -> Result<(), TestCaseError> {
        if !self.timed.may_drain() {
            return Ok(());
        }
        let silent = self.connections.iter().filter(|(_, c)| !c.lets_drain());
        for flow in silent.map(|(flow, _)| *flow).collect::<Vec<_>>() {
            self.speak(flow)?;
        }
        let table = self.start.tables[self.word().current() as usize];
        self.each(|connection, bucket| connection.drained(table[bucket]));
        // A timed word stays one.
        self.timed.word = self.timed.word.drain();
        Ok(())
    }

    fn settle(&mut self) {
        if self.timed.pending() {
            return;
        }
        let table = self.start.tables[self.word().current() as usize];
        self.connections
            .retain(|flow, c| c.lets_settle(table[flow % BUCKETS]));
        self.each(|connection, _| connection.settled());
        self.store(self.word().settle());
    }

    fn each(&mut self, mut change: impl FnMut(&mut Connection, usize)) {
        for (flow, connection) in &mut self.connections {
            change(connection, flow % BUCKETS);
        }
    }

    /// Sends a segment through the algorithm.
    fn send(&self, flow: usize, segment: Segment) -> Met {
        let at = |slot: u32| self.start.tables[slot as usize][flow % BUCKETS];
        let word = self.word();
        let (old, new) = (at(word.previous()), at(word.current()));
        let entry = Entry {
            world: self,
            flow,
            refused: Cell::new(false),
        };
        let tag = || self.tags.borrow().get(&flow).copied();
        let short = known(word, new, segment, self.now, &entry).filter(|_| !self.start.quic);
        let touched = tag();
        let (went, how) = match word.phase() {
            Phase::Steady => (new, How::Current),
            _ if self.start.quic => steer::quic(word, || old, new, segment, self.now, IDLE, &entry),
            _ => steer::tagged(word, || old, new, segment, self.now, &entry),
        };
        let tag = tag();
        assert!(short.is_none_or(|short| (short, touched) == ((went, how), tag)));
        Met {
            word,
            old,
            new,
            went,
            refused: entry.refused.get() && how != How::Tag,
            nowhere: how == How::Held,
            tagged: names(tag, word, went),
        }
    }
}

/// The flow map, as one packet finds it.
struct Entry<'a> {
    world: &'a World,
    flow: usize,
    refused: Cell<bool>,
}

impl Flows for Entry<'_> {
    fn get(&self) -> Option<Tag> {
        self.world.tags.borrow().get(&self.flow).copied()
    }

    fn put(&self, tag: Tag) -> bool {
        let World {
            start,
            budget,
            tags,
            ..
        } = self.world;
        let mut tags = tags.borrow_mut();
        let full = tags.len() >= start.capacity && !tags.contains_key(&self.flow);
        if full || budget.get() == 0 {
            self.refused.set(true);
            return false;
        }
        budget.set(budget.get() - 1);
        tags.insert(self.flow, tag);
        true
    }

    fn refresh(&self, seen: u32) {
        let mut tags = self.world.tags.borrow_mut();
        tags.entry(self.flow).and_modify(|tag| tag.seen = seen);
    }

    fn remove(&self) {
        self.world.tags.borrow_mut().remove(&self.flow);
    }
}
