//! Canaries by policy.

use super::*;

const HOLDS: [(u8, u64); 2] = [(5, 20), (50, 60)];

/// Blue is live, and green has its first share, settled at 3 s.
fn growing() -> GroupState {
    let mut state = group();
    let hold = |(percent, seconds)| Hold {
        percent,
        time: Duration::from_secs(seconds),
    };
    state.gates.policy.canary = HOLDS.map(hold).to_vec();
    shared(&mut state, ("c", 5, 2), Millis(0));
    assert_eq!(state.phase(), "holding");
    state
}

/// By policy, three seconds later.
fn shared(state: &mut GroupState, (id, percent, slot): (&str, u8, u8), now: Millis) {
    let order = Order {
        force: true,
        terms: Terms {
            policy: true,
            ..Terms::default()
        },
        ..order_to(id, "green")
    };
    let event = Event::Canary {
        order,
        percent,
        slot,
    };
    let later = now + Duration::from_secs(3);
    let _begun = step(state, event, now);
    let _armed = step(state, prepared(id), now);
    let _switched = step(state, Event::Timer, later);
    let _settled = step(state, settled(id), later);
    assert_eq!(state.canary().map(|share| share.percent), Some(percent));
}

fn at(state: &GroupState, seconds: u64, observed: &Observed) -> Option<Advance> {
    advance(state, Millis(seconds * 1000), &limits(), observed)
}

#[test]
fn shares_are_held_and_then_grow_until_the_flip() {
    let well = Observed::default();
    let mut state = growing();
    let next = Advance::Step { percent: 50 };
    assert_eq!(next_share(&state), Some((Millis(23_000), next.clone())));
    assert_eq!(at(&state, 22, &well), None);
    assert_eq!(at(&state, 23, &well), Some(next));
    let unknown = Observed {
        unknown: true,
        ..Observed::default()
    };
    assert_eq!(at(&state, 23, &unknown), None);

    shared(&mut state, ("d", 50, 3), Millis(23_000));
    assert_eq!(
        next_share(&state),
        Some((Millis(86_000), Advance::Finish)),
        "counted from when it had that share"
    );
    assert_eq!(at(&state, 86, &well), Some(Advance::Finish));
    let flip = Order {
        force: true,
        ..order_to("e", "green")
    };
    let _begun = step(&mut state, Event::Flip(flip), Millis(86_000));
    assert_eq!(at(&state, 99, &well), None, "something else goes on");
    let _armed = step(&mut state, prepared("e"), Millis(86_000));
    let _switched = step(&mut state, Event::Timer, Millis(89_000));
    let _settled = step(&mut state, settled("e"), Millis(89_000));
    assert_eq!((state.live.as_str(), rollout(&state)), ("green", None));
    assert_eq!(state.gates.rollout, None);
}

#[test]
fn what_does_badly_is_taken_back_at_once_but_not_to_something_worse() {
    let state = growing();
    let why = vec![Blocker {
        what: "web".into(),
        why: "503".into(),
    }];
    let badly = Observed {
        failing: why.clone(),
        ..Observed::default()
    };
    let back = Advance::Back { why: why.clone() };
    assert_eq!(at(&state, 4, &badly), Some(back.clone()));
    assert_eq!(at(&state, 99, &badly), Some(back));
    let nowhere = Observed {
        way_back: why,
        ..badly.clone()
    };
    assert_eq!(at(&state, 99, &nowhere), None, "nor forward");

    let mut aborted = state.clone();
    let _begun = step(&mut aborted, Event::Abort(order("a")), Millis(4000));
    let _stored = step(&mut aborted, prepared("a"), Millis(4000));
    let _settled = step(&mut aborted, settled("a"), Millis(4001));
    assert_eq!((aborted.canary(), &aborted.gates.rollout), (None, &None));

    let mut resets = Observed {
        seen: Traffic {
            connections: 50,
            resets: 6,
            failed: 0,
        },
        ..Observed::default()
    };
    assert!(matches!(at(&state, 4, &resets), Some(Advance::Back { .. })));
    resets.before = Traffic {
        connections: 100,
        resets: 10,
        failed: 0,
    };
    assert_eq!(at(&state, 4, &resets), None, "as usual");
}

#[test]
fn it_waits_for_gates_and_pauses_and_by_hand_it_is_over() {
    let well = Observed::default();
    let state = growing();
    let mut frozen = state.clone();
    frozen.gates.policy.freeze = Some("audit".into());
    assert_eq!(at(&frozen, 99, &well), None);
    let mut paused = state.clone();
    let pause = Event::Pause {
        order: order("p"),
        time: Duration::from_secs(100),
    };
    let _paused = step(&mut paused, pause, Millis(4000));
    assert_eq!(at(&paused, 99, &well), None);

    let mut by_hand = state.clone();
    let order = Order {
        force: true,
        ..order_to("h", "green")
    };
    let event = Event::Canary {
        order,
        percent: 7,
        slot: 3,
    };
    let _begun = step(&mut by_hand, event, Millis(4000));
    let _armed = step(&mut by_hand, prepared("h"), Millis(4000));
    let _switched = step(&mut by_hand, Event::Timer, Millis(7000));
    let _settled = step(&mut by_hand, settled("h"), Millis(7000));
    assert_eq!((by_hand.phase(), rollout(&by_hand)), ("holding", None));
    assert_eq!(at(&by_hand, 99, &well), None);
}

#[test]
fn another_configuration_counts_from_the_next_share_on() {
    let mut state = growing();
    state.gates.policy.canary = vec![Hold {
        percent: 20,
        time: Duration::from_secs(5),
    }];
    let next = Advance::Step { percent: 20 };
    assert_eq!(
        next_share(&state),
        Some((Millis(3000), next)),
        "none was said"
    );
    state.gates.policy.canary.clear();
    assert_eq!(next_share(&state), Some((Millis(3000), Advance::Finish)));
    assert_eq!(step_above(&[], 0), None);
}
