//! Whatever happens in whatever order: a colour is live, and the word points at tables that exist.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Do {
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
    Flows(Count),
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
        (proptest::option::of(0_u64..3), 0_u8..101, any::<bool>(),).prop_map(
            |(elsewhere, used, refused)| {
                Do::Flows(Count {
                    elsewhere,
                    used,
                    refused,
                })
            }
        ),
        Just(Do::Timer),
        (0_u8..3, 0_u8..3).prop_map(|(slot, how)| Do::Found { slot, how }),
        (0_u64..200_000).prop_map(Do::Later),
    ]
}

fn later() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![2 => Just(None), 1 => (0_u64..200_000).prop_map(Some)]
}

proptest! {
    #[test]
    fn a_colour_is_always_live(tagged: bool, hooks: bool, steps in prop::collection::vec(anything(), 1..60)) {
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
        let mut kernel = Kernel::new(&state);
        for step in steps {
            kernel.play(&mut state, step);
        }
        kernel.play_out(&mut state);
    }
}

/// What the effects have come to.
struct Kernel {
    now: Millis,
    /// Slots that hold a table, now or until the window ends.
    tables: Vec<u8>,
    asked: u32,
    waiting: Vec<String>,
    /// Hooks that are waited for.
    running: Option<(Moment, String)>,
    switched: Millis,
}

impl Kernel {
    fn new(state: &GroupState) -> Self {
        Self {
            now: Millis(0),
            tables: state.slots.values().copied().collect(),
            asked: 0,
            waiting: Vec::new(),
            running: None,
            switched: Millis(0),
        }
    }

    fn play(&mut self, state: &mut GroupState, what: Do) {
        let before = state.clone();
        let Some(event) = self.event(state, what) else {
            return;
        };
        if let Event::Flip(Order { id, .. })
        | Event::Rollback(Order { id, .. })
        | Event::Abort(Order { id, .. })
        | Event::Confirm(Order { id, .. })
        | Event::Resume(Order { id, .. })
        | Event::Extend {
            order: Order { id, .. },
            ..
        }
        | Event::Pause {
            order: Order { id, .. },
            ..
        }
        | Event::Unfreeze(Order { id, .. })
        | Event::Freeze {
            order: Order { id, .. },
            ..
        }
        | Event::Gate {
            order: Order { id, .. },
            ..
        }
        | Event::Stage {
            order: Order { id, .. },
            ..
        }
        | Event::Schema {
            order: Order { id, .. },
            ..
        }
        | Event::Canary {
            order: Order { id, .. },
            ..
        }
        | Event::Update { id, .. } = &event
        {
            self.waiting.push(id.clone());
        }
        let effects = step(state, event.clone(), self.now);
        for effect in &effects {
            self.check(&before, &event, effect);
        }
        assert!(
            state.slots.contains_key(&state.live),
            "{event:?}: {state:?}"
        );
        assert_ne!(state.previous.as_ref(), Some(&state.live));
        let counts = self.counts(state);
        match state.canary() {
            Some(share) => assert_eq!(share.live, state.live, "{event:?}: {state:?}"),
            None => assert_eq!(
                u32::from(state.slots[&state.live]),
                counts.current(),
                "{event:?}: {state:?}"
            ),
        }
        let misfit = state.releases.misfit(&state.live, state.releases.applied);
        let by_people = matches!(
            event,
            Event::Prepared { .. }
                | Event::Health { .. }
                | Event::Hooks {
                    moment: Moment::PreFlip,
                    ..
                }
        );
        assert!(
            !by_people || misfit.is_none() || before.live == state.live,
            "{misfit:?}"
        );
        if by_people && before.live != state.live {
            let made = state.cutover().expect("it is under way");
            let held_up = blockers(&before, &state.live, self.now);
            let free = made.forced || made.kind == Kind::Rollback;
            assert!(free || held_up.is_empty(), "{held_up:?}");
        }
        if let Event::Observed(observed) = &event
            && matches!(state.stage, Stage::Preparing(_))
            && before.stage != state.stage
        {
            assert!(!observed.failing.is_empty() && observed.way_back.is_empty());
            let back = state.cutover().expect("it is under way");
            assert_eq!((back.kind, &back.from), (Kind::Rollback, &before.live));
        }
        if let Some((rollout, share)) = rollout(state) {
            assert!(share.live == state.live && rollout.since <= self.now);
        }
        let staged = state.releases.is_staged(&state.live);
        assert!(!staged, "what is live does not wait to be: {state:?}");
        let changed = u64::from(before.live != state.live);
        assert_eq!(
            state.revision,
            before.revision + changed,
            "each change of live counts"
        );
        let idle = matches!(state.stage, Stage::Idle);
        assert_eq!(
            idle,
            state.word.phase() == Phase::Steady && !self.pending(state),
            "{state:?}"
        );
    }

    /// What the word counts as: if its time has come and nobody has looked yet, as it did before.
    fn counts(&self, state: &GroupState) -> Word {
        match &state.stage {
            Stage::Preparing(preparing) if preparing.scheduled => {
                let never = Times {
                    activate_at: Times::NEVER,
                    ..state.times
                };
                state.word.at(&never, 0)
            }
            Stage::Confirming(_) | Stage::Preparing(_) => state.word.without(flags::TIMED),
            Stage::Baking(window) => {
                assert!(window.bake.is_some() && window.cutover.to == state.live);
                assert!(!state.word.has(flags::TIMED), "{state:?}");
                state.word
            }
            Stage::Idle | Stage::Switching(_) | Stage::Draining(_) => {
                let timed = state.word.has(flags::TIMED);
                assert!(
                    !timed || matches!(state.stage, Stage::Switching(_)),
                    "{state:?}"
                );
                state.word
            }
        }
    }

    /// Steady words in which something is going on: not armed yet, or hard.
    fn pending(&self, state: &GroupState) -> bool {
        matches!(state.stage, Stage::Preparing(_) | Stage::Switching(_))
    }

    /// In the end everybody is answered and the group is idle.
    fn play_out(&mut self, state: &mut GroupState) {
        for _ in 0..6 {
            let enough = [
                Do::Prepared(true),
                Do::Health(true),
                Do::Hooks(true),
                Do::Later(4_000_000),
                Do::Timer,
            ];
            let flows = Do::Flows(Count {
                elsewhere: Some(0),
                ..Count::default()
            });
            let well = Do::Observed {
                failing: false,
                unknown: false,
                way_back: true,
            };
            for what in enough.into_iter().chain([
                Do::Settled,
                Do::Hooks(true),
                Do::Later(4_000_000),
                well,
                flows,
            ]) {
                self.play(state, what);
            }
        }
        assert_eq!(state.stage, Stage::Idle);
        assert_eq!(self.waiting, [""; 0], "nobody is left without an answer");
    }

    fn check(&mut self, before: &GroupState, event: &Event, effect: &Effect) {
        match effect {
            Effect::Store(word) => {
                for slot in [word.current(), word.previous()].map(|slot| slot as u8) {
                    assert!(
                        self.tables.contains(&slot),
                        "slot {slot} of {word:?} is absent"
                    );
                }
                assert_ne!(word.in_use() & 1 << word.current(), 0);
                if let Event::Flows(Count { used: ..60, .. }) = event
                    && (before.word.phase(), word.phase()) == (Phase::Open, Phase::Draining)
                    && before.timing.tagged
                {
                    assert!(self.now >= self.switched + before.timing.learn);
                }
                if word.current() != before.word.current() {
                    self.switched = self.now;
                }
            }
            Effect::CallHooks(Call {
                moment: Moment::PreFlip,
                id,
                ..
            }) => {
                let cutover = before.cutover().map(|it| &it.id);
                assert_eq!(cutover, Some(id), "{event:?}");
                assert_eq!(self.running.replace((Moment::PreFlip, id.clone())), None);
            }
            Effect::CallHooks(Call {
                moment: Moment::PostFlip,
                id,
                ..
            }) => {
                assert_eq!(
                    self.running.take().filter(|(it, _)| *it == Moment::PreFlip),
                    None
                );
                // What was forced is not undone: nobody waits for these.
                let forced = before.cutover().is_some_and(|it| it.forced);
                self.running = (!forced).then(|| (Moment::PostFlip, id.clone()));
            }
            Effect::CallHooks(_) => {}
            Effect::StopHooks { id } => {
                let stopped = self.running.take().map(|(_, id)| id);
                assert_eq!(stopped.as_ref(), Some(id), "{event:?}");
            }
            Effect::Reply { id, .. } => self.waiting.retain(|waiting| waiting != id),
            Effect::SetTimes(_)
            | Effect::Prepare { .. }
            | Effect::CheckHealth { .. }
            | Effect::Hold
            | Effect::Abandon(_)
            | Effect::Settle { .. }
            | Effect::CloseWindow
            | Effect::CountFlows
            | Effect::Observe { .. }
            | Effect::WakeAt(_)
            | Effect::Record(_) => {}
        }
    }

    fn event(&mut self, state: &GroupState, what: Do) -> Option<Event> {
        let id = state
            .cutover()
            .map_or_else(String::new, |cutover| cutover.id.clone());
        Some(match what {
            Do::Flip {
                to,
                force,
                at,
                confirm,
                bake,
            } => Event::Flip(Order {
                to: to.map(Into::into),
                force,
                terms: Terms {
                    at: at.map(|at| Millis(self.now.0 + at)),
                    confirm: confirm.map(Duration::from_millis),
                    policy: false,
                    drill: false,
                    bake: bake.map(|time| Bake {
                        time: Duration::from_millis(time),
                        ..limits()
                    }),
                },
                ..self.order()
            }),
            Do::Rollback { hard } => Event::Rollback(Order {
                hard,
                ..self.order()
            }),
            Do::Update { slot } => {
                // Reconcile fills a slot only while no word points at it.
                let used = state.slots.values().any(|it| *it == slot);
                if used || state.word.in_use() & 1 << slot != 0 {
                    return None;
                }
                self.tables.push(slot);
                Event::Update {
                    id: self.order().id,
                    slot,
                }
            }
            Do::Canary {
                to,
                percent,
                slot,
                policy,
            } => {
                if state.word.in_use() & 1 << slot != 0 {
                    return None;
                }
                self.tables.push(slot);
                let order = Order {
                    to: Some(to.into()),
                    terms: Terms {
                        policy,
                        ..Terms::default()
                    },
                    ..self.order()
                };
                Event::Canary {
                    order,
                    percent,
                    slot,
                }
            }
            Do::Abort => Event::Abort(self.order()),
            Do::Confirm => Event::Confirm(self.order()),
            Do::Extend => Event::Extend {
                order: self.order(),
                by: Duration::from_secs(20),
            },
            Do::Stage { to, version } => Event::Stage {
                order: Order {
                    to: to.map(Into::into),
                    ..self.order()
                },
                version: format!("v{version}"),
                schema: Some(SchemaRange {
                    min: version.saturating_sub(1).into(),
                    max: u64::from(version) + 1,
                }),
            },
            Do::Schema { applied, close } => Event::Schema {
                order: self.order(),
                applied,
                close,
            },
            Do::Freeze(false) => Event::Unfreeze(self.order()),
            Do::Freeze(true) => Event::Freeze {
                order: self.order(),
                reason: "audit".into(),
                by: "root".into(),
                time: Some(Duration::from_secs(60)),
            },
            Do::Gate(open) => Event::Gate {
                order: self.order(),
                name: "qa".into(),
                open,
                by: "anna".into(),
            },
            Do::Pause => Event::Pause {
                order: self.order(),
                time: Duration::from_secs(20),
            },
            Do::Resume => Event::Resume(self.order()),
            Do::PauseOver => Event::PauseOver,
            Do::Prepared(true) => prepared(&id),
            Do::Prepared(false) => Event::Unprepared {
                id,
                why: "disk full".into(),
            },
            Do::Health(true) => healthy(&id),
            Do::Health(false) => {
                let blockers = vec![Blocker {
                    what: "web".into(),
                    why: "refused".into(),
                }];
                Event::Health { id, blockers }
            }
            Do::Hooks(passed) => {
                let (moment, id) = self.running.take()?;
                let blockers = vec![Blocker {
                    what: "hook smoke".into(),
                    why: "it failed; exit code 1".into(),
                }];
                Event::Hooks {
                    id,
                    moment,
                    blockers: if passed { Vec::new() } else { blockers },
                }
            }
            Do::Settled => settled(&id),
            Do::Flows(count) => Event::Flows(count),
            Do::Observed {
                failing,
                unknown,
                way_back,
            } => {
                let blocker = Blocker {
                    what: "web".into(),
                    why: "refused".into(),
                };
                let if_so = |it: bool| it.then(|| blocker.clone()).into_iter().collect();
                Event::Observed(Observed {
                    failing: if_so(failing),
                    unknown,
                    way_back: if_so(!way_back),
                    ..Observed::default()
                })
            }
            Do::Timer => Event::Timer,
            Do::Found { slot, how } => {
                state.colour_of(slot)?;
                let word = match how {
                    0 => state.word.switch_to(slot.into()),
                    1 => state.word.force(slot.into()),
                    _ => state.word.switch_to(slot.into()).drain(),
                };
                Event::Found {
                    id: self.order().id,
                    word,
                }
            }
            Do::Later(millis) => {
                self.now = Millis(self.now.0 + millis);
                return None;
            }
        })
    }

    fn order(&mut self) -> Order {
        self.asked += 1;
        let id = format!("c{}", self.asked);
        order(&id)
    }
}
