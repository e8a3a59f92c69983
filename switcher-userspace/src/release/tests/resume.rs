use super::*;
use crate::datapath::{HaveGroup, Mix};

#[test]
fn an_intent_that_the_word_shows_is_finished() {
    let word = group().word.arm().switch_to(1);
    let open = vec![intent(cutover("f", Kind::Flip, "blue", "green", 1), false)];
    let (state, effects) = resumed(word, Some(("blue".into(), None, 3)), open);
    assert_eq!(effects, [switched("f"), Effect::WakeAt(Millis(500))]);
    assert_eq!(
        (state.live.as_str(), state.previous.as_deref()),
        ("green", Some("blue"))
    );
    assert_eq!((state.revision, state.phase()), (4, "draining"));
    assert_eq!(
        state.window().map(|window| window.learnt),
        Some(Millis(120_500))
    );
}

#[test]
fn an_intent_that_the_word_does_not_show_is_undone() {
    let armed = group().word.arm();
    let open = vec![intent(cutover("f", Kind::Flip, "blue", "green", 1), false)];
    let (state, effects) = resumed(armed, Some(("blue".into(), None, 3)), open);
    let expected = [
        ended("f", End::Aborted, 0),
        Effect::Store(armed.settle()),
        Effect::CloseWindow,
    ];
    assert_eq!(effects, expected);
    assert_eq!(
        (state.live.as_str(), state.revision, state.phase()),
        ("blue", 3, "idle")
    );
}

#[test]
fn a_window_goes_on_with_its_cutover() {
    let word = group().word.arm().switch_to(1).drain();
    let flip = cutover("f", Kind::Flip, "blue", "green", 1);
    let recorded = Some(("green".into(), Some("blue".into()), 4));
    let (state, effects) = resumed(word, recorded, vec![intent(flip.clone(), true)]);
    assert_eq!(effects, [Effect::WakeAt(Millis(500))]);
    assert_eq!((state.cutover(), state.revision), (Some(&flip), 4));
}

#[test]
fn a_watch_goes_on_with_its_window() {
    let baking = Baking {
        limits: limits(),
        until: Millis(9000),
        degraded: false,
    };
    let recorded = || Some(("green".into(), Some("blue".into()), 4));
    let flip = cutover("f", Kind::Flip, "blue", "green", 1);
    let watched = |switched| Intent {
        bake: Some(baking).filter(|_| switched),
        ..intent(
            Cutover {
                terms: Terms {
                    bake: Some(limits()),
                    ..Terms::default()
                },
                ..flip.clone()
            },
            switched,
        )
    };
    let word = group().word.arm().switch_to(1);
    let (state, effects) = resumed(word, recorded(), vec![watched(true)]);
    assert_eq!(effects.last(), Some(&Effect::WakeAt(Millis(500))));
    assert_eq!(state.phase(), "baking");
    assert_eq!(state.window().and_then(|it| it.bake), Some(baking));

    // Killed right after the store: it begins anew.
    let (state, effects) = resumed(word, Some(("blue".into(), None, 3)), vec![watched(false)]);
    assert_eq!(effects[0], switched("f"));
    let until = state.window().and_then(|it| it.bake).map(|it| it.until);
    assert_eq!((state.phase(), until), ("baking", Some(Millis(60_500))));

    // To be confirmed as well.
    let times = Times {
        revert_at: Millis(60_000).nanoseconds(),
        ..Times::default()
    };
    let timed = word.with(flags::TIMED);
    let unconfirmed = Intent {
        unconfirmed: true,
        ..watched(true)
    };
    let (state, _effects) = resumed_at(timed, times, recorded(), vec![unconfirmed]);
    assert_eq!(state.phase(), "confirming");
    assert_eq!(state.window().and_then(|it| it.bake), Some(baking));

    // Rolled back meanwhile, or after a boot there is nothing to watch.
    let (state, _effects) = resumed(word.switch_to(0), recorded(), vec![watched(true)]);
    assert_eq!(state.phase(), "draining");
    let (state, effects) = resumed(
        Word(0).with_in_use(2).switch_to(1).settle(),
        recorded(),
        vec![watched(true)],
    );
    assert_eq!(state.phase(), "idle");
    assert_eq!(effects.last(), Some(&ended("f", End::Succeeded, 0)));
}

/// Whatever was to be given up with it is.
#[test]
fn a_window_that_had_ended_is_closed() {
    let word = group().word.arm().switch_to(1).settle();
    let flip = cutover("f", Kind::Flip, "blue", "green", 1);
    let recorded = Some(("green".into(), Some("blue".into()), 4));
    let (state, effects) = resumed(word, recorded, vec![intent(flip, true)]);
    assert_eq!(
        effects,
        [
            Effect::Abandon(word.epoch()),
            Effect::CloseWindow,
            ended("f", End::Succeeded, 0)
        ]
    );
    assert_eq!(state.phase(), "idle");
}

#[test]
fn an_armed_flip_in_a_window_falls_back_to_the_window() {
    let armed = group().word.arm().switch_to(1).drain().arm();
    let flip = cutover("f", Kind::Flip, "blue", "green", 1);
    let next = cutover("g", Kind::Flip, "green", "blue", 0);
    let recorded = Some(("green".into(), Some("blue".into()), 4));
    let open = vec![intent(flip.clone(), true), intent(next, false)];
    let (state, effects) = resumed(armed, recorded, open);
    let expected = [
        ended("g", End::Aborted, 0),
        Effect::Store(armed.with_phase(Phase::Open)),
        Effect::WakeAt(Millis(500)),
    ];
    assert_eq!(effects, expected);
    assert_eq!(state.cutover(), Some(&flip));
}

#[test]
fn a_rollback_that_could_not_be_recorded_still_counts() {
    let word = group().word.arm().switch_to(1).switch_to(0);
    let flip = cutover("f", Kind::Flip, "blue", "green", 1);
    let back = cutover("r", Kind::Rollback, "green", "blue", 0);
    let recorded = Some(("green".into(), Some("blue".into()), 4));
    let open = vec![intent(flip, true), intent(back, false)];
    let (state, effects) = resumed(word, recorded, open);
    let undone = reply("f", Outcome::RolledBack { by: "r".into() });
    let expected = [
        switched("r"),
        ended("f", End::RolledBack, 0),
        undone,
        Effect::WakeAt(Millis(500)),
    ];
    assert_eq!(effects, expected);
    assert_eq!((state.live.as_str(), state.revision), ("blue", 5));
}

#[test]
fn a_switch_behind_the_agents_back_is_recorded() {
    let word = group().word.switch_to(1);
    let (state, effects) = resumed(word, Some(("blue".into(), None, 3)), Vec::new());
    let found = Cutover {
        forced: true,
        ..cutover("x", Kind::Emergency, "blue", "green", 1)
    };
    let expected = [
        seen(found, &[("blue", "x", Kind::Emergency)]),
        Effect::WakeAt(Millis(500)),
    ];
    assert_eq!(effects, expected);
    assert_eq!((state.live.as_str(), state.revision), ("green", 4));
}

#[test]
fn a_switch_while_the_agent_runs_is_found() {
    let mut state = flipped(group());
    let word = state.word.force(0);
    let event = Event::Found {
        id: "x".into(),
        word,
    };
    let effects = step(&mut state, event, Millis(500));
    let found = Cutover {
        forced: true,
        hard: true,
        ..cutover("x", Kind::Emergency, "green", "blue", 0)
    };
    let expected = [
        seen(found, &[("green", "x", Kind::Emergency)]),
        ended("f", End::RolledBack, 0),
        reply("f", Outcome::RolledBack { by: "x".into() }),
        Effect::Abandon(word.epoch()),
        Effect::CloseWindow,
        drained("x", "green", 0),
        ended("x", End::Succeeded, 0),
    ];
    assert_eq!(effects, expected);
    assert_eq!((state.phase(), state.live.as_str()), ("idle", "blue"));
}

#[test]
fn the_same_word_is_nothing_new() {
    let mut state = flipped(group());
    let before = state.clone();
    let event = Event::Found {
        id: "x".into(),
        word: state.word,
    };
    assert_eq!(step(&mut state, event, Millis(0)), []);
    assert_eq!(state, before);
}

#[test]
fn the_newest_table_of_a_colour_is_its_slot() {
    // Blue was updated from slot 0 to 2, then green became live.
    let word = group().word.switch_to(2).switch_to(1);
    let mut have = have(word);
    have.slots.insert(2, Mix::pure(0));
    assert_eq!(ready_slots(&have, None)["blue"], 2);
}

#[test]
fn an_unconfirmed_switch_goes_on_waiting() {
    let word = group().word.arm().switch_to(1).with(flags::TIMED);
    let times = Times {
        revert_at: Millis(700).nanoseconds(),
        ..Times::default()
    };
    let flip = cutover("f", Kind::Flip, "blue", "green", 1);
    let recorded = Some(("green".into(), Some("blue".into()), 4));
    let (state, effects) = resumed_at(word, times, recorded, vec![unconfirmed(flip.clone())]);
    assert_eq!(effects, [Effect::WakeAt(Millis(700))]);
    assert_eq!(
        (state.phase(), state.cutover()),
        ("confirming", Some(&flip))
    );
    assert_eq!(state.confirm_by(), Some(Millis(700)));
}

#[test]
fn what_the_program_has_undone_is_recorded() {
    let word = group().word.arm().switch_to(1).with(flags::TIMED);
    let times = Times {
        revert_at: Millis(400).nanoseconds(),
        ..Times::default()
    };
    let back = cutover("f-back", Kind::Rollback, "green", "blue", 0);
    let undone = |switched_now: bool| {
        let flip = cutover("f", Kind::Flip, "blue", "green", 1);
        let (live, revision) = if switched_now {
            ("blue", 3)
        } else {
            ("green", 4)
        };
        let open = if switched_now {
            intent(flip, false)
        } else {
            unconfirmed(flip)
        };
        resumed_at(word, times, Some((live.into(), None, revision)), vec![open])
    };
    let expected = [
        Effect::Store(word.switch_to(0)),
        seen(back, &[("green", "f-back", Kind::Rollback)]),
        ended("f", End::RolledBack, 0),
        reply(
            "f",
            Outcome::RolledBack {
                by: "f-back".into(),
            },
        ),
        Effect::WakeAt(Millis(500)),
    ];
    for switched_now in [false, true] {
        let (state, effects) = undone(switched_now);
        let skip = usize::from(switched_now);
        assert_eq!(
            effects[..skip],
            [switched("f")][..skip],
            "died before it could say so"
        );
        assert_eq!(effects[skip..], expected);
        assert_eq!(
            (state.live.as_str(), state.previous.as_deref()),
            ("blue", Some("green"))
        );
        assert_eq!((state.revision, state.phase()), (5, "draining"));
        assert_eq!(state.word, word.switch_to(0));
    }
}

#[test]
fn what_nobody_had_confirmed_does_not_survive_the_host() {
    let flip = cutover("f", Kind::Flip, "blue", "green", 1);
    let recorded = Some(("green".into(), Some("blue".into()), 4));
    let (state, effects) = resumed(group().word, recorded, vec![unconfirmed(flip)]);
    let expected = [
        seen(
            cutover("f-back", Kind::Rollback, "green", "blue", 0),
            &[("green", "f-back", Kind::Rollback)],
        ),
        ended("f", End::RolledBack, 0),
        reply(
            "f",
            Outcome::RolledBack {
                by: "f-back".into(),
            },
        ),
        Effect::Abandon(group().word.epoch()),
        Effect::CloseWindow,
        drained("f-back", "green", 0),
        ended("f-back", End::Succeeded, 0),
    ];
    assert_eq!(effects, expected);
    assert_eq!(
        (state.live.as_str(), state.revision, state.phase()),
        ("blue", 5, "idle")
    );
}

#[test]
fn a_switch_to_come_goes_on_being_set() {
    let word = group().word.switch_to(1).with(flags::TIMED);
    let times = Times {
        arm_at: Millis(600).nanoseconds(),
        activate_at: Millis(900).nanoseconds(),
        revert_at: Times::NEVER,
        paused_until: 0,
    };
    let flip = cutover("f", Kind::Flip, "blue", "green", 1);
    let recorded = Some(("blue".into(), None, 3));
    let (mut state, effects) = resumed_at(word, times, recorded.clone(), vec![intent(flip, false)]);
    assert_eq!(effects, [Effect::WakeAt(Millis(900))]);
    assert_eq!((state.live.as_str(), state.phase()), ("blue", "preparing"));
    let effects = step(&mut state, Event::Timer, Millis(900));
    let fixed = word.without(flags::TIMED);
    assert_eq!(effects, [Effect::Store(fixed), settle("f")]);
    assert_eq!(state.live, "green");

    // Nobody knows whose it is.
    let (state, effects) = resumed_at(word, times, recorded, Vec::new());
    let quiet = word.at(&times, Millis(500).nanoseconds());
    assert_eq!(effects, [Effect::Store(quiet), Effect::WakeAt(Millis(500))]);
    assert_eq!(state.live, "blue");
}

#[test]
fn a_switch_whose_instant_came_meanwhile_was_made() {
    let word = group().word.switch_to(1).with(flags::TIMED);
    let times = Times {
        activate_at: Millis(400).nanoseconds(),
        revert_at: Times::NEVER,
        ..Times::default()
    };
    let flip = cutover("f", Kind::Flip, "blue", "green", 1);
    let open = vec![intent(flip, false)];
    let (state, effects) = resumed_at(word, times, Some(("blue".into(), None, 3)), open);
    let fixed = Effect::Store(word.without(flags::TIMED));
    assert_eq!(effects, [switched("f"), fixed, Effect::WakeAt(Millis(500))]);
    assert_eq!((state.live.as_str(), state.phase()), ("green", "draining"));
}

#[test]
fn a_pause_that_is_over_is_taken_off() {
    let paused = group().word.with(flags::PAUSED);
    let until = |millis| Times {
        paused_until: Millis(millis).nanoseconds(),
        ..Times::default()
    };
    let recorded = Some(("blue".into(), None, 3));
    let (state, effects) = resumed_at(paused, until(600), recorded.clone(), Vec::new());
    assert_eq!((effects, state.phase()), (Vec::new(), "paused"));
    let (state, effects) = resumed_at(paused, until(500), recorded, Vec::new());
    assert_eq!(effects, [Effect::Store(group().word)]);
    assert_eq!(state.phase(), "idle");
}

fn unconfirmed(cutover: Cutover) -> Intent {
    Intent {
        unconfirmed: true,
        bake: None,
        ..intent(cutover, true)
    }
}

fn have(word: Word) -> HaveGroup {
    HaveGroup {
        name: "shop".into(),
        colours: BTreeMap::from([(0, "blue".into()), (1, "green".into())]),
        slots: BTreeMap::from([(0, Mix::pure(0)), (1, Mix::pure(1))]),
        word,
    }
}

fn resumed(
    word: Word,
    recorded: Option<(String, Option<String>, u64)>,
    open: Vec<Intent>,
) -> (GroupState, Vec<Effect>) {
    resumed_at(word, Times::default(), recorded, open)
}

fn resumed_at(
    word: Word,
    times: Times,
    recorded: Option<(String, Option<String>, u64)>,
    open: Vec<Intent>,
) -> (GroupState, Vec<Effect>) {
    resume(
        Found {
            have: &have(word),
            times,
            releases: Releases::default(),
            gates: Gates::default(),
        },
        recorded,
        open,
        group().timing,
        "x".into(),
        Millis(500),
    )
}

fn seen(cutover: Cutover, colours: &[(&str, &str, Kind)]) -> Effect {
    let left = left(colours);
    Effect::Record(Record::Found { cutover, left })
}

fn intent(cutover: Cutover, switched: bool) -> Intent {
    Intent {
        cutover,
        switched,
        unconfirmed: false,
        bake: None,
        undecided: false,
        left: Left::new(),
    }
}
