//! What an order would do, without doing it.

use super::event::{Blocker, Effect, Event, Outcome};
use super::hooks::Call;
use super::state::{GroupState, Millis};
use super::step;

/// What an order would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreseen {
    /// The answer it would get.
    pub outcome: Outcome,
    /// What would be done, in order, up to the answer.
    pub effects: Vec<Effect>,
    /// The group then.
    pub state: GroupState,
}

/// Plays an order on a copy of the group, with `health` for what is known of the target's endpoints and
/// with everything else going well.
#[must_use]
pub fn foresee(
    state: &GroupState,
    id: &str,
    event: Event,
    mut now: Millis,
    health: impl Fn(&str) -> Vec<Blocker>,
) -> Foreseen {
    let mut state = state.clone();
    let mut effects = Vec::new();
    let mut events = vec![event];
    let mut outcome = None;
    while let (Some(event), None) = (events.pop(), &outcome) {
        let mut timer = None;
        for effect in step(&mut state, event, now) {
            match &effect {
                Effect::Prepare { cutover, .. } => {
                    events.push(Event::Prepared {
                        id: cutover.id.clone(),
                    });
                }
                Effect::CheckHealth { id, colour } => {
                    events.push(Event::Health {
                        id: id.clone(),
                        blockers: health(colour),
                    });
                }
                Effect::CallHooks(Call { moment, id, .. }) if moment.is_waited_for() => {
                    events.push(Event::Hooks {
                        id: id.clone(),
                        moment: *moment,
                        blockers: Vec::new(),
                    });
                }
                Effect::Settle { id } => events.push(Event::Settled { id: id.clone() }),
                Effect::WakeAt(at) => timer = Some(*at),
                Effect::Reply {
                    id: to,
                    outcome: reply,
                } if to == id => outcome = Some(reply.clone()),
                Effect::Reply { .. }
                | Effect::CallHooks(_)
                | Effect::StopHooks { .. }
                | Effect::SetTimes(_)
                | Effect::Store(_)
                | Effect::Abandon(_)
                | Effect::CloseWindow
                | Effect::CountFlows
                | Effect::Observe { .. }
                | Effect::Hold
                | Effect::Record(_) => {}
            }
            effects.push(effect);
        }
        if let (Some(at), true) = (timer, events.is_empty()) {
            now = now.max(at);
            events.push(Event::Timer);
        }
    }
    let outcome = outcome.unwrap_or(Outcome::Failed("it would never be answered".to_owned()));
    Foreseen {
        outcome,
        effects,
        state,
    }
}
