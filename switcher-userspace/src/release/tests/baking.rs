//! Switches that are watched.

use super::*;

/// As [`flipped`], and watched for a minute from 3 s on, or from 0 s without tags.
fn baking(state: GroupState) -> GroupState {
    let state = begun(state, None);
    assert_eq!((state.phase(), state.live.as_str()), ("baking", "green"));
    state
}

fn begun(mut state: GroupState, confirm: Option<Duration>) -> GroupState {
    let terms = Terms {
        confirm,
        bake: Some(limits()),
        ..Terms::default()
    };
    let order = Order {
        terms,
        ..order("f")
    };
    let _begun = step(&mut state, Event::Flip(order), Millis(0));
    let _armed = step(&mut state, prepared("f"), Millis(0));
    let _ok = step(&mut state, healthy("f"), Millis(0));
    let _switched = step(&mut state, Event::Timer, Millis(3000));
    let _settled = step(&mut state, settled("f"), Millis(3000));
    state
}

fn well() -> Observed {
    Observed::default()
}

fn failing() -> Observed {
    Observed {
        failing: vec![blocker("web", "503")],
        ..well()
    }
}

fn blocker(what: &str, why: &str) -> Blocker {
    Blocker {
        what: what.into(),
        why: why.into(),
    }
}

fn record(verdict: Verdict, why: Vec<Blocker>) -> Effect {
    let id = "f".into();
    Effect::Record(Record::Bake { id, verdict, why })
}

fn observed(state: &mut GroupState, observed: Observed, now: u64) -> Vec<Effect> {
    step(state, Event::Observed(observed), Millis(now))
}

#[test]
fn what_does_well_stays_and_then_drains() {
    let mut state = baking(group());
    let word = state.word;
    let look = [Effect::CountFlows, Effect::Observe { id: "f".into() }];
    assert_eq!(step(&mut state, Event::Timer, Millis(4000)), look);
    // Nobody is left, and it has been learnt who: but there may be a way back.
    let again = |at| [Effect::WakeAt(Millis(at))];
    assert_eq!(step(&mut state, flows(0, 1), Millis(4000)), again(5000));
    assert_eq!(observed(&mut state, well(), 4000), again(5000));
    assert_eq!(observed(&mut state, well(), 62_500), again(63_000));
    let unknown = Observed {
        unknown: true,
        ..well()
    };
    assert_eq!(
        observed(&mut state, unknown, 63_000),
        again(64_000),
        "not yet"
    );
    let passed = [
        record(Verdict::Passed, Vec::new()),
        Effect::WakeAt(Millis(65_000)),
    ];
    assert_eq!(observed(&mut state, well(), 64_000), passed);
    assert_eq!((state.phase(), state.word), ("draining", word));
}

#[test]
fn what_fails_its_checks_is_rolled_back_at_once() {
    for state in [group(), sockets()] {
        let mut state = baking(state);
        let tagged = state.timing.tagged;
        let word = state.word;
        let effects = observed(&mut state, failing(), 5000);
        let back = cutover("f-back", Kind::Rollback, "green", "blue", 0);
        let expected = [
            record(Verdict::RolledBack, vec![blocker("web", "503")]),
            Effect::Prepare {
                cutover: back,
                window: tagged,
                recorded: false,
            },
        ];
        assert_eq!(effects, expected);
        let effects = step(&mut state, prepared("f-back"), Millis(5000));
        let stored = word.switch_to(0);
        let stored = if tagged { stored } else { stored.drain() };
        let undone = Outcome::RolledBack {
            by: "f-back".into(),
        };
        let expected = [
            Effect::Store(stored),
            settle("f-back"),
            ended("f", End::RolledBack, 0),
            reply("f", undone),
        ];
        assert_eq!(effects, expected);
        let _settled = step(&mut state, settled("f-back"), Millis(5001));
        assert_eq!((state.phase(), state.live.as_str()), ("draining", "blue"));
    }
}

#[test]
fn ratios_count_against_what_was_usual_and_with_enough_connections() {
    let traffic = |connections, resets, failed| Traffic {
        connections,
        resets,
        failed,
    };
    let cases = [
        (traffic(49, 49, 49), traffic(1000, 0, 0), vec![]),
        (traffic(50, 5, 2), traffic(1000, 0, 0), vec![]),
        (traffic(50, 6, 0), traffic(1000, 0, 0), vec!["resets"]),
        (
            traffic(50, 0, 3),
            traffic(1000, 0, 0),
            vec!["failed handshakes"],
        ),
        (traffic(50, 12, 0), traffic(1000, 150, 0), vec![]),
        (
            traffic(50, 13, 3),
            traffic(1000, 150, 0),
            vec!["resets", "failed handshakes"],
        ),
        // Of a few nothing follows.
        (traffic(50, 6, 0), traffic(49, 49, 49), vec!["resets"]),
        (traffic(u64::MAX, u64::MAX / 2, 0), traffic(0, 0, 0), vec![]),
    ];
    for (seen, before, expected) in cases {
        let observed = Observed {
            seen,
            before,
            ..well()
        };
        let found = troubles(&limits(), &observed);
        let what: Vec<&str> = found.iter().map(|it| it.what.as_str()).collect();
        assert_eq!(what, expected, "{seen:?} {before:?}");
    }
    let found = troubles(
        &limits(),
        &Observed {
            seen: traffic(60, 20, 0),
            before: traffic(1000, 12, 0),
            ..well()
        },
    );
    let why = "20 of 60 connections, 33.3 %; 1.2 % before the switch, and 10 % more is the limit";
    assert_eq!(found, [blocker("resets", why)]);
}

#[test]
fn there_is_no_way_back_to_something_worse() {
    let mut state = baking(group());
    let nowhere = Observed {
        way_back: vec![blocker("no way back", "web: refused")],
        ..failing()
    };
    let effects = observed(&mut state, nowhere.clone(), 5000);
    let why = vec![
        blocker("web", "503"),
        blocker("no way back", "web: refused"),
    ];
    let expected = [record(Verdict::Degraded, why), Effect::WakeAt(Millis(6000))];
    assert_eq!(effects, expected);
    assert_eq!((state.phase(), state.live.as_str()), ("degraded", "green"));
    assert_eq!(
        observed(&mut state, nowhere.clone(), 6000),
        [Effect::WakeAt(Millis(7000))],
        "that is known"
    );
    let mut better = state.clone();
    let expected = [
        record(Verdict::Watching, Vec::new()),
        Effect::WakeAt(Millis(8000)),
    ];
    assert_eq!(observed(&mut better, well(), 7000), expected);
    assert_eq!(better.phase(), "baking");
    let mut back = state.clone();
    let effects = observed(&mut back, failing(), 7000);
    assert!(matches!(effects[1], Effect::Prepare { .. }), "{effects:?}");
    assert_eq!(
        observed(&mut state, nowhere, 63_000),
        [Effect::WakeAt(Millis(64_000))],
        "its record has said so"
    );
    assert_eq!(state.phase(), "draining");
}

#[test]
fn the_database_closes_the_way_back() {
    let mut state = baking(group());
    state.releases.applied = Some(3);
    let blue = state.releases.colours.entry("blue".into()).or_default();
    blue.schema = Some(SchemaRange { min: 1, max: 2 });
    let _stays = observed(&mut state, failing(), 5000);
    assert_eq!((state.phase(), state.live.as_str()), ("degraded", "green"));
}

#[test]
fn it_is_watched_while_somebody_is_to_confirm_it_and_afterwards() {
    let minute = Duration::from_secs(600);
    let mut state = begun(group(), Some(minute));
    assert_eq!(state.phase(), "confirming");
    let look = [Effect::CountFlows, Effect::Observe { id: "f".into() }];
    assert_eq!(step(&mut state, Event::Timer, Millis(4000)), look);
    assert_eq!(
        observed(&mut state, well(), 4000),
        [Effect::WakeAt(Millis(5000))]
    );

    let mut confirmed = state.clone();
    let effects = step(&mut confirmed, Event::Confirm(order("c")), Millis(5000));
    assert_eq!(effects[0], Effect::Store(state.word.without(flags::TIMED)));
    assert_eq!(confirmed.phase(), "baking", "until a minute is over");
    let effects = observed(&mut confirmed, failing(), 6000);
    assert_eq!(
        effects[0],
        record(Verdict::RolledBack, vec![blocker("web", "503")])
    );

    let mut passed = state.clone();
    let effects = observed(&mut passed, well(), 63_000);
    assert_eq!(effects[0], record(Verdict::Passed, Vec::new()));
    assert_eq!(passed.phase(), "confirming", "for longer than that");
    let _kept = step(&mut passed, Event::Confirm(order("c")), Millis(64_000));
    assert_eq!(passed.phase(), "draining");

    let effects = observed(&mut state, failing(), 5000);
    assert!(matches!(effects[1], Effect::Prepare { .. }), "{effects:?}");
    let _stored = step(&mut state, prepared("f-back"), Millis(5000));
    assert_eq!((state.confirm_by(), state.live.as_str()), (None, "blue"));
}

#[test]
fn meanwhile_it_can_be_kept_or_undone_and_nothing_else() {
    let before = baking(group());
    let mut state = before.clone();
    let effects = step(&mut state, Event::Flip(order_to("g", "blue")), Millis(5000));
    assert_eq!(refused(&effects), Why::Busy);
    let update = Event::Update {
        id: "u".into(),
        slot: 2,
    };
    assert_eq!(refused(&step(&mut state, update, Millis(5000))), Why::Busy);
    assert_eq!(state, before);

    let kept = Outcome::Kept {
        cutover: "f".into(),
    };
    let expected = [
        record(Verdict::Ended, Vec::new()),
        reply("c", kept),
        Effect::WakeAt(Millis(6000)),
    ];
    let effects = step(&mut state, Event::Confirm(order("c")), Millis(5000));
    assert_eq!(effects, expected);
    assert_eq!(state.phase(), "draining");

    for event in [Event::Abort(order("r")), Event::Rollback(order("r"))] {
        let mut state = before.clone();
        let _begun = step(&mut state, event, Millis(5000));
        let _stored = step(&mut state, prepared("r"), Millis(5000));
        assert_eq!(state.live, "blue");
    }
    let mut failed = before.clone();
    let _begun = step(&mut failed, Event::Rollback(order("r")), Millis(5000));
    let unprepared = Event::Unprepared {
        id: "r".into(),
        why: "no memory".into(),
    };
    let _failed = step(&mut failed, unprepared, Millis(5000));
    assert_eq!(failed.stage, before.stage, "it goes on being watched");
}

#[test]
fn rollbacks_and_hard_ones_are_not_watched() {
    let mut state = flipped(group());
    let terms = Terms {
        bake: Some(limits()),
        ..Terms::default()
    };
    let order = Order {
        terms,
        ..order("r")
    };
    let _begun = step(&mut state, Event::Rollback(order), Millis(4000));
    let _stored = step(&mut state, prepared("r"), Millis(4000));
    let _settled = step(&mut state, settled("r"), Millis(4001));
    assert_eq!(state.phase(), "draining");
}
