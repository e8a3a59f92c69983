use switcher_common::abi::Times;

use super::*;
use crate::datapath::{Canary, HaveGroup, Mix};

/// The slot of the first step's tables.
const FIRST: u8 = 2;

#[test]
fn a_step_is_a_window_to_a_slot_with_a_share() {
    let mut state = group();
    let effects = step(&mut state, canary("c", "green", 5, FIRST), Millis(0));
    assert!(
        matches!(&effects[..], [Effect::Prepare { cutover, window: true, recorded: true }, Effect::CheckHealth { .. }]
            if cutover.kind == Kind::Canary && cutover.percent == Some(5)),
        "{effects:?}"
    );
    assert_eq!(state.phase(), "preparing");
    let _armed = step(&mut state, prepared("c"), Millis(0));
    let _waits = step(&mut state, healthy("c"), Millis(0));
    let effects = step(&mut state, Event::Timer, Millis(3000));
    let Some(Effect::Store(word)) = effects.first() else {
        panic!("{effects:?}");
    };
    assert_eq!((word.current(), word.previous(), word.staging()), (2, 0, 1));
    assert_eq!(word.phase(), Phase::Open);
    let _settled = step(&mut state, settled("c"), Millis(3000));
    assert_eq!(state.phase(), "holding");
    assert_eq!(
        (state.live.as_str(), state.revision),
        ("blue", 3),
        "the majority's"
    );
    assert_eq!(state.slots["blue"], 0, "its own table stays ready");

    let same = step(&mut state, canary("d", "green", 5, FIRST), Millis(4000));
    assert_eq!(same, [reply("d", Outcome::Unchanged)]);
}

#[test]
fn it_is_held_when_its_window_is_over() {
    let mut state = held();
    state.word = state.word.drain();
    let effects = step(&mut state, flows(0, 0), Millis(9000));
    assert!(
        effects.contains(&ended("c", End::Succeeded, 0)),
        "{effects:?}"
    );
    assert_eq!((state.phase(), &state.stage), ("holding", &Stage::Idle));
    assert_eq!(state.word.phase(), Phase::Steady);
}

#[test]
fn the_next_step_goes_on_in_the_same_window() {
    let mut state = held();
    let _begun = step(
        &mut state,
        forced(canary("d", "green", 25, 3)),
        Millis(5000),
    );
    let _armed = step(&mut state, prepared("d"), Millis(5000));
    let effects = step(&mut state, Event::Timer, Millis(8000));
    assert!(
        effects.contains(&ended("c", End::Succeeded, 0)),
        "{effects:?}"
    );
    assert_eq!(
        (
            state.word.current(),
            state.word.previous(),
            state.word.staging()
        ),
        (3, 0, 1)
    );
    assert_eq!(state.canary().map(|share| share.percent), Some(25));
}

#[test]
fn a_flip_finishes_it_and_leaves_the_old_colours_own_table() {
    let mut state = held();
    let _begun = step(
        &mut state,
        Event::Flip(Order {
            force: true,
            ..order("f")
        }),
        Millis(5000),
    );
    let _armed = step(&mut state, prepared("f"), Millis(5000));
    let _switched = step(&mut state, Event::Timer, Millis(8000));
    assert_eq!((state.word.current(), state.word.staging()), (1, 0));
    assert_eq!(
        (state.live.as_str(), state.previous.as_deref()),
        ("green", Some("blue"))
    );
    assert_eq!((state.canary(), state.revision), (None, 4));
}

#[test]
fn abort_and_rollback_end_it_at_once() {
    for event in [Event::Abort(order("a")), Event::Rollback(order("a"))] {
        let mut state = held();
        let effects = step(&mut state, event, Millis(5000));
        assert!(
            matches!(
                &effects[..],
                [Effect::Prepare {
                    recorded: false,
                    ..
                }]
            ),
            "{effects:?}"
        );
        let effects = step(&mut state, prepared("a"), Millis(5000));
        let Some(Effect::Store(word)) = effects.first() else {
            panic!("{effects:?}");
        };
        assert_eq!((word.current(), word.staging()), (0, 1));
        assert!(
            effects.contains(&ended("c", End::RolledBack, 0)),
            "{effects:?}"
        );
        assert_eq!(
            (state.live.as_str(), state.revision, state.canary()),
            ("blue", 3, None)
        );
        let effects = step(&mut state, settled("a"), Millis(5000));
        assert!(effects.contains(&reply("a", Outcome::Switched)));
    }
}

#[test]
fn abort_stops_a_step_that_is_being_prepared_and_no_other() {
    let mut state = held();
    let _begun = step(&mut state, canary("d", "green", 25, 3), Millis(5000));
    let effects = step(&mut state, Event::Abort(order("a")), Millis(5000));
    assert!(
        effects.contains(&reply("d", Outcome::Aborted)),
        "{effects:?}"
    );
    assert_eq!(state.canary().map(|share| share.percent), Some(5));
    assert_eq!(state.phase(), "holding");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let ask = |state: &GroupState, event| {
        let effects = step(&mut state.clone(), event, Millis(9000));
        match effects.as_slice() {
            [
                Effect::Reply {
                    outcome: Outcome::Refused(refusal),
                    ..
                },
            ] => refusal.why,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ask(&group(), canary("c", "blue", 5, 9)), Why::Precondition);
    assert_eq!(ask(&group(), canary("c", "red", 5, 9)), Why::NoSuchColour);
    assert_eq!(ask(&held(), Event::Flip(order_to("f", "blue"))), Why::Busy);
    let mut busy = group();
    let _begun = step(&mut busy, Event::Flip(order("f")), Millis(0));
    assert_eq!(ask(&busy, canary("c", "green", 5, 9)), Why::Busy);
}

#[test]
fn a_restarted_agent_finds_it_in_the_kernel() {
    let state = held();
    let have = in_kernel(&state);
    let open = vec![Intent {
        cutover: Cutover {
            percent: Some(5),
            ..cutover("c", Kind::Canary, "blue", "green", FIRST)
        },
        switched: false,
        unconfirmed: false,
        bake: None,
        undecided: false,
        left: Left::new(),
    }];
    let recorded = Some(("blue".into(), None, 3));
    let (resumed, effects) = resume(
        Found {
            have: &have,
            times: Times::default(),
            releases: Releases::default(),
            gates: Gates::default(),
        },
        recorded,
        open,
        state.timing,
        "x".into(),
        Millis(0),
    );
    assert_eq!(
        (resumed.phase(), resumed.canary()),
        ("holding", state.canary())
    );
    assert!(effects.contains(&Effect::Record(Record::Switched { id: "c".into() })));
    assert_eq!(resumed.slots, state.slots);
}

#[test]
fn an_emergency_ends_it() {
    let mut state = held();
    let word = state.word.switch_to(0);
    let effects = step(
        &mut state,
        Event::Found {
            id: "e".into(),
            word,
        },
        Millis(5000),
    );
    assert_eq!((state.live.as_str(), state.canary()), ("blue", None));
    let found = effects.iter().any(|effect| {
        matches!(effect, Effect::Record(Record::Found { cutover: it, .. }) if it.from == "green" && it.to == "blue")
    });
    assert!(found, "{effects:?}");
}

fn canary(id: &str, to: &str, percent: u8, slot: u8) -> Event {
    Event::Canary {
        order: order_to(id, to),
        percent,
        slot,
    }
}

fn forced(event: Event) -> Event {
    match event {
        Event::Canary {
            order,
            percent,
            slot,
        } => Event::Canary {
            order: Order {
                force: true,
                ..order
            },
            percent,
            slot,
        },
        other => other,
    }
}

/// Blue is live and green has 5 %, settled.
fn held() -> GroupState {
    let mut state = group();
    let _begun = step(
        &mut state,
        forced(canary("c", "green", 5, FIRST)),
        Millis(0),
    );
    let _armed = step(&mut state, prepared("c"), Millis(0));
    let _switched = step(&mut state, Event::Timer, Millis(3000));
    let _settled = step(&mut state, settled("c"), Millis(3000));
    assert_eq!(state.canary().map(|share| share.percent), Some(5));
    state
}

fn in_kernel(state: &GroupState) -> HaveGroup {
    let shared = Mix {
        colour: 0,
        canary: Some(Canary {
            colour: 1,
            percent: 5,
        }),
    };
    HaveGroup {
        name: "shop".into(),
        colours: [(0, "blue".into()), (1, "green".into())].into(),
        slots: [(0, Mix::pure(0)), (1, Mix::pure(1)), (FIRST, shared)].into(),
        word: state.word,
    }
}
