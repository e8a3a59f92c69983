//! QUIC handshakes that a switch meets half-way: each of their Initials has another connection id.

use std::cell::Cell;

use switcher_common::abi::Tag;
use switcher_common::steer::{self, Choice, Flows, How, Segment};
use switcher_common::word::Word;

const IDLE: u32 = 60;
const INITIAL: Segment = Segment::syn(0);

#[test]
fn a_handshake_that_began_while_armed_ends_where_it_began() {
    let flow = Entry::default();
    let armed = Word::default().arm();
    assert_eq!(at(armed, INITIAL, 100, &flow), (1, How::Current));
    let open = armed.switch_to(1);
    assert_eq!(
        at(open, INITIAL, 100, &flow),
        (1, How::Tag),
        "another flight"
    );
    assert_eq!(at(open, Segment::OTHER, 101, &flow), (1, How::Tag));
    let draining = open.drain();
    assert_eq!(at(draining, INITIAL, 102, &flow), (1, How::Tag));
}

#[test]
fn a_handshake_that_began_while_draining_survives_the_way_back() {
    let flow = Entry::default();
    let draining = Word::default().arm().switch_to(1).drain();
    assert_eq!(at(draining, INITIAL, 100, &flow), (2, How::Current));
    let back = draining.switch_to(0);
    assert_eq!(at(back, INITIAL, 100, &flow), (2, How::Tag));
    assert_eq!(at(back, Segment::OTHER, 100, &flow), (2, How::Tag));
}

#[test]
fn a_socket_that_was_silent_for_long_begins_anew() {
    let flow = Entry::default();
    let armed = Word::default().arm();
    assert_eq!(at(armed, INITIAL, 100, &flow), (1, How::Current));
    let open = armed.switch_to(1);
    let later = 100 + IDLE + 1;
    assert_eq!(at(open, INITIAL, later, &flow), (2, How::Current));
    assert_eq!(at(open, Segment::OTHER, later, &flow), (2, How::Tag));
}

#[test]
fn unknown_flows_are_old_while_open_and_new_while_draining() {
    let open = Word::default().arm().switch_to(1);
    let flow = Entry::default();
    assert_eq!(at(open, Segment::OTHER, 100, &flow), (1, How::Unknown));
    assert_eq!(
        at(open.drain(), Segment::OTHER, 100, &flow),
        (1, How::Tag),
        "learnt"
    );
    let other = Entry::default();
    assert_eq!(
        at(open.drain(), Segment::OTHER, 100, &other),
        (2, How::Current)
    );
    assert_eq!(other.0.get(), None);
}

/// Endpoint 1 in slot 0, endpoint 2 in slot 1.
fn at(word: Word, segment: Segment, now: u32, flow: &Entry) -> Choice {
    let endpoint = |slot: u32| slot as u16 + 1;
    let (old, new) = (endpoint(word.previous()), endpoint(word.current()));
    steer::quic(word, || old, new, segment, now, IDLE, flow)
}

#[derive(Default)]
struct Entry(Cell<Option<Tag>>);

impl Flows for Entry {
    fn get(&self) -> Option<Tag> {
        self.0.get()
    }

    fn put(&self, tag: Tag) -> bool {
        self.0.set(Some(tag));
        true
    }

    fn refresh(&self, seen: u32) {
        self.0.set(self.get().map(|tag| Tag { seen, ..tag }));
    }

    fn remove(&self) {
        self.0.set(None);
    }
}
