//! Switches at an instant, switches that undo themselves, and pauses.

use super::*;

/// As [`flipped`], and to be confirmed by 63 s.
fn unconfirmed(mut state: GroupState) -> GroupState {
    let terms = Terms {
        confirm: Some(Duration::from_secs(60)),
        ..Terms::default()
    };
    let order = Order {
        force: true,
        terms,
        ..order("f")
    };
    let _begun = step(&mut state, Event::Flip(order), Millis(0));
    let _armed = step(&mut state, prepared("f"), Millis(0));
    let _switched = step(&mut state, Event::Timer, Millis(3000));
    let _settled = step(&mut state, settled("f"), Millis(3000));
    assert_eq!(
        (state.phase(), state.live.as_str()),
        ("confirming", "green")
    );
    assert_eq!(state.confirm_by(), Some(Millis(state_by(&state))));
    state
}

/// Tags are armed for three seconds first.
fn state_by(state: &GroupState) -> u64 {
    if state.timing.tagged { 63_000 } else { 60_000 }
}

#[test]
fn a_flip_to_be_confirmed_sets_its_time_before_its_word() {
    let mut state = group();
    let terms = Terms {
        confirm: Some(Duration::from_secs(60)),
        ..Terms::default()
    };
    let order = Order {
        terms,
        ..order("f")
    };
    let _begun = step(&mut state, Event::Flip(order), Millis(0));
    let _armed = step(&mut state, prepared("f"), Millis(0));
    let armed = state.word;
    let _ok = step(&mut state, healthy("f"), Millis(1));
    let effects = step(&mut state, Event::Timer, Millis(3000));
    let times = Times {
        revert_at: Millis(63_000).nanoseconds(),
        ..Times::default()
    };
    let word = armed.switch_to(1).with(flags::TIMED);
    let expected = [Effect::SetTimes(times), Effect::Store(word), settle("f")];
    assert_eq!(effects, expected);

    let effects = step(&mut state, settled("f"), Millis(3002));
    let wake = Effect::WakeAt(Millis(4002));
    assert_eq!(
        effects,
        [switched("f"), reply("f", Outcome::Switched), wake]
    );
    assert_eq!((state.phase(), state.revision), ("confirming", 4));
}

#[test]
fn confirmed_in_time_it_drains_from_then_on() {
    let mut state = unconfirmed(group());
    let word = state.word;
    let effects = step(&mut state, Event::Confirm(order("c")), Millis(62_999));
    let kept = Outcome::Kept {
        cutover: "f".into(),
    };
    let expected = [
        Effect::Store(word.without(flags::TIMED)),
        Effect::Record(Record::Confirmed { id: "f".into() }),
        reply("c", kept),
        Effect::WakeAt(Millis(63_999)),
    ];
    assert_eq!(effects, expected);
    let window = state.window().expect("a window");
    assert_eq!(
        window.deadline,
        Millis(62_999 + 3_600_000),
        "both were needed until now"
    );
    assert_eq!(
        window.learnt,
        Millis(123_000),
        "it was learning all the time"
    );
    assert_eq!((state.phase(), state.confirm_by()), ("draining", None));
}

#[test]
fn not_confirmed_in_time_it_is_rolled_back() {
    for state in [group(), sockets()] {
        let mut state = unconfirmed(state);
        let (word, by) = (state.word, Millis(state_by(&state)));
        let early = Millis(by.0 - 1);
        assert_eq!(step(&mut state, Event::Timer, early), [Effect::CountFlows]);
        assert_eq!(step(&mut state, flows(7, 1), early), [Effect::WakeAt(by)]);
        let effects = step(&mut state, Event::Timer, by);
        let back = cutover("f-back", Kind::Rollback, "green", "blue", 0);
        let prepare = Effect::Prepare {
            cutover: back,
            window: state.timing.tagged,
            recorded: false,
        };
        assert_eq!(effects, [prepare]);
        let effects = step(&mut state, prepared("f-back"), by);
        let stored = if state.timing.tagged {
            word.at(&state.times, by.nanoseconds())
        } else {
            word.at(&state.times, by.nanoseconds()).drain()
        };
        let undone = Outcome::RolledBack {
            by: "f-back".into(),
        };
        let expected = [
            Effect::Store(stored),
            settle("f-back"),
            ended("f", End::RolledBack, 0),
            reply("f", undone),
        ];
        assert_eq!(effects, expected, "what the program does already");
        assert_eq!((state.live.as_str(), state.revision), ("blue", 5));
    }
}

#[test]
fn extending_is_one_store_and_confirming_too_late_is_refused() {
    let mut state = unconfirmed(group());
    let by = Duration::from_secs(10);
    let extend = |id| Event::Extend {
        order: order(id),
        by,
    };
    let effects = step(&mut state, extend("e"), Millis(62_500));
    let later = Times {
        revert_at: Millis(73_000).nanoseconds(),
        ..Times::default()
    };
    let expected = [
        Effect::SetTimes(later),
        Effect::Record(Record::Extended { id: "f".into() }),
        reply(
            "e",
            Outcome::Kept {
                cutover: "f".into(),
            },
        ),
        Effect::WakeAt(Millis(63_500)),
    ];
    assert_eq!(effects, expected);
    let before = state.clone();
    for event in [extend("g"), Event::Confirm(order("g"))] {
        let effects = step(&mut state, event, Millis(73_000));
        assert_eq!(refused(&effects), Why::Expired);
    }
    assert_eq!(state, before, "the timer sees to the rest");
}

#[test]
fn pending_only_its_own_orders_are_taken() {
    let pending = unconfirmed(group());
    let now = Millis(10_000);
    let mut state = pending.clone();
    let flip = step(&mut state, Event::Flip(order_to("g", "blue")), now);
    assert_eq!(refused(&flip), Why::Unconfirmed);
    let id = "u".to_owned();
    let update = step(&mut state, Event::Update { id, slot: 2 }, now);
    assert_eq!(refused(&update), Why::Unconfirmed);
    assert_eq!(state, pending);

    for event in [Event::Abort(order("r")), Event::Rollback(order("r"))] {
        let mut state = pending.clone();
        let _begun = step(&mut state, event, now);
        assert_eq!(state.phase(), "rolling-back");
        let _stored = step(&mut state, prepared("r"), now);
        let soft = pending.word.switch_to(0);
        assert_eq!((state.word, state.confirm_by()), (soft, None));
    }
    let mut state = pending.clone();
    let hard = Order {
        hard: true,
        ..order("h")
    };
    let _begun = step(&mut state, Event::Rollback(hard), now);
    let _stored = step(&mut state, prepared("h"), now);
    assert_eq!(state.word, pending.word.force(0));
    assert!(!state.word.has(flags::TIMED) && state.word.phase() == Phase::Steady);
}

#[test]
fn nothing_to_confirm() {
    for mut state in [group(), flipped(group())] {
        let before = state.clone();
        let effects = step(&mut state, Event::Confirm(order("c")), Millis(9000));
        assert_eq!(refused(&effects), Why::Busy);
        assert_eq!(state, before);
    }
}

#[test]
fn a_full_flow_map_drains_without_an_end() {
    let mut state = unconfirmed(group());
    let word = state.word;
    let effects = step(&mut state, flows(0, 60), Millis(5000));
    let draining = word.drain();
    assert_eq!(
        effects,
        [Effect::Store(draining), Effect::WakeAt(Millis(6000))]
    );
    assert!(draining.has(flags::TIMED), "and may still go back");
    assert_eq!(
        step(&mut state, flows(0, 60), Millis(6000)),
        [Effect::WakeAt(Millis(7000))]
    );
    assert_eq!(state.phase(), "confirming");
}

fn at(at: u64, confirm: Option<u64>) -> Order {
    let terms = Terms {
        at: Some(Millis(at)),
        confirm: confirm.map(Duration::from_millis),
        ..Terms::default()
    };
    Order {
        force: true,
        terms,
        ..order("f")
    }
}

#[test]
fn a_flip_at_an_instant_is_stored_long_before() {
    for confirm in [None, Some(5000)] {
        let mut state = group();
        let steady = state.word;
        let _begun = step(&mut state, Event::Flip(at(60_000, confirm)), Millis(0));
        let effects = step(&mut state, prepared("f"), Millis(10));
        let times = Times {
            arm_at: Millis(57_000).nanoseconds(),
            activate_at: Millis(60_000).nanoseconds(),
            revert_at: confirm.map_or(Times::NEVER, |it| Millis(60_000 + it).nanoseconds()),
            paused_until: 0,
        };
        let word = steady.switch_to(1).with(flags::TIMED);
        let expected = [
            Effect::SetTimes(times),
            Effect::Store(word),
            reply("f", Outcome::Scheduled),
            Effect::WakeAt(Millis(60_000)),
        ];
        assert_eq!(effects, expected);
        assert_eq!((state.phase(), state.live.as_str()), ("preparing", "blue"));
        assert_eq!(
            step(&mut state, Event::Timer, Millis(59_999)),
            [Effect::WakeAt(Millis(60_000))]
        );

        let effects = step(&mut state, Event::Timer, Millis(60_003));
        let fixed = Effect::Store(word.without(flags::TIMED));
        let expected: Vec<_> = confirm
            .is_none()
            .then_some(fixed)
            .into_iter()
            .chain([settle("f")])
            .collect();
        assert_eq!(effects, expected);
        assert_eq!((state.live.as_str(), state.revision), ("green", 4));
        let _settled = step(&mut state, settled("f"), Millis(60_004));
        let phase = if confirm.is_some() {
            "confirming"
        } else {
            "draining"
        };
        assert_eq!(state.phase(), phase);
    }
}

#[test]
fn an_instant_too_soon_is_refused_or_missed() {
    let mut state = group();
    let effects = step(&mut state, Event::Flip(at(2999, None)), Millis(0));
    assert_eq!(refused(&effects), Why::Precondition);
    assert_eq!(state, group());

    let order = Order {
        force: false,
        ..at(3000, None)
    };
    let _begun = step(&mut state, Event::Flip(order), Millis(0));
    let _waits = step(&mut state, prepared("f"), Millis(0));
    let effects = step(&mut state, healthy("f"), Millis(1));
    assert!(
        matches!(
            &effects[..],
            [
                Effect::CloseWindow,
                Effect::Record(_),
                Effect::Reply {
                    outcome: Outcome::Failed(_),
                    ..
                }
            ]
        ),
        "{effects:?}"
    );
    assert_eq!((state.phase(), state.word), ("idle", group().word));
}

#[test]
fn a_set_switch_is_put_off_before_it_is_taken_back() {
    let mut state = group();
    let steady = state.word;
    let _begun = step(&mut state, Event::Flip(at(60_000, None)), Millis(0));
    let _stored = step(&mut state, prepared("f"), Millis(10));
    let word = state.word;
    let effects = step(&mut state, Event::Abort(order("a")), Millis(59_000));
    let never = Times {
        activate_at: Times::NEVER,
        ..state.times
    };
    assert_eq!(effects, [Effect::SetTimes(never), settle("f")]);
    let again = step(&mut state, Event::Abort(order("b")), Millis(59_000));
    assert_eq!(refused(&again), Why::Busy);

    let mut late = state.clone();
    let effects = step(&mut state, settled("f"), Millis(59_999));
    let stopped = Outcome::Stopped {
        cutover: "f".into(),
    };
    let before = word.at(&never, Millis(59_999).nanoseconds()).settle();
    let expected = [
        Effect::Store(before),
        Effect::CloseWindow,
        ended("f", End::Aborted, 0),
        reply("f", Outcome::Aborted),
        reply("a", stopped),
    ];
    assert_eq!(effects, expected);
    assert_eq!((before.current(), before.in_use()), (0, steady.in_use()));
    assert_eq!((state.phase(), state.live.as_str()), ("idle", "blue"));

    let effects = step(&mut late, settled("f"), Millis(60_000));
    assert!(
        matches!(
            &effects[..],
            [
                Effect::Record(Record::Switched { .. }),
                Effect::Prepare { .. }
            ]
        ),
        "some packets may have seen it: {effects:?}"
    );
    assert_eq!(late.phase(), "rolling-back");
    let _stored = step(&mut late, prepared("a"), Millis(60_000));
    assert_eq!(late.live, "blue");
    assert_eq!((late.word.phase(), late.word.current()), (Phase::Open, 0));
}

#[test]
fn a_target_that_fails_meanwhile_is_not_switched_to() {
    let mut state = group();
    let _begun = step(&mut state, Event::Flip(at(60_000, None)), Millis(0));
    let _stored = step(&mut state, prepared("f"), Millis(10));
    let blockers = vec![Blocker {
        what: "web".into(),
        why: "timed out".into(),
    }];
    let event = Event::Health {
        id: "f".into(),
        blockers,
    };
    let _putting_off = step(&mut state, event, Millis(20_000));
    let effects = step(&mut state, settled("f"), Millis(20_001));
    assert!(
        effects.contains(&ended("f", End::Aborted, 0)),
        "{effects:?}"
    );
    assert_eq!((state.phase(), state.live.as_str()), ("idle", "blue"));
}

#[test]
fn one_way_back_has_room_in_a_word() {
    let confirm = |id: &str, to: &str| {
        let terms = Terms {
            confirm: Some(Duration::from_secs(60)),
            ..Terms::default()
        };
        let order = Order {
            terms,
            ..order_to(id, to)
        };
        Event::Flip(order)
    };
    // Blue to green, and while it is learnt, on to red: the way back would be to blue.
    let mut state = flipped(group());
    state.slots.insert("red".into(), 2);
    let effects = step(&mut state, confirm("g", "red"), Millis(4000));
    assert_eq!(refused(&effects), Why::Busy);
    let _draining = step(&mut state, flows(7, 60), Millis(5000));
    let effects = step(&mut state, confirm("g", "red"), Millis(6000));
    assert!(
        matches!(effects[..], [Effect::Prepare { .. }, _]),
        "{effects:?}"
    );
}

#[test]
fn a_pause_is_a_flag_whatever_goes_on() {
    let time = Duration::from_secs(5);
    for mut state in [group(), flipped(group()), unconfirmed(group())] {
        let before = state.clone();
        let pause = |id| Event::Pause {
            order: order(id),
            time,
        };
        let effects = step(&mut state, pause("p"), Millis(10_000));
        let times = Times {
            paused_until: Millis(15_000).nanoseconds(),
            ..before.times
        };
        let word = before.word.with(flags::PAUSED);
        let held = |id| reply(id, Outcome::Held);
        let expected = [Effect::SetTimes(times), Effect::Store(word), held("p")];
        assert_eq!(effects, expected);
        let again = step(&mut state, pause("q"), Millis(12_000));
        assert!(matches!(&again[..], [Effect::SetTimes(_), reply] if *reply == held("q")));
        assert_eq!(step(&mut state, Event::PauseOver, Millis(16_999)), []);

        let mut resumed = state.clone();
        let effects = step(&mut resumed, Event::Resume(order("r")), Millis(13_000));
        assert_eq!(effects, [Effect::Store(before.word), held("r")]);
        let effects = step(&mut resumed, Event::Resume(order("s")), Millis(13_000));
        assert_eq!(effects, [reply("s", Outcome::Unchanged)]);

        let effects = step(&mut state, Event::PauseOver, Millis(17_000));
        assert_eq!(effects, [Effect::Store(before.word)]);
        assert_eq!(state.stage, before.stage);
    }
}

#[test]
fn a_flip_while_paused_stays_paused() {
    let mut state = group();
    let time = Duration::from_secs(60);
    let order_p = order("p");
    let _held = step(
        &mut state,
        Event::Pause {
            order: order_p,
            time,
        },
        Millis(0),
    );
    assert_eq!(state.phase(), "paused");
    let mut state = flipped(state);
    assert!(state.word.has(flags::PAUSED), "and goes on in the window");
    assert_eq!(state.phase(), "paused");
    let _resumed = step(&mut state, Event::Resume(order("r")), Millis(4000));
    assert_eq!(state.phase(), "draining");
}
