//! A group's life, as a pure function: `(state, event, now) -> effects`, without a clock and without I/O.
//!
//! ```text
//!            flip, rollback, update            prepared, healthy, armed
//!   ┌──────┐ ────────────────────> ┌───────────┐ ────────────> ┌───────────┐
//!   │ idle │                       │ preparing │    Store      │ switching │
//!   └──────┘ <──────────────────── └───────────┘               └───────────┘
//!     ^  ^    abort, unhealthy, refused  ^                      settled │  │
//!     │  │                               │ flip, rollback, update       │  │
//!     │  │   no flow left, deadline      │ (the same window goes on)    v  │
//!     │  └───────────────────────────────┴─────────────────────┌──────────┐│
//!     │                                                        │ draining ││
//!     │                                                        └──────────┘│
//!     └────────────────────────────────────────────────────────────────────┘
//!                     settled, after a hard rollback
//!
//!   with `confirm`:                    settled                  confirmed
//!   ┌───────────┐ ─────> ┌───────────┐ ──────> ┌────────────┐ ───────────> ┌──────────┐
//!   │ preparing │  Store │ switching │         │ confirming │              │ draining │
//!   └───────────┘        └───────────┘         └────────────┘              └──────────┘
//!     ^  ^   └───────────────┘ time has come         │
//!     │  └─ with `at`: Store first, then wait        │ time is over, rollback, abort
//!     └──────────────────────────────────────────────┘ (as a rollback)
//!
//!   with `bake`:       settled            confirmed            time is over, all well
//!   ┌───────────┐ ─────────> ┌────────────┐ ────> ┌────────┐ ───────> ┌──────────┐
//!   │ switching │            │ confirming │       │ baking │          │ draining │
//!   └───────────┘            └────────────┘       └────────┘          └──────────┘
//!         └─────── settled, without `confirm` ────────^ │
//!                                  │                    │ checks fail, connections are reset or not
//!                                  └────────────────────┘ answered: as a rollback, or degraded
//! ```
//!
//! - *idle*: the word is steady. Entered at the end of a window, and when nothing could be prepared.
//! - *preparing*: the intent is being written, the window opened, the target's health asked, SYNs tagged.
//!   Entered from idle and, with the window that is open kept in mind, from draining and switching.
//! - *switching*: the word is stored, and some CPU may still act on the one before.
//! - *confirming*: the word has a way back, which the program takes when the time is over, agent or no agent;
//!   the agent then makes an ordinary rollback of it. Entered from switching. Flows are learnt meanwhile.
//! - *baking*: the live colour is watched. Entered from switching and confirming, in which it is watched, too.
//! - *draining*: flows of the other endpoints are learnt (word phase `open`) and then waited for (word
//!   phase `draining`).
//!
//! A pause is none of these states: new flows are held by a flag of the word, whatever else goes on.
//!
//! What is on the colours is recorded in any of these states but on the way to a switch and while one may go
//! back by itself. It decides on roles, on where previews lead, and whether a release suits the database.
//!
//! Gates have to hold until the store: a freeze, or a gate that is closed, calls off what is being prepared,
//! unless it is forced or a way back.
//!
//! Colours that were left in a window ([`Left`]) drain one by one.
//!
//! Hooks ([`Moment`]) are called before the store, when all else speaks for it, and after the switch. While the
//! former run the group stays in preparing, and a window that was open before is tended; while the latter run
//! it is in the state it would be in anyway, and whoever asked has no answer yet. One that fails calls the
//! switch off, or undoes it. A restart calls off what was being prepared, and calls the latter again.
//!
//! A canary passes the same states, and is *holding* in idle and draining: the word's slot then has tables in
//! which another colour has a share. `flip` finishes it; `rollback` and `abort` end it. By policy
//! ([`advance`]) these are ordered by the runner.
//!
//! A group has a live colour in every state. `Abort` wins until the word is stored; from then on it is a
//! rollback. The runner carries out effects in order, and answers the ones that ask something
//! ([`Effect::Prepare`], [`Effect::CheckHealth`], [`Effect::CallHooks`], [`Effect::Settle`],
//! [`Effect::CountFlows`], [`Effect::Observe`], [`Effect::WakeAt`]) with an event.

mod adopt;
mod asked;
mod automatic;
mod baking;
mod confirming;
mod event;
mod foresee;
mod found;
mod gates;
mod hooks;
mod left;
mod pause;
mod preparing;
mod releases;
mod resume;
mod rollout;
mod scheduled;
mod staging;
mod state;
#[cfg(test)]
mod tests;
mod window;

pub use asked::{next_flip, no_previous};
pub use automatic::automatic;
pub use baking::{Bake, Baking, DEFAULT_BAKE, Observed, Traffic, Verdict, troubles};
pub use event::{Blocker, Count, Effect, Event, Order, Outcome, Record, Refusal, Why};
pub use foresee::{Foreseen, foresee};
pub use gates::{
    DEFAULT_BUDGET, Decision, FlapBudget, Freeze, GateRule, Gates, Policy, ROLLBACK, blockers,
    passed,
};
pub use hooks::{Call, Moment};
pub use left::{Elsewhere, Left, LeftBy};
pub use releases::{Release, Releases, Role, SchemaRange};
pub use resume::{Found, Intent, resume};
pub use rollout::{Advance, Hold, Rollout, advance, next_share, rollout, step_above};
pub use state::{
    Called, Cutover, End, GroupState, Kind, Millis, Preparing, Share, Stage, Terms, Timing, Window,
    ready_slots, shared_slots,
};

/// Advances a group: takes what has happened, returns what is to be done, in order.
#[must_use]
pub fn step(state: &mut GroupState, event: Event, now: Millis) -> Vec<Effect> {
    let stage = std::mem::replace(&mut state.stage, Stage::Idle);
    match (stage, event) {
        (stage, Event::Flip(order)) => asked::flip(state, stage, order, now),
        (stage, Event::Rollback(order)) => asked::rollback(state, stage, order, now),
        (
            stage,
            Event::Canary {
                order,
                percent,
                slot,
            },
        ) => asked::canary(state, stage, order, (percent, slot), now),
        (stage, Event::Update { id, slot }) => asked::update(state, stage, id, slot, now),
        (stage, Event::Abort(order)) => asked::abort(state, stage, order, now),
        (stage, Event::Confirm(order)) => confirming::confirm(state, stage, order, now),
        (stage, Event::Extend { order, by }) => confirming::extend(state, stage, order, by, now),
        (stage, Event::Pause { order, time }) => pause::pause(state, stage, order, time, now),
        (stage, Event::Resume(order)) => pause::resume(state, stage, order),
        (
            stage,
            Event::Stage {
                order,
                version,
                schema,
            },
        ) => staging::stage(state, stage, order, (version, schema)),
        (
            stage,
            Event::Schema {
                order,
                applied,
                close,
            },
        ) => staging::schema(state, stage, order, (applied, close)),
        (
            stage,
            Event::Freeze {
                order,
                reason,
                by,
                time,
            },
        ) => gates::freeze(state, stage, order, Some((reason, by, time)), now),
        (stage, Event::Unfreeze(order)) => gates::freeze(state, stage, order, None, now),
        (
            stage,
            Event::Gate {
                order,
                name,
                open,
                by,
            },
        ) => gates::gate(state, stage, order, (name, open, by), now),
        (stage, Event::PauseOver) => pause::over(state, stage, now),

        (Stage::Preparing(preparing), Event::Prepared { id }) if preparing.is(&id) => {
            preparing::prepared(state, preparing, now)
        }
        (Stage::Preparing(preparing), Event::Unprepared { id, why }) if preparing.is(&id) => {
            preparing::fail(state, preparing, why, now)
        }
        (Stage::Preparing(preparing), Event::Health { id, blockers }) if preparing.is(&id) => {
            preparing::health(state, preparing, blockers, now)
        }
        (
            Stage::Preparing(preparing),
            Event::Hooks {
                id,
                moment: Moment::PreFlip,
                blockers,
            },
        ) if preparing.is(&id) && preparing.hooks == Called::Waiting => {
            hooks::before(state, preparing, blockers, now)
        }
        (Stage::Preparing(preparing), Event::Timer) => preparing::wake(state, preparing, now),
        (Stage::Preparing(preparing), Event::Flows(count)) => {
            preparing::counted(state, preparing, count, now)
        }
        (Stage::Preparing(preparing), Event::Settled { id }) if preparing.is(&id) => {
            scheduled::stopped(state, preparing, now)
        }

        (Stage::Switching(window), Event::Settled { id }) if window.cutover.id == id => {
            window::settled(state, window, now)
        }

        (Stage::Confirming(window), Event::Timer) => confirming::wake(state, window, now),
        (Stage::Confirming(window), Event::Flows(count)) => {
            confirming::counted(state, window, &count, now)
        }

        (Stage::Baking(window), Event::Timer) => baking::wake(state, window),
        (Stage::Baking(window), Event::Flows(count)) => baking::counted(state, window, &count, now),
        (Stage::Confirming(window) | Stage::Baking(window), Event::Observed(observed)) => {
            baking::observed(state, window, &observed, now)
        }

        (
            Stage::Confirming(window),
            Event::Hooks {
                id,
                moment: Moment::PostFlip,
                blockers,
            },
        ) if window.cutover.id == id => {
            hooks::after(state, window, Stage::Confirming, &blockers, now)
        }
        (
            Stage::Baking(window),
            Event::Hooks {
                id,
                moment: Moment::PostFlip,
                blockers,
            },
        ) if window.cutover.id == id => hooks::after(state, window, Stage::Baking, &blockers, now),
        (
            Stage::Draining(window),
            Event::Hooks {
                id,
                moment: Moment::PostFlip,
                blockers,
            },
        ) if window.cutover.id == id => {
            hooks::after(state, window, Stage::Draining, &blockers, now)
        }

        (Stage::Draining(window), Event::Timer) => {
            state.stage = Stage::Draining(window);
            vec![Effect::CountFlows]
        }
        (Stage::Draining(window), Event::Flows(count)) => {
            window::counted(state, window, &count, now)
        }

        (stage, Event::Found { id, word }) => found::found(state, stage, id, word, now),

        // The window was opened for something that has been aborted meanwhile.
        (Stage::Idle, Event::Prepared { .. }) => vec![Effect::CloseWindow],

        // Answers and timers that nobody waits for any more.
        (
            stage @ (Stage::Idle
            | Stage::Preparing(_)
            | Stage::Switching(_)
            | Stage::Confirming(_)
            | Stage::Baking(_)
            | Stage::Draining(_)),
            Event::Prepared { .. }
            | Event::Unprepared { .. }
            | Event::Health { .. }
            | Event::Hooks { .. }
            | Event::Settled { .. }
            | Event::Observed(_)
            | Event::Flows(_)
            | Event::Timer,
        ) => {
            state.stage = stage;
            Vec::new()
        }
    }
}
