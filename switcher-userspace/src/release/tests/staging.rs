//! Roles over many releases, previews, and what the database allows.

use super::*;

#[test]
fn roles_go_round() {
    let mut state = sockets();
    assert_eq!(roles(&state), [Role::Live, Role::Staging]);
    let mut live = ("blue", "green");
    for release in 1..=6_u32 {
        let (from, to) = live;
        let version = format!("v{release}");
        let slot = u32::from(state.slots[to]);
        let gives_up = state.previous.is_some();
        let effects = stage(&mut state, None, &version, None);
        let warnings = noted(&effects, to);
        assert_eq!(warnings.len(), usize::from(gives_up), "{warnings:?}");
        assert_eq!(
            (state.role(from), state.role(to)),
            (Role::Live, Role::Staging)
        );
        assert_eq!(state.word.staging(), slot, "the preview reaches it");
        let back = step(&mut state, Event::Rollback(order("r")), Millis(0));
        assert_eq!(refused(&back), Why::NotEligible, "what was there is gone");

        whole_flip(&mut state, None);
        assert_eq!(
            (state.role(from), state.role(to)),
            (Role::Previous, Role::Live)
        );
        assert_eq!(state.word.staging(), u32::from(state.slots[from]));
        live = (to, from);
    }
    let version = |colour: &str| state.releases.colours[colour].version.clone();
    assert_eq!(
        [version("blue"), version("green")],
        [Some("v6".into()), Some("v5".into())]
    );
}

#[test]
fn with_three_colours_the_third_is_retired_and_the_staged_one_is_flipped_to() {
    let mut state = three();
    let effects = stage(&mut state, None, "v1", None);
    assert_eq!(refused(&effects), Why::WhichColour, "green or red");

    let effects = stage(&mut state, Some("red"), "v1", None);
    let word = three().word.with_staging(2);
    assert_eq!(effects[0], Effect::Store(word), "the preview turns to it");
    assert_eq!(noted(&effects, "red"), [""; 0]);
    whole_flip(&mut state, None);
    assert_eq!(state.live, "red", "it is the one that was staged");
    assert_eq!(state.word.staging(), 0, "nothing waits: where it came from");

    let _green = stage(&mut state, Some("green"), "v2", None);
    whole_flip(&mut state, None);
    assert_eq!(
        ["blue", "green", "red"].map(|it| state.role(it)),
        [Role::Retired, Role::Live, Role::Previous]
    );
    let effects = stage(&mut state, None, "v3", None);
    assert_eq!(noted(&effects, "blue"), [""; 0], "the retired one is idle");
    assert_eq!(state.word.staging(), 0);

    // What waits goes on being previewed while others come and go.
    whole_rollback(&mut state);
    assert_eq!((state.live.as_str(), state.word.staging()), ("red", 0));
    assert_eq!(state.role("green"), Role::Previous);
}

#[test]
fn the_release_that_is_live_is_only_named() {
    let mut state = group();
    let word = state.word;
    let effects = stage(&mut state, Some("blue"), "v41", None);
    assert_eq!(noted(&effects, "blue"), [""; 0]);
    assert_eq!((state.word, state.role("blue")), (word, Role::Live));
    let again = stage(&mut state, Some("blue"), "v41", None);
    assert_eq!(again, [reply("s", Outcome::Unchanged)]);
    let range = range(1, 2);
    let _said = stage(&mut state, Some("blue"), "v41", Some(range));
    assert_eq!(state.releases.colours["blue"].schema, Some(range));
    let other = stage(&mut state, Some("blue"), "v42", None);
    assert_eq!(refused(&other), Why::Precondition);
    assert_eq!(
        refused(&stage(&mut state, Some("pink"), "v1", None)),
        Why::NoSuchColour
    );
}

#[test]
fn to_name_what_is_previous_again_keeps_the_rollback() {
    let mut state = sockets();
    let _blue = stage(&mut state, Some("blue"), "v1", None);
    let _green = stage(&mut state, None, "v2", None);
    whole_flip(&mut state, None);
    let effects = stage(&mut state, Some("blue"), "v1", Some(range(3, 4)));
    assert_eq!(noted(&effects, "blue"), [""; 0]);
    assert_eq!(state.role("blue"), Role::Previous);
    let effects = stage(&mut state, Some("blue"), "v1", None);
    assert_eq!(effects, [reply("s", Outcome::Unchanged)], "the range stays");
}

#[test]
fn nothing_is_staged_while_a_word_may_change_by_itself() {
    let mut state = group();
    let _begun = step(&mut state, Event::Flip(order("f")), Millis(0));
    assert_eq!(
        refused(&stage(&mut state, None, "v1", None)),
        Why::Busy,
        "a flip is being prepared"
    );
    let mut state = sockets();
    let order = Order {
        force: true,
        terms: Terms {
            confirm: Some(Duration::from_secs(60)),
            at: None,
            ..Terms::default()
        },
        ..order("f")
    };
    let _begun = step(&mut state, Event::Flip(order), Millis(0));
    let _stored = step(&mut state, prepared("f"), Millis(0));
    let _settled = step(&mut state, settled("f"), Millis(0));
    assert_eq!(
        refused(&stage(&mut state, None, "v1", None)),
        Why::Unconfirmed,
        "clients may go back there"
    );
}

#[test]
fn a_release_that_the_database_does_not_suit_never_becomes_live() {
    let mut state = sockets();
    assert_eq!(noted_schema(&mut state, 12, false), Ok(Vec::new()));
    let effects = stage(&mut state, None, "v2", Some(range(13, 14)));
    assert_eq!(refused(&effects), Why::Schema, "not even staged");
    let _staged = stage(&mut state, None, "v2", Some(range(12, 14)));

    // Contracted under its feet: recorded with a warning, and nobody flips there any more.
    let warnings = noted_schema(&mut state, 15, false).expect("nobody is served by it");
    assert!(warnings[0].contains("green (v2)"), "{warnings:?}");
    let force = Order {
        force: true,
        ..order("f")
    };
    let flip = step(&mut state, Event::Flip(force), Millis(0));
    assert_eq!(refused(&flip), Why::Schema, "nobody can force it");
    let flip = step(&mut state, Event::Flip(order("f")), Millis(0));
    assert_eq!(blocked(&flip), ["schema"]);
    let canary = Event::Canary {
        order: order_to("c", "green"),
        percent: 5,
        slot: 5,
    };
    assert_eq!(blocked(&step(&mut state, canary, Millis(0))), ["schema"]);
    assert_eq!(noted_schema(&mut state, 14, false), Ok(Vec::new()));
    whole_flip(&mut state, None);
}

#[test]
fn closing_the_rollback_has_to_be_meant() {
    let mut state = sockets();
    let _blue = stage(&mut state, Some("blue"), "v1", Some(range(12, 13)));
    let _green = stage(&mut state, None, "v2", Some(range(13, 14)));
    assert_eq!(
        noted_schema(&mut state, 13, false),
        Ok(Vec::new()),
        "expand"
    );
    assert_eq!(
        noted_schema(&mut state, 14, false),
        Err(Why::Schema),
        "blue is live"
    );
    whole_flip(&mut state, None);
    assert_eq!(noted_schema(&mut state, 14, false), Err(Why::Schema));
    assert_eq!(state.releases.applied, Some(13), "refused, not recorded");
    let warnings = noted_schema(&mut state, 14, true).expect("it is meant");
    assert!(warnings[0].contains("blue (v1)"), "{warnings:?}");
    let back = step(&mut state, Event::Rollback(order("r")), Millis(0));
    assert_eq!(refused(&back), Why::Schema);
    assert_eq!(
        noted_schema(&mut state, 15, true),
        Err(Why::Schema),
        "what is live is never given up"
    );
    assert_eq!(noted_schema(&mut state, 13, false), Ok(Vec::new()));
    whole_rollback(&mut state);
    assert_eq!(state.live, "blue");
}

#[test]
fn to_abort_after_the_switch_is_no_way_around_it() {
    let mut state = sockets();
    let _blue = stage(&mut state, Some("blue"), "v1", Some(range(12, 13)));
    let mut state = flipped_by_force(state);
    assert_eq!(noted_schema(&mut state, 14, true).map(|it| it.len()), Ok(1));
    let abort = step(&mut state, Event::Abort(order("a")), Millis(0));
    assert_eq!(refused(&abort), Why::Schema);
    assert_eq!(noted_schema(&mut state, 13, false), Ok(Vec::new()));
    let abort = step(&mut state, Event::Abort(order("a")), Millis(0));
    assert!(matches!(abort[0], Effect::Prepare { .. }), "{abort:?}");
}

#[test]
fn a_flip_that_would_undo_itself_needs_a_way_back() {
    let mut state = sockets();
    let _blue = stage(&mut state, Some("blue"), "v1", Some(range(12, 12)));
    let _green = stage(&mut state, None, "v2", Some(range(12, 13)));
    state.releases.applied = Some(13);
    let terms = Terms {
        confirm: Some(Duration::from_secs(60)),
        at: None,
        ..Terms::default()
    };
    let ask = Order {
        terms,
        ..order("f")
    };
    let effects = step(&mut state, Event::Flip(ask), Millis(0));
    assert_eq!(refused(&effects), Why::Schema);
    whole_flip(&mut state, None);
}

#[test]
fn a_flip_found_later_counts_as_one() {
    let mut state = sockets();
    let _green = stage(&mut state, None, "v2", None);
    let event = Event::Found {
        id: "e".into(),
        word: state.word.switch_to(1).drain(),
    };
    let _found = step(&mut state, event, Millis(0));
    assert_eq!(roles(&state), [Role::Previous, Role::Live]);
    assert!(!state.releases.is_staged("green"));
}

fn three() -> GroupState {
    let mut state = sockets();
    state.slots.insert("red".into(), 2);
    state
}

fn roles(state: &GroupState) -> [Role; 2] {
    ["blue", "green"].map(|colour| state.role(colour))
}

fn range(min: u64, max: u64) -> SchemaRange {
    SchemaRange { min, max }
}

fn stage(
    state: &mut GroupState,
    colour: Option<&str>,
    version: &str,
    schema: Option<SchemaRange>,
) -> Vec<Effect> {
    let event = Event::Stage {
        order: Order {
            to: colour.map(Into::into),
            ..order("s")
        },
        version: version.into(),
        schema,
    };
    step(state, event, Millis(0))
}

/// That it was taken, for this colour, and what was said of it.
fn noted(effects: &[Effect], on: &str) -> Vec<String> {
    match effects.last() {
        Some(Effect::Reply {
            outcome: Outcome::Noted { colour, warnings },
            ..
        }) => {
            assert_eq!(colour.as_deref(), Some(on));
            warnings.clone()
        }
        other => panic!("not taken: {other:?}"),
    }
}

fn noted_schema(state: &mut GroupState, applied: u64, close: bool) -> Result<Vec<String>, Why> {
    let event = Event::Schema {
        order: order("s"),
        applied,
        close,
    };
    match &step(state, event, Millis(0))[..] {
        [
            Effect::Reply {
                outcome: Outcome::Noted { warnings, .. },
                ..
            },
        ] => Ok(warnings.clone()),
        other => Err(refused(other)),
    }
}

/// In the window of a flip to green.
fn flipped_by_force(mut state: GroupState) -> GroupState {
    let ask = Order {
        force: true,
        ..order("f")
    };
    let _begun = step(&mut state, Event::Flip(ask), Millis(0));
    let _stored = step(&mut state, prepared("f"), Millis(0));
    let _settled = step(&mut state, settled("f"), Millis(0));
    assert_eq!(state.phase(), "draining");
    state
}

fn whole_flip(state: &mut GroupState, to: Option<&str>) {
    let order = Order {
        to: to.map(Into::into),
        ..order("f")
    };
    let begun = step(state, Event::Flip(order), Millis(0));
    assert!(matches!(begun[0], Effect::Prepare { .. }), "{begun:?}");
    let _healthy = step(state, healthy("f"), Millis(0));
    let _stored = step(state, prepared("f"), Millis(0));
    let _settled = step(state, settled("f"), Millis(0));
    let _drained = step(state, flows(0, 0), Millis(1000));
    assert_eq!(state.stage, Stage::Idle);
}

fn whole_rollback(state: &mut GroupState) {
    let begun = step(state, Event::Rollback(order("b")), Millis(0));
    assert!(matches!(begun[0], Effect::Prepare { .. }), "{begun:?}");
    let _stored = step(state, prepared("b"), Millis(0));
    let _settled = step(state, settled("b"), Millis(0));
    let _drained = step(state, flows(0, 0), Millis(1000));
    assert_eq!(state.stage, Stage::Idle);
}
