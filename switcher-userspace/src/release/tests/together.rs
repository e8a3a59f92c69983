//! Canaries and timed words: whatever is asked in whatever state is done, or refused by name.

use super::*;

/// The slot of the tables with a share.
const SHARED: u8 = 2;
const NOW: Millis = Millis(10_000);

/// What is asked in each state, in the order of the table's columns.
const ASKED: [&str; 8] = [
    "canary",
    "flip --at",
    "flip --confirm-within",
    "flip",
    "confirm",
    "extend",
    "abort",
    "rollback",
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    /// It is done, and no word has a way back into a mix of colours.
    Done,
    No(Why),
}
use Answer::{Done, No};
const BUSY: Answer = No(Why::Busy);
const UNCONFIRMED: Answer = No(Why::Unconfirmed);
const EXPIRED: Answer = No(Why::Expired);

#[test]
fn each_order_in_each_state_is_done_or_refused_by_name() {
    let table = [
        (
            "idle",
            [
                Done,
                Done,
                Done,
                Done,
                BUSY,
                BUSY,
                BUSY,
                No(Why::NotEligible),
            ],
        ),
        (
            "a canary is being prepared",
            [BUSY, BUSY, BUSY, BUSY, BUSY, BUSY, Done, Done],
        ),
        (
            "a canary is being switched",
            [BUSY, BUSY, BUSY, BUSY, BUSY, BUSY, Done, Done],
        ),
        (
            "a canary, learning",
            [Done, BUSY, BUSY, Done, BUSY, BUSY, Done, Done],
        ),
        (
            "a canary, draining",
            [Done, BUSY, BUSY, Done, BUSY, BUSY, Done, Done],
        ),
        (
            "a canary, no window",
            [Done, BUSY, BUSY, Done, BUSY, BUSY, Done, Done],
        ),
        (
            "a canary was ended, learning",
            [
                Done,
                Done,
                Done,
                Done,
                BUSY,
                BUSY,
                BUSY,
                No(Why::NotEligible),
            ],
        ),
        (
            "a canary was finished, learning",
            [Done, BUSY, BUSY, Done, BUSY, BUSY, Done, Done],
        ),
        (
            "a flip is set",
            [BUSY, BUSY, BUSY, BUSY, BUSY, BUSY, Done, Done],
        ),
        (
            "a set flip is being stopped",
            [BUSY, BUSY, BUSY, BUSY, BUSY, BUSY, BUSY, BUSY],
        ),
        (
            "a flip is to be confirmed",
            [
                UNCONFIRMED,
                UNCONFIRMED,
                UNCONFIRMED,
                UNCONFIRMED,
                Done,
                Done,
                Done,
                Done,
            ],
        ),
        (
            "nobody has confirmed it",
            [
                UNCONFIRMED,
                UNCONFIRMED,
                UNCONFIRMED,
                UNCONFIRMED,
                EXPIRED,
                EXPIRED,
                Done,
                Done,
            ],
        ),
        (
            "a flip is confirmed, learning",
            [Done, BUSY, BUSY, Done, BUSY, BUSY, Done, Done],
        ),
        (
            "a flip has gone back, learning",
            [Done, Done, Done, Done, BUSY, BUSY, BUSY, Done],
        ),
    ];
    for (name, expected) in table {
        for (asked, expected) in ASKED.into_iter().zip(expected) {
            let (mut state, now) = reach(name);
            let before = state.clone();
            let effects = step(&mut state, ask(asked, &before), now);
            let refusal = effects.iter().find_map(|effect| match effect {
                Effect::Reply {
                    id,
                    outcome: Outcome::Refused(refusal),
                } if id == "asked" => Some(refusal),
                _ => None,
            });
            let Some(refusal) = refusal else {
                assert_eq!(expected, Done, "{asked}: {name}: {effects:?}");
                carry_on(&mut state, effects, now);
                continue;
            };
            assert_eq!(expected, No(refusal.why), "{asked}: {name}: {refusal:?}");
            assert!(!refusal.detail.is_empty() && !refusal.advice.is_empty());
            assert_eq!(
                state, before,
                "{asked}: {name}: what is refused changes nothing"
            );
        }
    }
}

/// A state by its name, and the time.
fn reach(name: &str) -> (GroupState, Millis) {
    let mut state = group();
    let mut now = NOW;
    let run = |state: &mut GroupState, event, now| {
        let effects = step(state, event, now);
        carry_on(state, effects, now);
    };
    let canary = |id: &str| Event::Canary {
        order: forced(order_to(id, "green")),
        percent: 5,
        slot: SHARED,
    };
    let flip = |at, confirm| {
        let terms = Terms {
            at,
            confirm,
            ..Terms::default()
        };
        Event::Flip(Order {
            terms,
            ..forced(order("f"))
        })
    };
    let minute = Some(Duration::from_secs(60));
    match name {
        "idle" => {}
        "a canary is being prepared" => {
            let _begun = step(&mut state, canary("c"), now);
        }
        "a canary is being switched" => {
            let _begun = step(&mut state, canary("c"), now);
            let _armed = step(&mut state, prepared("c"), now);
            now = now + state.timing.arm;
            let _stored = step(&mut state, Event::Timer, now);
        }
        "a canary, learning" => run(&mut state, canary("c"), now),
        "a canary, draining" => {
            run(&mut state, canary("c"), now);
            run(&mut state, flows(1, 60), now);
        }
        "a canary, no window" => {
            run(&mut state, canary("c"), now);
            run(&mut state, flows(0, 60), now);
            run(&mut state, flows(0, 60), now);
            assert_eq!(state.stage, Stage::Idle);
        }
        "a canary was ended, learning" => {
            run(&mut state, canary("c"), now);
            run(&mut state, Event::Abort(order("a")), now);
        }
        "a canary was finished, learning" => {
            run(&mut state, canary("c"), now);
            run(&mut state, flip(None, None), now);
        }
        "a flip is set" => run(&mut state, flip(Some(Millis(60_000)), minute), now),
        "a set flip is being stopped" => {
            run(&mut state, flip(Some(Millis(60_000)), minute), now);
            let _putting_off = step(&mut state, Event::Abort(order("a")), now);
        }
        "a flip is to be confirmed" => run(&mut state, flip(None, minute), now),
        "nobody has confirmed it" => {
            run(&mut state, flip(None, minute), now);
            now = state.confirm_by().expect("it is to be confirmed");
        }
        "a flip is confirmed, learning" => {
            run(&mut state, flip(None, minute), now);
            run(&mut state, Event::Confirm(order("k")), now);
        }
        "a flip has gone back, learning" => {
            run(&mut state, flip(None, minute), now);
            now = state.confirm_by().expect("it is to be confirmed");
            run(&mut state, Event::Timer, now);
            assert_eq!(state.live, "blue");
        }
        other => panic!("no such state: {other}"),
    }
    (state, now)
}

/// The order, to the colour that is not live.
fn ask(what: &str, state: &GroupState) -> Event {
    let to = if state.live == "blue" {
        "green"
    } else {
        "blue"
    };
    let order = || forced(order_to("asked", to));
    let flip = |terms| Event::Flip(Order { terms, ..order() });
    let confirm = Some(Duration::from_secs(5));
    match what {
        "canary" => Event::Canary {
            order: order(),
            percent: 25,
            slot: SHARED + 1,
        },
        "flip --at" => flip(Terms {
            at: Some(Millis(600_000)),
            confirm,
            ..Terms::default()
        }),
        "flip --confirm-within" => flip(Terms {
            confirm,
            ..Terms::default()
        }),
        "flip" => flip(Terms::default()),
        "confirm" => Event::Confirm(order()),
        "extend" => Event::Extend {
            order: order(),
            by: Duration::from_secs(5),
        },
        "abort" => Event::Abort(order()),
        "rollback" => Event::Rollback(order()),
        other => panic!("no such order: {other}"),
    }
}

fn forced(order: Order) -> Order {
    Order {
        force: true,
        ..order
    }
}

/// Does what effects ask for until the order is carried out or set.
fn carry_on(state: &mut GroupState, effects: Vec<Effect>, now: Millis) {
    let mut effects = std::collections::VecDeque::from(effects);
    while let Some(effect) = effects.pop_front() {
        let (event, at) = match effect {
            Effect::Prepare { cutover, .. } => (prepared(&cutover.id), now),
            Effect::Settle { id } => (settled(&id), now),
            Effect::Store(word) => {
                leads_to_colours(state, word, now);
                continue;
            }
            // Arming is over. What comes later is waited for.
            Effect::WakeAt(at) if matches!(&state.stage, Stage::Preparing(it) if it.armed == Some(at)) => {
                (Event::Timer, at)
            }
            _ => continue,
        };
        effects.extend(step(state, event, at));
    }
}

/// Whenever the clock turns a word into another one, the program finds tables of a colour that is known,
/// and new flows come to a mix only by a word that says so.
fn leads_to_colours(state: &GroupState, word: Word, now: Millis) {
    let times = state.times;
    let later = [times.arm_at, times.activate_at, times.revert_at];
    let instants = later
        .into_iter()
        .filter(|at| word.has(flags::TIMED) && *at != Times::NEVER);
    for instant in instants.chain([now.nanoseconds()]) {
        let slot = word.at(&times, instant).current() as u8;
        assert!(state.colour_of(slot).is_some(), "{slot} in {state:?}");
        let shared = state.shares.contains_key(&slot);
        assert!(!(shared && word.has(flags::TIMED)), "{slot} in {state:?}");
    }
}
