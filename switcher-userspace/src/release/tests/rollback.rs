use super::*;

#[test]
fn in_a_window_it_is_one_store_without_gates_or_arming() {
    for drained in [false, true] {
        let mut state = flipped(group());
        if drained {
            let _draining = step(&mut state, flows(7, 75), Millis(5000));
        }
        let word = state.word;
        let effects = step(&mut state, Event::Rollback(order("r")), Millis(9000));
        let back = cutover("r", Kind::Rollback, "green", "blue", 0);
        let prepare = Effect::Prepare {
            cutover: back,
            window: true,
            recorded: false,
        };
        assert_eq!(effects, [prepare]);
        assert_eq!(state.phase(), "rolling-back");

        let effects = step(&mut state, prepared("r"), Millis(9000));
        let open = word.switch_to(0);
        let undone = reply("f", Outcome::RolledBack { by: "r".into() });
        let expected = [
            Effect::Store(open),
            settle("r"),
            ended("f", End::RolledBack, 0),
            undone,
        ];
        assert_eq!(effects, expected);
        assert_eq!((open.current(), open.phase()), (0, Phase::Open));
        assert_eq!(
            open.previous(),
            u32::from(drained),
            "in open, unknown flows began with blue"
        );
        assert_eq!(open.epoch(), word.epoch(), "tags stay valid");
        assert_eq!(
            (state.live.as_str(), state.previous.as_deref()),
            ("blue", Some("green"))
        );
        assert_eq!(state.revision, 5);

        let effects = step(&mut state, settled("r"), Millis(9001));
        let wake = Effect::WakeAt(Millis(10_001));
        assert_eq!(
            effects,
            [switched("r"), reply("r", Outcome::Switched), wake]
        );
    }
}

#[test]
fn learning_begins_anew() {
    let mut state = flipped(group());
    let _begun = step(&mut state, Event::Rollback(order("r")), Millis(100_000));
    let _switched = step(&mut state, prepared("r"), Millis(100_000));
    let _settled = step(&mut state, settled("r"), Millis(100_000));
    let _counted = step(&mut state, flows(0, 1), Millis(219_999));
    assert_eq!(state.word.phase(), Phase::Open);
    let _counted = step(&mut state, flows(0, 1), Millis(220_000));
    assert_eq!(state.word.phase(), Phase::Draining);
}

#[test]
fn from_idle_it_opens_a_window_and_asks_nobody() {
    let mut state = flipped(sockets());
    let _ended = step(&mut state, flows(0, 0), Millis(5000));
    assert_eq!(state.stage, Stage::Idle);
    state.timing.tagged = true;
    let word = state.word;
    let effects = step(&mut state, Event::Rollback(order("r")), Millis(9000));
    assert!(matches!(
        effects[..],
        [Effect::Prepare {
            window: true,
            recorded: false,
            ..
        }]
    ));
    let effects = step(&mut state, prepared("r"), Millis(9000));
    assert_eq!(effects, [Effect::Store(word.switch_to(0)), settle("r")]);
}

#[test]
fn hard_moves_every_flow_and_ends_the_window() {
    let mut state = flipped(group());
    let word = state.word;
    let hard = Order {
        hard: true,
        ..order("r")
    };
    let effects = step(&mut state, Event::Rollback(hard), Millis(9000));
    assert!(matches!(
        effects[..],
        [Effect::Prepare { window: false, .. }]
    ));

    let effects = step(&mut state, prepared("r"), Millis(9000));
    let forced = word.force(0);
    let expected = [
        Effect::Store(forced),
        Effect::Abandon(forced.epoch()),
        settle("r"),
        ended("f", End::RolledBack, 0),
        reply("f", Outcome::RolledBack { by: "r".into() }),
    ];
    assert_eq!(effects, expected);
    assert_eq!(
        (forced.phase(), forced.epoch()),
        (Phase::Steady, word.epoch() + 1)
    );

    let effects = step(&mut state, settled("r"), Millis(9001));
    let expected = [
        switched("r"),
        reply("r", Outcome::Switched),
        Effect::CloseWindow,
        drained("r", "green", 0),
        ended("r", End::Succeeded, 0),
    ];
    assert_eq!(effects, expected);
    assert_eq!(state.stage, Stage::Idle);
}

#[test]
fn without_a_previous_colour_there_is_nothing_to_go_back_to() {
    let mut state = group();
    assert_eq!(
        refused(&step(&mut state, Event::Rollback(order("r")), Millis(0))),
        Why::NotEligible
    );
    state.previous = Some("red".into());
    assert_eq!(
        refused(&step(&mut state, Event::Rollback(order("r")), Millis(0))),
        Why::NotEligible
    );
}

#[test]
fn while_a_flip_is_prepared_it_stops_the_flip() {
    let mut state = group();
    let _begun = step(&mut state, Event::Flip(order("f")), Millis(0));
    let effects = step(&mut state, Event::Rollback(order("r")), Millis(0));
    let expected = [
        ended("f", End::Aborted, 0),
        reply("f", Outcome::Aborted),
        reply(
            "r",
            Outcome::Stopped {
                cutover: "f".into(),
            },
        ),
    ];
    assert_eq!(effects, expected);
    assert_eq!((state.phase(), state.live.as_str()), ("idle", "blue"));
}

#[test]
fn while_a_flip_is_prepared_in_a_window_it_goes_back_all_the_way() {
    let mut state = flipped(group());
    let _draining = step(&mut state, flows(7, 75), Millis(5000));
    let draining = state.word;
    let _begun = step(&mut state, Event::Flip(order_to("g", "blue")), Millis(6000));
    let _armed = step(&mut state, prepared("g"), Millis(6000));
    assert_eq!(state.word, draining.arm());

    let effects = step(&mut state, Event::Rollback(order("r")), Millis(7000));
    let undo = draining.arm().with_phase(Phase::Open);
    assert_eq!(effects[0], Effect::Store(undo));
    assert!(effects.contains(&reply("g", Outcome::Aborted)));
    assert!(matches!(effects.last(), Some(Effect::Prepare { .. })));
    let effects = step(&mut state, prepared("r"), Millis(7000));
    assert_eq!(effects[0], Effect::Store(undo.switch_to(0)));
    assert_eq!(state.live, "blue");
}

#[test]
fn abort_after_the_store_is_a_rollback() {
    let mut state = flipped(group());
    let effects = step(&mut state, Event::Abort(order("a")), Millis(5000));
    let back = cutover("a", Kind::Rollback, "green", "blue", 0);
    assert_eq!(
        effects,
        [Effect::Prepare {
            cutover: back,
            window: true,
            recorded: false
        }]
    );
    let _switched = step(&mut state, prepared("a"), Millis(5000));
    let _settled = step(&mut state, settled("a"), Millis(5000));
    assert_eq!(state.live, "blue");
    assert_eq!(
        refused(&step(&mut state, Event::Abort(order("b")), Millis(5000))),
        Why::Busy
    );
}

#[test]
fn before_the_flip_has_settled_its_caller_hears_of_the_rollback() {
    let mut state = sockets();
    let _begun = step(
        &mut state,
        Event::Flip(Order {
            force: true,
            ..order("f")
        }),
        Millis(0),
    );
    let _switched = step(&mut state, prepared("f"), Millis(0));
    assert_eq!(state.phase(), "switching");
    let _begun = step(&mut state, Event::Rollback(order("r")), Millis(0));
    let effects = step(&mut state, prepared("r"), Millis(0));
    assert!(effects.contains(&reply("f", Outcome::RolledBack { by: "r".into() })));
    assert_eq!(
        step(&mut state, settled("f"), Millis(1)),
        [],
        "its own answer comes too late"
    );
    assert_eq!(state.live, "blue");
}
