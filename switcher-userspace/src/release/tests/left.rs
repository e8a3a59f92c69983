//! Colours drain one by one, each under the name of the cut-over that left it.

use super::*;

/// Blue, then green, then red: one window, in which flows are known by the socket table.
fn three() -> GroupState {
    let mut state = flipped(sockets());
    state.slots.insert("red".into(), 4);
    let order = Order {
        force: true,
        ..order_to("g", "red")
    };
    let _begun = step(&mut state, Event::Flip(order), Millis(6000));
    let _switched = step(&mut state, prepared("g"), Millis(6000));
    let _settled = step(&mut state, settled("g"), Millis(6000));
    state
}

fn counted(flows: &[(&str, u64)]) -> Event {
    let flows = flows
        .iter()
        .map(|(colour, flows)| ((*colour).into(), *flows));
    Event::Flows(Count {
        elsewhere: Some(flows.collect()),
        ..Count::default()
    })
}

fn hooked(mut state: GroupState) -> GroupState {
    state.gates.policy.hooks = [Moment::Drained].into();
    state
}

fn call(id: &str, from: &str) -> Effect {
    Effect::CallHooks(Call {
        moment: Moment::Drained,
        id: id.into(),
        kind: Some(Kind::Flip),
        from: from.into(),
        to: "red".into(),
    })
}

#[test]
fn each_has_drained_when_it_has_no_flows() {
    let mut state = hooked(three());
    let both = left(&[("blue", "f", Kind::Flip), ("green", "g", Kind::Flip)]);
    assert_eq!(state.window().map(|it| &it.left), Some(&both));
    let effects = step(
        &mut state,
        counted(&[("blue", 3), ("green", 1)]),
        Millis(7000),
    );
    assert_eq!(effects, [Effect::WakeAt(Millis(8000))]);
    // Green's flows end first.
    let effects = step(&mut state, counted(&[("blue", 3)]), Millis(8000));
    let expected = [
        call("g", "green"),
        drained("g", "green", 0),
        Effect::WakeAt(Millis(9000)),
    ];
    assert_eq!(effects, expected);
    let effects = step(&mut state, counted(&[("blue", 3)]), Millis(9000));
    assert_eq!(effects, [Effect::WakeAt(Millis(10_000))], "once is enough");
    let word = state.word;
    let effects = step(&mut state, counted(&[]), Millis(10_000));
    let expected = [
        Effect::Store(word.settle()),
        Effect::CloseWindow,
        call("f", "blue"),
        drained("f", "blue", 0),
        ended("g", End::Succeeded, 0),
    ];
    assert_eq!(effects, expected);
}

#[test]
fn the_deadline_takes_what_each_has_left() {
    let mut state = three();
    let flows = counted(&[("blue", 3), ("green", 1)]);
    let effects = step(&mut state, flows, Millis(3_606_000));
    let expected = [
        drained("f", "blue", 3),
        drained("g", "green", 1),
        ended("g", End::Succeeded, 4),
    ];
    assert_eq!(effects[3..], expected);
}

#[test]
fn flows_of_nobody_may_be_anybodys() {
    let mut state = three();
    let effects = step(&mut state, counted(&[("", 1)]), Millis(7000));
    assert_eq!(effects, [Effect::WakeAt(Millis(8000))]);
}

#[test]
fn what_is_gone_back_to_is_not_left() {
    let mut state = three();
    let _begun = step(&mut state, Event::Rollback(order("r")), Millis(7000));
    let _switched = step(&mut state, prepared("r"), Millis(7000));
    let _settled = step(&mut state, settled("r"), Millis(7000));
    let expected = left(&[("blue", "f", Kind::Flip), ("red", "r", Kind::Rollback)]);
    assert_eq!(state.window().map(|it| &it.left), Some(&expected));
    // With force everything is moved, so that nothing is left anywhere.
    let hard = Order {
        hard: true,
        ..order("h")
    };
    let _begun = step(&mut state, Event::Rollback(hard), Millis(8000));
    let _switched = step(&mut state, prepared("h"), Millis(8000));
    let effects = step(&mut state, settled("h"), Millis(8000));
    for (colour, id) in [("blue", "f"), ("green", "h")] {
        assert!(effects.contains(&drained(id, colour, 0)), "{effects:?}");
    }
}

#[test]
fn while_hooks_decide_nothing_is_given_up() {
    let mut state = sockets();
    state.gates.policy.hooks = [Moment::PostFlip].into();
    let _begun = step(&mut state, Event::Flip(order("f")), Millis(0));
    let _healthy = step(&mut state, healthy("f"), Millis(0));
    let _switched = step(&mut state, prepared("f"), Millis(0));
    let _settled = step(&mut state, settled("f"), Millis(0));
    assert!(
        matches!(&state.stage, Stage::Draining(it) if it.hooks),
        "{state:?}"
    );
    let effects = step(&mut state, counted(&[]), Millis(1000));
    assert_eq!(effects, [Effect::WakeAt(Millis(2000))]);
}
