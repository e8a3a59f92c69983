//! What happens, as the group's logic hears of it.

use super::super::random::Do;
use super::super::*;
use super::World;

impl World {
    /// The event that it is; none if it can't be, or only time goes by.
    pub(super) fn event(&mut self, state: &GroupState, what: Do) -> Option<Event> {
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
                if takes_orders(state) {
                    self.tables.push(slot);
                    self.durable.fill(slot, &state.live, None);
                }
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
                if takes_orders(state) && to != state.live {
                    self.tables.push(slot);
                    self.durable.fill(slot, &state.live, Some((to, percent)));
                }
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
            Do::Flows {
                elsewhere,
                used,
                refused,
            } => {
                let by_colour = |flows: [u64; 3]| {
                    let all = ["blue", "green", "red"].map(str::to_owned);
                    all.into_iter().zip(flows).collect()
                };
                Event::Flows(Count {
                    elsewhere: elsewhere.map(by_colour),
                    used,
                    refused,
                })
            }
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
                self.durable.store(word);
                self.unsure = true;
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

/// Whether tables are filled for an order.
fn takes_orders(state: &GroupState) -> bool {
    match &state.stage {
        Stage::Idle => true,
        Stage::Draining(window) => !window.hooks,
        Stage::Preparing(_) | Stage::Switching(_) | Stage::Confirming(_) | Stage::Baking(_) => {
            false
        }
    }
}
