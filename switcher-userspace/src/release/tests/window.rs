use super::*;

#[test]
fn a_full_flow_map_ends_learning() {
    let mut state = flipped(group());
    let word = state.word;
    let effects = step(&mut state, flows(900, 59), Millis(5000));
    assert_eq!(effects, [Effect::WakeAt(Millis(6000))]);
    let effects = step(&mut state, flows(900, 60), Millis(6000));
    assert_eq!(
        effects,
        [Effect::Store(word.drain()), Effect::WakeAt(Millis(7000))]
    );
}

#[test]
fn whose_tags_were_refused_is_learnt_before_the_window_drains() {
    let mut state = flipped(group());
    let word = state.word;
    let refused = |used| {
        Event::Flows(Count {
            elsewhere: Some(Elsewhere::from([("blue".into(), 900)])),
            used,
            refused: true,
        })
    };
    let effects = step(&mut state, refused(59), Millis(5000));
    assert_eq!(effects, [Effect::WakeAt(Millis(6000))]);
    let effects = step(&mut state, refused(60), Millis(6000));
    let held = [
        Effect::Hold,
        Effect::Store(word.hold()),
        Effect::WakeAt(Millis(7000)),
    ];
    assert_eq!(effects, held);
    let effects = step(&mut state, refused(63), Millis(8000));
    assert_eq!(effects, [Effect::WakeAt(Millis(8200))]);
    let effects = step(&mut state, refused(64), Millis(8200));
    let draining = word.drain();
    assert_eq!(
        effects,
        [Effect::Store(draining), Effect::WakeAt(Millis(9200))]
    );
    assert!(!draining.is_held() && !word.hold().arm().is_held());
}

#[test]
fn at_the_deadline_leftovers_are_counted_and_udp_is_let_go() {
    let mut state = flipped(group());
    let _draining = step(&mut state, flows(12, 60), Millis(5000));
    let word = state.word;
    let effects = step(&mut state, flows(12, 10), Millis(3_602_999));
    assert_eq!(effects, [Effect::WakeAt(Millis(3_603_000))]);
    let effects = step(&mut state, flows(11, 10), Millis(3_603_000));
    let epoch = word.epoch() + 1;
    let expected = [
        Effect::Store(word.settle().with_epoch(epoch)),
        Effect::Abandon(epoch),
        Effect::CloseWindow,
        drained("f", "blue", 11),
        ended("f", End::Succeeded, 11),
    ];
    assert_eq!(effects, expected);
}

#[test]
fn what_cannot_be_counted_waits_for_the_deadline() {
    let mut state = flipped(sockets());
    let unknown = Event::Flows(Count::default());
    let effects = step(&mut state, unknown.clone(), Millis(5000));
    assert_eq!(effects, [Effect::WakeAt(Millis(6000))]);
    let effects = step(&mut state, unknown, Millis(3_603_000));
    assert_eq!(effects.last(), Some(&ended("f", End::Succeeded, 0)));
}

#[test]
fn a_flip_in_draining_is_armed_and_keeps_the_epoch() {
    let mut state = flipped(group());
    let _draining = step(&mut state, flows(7, 60), Millis(5000));
    let word = state.word;
    let _begun = step(&mut state, Event::Flip(order("g")), Millis(6000));
    let _healthy = step(&mut state, healthy("g"), Millis(6000));
    let effects = step(&mut state, prepared("g"), Millis(6000));
    assert_eq!(
        effects,
        [Effect::Store(word.arm()), Effect::WakeAt(Millis(9000))]
    );
    assert_eq!(word.arm().epoch(), word.epoch());

    let effects = step(&mut state, Event::Timer, Millis(9000));
    let open = word.arm().switch_to(0);
    let expected = [
        Effect::Store(open),
        settle("g"),
        ended("f", End::Succeeded, 0),
    ];
    assert_eq!(effects, expected);
    assert_eq!((open.previous(), open.in_use()), (1, 0b11));
}

#[test]
fn a_flip_in_open_to_where_it_began_needs_no_arming() {
    let mut state = flipped(group());
    let word = state.word;
    let _begun = step(&mut state, Event::Flip(order("g")), Millis(6000));
    let _healthy = step(&mut state, healthy("g"), Millis(6000));
    let effects = step(&mut state, prepared("g"), Millis(6000));
    assert_eq!(effects[0], Effect::Store(word.switch_to(0)));
}

#[test]
fn a_flip_called_off_in_a_window_leaves_the_window() {
    let mut state = flipped(group());
    let _draining = step(&mut state, flows(7, 60), Millis(5000));
    let before = state.clone();
    let _begun = step(&mut state, Event::Flip(order("g")), Millis(6000));
    let _armed = step(&mut state, prepared("g"), Millis(6000));
    let effects = step(&mut state, Event::Abort(order("a")), Millis(6500));
    let undo = before.word.arm().with_phase(Phase::Open);
    let expected = [
        Effect::Store(undo),
        Effect::WakeAt(Millis(6500)),
        ended("g", End::Aborted, 0),
        reply("g", Outcome::Aborted),
        reply(
            "a",
            Outcome::Stopped {
                cutover: "g".into(),
            },
        ),
    ];
    assert_eq!(effects, expected);
    assert_eq!(
        (undo.phase(), undo.current(), undo.in_use()),
        (Phase::Open, 1, 0b11)
    );
    assert_eq!(
        undo.previous(),
        undo.current(),
        "unknown flows are not moved"
    );
    assert_eq!(state.stage, before.stage);
    let _learnt = step(&mut state, flows(7, 60), Millis(7000));
    assert_eq!(state.word, undo.drain());
}

#[test]
fn an_update_moves_the_live_colour_and_leaves_previews_alone() {
    let mut state = group();
    state.timing.arm = Duration::ZERO;
    let word = state.word;
    let effects = step(
        &mut state,
        Event::Update {
            id: "u".into(),
            slot: 2,
        },
        Millis(0),
    );
    let update = cutover("u", Kind::Update, "blue", "blue", 2);
    assert_eq!(
        effects,
        [Effect::Prepare {
            cutover: update,
            window: true,
            recorded: true
        }]
    );
    let effects = step(&mut state, prepared("u"), Millis(0));
    let open = word.switch_to(2).with_staging(1);
    assert_eq!(effects, [Effect::Store(open), settle("u")]);
    assert_eq!(
        (state.live.as_str(), state.previous.as_deref()),
        ("blue", None)
    );
    assert_eq!((state.revision, state.slots["blue"]), (3, 2));

    let _settled = step(&mut state, settled("u"), Millis(1));
    let again = step(
        &mut state,
        Event::Update {
            id: "v".into(),
            slot: 2,
        },
        Millis(2),
    );
    assert_eq!(again, [reply("v", Outcome::Unchanged)]);
    assert_eq!(
        refused(&step(&mut state, Event::Abort(order("a")), Millis(3))),
        Why::Busy
    );
}

#[test]
fn an_update_waits_for_a_flip_that_is_prepared() {
    let mut state = group();
    let _begun = step(&mut state, Event::Flip(order("f")), Millis(0));
    let effects = step(
        &mut state,
        Event::Update {
            id: "u".into(),
            slot: 2,
        },
        Millis(0),
    );
    assert_eq!(refused(&effects), Why::Busy);
    assert_eq!(state.slots["blue"], 0);
}

#[test]
fn a_third_colour_joins_the_window() {
    let mut state = flipped(group());
    state.slots.insert("red".into(), 4);
    let word = state.word;
    let to_red = Order {
        force: true,
        ..order_to("g", "red")
    };
    let _begun = step(&mut state, Event::Flip(to_red), Millis(6000));
    let effects = step(&mut state, prepared("g"), Millis(6000));
    assert_eq!(
        effects[0],
        Effect::Store(word.arm()),
        "a SYN may be on its way"
    );
    let effects = step(&mut state, Event::Timer, Millis(9000));
    let open = word.arm().switch_to(4);
    assert_eq!(effects[0], Effect::Store(open));
    assert_eq!(open.in_use(), 0b1_0011);
    assert_eq!(state.previous.as_deref(), Some("green"));
}
