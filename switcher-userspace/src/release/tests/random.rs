//! Whatever happens in whatever order: a colour is live, and the word points at tables that exist.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::world::World;
use super::*;

/// Something that happens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Do {
    Flip {
        to: Option<&'static str>,
        force: bool,
        at: Option<u64>,
        confirm: Option<u64>,
        bake: Option<u64>,
    },
    Rollback {
        hard: bool,
    },
    Update {
        slot: u8,
    },
    Canary {
        to: &'static str,
        percent: u8,
        slot: u8,
        policy: bool,
    },
    Abort,
    Confirm,
    Extend,
    Stage {
        to: Option<&'static str>,
        version: u8,
    },
    Schema {
        applied: u64,
        close: bool,
    },
    Freeze(bool),
    Gate(bool),
    Pause,
    Resume,
    PauseOver,
    Prepared(bool),
    Health(bool),
    Hooks(bool),
    Settled,
    Flows {
        /// Of blue, green and red, if they can be counted.
        elsewhere: Option<[u64; 3]>,
        used: u8,
        refused: bool,
    },
    Observed {
        failing: bool,
        unknown: bool,
        way_back: bool,
    },
    Timer,
    Found {
        slot: u8,
        how: u8,
    },
    Later(u64),
}

fn anything() -> impl Strategy<Value = Do> {
    let to = prop_oneof![
        Just(None),
        Just(Some("blue")),
        Just(Some("green")),
        Just(Some("red"))
    ];
    prop_oneof![
        (to, any::<bool>(), later(), later(), later()).prop_map(
            |(to, force, at, confirm, bake)| Do::Flip {
                to,
                force,
                at,
                confirm,
                bake,
            }
        ),
        (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(failing, unknown, way_back)| {
            Do::Observed {
                failing,
                unknown,
                way_back,
            }
        }),
        any::<bool>().prop_map(|hard| Do::Rollback { hard }),
        (3_u8..5).prop_map(|slot| Do::Update { slot }),
        (
            prop_oneof![Just("green"), Just("blue"), Just("red")],
            1_u8..3,
            5_u8..8,
            any::<bool>()
        )
            .prop_map(|(to, percent, slot, policy)| Do::Canary {
                to,
                percent,
                slot,
                policy,
            }),
        Just(Do::Abort),
        Just(Do::Confirm),
        Just(Do::Extend),
        (
            prop_oneof![Just(None), Just(Some("green")), Just(Some("red"))],
            0_u8..4
        )
            .prop_map(|(to, version)| Do::Stage { to, version }),
        (0_u64..4, any::<bool>()).prop_map(|(applied, close)| Do::Schema { applied, close }),
        any::<bool>().prop_map(Do::Freeze),
        any::<bool>().prop_map(Do::Gate),
        Just(Do::Pause),
        Just(Do::Resume),
        Just(Do::PauseOver),
        any::<bool>().prop_map(Do::Prepared),
        Just(Do::Prepared(true)),
        any::<bool>().prop_map(Do::Health),
        any::<bool>().prop_map(Do::Hooks),
        Just(Do::Hooks(true)),
        Just(Do::Settled),
        (
            proptest::option::of([0_u64..2, 0_u64..2, 0_u64..2]),
            0_u8..101,
            any::<bool>()
        )
            .prop_map(|(elsewhere, used, refused)| Do::Flows {
                elsewhere,
                used,
                refused,
            }),
        Just(Do::Timer),
        (0_u8..3, 0_u8..3).prop_map(|(slot, how)| Do::Found { slot, how }),
        (0_u64..200_000).prop_map(Do::Later),
    ]
}

fn later() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![2 => Just(None), 1 => (0_u64..200_000).prop_map(Some)]
}

/// Whether the agent is killed then: after so many of the effects, and the one after it likewise.
fn killed() -> impl Strategy<Value = Option<(u8, Option<u8>)>> {
    let again = prop_oneof![3 => Just(None), 1 => (0_u8..8).prop_map(Some)];
    prop_oneof![6 => Just(None), 1 => (0_u8..8, again).prop_map(Some)]
}

/// Always the same ones, or others and as many as somebody asks for: killed agents come with a few things that
/// nobody can know, and the last of these may not be known here.
fn cases() -> ProptestConfig {
    match std::env::var("PROPTEST_CASES") {
        Ok(cases) => ProptestConfig::with_cases(cases.parse().expect("a number")),
        Err(_) => ProptestConfig {
            rng_seed: RngSeed::Fixed(1),
            ..ProptestConfig::with_cases(1000)
        },
    }
}

proptest! {
    #![proptest_config(cases())]
    #[test]
    fn a_colour_is_always_live(
        tagged: bool,
        hooks: bool,
        steps in prop::collection::vec((anything(), killed()), 1..60),
    ) {
        let mut state = group();
        state.slots.insert("red".into(), 2);
        state.timing.tagged = tagged;
        let rule = GateRule {
            open: true,
            expires: Some(Duration::from_secs(30)),
        };
        state.gates.policy.gates.insert("qa".into(), rule);
        if hooks {
            let moments = [Moment::PreFlip, Moment::PostFlip, Moment::RolledBack, Moment::Drained];
            state.gates.policy.hooks = moments.into();
        }
        let mut world = World::new(&state);
        for (what, killed) in steps {
            world.play(&mut state, what, killed);
        }
        world.play_out(&mut state);
    }
}
