//! What keeps a flip from being made, and what a flip that nobody orders waits for.

use super::*;

#[test]
fn one_answer_lists_everything_and_how_to_clear_it() {
    let mut state = guarded();
    state.releases.applied = Some(15);
    let green = Release {
        version: Some("v2".into()),
        schema: Some(SchemaRange { min: 12, max: 14 }),
        ..Release::default()
    };
    state.releases.colours.insert("green".into(), green);
    state.gates.switches = vec![Millis(1000), Millis(2000)];
    let frozen = step(&mut state, freeze(Some(90)), Millis(5000));
    assert!(matches!(frozen[..], [Effect::Reply { .. }]), "{frozen:?}");

    let effects = step(&mut state, Event::Flip(order("f")), Millis(5000));
    let [
        Effect::Reply {
            outcome: Outcome::Blocked { colour, blockers },
            ..
        },
    ] = &effects[..]
    else {
        panic!("{effects:?}");
    };
    let said: Vec<String> = blockers
        .iter()
        .map(|it| format!("{}: {}", it.what, it.why))
        .collect();
    let expected = [
        "schema: green (v2) can live with schema 12..14, and 15 is applied; `schema` and `stage` correct that, \
         --force does not skip it",
        "freeze: \"audit\", by root, for 1m 30s more; `unfreeze` ends it",
        "gate qa: closed until somebody opens it; `gate qa open` does",
        "flap budget: 2 of 2 switches within 1m are used up; there is one again in 56s",
    ];
    assert_eq!(
        (colour.as_str(), said),
        ("green", expected.map(Into::into).to_vec())
    );
    let canary = Event::Canary {
        order: order_to("c", "green"),
        percent: 5,
        slot: 5,
    };
    assert_eq!(blocked(&step(&mut state, canary, Millis(5000))).len(), 4);
    assert_eq!(state.shares, BTreeMap::new(), "nothing is left of it");
    let back = step(&mut state, Event::Rollback(order("r")), Millis(5000));
    assert_eq!(
        refused(&back),
        Why::NotEligible,
        "but not for these reasons"
    );
}

#[test]
fn each_can_be_cleared_and_a_flip_uses_what_was_opened() {
    let mut state = guarded();
    assert_eq!(flip(&mut state, 0), ["gate qa"]);
    let _opened = step(&mut state, gate("qa", true), Millis(0));
    let _frozen = step(&mut state, freeze(None), Millis(0));
    assert_eq!(flip(&mut state, 0), ["freeze"]);
    let unfrozen = step(&mut state, Event::Unfreeze(order("u")), Millis(0));
    assert!(is_noted(&unfrozen));
    let again = step(&mut state, Event::Unfreeze(order("u")), Millis(0));
    assert_eq!(again, [reply("u", Outcome::Unchanged)]);
    assert_eq!(flip(&mut state, 0), [""; 0]);
    assert_eq!(state.live, "green");
    assert_eq!(flip(&mut state, 10), ["gate qa"], "that was for one flip");
    let _opened = step(&mut state, gate("qa", true), Millis(10));
    let closed = step(&mut state, gate("ops", false), Millis(10));
    assert!(is_noted(&closed));
    assert_eq!(flip(&mut state, 10), ["gate ops"], "open unless closed");
    let _opened = step(&mut state, gate("ops", true), Millis(10));
    assert_eq!(flip(&mut state, 20), [""; 0]);
    let _opened = step(&mut state, gate("qa", true), Millis(20));
    assert_eq!(flip(&mut state, 30), ["flap budget"], "two in a minute");
    assert_eq!(flip(&mut state, 60_000), [""; 0], "the first is forgotten");
    let unknown = step(&mut state, gate("dev", true), Millis(0));
    assert_eq!(refused(&unknown), Why::NoSuchGate);
}

#[test]
fn a_call_to_go_back_stands_until_the_next_flip() {
    let mut state = guarded();
    let more = (ROLLBACK.to_owned(), rule(false, Some(3600)));
    state.gates.policy.gates.extend([more]);
    let _opened = step(&mut state, gate("qa", true), Millis(0));
    assert_eq!(flip(&mut state, 0), [""; 0], "no switch asks it");
    let noted = step(&mut state, gate(ROLLBACK, true), Millis(0));
    assert!(is_noted(&noted));
    let called = |state: &GroupState, now| {
        let rule = state.gates.policy.gates[ROLLBACK];
        state.gates.gate(ROLLBACK, rule, Millis(now)).0
    };
    let back = step(&mut state, Event::Rollback(order("r")), Millis(0));
    assert!(matches!(back[0], Effect::Prepare { .. }), "{back:?}");
    let _stored = step(&mut state, prepared("r"), Millis(0));
    let _settled = step(&mut state, settled("r"), Millis(0));
    let _drained = step(&mut state, flows(0, 0), Millis(0));
    assert_eq!(state.live, "blue");
    assert!(called(&state, 3_599_999), "who polls every minute hears it");
    assert!(!called(&state, 3_600_000));
    let _opened = step(&mut state, gate("qa", true), Millis(60_000));
    assert_eq!(flip(&mut state, 60_000), [""; 0]);
    assert!(!called(&state, 60_000), "that was of another release");
    let policy = &passed(&state, "blue", Millis(60_000));
    assert!(policy.iter().all(|it| it.what != "gate rollback"));
}

#[test]
fn what_the_configuration_freezes_only_that_frees() {
    let mut state = sockets();
    state.gates.policy.freeze = Some("accounts".into());
    assert_eq!(flip(&mut state, 0), ["freeze"]);
    let unfrozen = step(&mut state, Event::Unfreeze(order("u")), Millis(0));
    assert_eq!(refused(&unfrozen), Why::Precondition);
    let _frozen = step(&mut state, freeze(None), Millis(0));
    assert_eq!(flip(&mut state, 0), ["freeze", "freeze"], "by both");
    let unfrozen = step(&mut state, Event::Unfreeze(order("u")), Millis(0));
    assert!(is_noted(&unfrozen));
    state.gates.policy.freeze = None;
    assert_eq!(flip(&mut state, 0), [""; 0]);
}

#[test]
fn decisions_and_freezes_end() {
    let mut state = guarded();
    let _opened = step(&mut state, gate("qa", true), Millis(0));
    let _closed = step(&mut state, gate("ops", false), Millis(0));
    let _frozen = step(&mut state, freeze(Some(10)), Millis(0));
    let names = |state: &GroupState, at: u64| {
        let blockers = blockers(state, "green", Millis(at));
        blockers.into_iter().map(|it| it.what).collect::<Vec<_>>()
    };
    assert_eq!(names(&state, 9_999), ["freeze", "gate ops"]);
    assert_eq!(names(&state, 10_000), ["gate ops"]);
    assert_eq!(
        names(&state, 3_599_999),
        ["gate ops"],
        "qa is open for an hour"
    );
    assert_eq!(names(&state, 3_600_000), ["gate ops", "gate qa"]);
    assert_eq!(
        names(&state, 1 << 40),
        ["gate ops", "gate qa"],
        "ops until the next flip"
    );
}

#[test]
fn force_skips_them_and_rollback_asks_nobody() {
    let mut state = guarded();
    let _frozen = step(&mut state, freeze(None), Millis(0));
    let force = Order {
        force: true,
        ..order("f")
    };
    let begun = step(&mut state, Event::Flip(force), Millis(0));
    assert!(matches!(begun[0], Effect::Prepare { .. }), "{begun:?}");
    let _stored = step(&mut state, prepared("f"), Millis(0));
    let _settled = step(&mut state, settled("f"), Millis(0));
    assert_eq!(state.live, "green");
    let back = step(&mut state, Event::Rollback(order("r")), Millis(1));
    assert!(matches!(back[0], Effect::Prepare { .. }), "{back:?}");
    let _stored = step(&mut state, prepared("r"), Millis(1));
    assert_eq!(state.live, "blue");
}

#[test]
fn what_is_being_prepared_is_called_off() {
    for close in [freeze(None), gate("ops", false)] {
        let mut state = open(group());
        let _begun = step(&mut state, Event::Flip(order("f")), Millis(0));
        let _armed = step(&mut state, prepared("f"), Millis(0));
        let _healthy = step(&mut state, healthy("f"), Millis(0));
        let armed = state.word;
        let effects = step(&mut state, close.clone(), Millis(1000));
        assert_eq!(
            effects[..3],
            [
                Effect::Store(armed.settle()),
                Effect::CloseWindow,
                ended("f", End::Aborted, 0)
            ]
        );
        assert_eq!(blocked(&effects[3..4]).len(), 1);
        assert!(is_noted(&effects[4..]));
        assert_eq!((state.phase(), state.live.as_str()), ("idle", "blue"));

        // Forced, it goes on.
        let force = Order {
            force: true,
            ..order("f")
        };
        let _begun = step(&mut state, Event::Flip(force), Millis(2000));
        assert!(is_noted(&step(&mut state, close, Millis(2000))));
        assert_eq!(state.phase(), "preparing");
    }
}

#[test]
fn a_decision_that_ends_while_syns_are_tagged_stops_the_flip() {
    let mut state = group();
    state.gates.policy.gates = BTreeMap::from([("qa".into(), rule(false, Some(2)))]);
    let _opened = step(&mut state, gate("qa", true), Millis(0));
    let _begun = step(&mut state, Event::Flip(order("f")), Millis(0));
    let _armed = step(&mut state, prepared("f"), Millis(0));
    let _healthy = step(&mut state, healthy("f"), Millis(0));
    let effects = step(&mut state, Event::Timer, Millis(3000));
    assert_eq!(blocked(&effects), ["gate qa"]);
    assert_eq!(state.live, "blue");
}

#[test]
fn a_flip_at_an_instant_is_asked_about_that_instant() {
    let at = |at: u64| Order {
        terms: Terms {
            at: Some(Millis(at)),
            confirm: None,
            ..Terms::default()
        },
        ..order("f")
    };
    let mut state = open(sockets());
    let _frozen = step(&mut state, freeze(Some(10)), Millis(0));
    let effects = step(&mut state, Event::Flip(at(9_000)), Millis(0));
    assert_eq!(blocked(&effects), ["freeze"]);
    let begun = step(&mut state, Event::Flip(at(11_000)), Millis(0));
    assert!(matches!(begun[0], Effect::Prepare { .. }), "{begun:?}");
    let _healthy = step(&mut state, healthy("f"), Millis(0));
    let effects = step(&mut state, prepared("f"), Millis(0));
    assert_eq!(effects[2], reply("f", Outcome::Scheduled));

    // It is in the kernel, and a freeze takes it back in time.
    let effects = step(&mut state, freeze(Some(60)), Millis(1000));
    assert!(matches!(
        effects[..2],
        [Effect::SetTimes(_), Effect::Settle { .. }]
    ));
    let _stopped = step(&mut state, settled("f"), Millis(1001));
    assert_eq!((state.phase(), state.live.as_str()), ("idle", "blue"));
}

#[test]
fn a_staged_release_goes_live_when_its_checks_have_passed_for_long_enough() {
    let state = automatic_group();
    assert_eq!(
        coming(&state, 7000, Some(9), Some(5)),
        Some(("green".into(), Millis(12_000)))
    );
    assert_eq!(
        coming(&state, 7000, Some(1), Some(10)),
        Some(("green".into(), Millis(7000)))
    );
    assert_eq!(coming(&state, 0, None, Some(60)), None, "no way back");
    assert_eq!(coming(&state, 0, Some(60), None), None, "it is not well");
}

#[test]
fn nothing_goes_live_by_itself_against_policy_or_people() {
    type Hinder = fn(&mut GroupState);
    let hindrances: [(&str, Hinder); 9] = [
        ("nothing is staged", |state| {
            state.releases.colours.clear();
        }),
        ("not asked for", |state| state.gates.policy.automatic = None),
        ("frozen", |state| {
            let _frozen = step(state, freeze(None), Millis(0));
        }),
        ("a closed gate", |state| {
            state.gates.policy.gates = BTreeMap::from([("qa".into(), rule(false, None))]);
        }),
        ("three in an hour", |state| {
            state.gates.switches = vec![Millis(0); 3];
        }),
        ("somebody stopped it", |state| {
            state.gates.declined.insert("green".into());
        }),
        ("the database has no way back", |state| {
            state.releases.applied = Some(2);
            let schema = Some(SchemaRange { min: 1, max: 1 });
            let blue = Release {
                schema,
                ..Release::default()
            };
            state.releases.colours.insert("blue".into(), blue);
        }),
        ("a window is open", |state| {
            let order = Order {
                force: true,
                ..order("f")
            };
            let _begun = step(state, Event::Flip(order), Millis(0));
        }),
        ("paused", |state| {
            let pause = Event::Pause {
                order: order("p"),
                time: Duration::from_secs(60),
            };
            let _paused = step(state, pause, Millis(0));
        }),
    ];
    for (why, hinder) in hindrances {
        let mut state = automatic_group();
        assert!(coming(&state, 0, Some(60), Some(60)).is_some());
        hinder(&mut state);
        assert_eq!(coming(&state, 0, Some(60), Some(60)), None, "{why}");
    }
}

#[test]
fn to_stage_again_is_to_ask_again() {
    let mut state = automatic_group();
    state.gates.declined.insert("green".into());
    let stage = Event::Stage {
        order: order_to("s", "green"),
        version: "v3".into(),
        schema: None,
    };
    assert!(is_noted(&step(&mut state, stage, Millis(0))));
    assert!(coming(&state, 0, Some(60), Some(60)).is_some());
}

/// Gate `qa` is closed and opens for an hour, gate `ops` is open; two switches a minute.
fn guarded() -> GroupState {
    let mut state = sockets();
    state.gates.policy = Policy {
        gates: BTreeMap::from([
            ("ops".into(), rule(true, None)),
            ("qa".into(), rule(false, Some(3600))),
        ]),
        budget: Some(FlapBudget {
            switches: 2,
            within: Duration::from_secs(60),
        }),
        ..Policy::default()
    };
    state
}

/// With a gate `ops` that is open.
fn open(mut state: GroupState) -> GroupState {
    state.gates.policy.gates = BTreeMap::from([("ops".into(), rule(true, None))]);
    state
}

/// A release waits on green, and may go live by itself after ten seconds.
fn automatic_group() -> GroupState {
    let mut state = sockets();
    state.gates.policy.automatic = Some(Duration::from_secs(10));
    let green = Release {
        version: Some("v2".into()),
        staged: true,
        ..Release::default()
    };
    state.releases.colours.insert("green".into(), green);
    state
}

fn coming(
    state: &GroupState,
    now: u64,
    blue: Option<u64>,
    green: Option<u64>,
) -> Option<(String, Millis)> {
    let passing = |colour: &str| match colour {
        "blue" => blue.map(Duration::from_secs),
        _ => green.map(Duration::from_secs),
    };
    automatic(state, Millis(now), passing)
}

fn rule(open: bool, seconds: Option<u64>) -> GateRule {
    GateRule {
        open,
        expires: seconds.map(Duration::from_secs),
    }
}

fn freeze(seconds: Option<u64>) -> Event {
    Event::Freeze {
        order: order("z"),
        reason: "audit".into(),
        by: "root".into(),
        time: seconds.map(Duration::from_secs),
    }
}

fn gate(name: &str, open: bool) -> Event {
    Event::Gate {
        order: order("g"),
        name: name.into(),
        open,
        by: "anna".into(),
    }
}

fn is_noted(effects: &[Effect]) -> bool {
    matches!(
        effects.last(),
        Some(Effect::Reply {
            outcome: Outcome::Noted { .. },
            ..
        })
    )
}

/// Flips to the end of the window; or what stands in the way.
fn flip(state: &mut GroupState, now: u64) -> Vec<String> {
    let begun = step(state, Event::Flip(order("f")), Millis(now));
    if !matches!(begun[0], Effect::Prepare { .. }) {
        return blocked(&begun);
    }
    let _healthy = step(state, healthy("f"), Millis(now));
    let _stored = step(state, prepared("f"), Millis(now));
    let _settled = step(state, settled("f"), Millis(now));
    let _drained = step(state, flows(0, 0), Millis(now));
    assert_eq!(state.stage, Stage::Idle);
    Vec::new()
}
