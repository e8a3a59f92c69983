use super::*;

#[test]
fn a_flip_arms_switches_learns_drains_and_ends() {
    let mut state = group();
    let steady = state.word;
    let flip = cutover("f", Kind::Flip, "blue", "green", 1);

    let effects = step(&mut state, Event::Flip(order("f")), Millis(0));
    let prepare = Effect::Prepare {
        cutover: flip,
        window: true,
        recorded: true,
    };
    let check = Effect::CheckHealth {
        id: "f".into(),
        colour: "green".into(),
    };
    assert_eq!(effects, [prepare, check]);
    assert_eq!(state.phase(), "preparing");

    let effects = step(&mut state, prepared("f"), Millis(10));
    let armed = steady.arm();
    assert_eq!(
        effects,
        [Effect::Store(armed), Effect::WakeAt(Millis(3010))]
    );
    assert_eq!(armed.epoch(), steady.epoch() + 1);
    assert_eq!(
        (armed.phase(), armed.current(), armed.previous()),
        (Phase::Arming, 0, 0)
    );

    assert_eq!(step(&mut state, healthy("f"), Millis(20)), []);
    assert_eq!(
        step(&mut state, Event::Timer, Millis(3000)),
        [],
        "too early"
    );

    let effects = step(&mut state, Event::Timer, Millis(3010));
    let open = armed.switch_to(1);
    assert_eq!(effects, [Effect::Store(open), settle("f")]);
    assert_eq!(
        (open.phase(), open.current(), open.previous()),
        (Phase::Open, 1, 0)
    );
    assert_eq!((open.staging(), open.in_use()), (0, 0b11));
    assert_eq!(state.phase(), "switching");
    assert_eq!(
        (state.live.as_str(), state.previous.as_deref()),
        ("green", Some("blue"))
    );
    assert_eq!(state.revision, 4);

    let effects = step(&mut state, settled("f"), Millis(3012));
    let wake = Effect::WakeAt(Millis(4012));
    assert_eq!(
        effects,
        [switched("f"), reply("f", Outcome::Switched), wake]
    );
    assert_eq!(state.phase(), "draining");

    assert_eq!(
        step(&mut state, Event::Timer, Millis(4012)),
        [Effect::CountFlows]
    );
    let effects = step(&mut state, flows(7, 1), Millis(4013));
    assert_eq!(effects, [Effect::WakeAt(Millis(5013))], "still learning");

    let effects = step(&mut state, flows(7, 1), Millis(123_010));
    let draining = open.drain();
    assert_eq!(
        effects,
        [Effect::Store(draining), Effect::WakeAt(Millis(124_010))]
    );

    let effects = step(&mut state, flows(0, 1), Millis(124_010));
    let end = draining.settle();
    let expected = [
        Effect::Store(end),
        Effect::CloseWindow,
        drained("f", "blue", 0),
        ended("f", End::Succeeded, 0),
    ];
    assert_eq!(effects, expected);
    assert_eq!(
        (end.current(), end.in_use(), end.phase()),
        (1, 0b10, Phase::Steady)
    );
    assert_eq!((state.phase(), state.word), ("idle", end));
}

#[test]
fn sockets_need_neither_arming_nor_learning_nor_a_flow_map() {
    let mut state = sockets();
    let word = state.word;
    let effects = step(&mut state, Event::Flip(order("f")), Millis(0));
    assert!(matches!(
        effects[0],
        Effect::Prepare {
            window: false,
            recorded: true,
            ..
        }
    ));
    assert_eq!(
        step(&mut state, healthy("f"), Millis(0)),
        [],
        "the intent comes first"
    );

    let effects = step(&mut state, prepared("f"), Millis(0));
    let draining = word.switch_to(1).drain();
    assert_eq!(effects, [Effect::Store(draining), settle("f")]);

    let _settled = step(&mut state, settled("f"), Millis(1));
    let effects = step(&mut state, flows(0, 0), Millis(1001));
    let end = draining.settle();
    let expected = [
        Effect::Store(end),
        Effect::CloseWindow,
        drained("f", "blue", 0),
        ended("f", End::Succeeded, 0),
    ];
    assert_eq!(effects, expected);
}

#[test]
fn no_arming_when_it_takes_no_time() {
    let mut state = group();
    state.timing.arm = Duration::ZERO;
    let word = state.word;
    let _begun = step(
        &mut state,
        Event::Flip(Order {
            force: true,
            ..order("f")
        }),
        Millis(0),
    );
    let effects = step(&mut state, prepared("f"), Millis(0));
    assert_eq!(effects, [Effect::Store(word.switch_to(1)), settle("f")]);
}

#[test]
fn force_asks_nobody() {
    let mut state = group();
    let effects = step(
        &mut state,
        Event::Flip(Order {
            force: true,
            ..order("f")
        }),
        Millis(0),
    );
    let [Effect::Prepare { cutover, .. }] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert!(cutover.forced);
}

#[test]
fn an_unhealthy_target_changes_nothing() {
    let mut state = group();
    let _begun = step(&mut state, Event::Flip(order("f")), Millis(0));
    let _armed = step(&mut state, prepared("f"), Millis(0));
    let armed = state.word;
    let blocker = Blocker {
        what: "web 10.0.0.2:80".into(),
        why: "connection refused".into(),
    };
    let event = Event::Health {
        id: "f".into(),
        blockers: vec![blocker.clone()],
    };
    let effects = step(&mut state, event, Millis(100));
    let expected = [
        Effect::Store(armed.settle()),
        Effect::CloseWindow,
        ended("f", End::Aborted, 0),
        reply("f", Outcome::Unhealthy(vec![blocker])),
    ];
    assert_eq!(effects, expected);
    assert_eq!(
        (state.phase(), state.live.as_str(), state.revision),
        ("idle", "blue", 3)
    );
    assert_eq!(
        step(&mut state, Event::Timer, Millis(3000)),
        [],
        "a timer that was left"
    );
}

#[test]
fn a_target_that_fails_while_arming_is_not_switched_to() {
    let mut state = group();
    let _begun = step(&mut state, Event::Flip(order("f")), Millis(0));
    let _armed = step(&mut state, prepared("f"), Millis(0));
    let _ok = step(&mut state, healthy("f"), Millis(1));
    let blockers = vec![Blocker {
        what: "web".into(),
        why: "timed out".into(),
    }];
    let _gone = step(
        &mut state,
        Event::Health {
            id: "f".into(),
            blockers,
        },
        Millis(2),
    );
    assert_eq!((state.phase(), state.live.as_str()), ("idle", "blue"));
}

#[test]
fn what_cannot_be_recorded_is_not_done() {
    let mut state = group();
    let word = state.word;
    let _begun = step(&mut state, Event::Flip(order("f")), Millis(0));
    let why = "disk full".to_owned();
    let effects = step(
        &mut state,
        Event::Unprepared {
            id: "f".into(),
            why: why.clone(),
        },
        Millis(1),
    );
    assert_eq!(
        effects,
        [ended("f", End::Failed, 0), reply("f", Outcome::Failed(why))]
    );
    assert_eq!((state.phase(), state.word), ("idle", word));
}

#[test]
fn abort_wins_until_the_store() {
    let mut state = group();
    let _begun = step(&mut state, Event::Flip(order("f")), Millis(0));
    let _armed = step(&mut state, prepared("f"), Millis(0));
    let armed = state.word;
    let effects = step(&mut state, Event::Abort(order("a")), Millis(10));
    let expected = [
        Effect::Store(armed.settle()),
        Effect::CloseWindow,
        ended("f", End::Aborted, 0),
        reply("f", Outcome::Aborted),
        reply(
            "a",
            Outcome::Stopped {
                cutover: "f".into(),
            },
        ),
    ];
    assert_eq!(effects, expected);
    assert_eq!((state.phase(), state.live.as_str()), ("idle", "blue"));
}

#[test]
fn a_window_that_opens_too_late_is_closed() {
    let mut state = group();
    let _begun = step(&mut state, Event::Flip(order("f")), Millis(0));
    let _stopped = step(&mut state, Event::Abort(order("a")), Millis(0));
    assert_eq!(
        step(&mut state, prepared("f"), Millis(1)),
        [Effect::CloseWindow]
    );
}

#[test]
fn the_live_colour_is_live_already() {
    let mut state = group();
    let effects = step(&mut state, Event::Flip(order_to("f", "blue")), Millis(0));
    assert_eq!(effects, [reply("f", Outcome::Unchanged)]);
    assert_eq!(state, group());
}

#[test]
fn what_is_refused() {
    let mut state = group();
    let mut ask = |order| refused(&step(&mut state, Event::Flip(order), Millis(0)));
    assert_eq!(ask(order_to("f", "red")), Why::NoSuchColour);
    assert_eq!(
        ask(Order {
            if_revision: Some(2),
            ..order("f")
        }),
        Why::Precondition
    );
    assert_eq!(
        ask(Order {
            if_live: Some("green".into()),
            ..order("f")
        }),
        Why::Precondition
    );
    assert_eq!(
        refused(&step(&mut state, Event::Abort(order("a")), Millis(0))),
        Why::Busy
    );
    assert_eq!(state, group());

    state.slots.insert("red".into(), 2);
    assert_eq!(
        refused(&step(&mut state, Event::Flip(order("f")), Millis(0))),
        Why::WhichColour
    );
    let _begun = step(&mut state, Event::Flip(order_to("f", "red")), Millis(0));
    assert_eq!(
        refused(&step(
            &mut state,
            Event::Flip(order_to("g", "green")),
            Millis(0)
        )),
        Why::Busy
    );
}

#[test]
fn foreseeing_changes_nothing_and_tells_all() {
    let state = group();
    let event = Event::Flip(order("f"));
    let foreseen = foresee(&state, "f", event.clone(), Millis(0), |_| Vec::new());
    assert_eq!(foreseen.outcome, Outcome::Switched);
    let steps: Vec<String> = foreseen.effects.iter().map(ToString::to_string).collect();
    assert_eq!(steps.len(), 9, "{steps:#?}");
    assert!(steps[4].contains("new flows go to slot 1"), "{steps:#?}");
    assert_eq!(foreseen.state.live, "green");

    let sick = |_: &str| {
        vec![Blocker {
            what: "web".into(),
            why: "refused".into(),
        }]
    };
    let foreseen = foresee(&state, "f", event, Millis(0), sick);
    assert!(matches!(foreseen.outcome, Outcome::Unhealthy(_)));
    assert_eq!(state, group());
}
