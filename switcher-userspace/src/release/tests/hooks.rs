//! What others do or decide at moments of a group's life.

use super::*;
use crate::datapath::{HaveGroup, Mix};

#[test]
fn a_flip_calls_and_waits_before_and_after() {
    let mut state = hooked(group());
    let steady = state.word;
    let _begun = step(&mut state, Event::Flip(order("f")), Millis(0));
    assert_eq!(
        step(&mut state, prepared("f"), Millis(1)),
        [],
        "health first"
    );
    let effects = step(&mut state, healthy("f"), Millis(2));
    assert_eq!(effects, [calls("f", Moment::PreFlip)]);
    assert_eq!(state.word, steady, "nothing is tagged while they run");
    assert_eq!(step(&mut state, Event::Timer, Millis(90_000)), []);
    assert_eq!(step(&mut state, healthy("f"), Millis(90_000)), []);
    assert_eq!(
        step(
            &mut state,
            hooks("other", Moment::PreFlip, true),
            Millis(90_000)
        ),
        []
    );

    let effects = step(
        &mut state,
        hooks("f", Moment::PreFlip, true),
        Millis(100_000),
    );
    let wake = Effect::WakeAt(Millis(103_000));
    assert_eq!(effects, [Effect::Store(steady.arm()), wake]);
    let effects = step(&mut state, Event::Timer, Millis(103_000));
    assert_eq!(effects[1..], [settle("f")]);

    let effects = step(&mut state, settled("f"), Millis(103_001));
    let wake = Effect::WakeAt(Millis(104_001));
    assert_eq!(effects, [switched("f"), calls("f", Moment::PostFlip), wake]);
    assert_eq!(state.phase(), "draining");
    let busy = step(
        &mut state,
        Event::Flip(order_to("g", "blue")),
        Millis(103_002),
    );
    assert_eq!(refused(&busy), Why::Busy);
    let waits = step(&mut state, flows(0, 1), Millis(9_000_000));
    assert!(
        matches!(waits[..], [Effect::Store(_), Effect::WakeAt(_)]),
        "{waits:?}"
    );
    let waits = step(&mut state, flows(0, 1), Millis(9_001_000));
    assert!(
        matches!(waits[..], [Effect::WakeAt(_)]),
        "the window stays: {waits:?}"
    );

    let effects = step(
        &mut state,
        hooks("f", Moment::PostFlip, true),
        Millis(9_001_001),
    );
    let passed = Effect::Record(Record::Hooked { id: "f".into() });
    assert_eq!(effects, [passed, reply("f", Outcome::Switched)]);
    let effects = step(&mut state, flows(0, 1), Millis(9_002_000));
    let expected = [
        Effect::CloseWindow,
        calls("f", Moment::Drained),
        drained("f", "blue", 0),
        ended("f", End::Succeeded, 0),
    ];
    assert_eq!(effects[1..], expected);
}

#[test]
fn one_that_fails_before_calls_it_off() {
    let mut state = hooked(sockets());
    let begun = state.clone();
    called(&mut state, "f");
    let effects = step(&mut state, hooks("f", Moment::PreFlip, false), Millis(5));
    let blocked = Outcome::Blocked {
        colour: "green".into(),
        blockers: failed(),
    };
    assert_eq!(effects, [ended("f", End::Aborted, 0), reply("f", blocked)]);
    assert_eq!(state, begun);
}

#[test]
fn one_that_fails_after_undoes_it_at_once() {
    let mut state = hooked(sockets());
    decided(&mut state, "f");
    let effects = step(&mut state, hooks("f", Moment::PostFlip, false), Millis(20));
    let prepare = Effect::Prepare {
        cutover: cutover("f-back", Kind::Rollback, "green", "blue", 0),
        window: false,
        recorded: false,
    };
    assert_eq!(effects, [prepare]);
    let effects = step(&mut state, prepared("f-back"), Millis(20));
    let expected = [
        settle("f-back"),
        ended("f", End::RolledBack, 0),
        reply(
            "f",
            Outcome::RolledBack {
                by: "f-back".into(),
            },
        ),
    ];
    assert_eq!(effects[1..], expected, "nothing runs any more");
    let effects = step(&mut state, settled("f-back"), Millis(21));
    let back = Effect::CallHooks(Call {
        moment: Moment::RolledBack,
        id: "f-back".into(),
        kind: Some(Kind::Rollback),
        from: "green".into(),
        to: "blue".into(),
    });
    assert_eq!(effects[..2], [switched("f-back"), back]);
    assert_eq!(
        effects[2],
        reply("f-back", Outcome::Switched),
        "nobody waits"
    );
}

#[test]
fn whoever_stops_it_or_goes_back_waits_for_no_hook() {
    let mut state = hooked(sockets());
    called(&mut state, "f");
    let stop = Effect::StopHooks { id: "f".into() };
    let effects = step(&mut state, Event::Abort(order("a")), Millis(5));
    assert_eq!(effects[..2], [stop.clone(), ended("f", End::Aborted, 0)]);
    assert_eq!(
        step(&mut state, hooks("f", Moment::PreFlip, true), Millis(6)),
        []
    );
    assert_eq!(state.stage, Stage::Idle);

    decided(&mut state, "f");
    let _begun = step(&mut state, Event::Rollback(order("r")), Millis(20));
    let effects = step(&mut state, prepared("r"), Millis(20));
    let expected = [
        settle("r"),
        stop,
        ended("f", End::RolledBack, 0),
        reply("f", Outcome::RolledBack { by: "r".into() }),
    ];
    assert_eq!(effects[1..], expected);
    let late = step(&mut state, hooks("f", Moment::PostFlip, false), Millis(20));
    assert_eq!(late, []);
}

#[test]
fn a_target_that_falls_ill_or_a_freeze_ends_them() {
    let mut state = hooked(sockets());
    called(&mut state, "f");
    let ill = Event::Health {
        id: "f".into(),
        blockers: failed(),
    };
    let stop = Effect::StopHooks { id: "f".into() };
    assert_eq!(step(&mut state, ill, Millis(5))[0], stop);
    called(&mut state, "f");
    let freeze = Event::Freeze {
        order: order("z"),
        reason: "audit".into(),
        by: "root".into(),
        time: None,
    };
    assert_eq!(step(&mut state, freeze, Millis(5))[0], stop);
    let closed = step(&mut state, Event::Flip(order("g")), Millis(6));
    assert_eq!(blocked(&closed), ["freeze"], "and none is called");
}

#[test]
fn who_forces_it_asks_none_and_is_not_undone() {
    let mut state = hooked(sockets());
    let order = Order {
        force: true,
        ..order("f")
    };
    let _begun = step(&mut state, Event::Flip(order), Millis(0));
    let effects = step(&mut state, prepared("f"), Millis(0));
    assert_eq!(effects[1..], [settle("f")]);
    let effects = step(&mut state, settled("f"), Millis(0));
    let expected = [
        switched("f"),
        calls("f", Moment::PostFlip),
        reply("f", Outcome::Switched),
    ];
    assert_eq!(effects[..3], expected);
    let failed = step(&mut state, hooks("f", Moment::PostFlip, false), Millis(1));
    assert_eq!((failed, state.live.as_str()), (vec![], "green"));
}

#[test]
fn a_flip_that_cannot_be_undone_stays_and_says_so() {
    let mut state = hooked(sockets());
    decided(&mut state, "f");
    state.slots.remove("blue");
    let effects = step(&mut state, hooks("f", Moment::PostFlip, false), Millis(20));
    let [
        Effect::Record(Record::Hooked { .. }),
        Effect::Reply {
            outcome: Outcome::Refused(refusal),
            ..
        },
    ] = &effects[..]
    else {
        panic!("{effects:?}");
    };
    assert_eq!(refusal.why, Why::NotEligible);
    assert!(
        refusal.detail.contains("hook smoke: it failed"),
        "{refusal:?}"
    );
    assert_eq!(state.phase(), "draining");
}

#[test]
fn while_it_is_to_be_confirmed_hooks_may_ask_back_later() {
    let mut state = hooked(sockets());
    let order = Order {
        terms: Terms {
            confirm: Some(Duration::from_secs(60)),
            ..Terms::default()
        },
        ..order("f")
    };
    let _begun = step(&mut state, Event::Flip(order), Millis(0));
    let _prepared = step(&mut state, prepared("f"), Millis(0));
    let _healthy = step(&mut state, healthy("f"), Millis(0));
    let _passed = step(&mut state, hooks("f", Moment::PreFlip, true), Millis(0));
    let _settled = step(&mut state, settled("f"), Millis(0));
    assert_eq!(state.phase(), "confirming");
    let _passed = step(&mut state, hooks("f", Moment::PostFlip, true), Millis(10));
    let effects = step(
        &mut state,
        hooks("f", Moment::PostFlip, false),
        Millis(9000),
    );
    assert!(matches!(&effects[..], [Effect::Prepare { cutover, .. }] if cutover.id == "f-back"));
}

#[test]
fn an_earlier_window_is_tended_while_they_run() {
    let mut state = hooked(flipped(group()));
    let open = state.word;
    let _begun = step(
        &mut state,
        Event::Flip(order_to("g", "blue")),
        Millis(10_000),
    );
    let _prepared = step(&mut state, prepared("g"), Millis(10_000));
    let effects = step(&mut state, healthy("g"), Millis(10_000));
    let Effect::CallHooks(call) = &effects[0] else {
        panic!("{effects:?}");
    };
    assert_eq!((call.from.as_str(), call.to.as_str()), ("green", "blue"));
    assert_eq!(effects[1..], [Effect::WakeAt(Millis(10_000))]);
    assert_eq!(
        step(&mut state, Event::Timer, Millis(10_000)),
        [Effect::CountFlows]
    );
    let full = step(&mut state, flows(3, 60), Millis(10_001));
    let wake = Effect::WakeAt(Millis(11_001));
    assert_eq!(
        full,
        [Effect::Store(open.drain()), wake],
        "it learns no more"
    );
    let effects = step(
        &mut state,
        hooks("g", Moment::PreFlip, true),
        Millis(20_000),
    );
    assert!(
        matches!(effects[..], [Effect::Store(word), Effect::WakeAt(_)] if word.phase() == Phase::Arming)
    );
}

#[test]
fn a_restart_asks_again_what_was_not_decided() {
    let mut state = hooked(sockets());
    decided(&mut state, "f");
    let have = have(&state);
    for (switched, undecided) in [(true, true), (false, false), (true, false)] {
        let intent = Intent {
            cutover: cutover("f", Kind::Flip, "blue", "green", 1),
            switched,
            unconfirmed: false,
            bake: None,
            undecided,
            left: Left::new(),
        };
        let was = if switched { "green" } else { "blue" };
        let (resumed, effects) = restart(&state, &have, was, intent);
        let again = effects.contains(&calls("f", Moment::PostFlip));
        assert_eq!(again, undecided || !switched, "{effects:?}");
        let waits = matches!(&resumed.stage, Stage::Draining(window) if window.hooks == again);
        assert!(waits, "{resumed:?}");
    }
}

#[test]
fn a_restart_calls_off_what_was_being_prepared() {
    let state = hooked(sockets());
    let have = have(&state);
    let intent = Intent {
        cutover: cutover("f", Kind::Flip, "blue", "green", 1),
        switched: false,
        unconfirmed: false,
        bake: None,
        undecided: false,
        left: Left::new(),
    };
    let (resumed, effects) = restart(&state, &have, "blue", intent);
    assert_eq!(effects, [ended("f", End::Aborted, 0)]);
    assert_eq!(resumed.stage, Stage::Idle);
}

#[test]
fn a_restart_says_that_a_colour_has_drained() {
    let mut state = hooked(sockets());
    decided(&mut state, "f");
    state.word = state.word.settle();
    let have = have(&state);
    let intent = Intent {
        cutover: cutover("f", Kind::Flip, "blue", "green", 1),
        switched: true,
        unconfirmed: false,
        bake: None,
        undecided: false,
        left: left(&[("blue", "f", Kind::Flip)]),
    };
    let (_, effects) = restart(&state, &have, "green", intent);
    let expected = [
        Effect::Abandon(state.word.epoch()),
        Effect::CloseWindow,
        calls("f", Moment::Drained),
        drained("f", "blue", 0),
        ended("f", End::Succeeded, 0),
    ];
    assert_eq!(effects, expected);
}

#[test]
fn staging_is_told() {
    let mut state = hooked(sockets());
    state.gates.policy.hooks.insert(Moment::Stage);
    let stage = Event::Stage {
        order: order_to("s", "green"),
        version: "v2".into(),
        schema: None,
    };
    let effects = step(&mut state, stage.clone(), Millis(0));
    let told = Effect::CallHooks(Call {
        moment: Moment::Stage,
        id: "s".into(),
        kind: None,
        from: "blue".into(),
        to: "green".into(),
    });
    assert!(effects.contains(&told), "{effects:?}");
    let again = step(&mut state, stage, Millis(0));
    assert_eq!(
        again,
        [reply("s", Outcome::Unchanged)],
        "it is there already"
    );
}

#[test]
fn foreseeing_calls_them_in_words() {
    let state = hooked(sockets());
    let event = Event::Flip(order("f"));
    let foreseen = foresee(&state, "f", event, Millis(0), |_| Vec::new());
    assert_eq!(foreseen.outcome, Outcome::Switched);
    let steps: Vec<String> = foreseen.effects.iter().map(ToString::to_string).collect();
    for moment in ["pre-flip", "post-flip"] {
        assert!(
            steps.contains(&format!("call the {moment} hooks")),
            "{steps:?}"
        );
    }
}

/// With hooks at every moment but the first.
fn hooked(mut state: GroupState) -> GroupState {
    let moments = [
        Moment::PreFlip,
        Moment::PostFlip,
        Moment::RolledBack,
        Moment::Drained,
    ];
    state.gates.policy.hooks = moments.into();
    state
}

/// A flip to green whose hooks run.
fn called(state: &mut GroupState, id: &str) {
    let _begun = step(state, Event::Flip(order(id)), Millis(0));
    let _prepared = step(state, prepared(id), Millis(1));
    let effects = step(state, healthy(id), Millis(2));
    assert_eq!(effects, [calls(id, Moment::PreFlip)]);
}

/// A flip to green that has settled; the hooks after it run.
fn decided(state: &mut GroupState, id: &str) {
    called(state, id);
    let _stored = step(state, hooks(id, Moment::PreFlip, true), Millis(3));
    let effects = step(state, settled(id), Millis(4));
    assert_eq!(effects[1], calls(id, Moment::PostFlip));
}

fn calls(id: &str, moment: Moment) -> Effect {
    Effect::CallHooks(Call {
        moment,
        id: id.into(),
        kind: Some(Kind::Flip),
        from: "blue".into(),
        to: "green".into(),
    })
}

fn hooks(id: &str, moment: Moment, passed: bool) -> Event {
    Event::Hooks {
        id: id.into(),
        moment,
        blockers: if passed { Vec::new() } else { failed() },
    }
}

fn failed() -> Vec<Blocker> {
    vec![Blocker {
        what: "hook smoke".into(),
        why: "it failed; exit code 1".into(),
    }]
}

fn have(state: &GroupState) -> HaveGroup {
    HaveGroup {
        name: "shop".into(),
        colours: BTreeMap::from([(0, "blue".into()), (1, "green".into())]),
        slots: BTreeMap::from([(0, Mix::pure(0)), (1, Mix::pure(1))]),
        word: state.word,
    }
}

/// Another agent, with the same configuration.
fn restart(
    state: &GroupState,
    have: &HaveGroup,
    live: &str,
    intent: Intent,
) -> (GroupState, Vec<Effect>) {
    let found = Found {
        have,
        times: Times::default(),
        releases: Releases::default(),
        gates: state.gates.clone(),
    };
    let recorded = Some((live.to_owned(), None, 3));
    resume(
        found,
        recorded,
        vec![intent],
        state.timing,
        "e".into(),
        Millis(500),
    )
}
