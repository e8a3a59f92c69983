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
fn a_window_that_had_ended_is_closed() {
    let word = group().word.arm().switch_to(1).settle();
    let flip = cutover("f", Kind::Flip, "blue", "green", 1);
    let recorded = Some(("green".into(), Some("blue".into()), 4));
    let (state, effects) = resumed(word, recorded, vec![intent(flip, true)]);
    assert_eq!(
        effects,
        [Effect::CloseWindow, ended("f", End::Succeeded, 0)]
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
        Effect::Record(Record::Found(found)),
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
        ended("f", End::RolledBack, 0),
        reply("f", Outcome::RolledBack { by: "x".into() }),
        Effect::Record(Record::Found(found)),
        Effect::CloseWindow,
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
    resume(
        &have(word),
        recorded,
        open,
        group().timing,
        "x".into(),
        Millis(500),
    )
}

fn intent(cutover: Cutover, switched: bool) -> Intent {
    Intent { cutover, switched }
}
