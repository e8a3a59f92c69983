//! What the explorations found once, in as few steps as possible, and the limits that are known.

use std::cell::Cell;

use switcher_common::abi::Tag;
use switcher_common::steer::{self, Choice, Flows, How, Ownership, Segment};
use switcher_common::word::Word;

/// Three tables with one endpoint each: slot 0 has endpoint 1, and so on.
const fn endpoint(slot: u32) -> u16 {
    slot as u16 + 1
}

const SYN: Segment = Segment::syn(77);

/// A connection to the second table's endpoint was taken away by the remains of its predecessor at the
/// first's, once a third table was current.
#[test]
fn remains_do_not_hide_the_owner() {
    let word = Word::default().switch_to(1).switch_to(2);
    let owner = |id| match id {
        1 => Ownership::TimeWait,
        2 => Ownership::Owns,
        _ => Ownership::None,
    };
    assert_eq!(owned(word, Segment::OTHER, owner), (2, How::Socket));
}

/// The last segment of a handshake by cookie with the current table's endpoint went to the remains of its
/// predecessor.
#[test]
fn remains_do_not_take_a_cookie() {
    let word = Word::default().switch_to(1);
    let owner = |id| match id {
        1 => Ownership::TimeWait,
        _ => Ownership::Cookie,
    };
    assert_eq!(owned(word, Segment::OTHER, owner), (2, How::Current));
}

/// A listener that took a segment for a cookie of its own by accident won over the connection's owner.
#[test]
fn cookies_do_not_take_a_connection() {
    let word = Word::default().switch_to(1);
    let owner = |id| match id {
        1 => Ownership::Cookie,
        _ => Ownership::Owns,
    };
    assert_eq!(owned(word, Segment::OTHER, owner), (2, How::Current));
}

/// Arming an open window made its current table the previous one, and old flows without a tag were taken
/// for new ones.
#[test]
fn arming_an_open_window_keeps_what_unknown_means() {
    let word = Word::default().switch_to(1).arm();
    let flow = Entry::default();
    let (went, _) = tagged(word, [1, 2, 3], Segment::OTHER, &flow);
    assert_eq!(went, 1);
}

/// On its way to a third table a SYN on which the first two agree was not remembered, and its copy went
/// elsewhere. Arming covers it.
#[test]
fn a_syn_is_remembered_before_the_third_table() {
    let open = Word::default().arm().switch_to(1);
    let flow = Entry::default();
    let armed = open.arm();
    assert_eq!(tagged(armed, [1, 1, 2], SYN, &flow).0, 1);
    assert_eq!(tagged(armed.switch_to(2), [1, 1, 2], SYN, &flow).0, 1);
}

/// A tag's age was that of its making: a window with talkative old flows looked deserted.
#[test]
fn a_tag_is_as_old_as_its_last_packet() {
    let word = Word::default().switch_to(1);
    let flow = Entry::default();
    for now in [5, 6, 9] {
        let choice = steer::tagged(word, || 1, 2, Segment::OTHER, now, &flow);
        assert_eq!(choice.0, 1);
        assert_eq!(flow.0.get().map(|tag| tag.seen), Some(now));
    }
}

/// A datagram on a CPU whose clock is a tick behind the one that saw the flow last made it a new flow.
#[test]
fn a_clock_behind_does_not_end_a_flow() {
    let flow = Entry::default();
    let steady = Word::default();
    let (_, begins) = steer::flow(steady, 0, 1, 1000, 60, &flow);
    assert!(begins);
    let (choice, begins) = steer::flow(steady.switch_to(1), 0, 2, 999, 60, &flow);
    assert_eq!((choice, begins), ((1, How::Tag), false));
}

/// Known limit: a rollback straight from draining, without arming, may split a SYN and its copy. Draining
/// remembers no SYNs, and going back cannot wait.
#[test]
fn limit_a_rollback_from_draining_may_split_a_syn() {
    let draining = Word::default().switch_to(1).drain();
    let flow = Entry::default();
    assert_eq!(tagged(draining, [1, 2, 3], SYN, &flow).0, 2);
    assert_eq!(tagged(draining.switch_to(0), [1, 2, 3], SYN, &flow).0, 1);
}

/// Known limit: a SYN whose tag is refused goes to the old endpoint; if there is room when it is repeated,
/// its copy is a new connection.
#[test]
fn limit_a_refused_syn_is_not_remembered() {
    let open = Word::default().switch_to(1);
    let flow = Entry::default();
    flow.1.set(true);
    assert_eq!(tagged(open, [1, 2, 3], SYN, &flow), (1, How::Refused));
    flow.1.set(false);
    assert_eq!(tagged(open, [1, 2, 3], SYN, &flow), (2, How::Current));
}

/// In a flood a SYN was refused its tag and went to the old endpoint; the window drained before the client
/// had said anything else, and the connection was taken for a new one. Now it waits for its next try.
#[test]
fn a_held_word_sends_no_syn_where_it_would_be_forgotten() {
    let held = Word::default().switch_to(1).hold();
    let flow = Entry::default();
    flow.1.set(true);
    assert_eq!(tagged(held, [1, 2, 3], SYN, &flow).1, How::Held);
    assert_eq!(tagged(held, [1, 1, 3], SYN, &flow), (1, How::Current));
    assert_eq!(
        tagged(held, [1, 2, 3], Segment::OTHER, &flow),
        (1, How::Unknown)
    );
    assert!(!held.drain().is_held() && !held.settle().is_held() && !held.arm().is_held());
}

/// In a flood the clients' resets, which answer the old endpoint's SYN-ACKs, used up what was left of the
/// flow map for those who talk.
#[test]
fn resets_are_not_learnt() {
    let open = Word::default().switch_to(1);
    let flow = Entry::default();
    let reset = Segment {
        resets: true,
        ..Segment::OTHER
    };
    assert_eq!(tagged(open, [1, 2, 3], reset, &flow), (1, How::Unknown));
    assert_eq!(flow.0.get(), None);
}

fn tagged(word: Word, bucket: [u16; 3], segment: Segment, flow: &Entry) -> Choice {
    let (old, new) = (
        bucket[word.previous() as usize],
        bucket[word.current() as usize],
    );
    steer::tagged(word, || old, new, segment, 0, flow)
}

fn owned(word: Word, segment: Segment, owner: impl Fn(u16) -> Ownership) -> Choice {
    let new = endpoint(word.current());
    steer::owned(
        word,
        new,
        segment,
        |slot| Some(endpoint(slot)),
        owner,
        std::convert::identity,
    )
}

/// A flow's tag, and whether the map is full.
#[derive(Default)]
struct Entry(Cell<Option<Tag>>, Cell<bool>);

impl Flows for Entry {
    fn get(&self) -> Option<Tag> {
        self.0.get()
    }

    fn put(&self, tag: Tag) -> bool {
        if !self.1.get() {
            self.0.set(Some(tag));
        }
        !self.1.get()
    }

    fn refresh(&self, seen: u32) {
        self.0.set(self.get().map(|tag| Tag { seen, ..tag }));
    }

    fn remove(&self) {
        self.0.set(None);
    }
}
