//! Inputs and exact effects.

mod abort;
mod baking;
mod canary;
mod durable;
mod flip;
mod gates;
mod hooks;
mod left;
mod random;
mod resume;
mod rollback;
mod rollout;
mod staging;
mod timed;
mod together;
mod window;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use switcher_common::abi::Times;
use switcher_common::word::{Phase, Word, flags};

use super::*;

/// Blue is live in slot 0, green lies ready in slot 1; flows are tagged.
fn group() -> GroupState {
    GroupState {
        word: Word(0).with_in_use(1).with_staging(1),
        times: Times::default(),
        live: "blue".into(),
        previous: None,
        revision: 3,
        slots: BTreeMap::from([("blue".into(), 0), ("green".into(), 1)]),
        shares: BTreeMap::new(),
        releases: Releases::default(),
        gates: Gates::default(),
        timing: Timing {
            arm: Duration::from_secs(3),
            learn: Duration::from_secs(120),
            deadline: Duration::from_secs(3600),
            tagged: true,
        },
        stage: Stage::Idle,
    }
}

/// The same with endpoints on this host only: the socket table knows every flow.
fn sockets() -> GroupState {
    let mut state = group();
    state.timing.tagged = false;
    state
}

/// After a flip to green at time 0 that has settled.
fn flipped(mut state: GroupState) -> GroupState {
    let order = Order {
        force: true,
        ..order("f")
    };
    let _begun = step(&mut state, Event::Flip(order), Millis(0));
    let _armed = step(&mut state, prepared("f"), Millis(0));
    let _switched = step(&mut state, Event::Timer, Millis(3000));
    let _settled = step(&mut state, settled("f"), Millis(3000));
    assert!(matches!(state.stage, Stage::Draining(_)), "{state:?}");
    assert_eq!((state.live.as_str(), state.revision), ("green", 4));
    state
}

fn limits() -> Bake {
    Bake {
        time: Duration::from_secs(60),
        resets: 10,
        failed: 5,
        sample: 50,
    }
}

fn order(id: &str) -> Order {
    Order {
        id: id.into(),
        ..Order::default()
    }
}

fn order_to(id: &str, to: &str) -> Order {
    Order {
        to: Some(to.into()),
        ..order(id)
    }
}

fn cutover(id: &str, kind: Kind, from: &str, to: &str, slot: u8) -> Cutover {
    Cutover {
        id: id.into(),
        kind,
        from: from.into(),
        to: to.into(),
        slot,
        forced: false,
        hard: false,
        terms: Terms::default(),
        percent: None,
    }
}

fn prepared(id: &str) -> Event {
    Event::Prepared { id: id.into() }
}

fn settled(id: &str) -> Event {
    Event::Settled { id: id.into() }
}

fn healthy(id: &str) -> Event {
    Event::Health {
        id: id.into(),
        blockers: Vec::new(),
    }
}

fn flows(elsewhere: u64, used: u8) -> Event {
    Event::Flows(Count {
        elsewhere: Some(BTreeMap::from([("blue".into(), elsewhere)])),
        used,
        refused: false,
    })
}

fn reply(id: &str, outcome: Outcome) -> Effect {
    Effect::Reply {
        id: id.into(),
        outcome,
    }
}

/// Colours that were left, and by what.
fn left(all: &[(&str, &str, Kind)]) -> Left {
    let one = |(colour, id, kind): &(&str, &str, Kind)| {
        let by = LeftBy {
            cutover: (*id).to_owned(),
            kind: *kind,
        };
        ((*colour).to_owned(), by)
    };
    all.iter().map(one).collect()
}

fn drained(id: &str, colour: &str, leftovers: u64) -> Effect {
    Effect::Record(Record::Drained {
        id: id.into(),
        colour: colour.into(),
        leftovers,
    })
}

fn ended(id: &str, end: End, leftovers: u64) -> Effect {
    Effect::Record(Record::Ended {
        id: id.into(),
        end,
        leftovers,
    })
}

fn settle(id: &str) -> Effect {
    Effect::Settle { id: id.into() }
}

fn switched(id: &str) -> Effect {
    Effect::Record(Record::Switched { id: id.into() })
}

fn refused(effects: &[Effect]) -> Why {
    match effects {
        [
            Effect::Reply {
                outcome: Outcome::Refused(refusal),
                ..
            },
        ] => {
            assert!(!refusal.detail.is_empty() && !refusal.advice.is_empty());
            refusal.why
        }
        other => panic!("not a refusal: {other:?}"),
    }
}

/// What stands in the way, by name; each says how to clear it.
fn blocked(effects: &[Effect]) -> Vec<String> {
    match effects.last() {
        Some(Effect::Reply {
            outcome: Outcome::Blocked { blockers, .. },
            ..
        }) => {
            assert!(blockers.iter().all(|it| it.why.contains("; ")));
            blockers.iter().map(|it| it.what.clone()).collect()
        }
        other => panic!("not blocked: {other:?}"),
    }
}
