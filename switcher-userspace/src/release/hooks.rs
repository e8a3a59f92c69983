//! Hooks: what others do or decide at certain moments of a group's life.
//!
//! ```text
//!   preparing: intent written, healthy, gates open ── pre-flip ──> SYNs tagged, Store
//!   switching: settled ── post-flip ──> the answer; a failure goes back
//!   a rollback has settled ── rolled-back      the window ends ── drained      a release is staged ── stage
//! ```
//!
//! The first two are waited for, the others only called. Whatever goes back gives up waiting at once.

use super::asked::{back, way_back_fits};
use super::event::{Blocker, Effect, Order, Outcome, Record, Refusal, Why};
use super::preparing::{advance, call_off};
use super::scheduled::way_back;
use super::state::{Called, Cutover, End, GroupState, Kind, Millis, Preparing, Stage, Window};

/// When hooks are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Moment {
    /// A release was put on a colour.
    Stage,
    /// New flows are about to go to another colour, or a share of them.
    PreFlip,
    /// They do now.
    PostFlip,
    /// They go back again.
    RolledBack,
    /// No flow is left on the colour that was live, or none that is waited for.
    Drained,
}

impl Moment {
    /// As in configuration and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stage => "stage",
            Self::PreFlip => "pre-flip",
            Self::PostFlip => "post-flip",
            Self::RolledBack => "rolled-back",
            Self::Drained => "drained",
        }
    }

    /// Whether a failure can change what happens.
    #[must_use]
    pub const fn is_waited_for(self) -> bool {
        match self {
            Self::PreFlip | Self::PostFlip => true,
            Self::Stage | Self::RolledBack | Self::Drained => false,
        }
    }
}

/// A call of all hooks of a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// When.
    pub moment: Moment,
    /// The cut-over; empty for [`Moment::Stage`].
    pub id: String,
    /// What that is.
    pub kind: Option<Kind>,
    /// The colour that was live; that of [`Moment::Drained`] has no flows any more.
    pub from: String,
    /// The colour that is live or shall be, or that a release was put on.
    pub to: String,
}

impl Call {
    fn of(cutover: &Cutover, moment: Moment) -> Effect {
        Effect::CallHooks(Self {
            moment,
            id: cutover.id.clone(),
            kind: Some(cutover.kind),
            from: cutover.from.clone(),
            to: cutover.to.clone(),
        })
    }
}

/// Whether a cut-over has to wait for hooks before its store.
pub(super) fn due(state: &GroupState, cutover: &Cutover) -> Called {
    match is_asked(state, cutover, Moment::PreFlip) {
        true => Called::Due,
        false => Called::Passed,
    }
}

/// Calls the hooks that come before the store.
pub(super) fn call(preparing: &mut Preparing) -> Effect {
    preparing.hooks = Called::Waiting;
    Call::of(&preparing.cutover, Moment::PreFlip)
}

/// The hooks that come before the store have ended.
pub(super) fn before(
    state: &mut GroupState,
    mut preparing: Preparing,
    blockers: Vec<Blocker>,
    now: Millis,
) -> Vec<Effect> {
    preparing.hooks = Called::Passed;
    if blockers.is_empty() {
        return advance(state, preparing, now);
    }
    let colour = preparing.cutover.to.clone();
    let outcome = Outcome::Blocked { colour, blockers };
    call_off(state, preparing, outcome, End::Aborted, now)
}

/// What a switch that has settled calls: hooks that decide whether it stays, or that only hear of it.
pub(super) fn settled(state: &GroupState, window: &mut Window) -> Option<Effect> {
    let cutover = &window.cutover;
    match cutover.kind {
        Kind::Flip | Kind::Canary => {
            let wanted = state.gates.policy.hooks.contains(&Moment::PostFlip);
            // Who forced it has decided.
            window.hooks = is_asked(state, cutover, Moment::PostFlip);
            wanted.then(|| Call::of(cutover, Moment::PostFlip))
        }
        Kind::Rollback => told(state, cutover, Moment::RolledBack),
        Kind::Update | Kind::Emergency => None,
    }
}

/// Calls hooks that nobody waits for, if there are any, about a colour that was left.
pub(super) fn told(state: &GroupState, cutover: &Cutover, moment: Moment) -> Option<Effect> {
    let left = match cutover.kind {
        Kind::Flip | Kind::Rollback | Kind::Emergency => cutover.from != cutover.to,
        Kind::Canary | Kind::Update => false,
    };
    let wanted = left && state.gates.policy.hooks.contains(&moment);
    wanted.then(|| Call::of(cutover, moment))
}

/// A release is on a colour now.
pub(super) fn staged(state: &GroupState, id: &str, colour: &str) -> Option<Effect> {
    let wanted = state.gates.policy.hooks.contains(&Moment::Stage);
    wanted.then(|| {
        Effect::CallHooks(Call {
            moment: Moment::Stage,
            id: id.to_owned(),
            kind: None,
            from: state.live.clone(),
            to: colour.to_owned(),
        })
    })
}

/// The hooks that come after the switch have ended: it stays, or is undone. One that can't be undone stays.
pub(super) fn after(
    state: &mut GroupState,
    mut window: Window,
    enter: fn(Window) -> Stage,
    blockers: &[Blocker],
    now: Millis,
) -> Vec<Effect> {
    let asked = std::mem::replace(&mut window.hooks, false);
    let id = window.cutover.id.clone();
    let open = window.bake.is_some() || state.confirm_by().is_some();
    if blockers.is_empty() || !asked && !open {
        state.stage = enter(window);
        return match asked {
            false => Vec::new(),
            true => passed(id),
        };
    }
    if let Err(refusal) = can_go_back(state) {
        let said: Vec<String> = blockers.iter().map(ToString::to_string).collect();
        let (said, why) = (said.join("; "), refusal.detail);
        let detail = format!("it was switched, and {said}; it stays: {why}");
        let refusal = Refusal::new(refusal.why, detail, refusal.advice);
        state.stage = enter(window);
        return vec![
            Effect::Record(Record::Hooked { id: id.clone() }),
            Effect::Reply {
                id,
                outcome: Outcome::Refused(refusal),
            },
        ];
    }
    let order = Order {
        id: way_back(&id),
        ..Order::default()
    };
    // It is undone for this, and whoever waits hears of it: not that it was given up.
    back(state, enter(window), order, now)
}

/// It stays, as far as hooks are concerned.
fn passed(id: String) -> Vec<Effect> {
    vec![
        Effect::Record(Record::Hooked { id: id.clone() }),
        Effect::Reply {
            id,
            outcome: Outcome::Switched,
        },
    ]
}

/// Nobody waits for a window's hooks any more.
pub(super) fn give_up(window: &Window) -> Option<Effect> {
    window.hooks.then(|| Effect::StopHooks {
        id: window.cutover.id.clone(),
    })
}

/// That there is a colour to go back to, one that the database suits.
fn can_go_back(state: &GroupState) -> Result<(), Refusal> {
    way_back_fits(state)?;
    let slot = |colour: &String| state.slots.contains_key(colour);
    if state.canary().is_some() || state.previous.as_ref().is_some_and(slot) {
        return Ok(());
    }
    let advice = "flip to a colour that has endpoints";
    Err(Refusal::new(
        Why::NotEligible,
        "there is nothing to go back to",
        advice,
    ))
}

/// Whether hooks decide on a cut-over.
pub(super) fn is_asked(state: &GroupState, cutover: &Cutover, moment: Moment) -> bool {
    let gated = matches!(cutover.kind, Kind::Flip | Kind::Canary) && !cutover.forced;
    gated && state.gates.policy.hooks.contains(&moment)
}
