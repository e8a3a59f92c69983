//! An abort at every point of a flip: each of the two is answered once, and the answers agree.

use super::*;

#[test]
fn at_every_point_there_is_one_legal_outcome() {
    let confirm = Some(Duration::from_secs(60));
    let at = Some(Millis(5000));
    let all_terms = [(None, None), (None, confirm), (at, None), (at, confirm)];
    for (tagged, (at, confirm)) in [true, false]
        .into_iter()
        .flat_map(|tagged| all_terms.map(|terms| (tagged, terms)))
    {
        let mut ways = std::collections::BTreeSet::new();
        for point in 0..=9 {
            for late in [false, true] {
                let terms = Terms {
                    at,
                    confirm,
                    ..Terms::default()
                };
                ways.insert(race(tagged, terms, point, late));
            }
        }
        let both = ["stopped", "undone"].map(String::from);
        let both = both.into_iter().all(|way| ways.contains(&way));
        assert!(both, "tagged={tagged} {at:?} {confirm:?}: {ways:?}");
    }
}

/// Plays a flip with an abort before its step `point`; `late` is an abort that comes when a scheduled
/// instant has passed before it holds everywhere.
fn race(tagged: bool, terms: Terms, point: usize, late: bool) -> String {
    let mut state = group();
    state.timing.tagged = tagged;
    let flip = Order {
        terms,
        ..order("f")
    };
    let script = [
        (0, Event::Flip(flip)),
        (0, healthy("f")),
        (0, prepared("f")),
        (3000, Event::Timer),
        (5000, Event::Timer),
        (5000, settled("f")),
        (6000, flows(3, 1)),
        (7000, Event::Timer),
        (8000, flows(3, 1)),
    ];
    let mut replies = Vec::new();
    let mut now = 0;
    let play = |state: &mut GroupState, event: Event, now: u64, replies: &mut Vec<Effect>| {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for effect in step(state, event, Millis(now)) {
                match effect {
                    Effect::Prepare { cutover, .. } if cutover.id != "f" => {
                        events.push(prepared(&cutover.id));
                    }
                    Effect::Settle { id } if id != "f" => events.push(settled(&id)),
                    reply @ Effect::Reply { .. } => replies.push(reply),
                    _ => {}
                }
            }
        }
    };
    for (index, (at, event)) in script.into_iter().enumerate() {
        if index == point {
            let abort = Event::Abort(order("a"));
            play(&mut state, abort, now, &mut replies);
            let stopping = matches!(&state.stage, Stage::Preparing(it) if it.stopping.is_some());
            let then = if late { 5000.max(now) } else { now };
            if stopping {
                play(&mut state, settled("f"), then, &mut replies);
            }
        }
        now = at;
        play(&mut state, event, at, &mut replies);
    }
    judge(&state, &replies)
}

/// What the two were told, which must agree with what is live.
fn judge(state: &GroupState, replies: &[Effect]) -> String {
    let told = |to: &str| {
        let all = replies.iter().filter_map(|effect| match effect {
            Effect::Reply { id, outcome } if id == to => Some(outcome.clone()),
            _ => None,
        });
        // Whoever set a flip for an instant hears of that first.
        all.filter(|it| *it != Outcome::Scheduled)
            .collect::<Vec<_>>()
    };
    let (flip, abort) = (told("f"), told("a"));
    let live = state.live.as_str();
    match (&flip[..], &abort[..]) {
        ([Outcome::Aborted], [Outcome::Stopped { cutover }]) if cutover == "f" => {
            assert_eq!((live, state.revision), ("blue", 3));
            "stopped".into()
        }
        ([] | [Outcome::Aborted], [Outcome::Stopped { .. }]) => {
            assert_eq!((live, state.revision), ("blue", 3));
            "stopped".into()
        }
        ([Outcome::RolledBack { by }], [Outcome::Switched]) => {
            assert_eq!((by.as_str(), live, state.revision), ("a", "blue", 5));
            "undone".into()
        }
        ([Outcome::Switched, Outcome::RolledBack { by }], [Outcome::Switched]) => {
            assert_eq!((by.as_str(), live, state.revision), ("a", "blue", 5));
            "undone".into()
        }
        ([Outcome::Switched], [Outcome::Refused(refusal)]) => {
            assert_eq!(refusal.why, Why::Busy);
            assert_eq!((live, state.revision), ("green", 4));
            "too early".into()
        }
        ([Outcome::Switched], []) => {
            assert_eq!((live, state.revision), ("green", 4));
            "without".into()
        }
        both => panic!("{both:?} {state:?}"),
    }
}
