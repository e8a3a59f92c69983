//! What somebody asks of a group: accepted, refused, or nothing to do.

use super::event::{Effect, Order, Outcome, Refusal, Why};
use super::state::{Cutover, End, GroupState, Kind, Millis, Preparing, Share, Stage, Window};
use super::{gates, preparing, scheduled, staging};
use crate::datapath::Slot;

/// From idle, or in a window. Nothing to do if the colour is live.
pub(super) fn flip(state: &mut GroupState, stage: Stage, order: Order, now: Millis) -> Vec<Effect> {
    match flip_target(state, &stage, &order) {
        Err(refusal) => answer(state, stage, order.id, Outcome::Refused(refusal)),
        Ok(None) => answer(state, stage, order.id, Outcome::Unchanged),
        Ok(Some((to, slot))) => {
            let cutover = cutover(state, order, Kind::Flip, to, slot);
            if let Err(outcome) = unblocked(state, &cutover, now) {
                return answer(state, stage, cutover.id, outcome);
            }
            if let Err(refusal) = scheduled::possible(state, &cutover, now) {
                return answer(state, stage, cutover.id, Outcome::Refused(refusal));
            }
            preparing::begin(state, cutover, window_of(stage), now)
        }
    }
}

/// From idle, or in a window. Nothing to do if that share is what there is.
pub(super) fn canary(
    state: &mut GroupState,
    stage: Stage,
    order: Order,
    (percent, slot): (u8, Slot),
    now: Millis,
) -> Vec<Effect> {
    match canary_target(state, &stage, &order, percent) {
        Err(refusal) => answer(state, stage, order.id, Outcome::Refused(refusal)),
        Ok(None) => answer(state, stage, order.id, Outcome::Unchanged),
        Ok(Some(share)) => {
            let to = share.colour.clone();
            let cutover = Cutover {
                percent: Some(percent),
                ..cutover(state, order, Kind::Canary, to, slot)
            };
            if let Err(outcome) = unblocked(state, &cutover, now) {
                return answer(state, stage, cutover.id, outcome);
            }
            state.shares.insert(slot, share);
            preparing::begin(state, cutover, window_of(stage), now)
        }
    }
}

/// That nothing stands in the way, as far as the release logic knows. Nobody can force the database.
fn unblocked(state: &GroupState, cutover: &Cutover, now: Millis) -> Result<(), Outcome> {
    let blockers = gates::hold_up(state, cutover, now);
    if blockers.is_empty() {
        return staging::fits(state, &cutover.to).map_err(Outcome::Refused);
    }
    let colour = cutover.to.clone();
    Err(Outcome::Blocked { colour, blockers })
}

/// From every stage but idle without a previous colour. While a flip is being prepared, stopping it is
/// all that is left to do, unless an earlier window is open.
pub(super) fn rollback(
    state: &mut GroupState,
    stage: Stage,
    order: Order,
    now: Millis,
) -> Vec<Effect> {
    if let Err(refusal) = preconditions(state, &order) {
        return answer(state, stage, order.id, Outcome::Refused(refusal));
    }
    match stage {
        Stage::Preparing(preparing)
            if preparing.scheduled || preparing.before.is_none() && state.canary().is_none() =>
        {
            stop(state, preparing, order, now)
        }
        Stage::Preparing(preparing) => {
            if let Err(refusal) = way_back_fits(state) {
                let stage = Stage::Preparing(preparing);
                return answer(state, stage, order.id, Outcome::Refused(refusal));
            }
            let mut effects =
                preparing::call_off(state, preparing, Outcome::Aborted, End::Aborted, now);
            let stage = std::mem::replace(&mut state.stage, Stage::Idle);
            effects.extend(back(state, stage, order, now));
            effects
        }
        stage @ (Stage::Idle
        | Stage::Switching(_)
        | Stage::Confirming(_)
        | Stage::Baking(_)
        | Stage::Draining(_)) => match way_back_fits(state) {
            Ok(()) => back(state, stage, order, now),
            Err(refusal) => answer(state, stage, order.id, Outcome::Refused(refusal)),
        },
    }
}

/// That people may go back: what the database does not suit, only the kernel's clock brings back.
pub(super) fn way_back_fits(state: &GroupState) -> Result<(), Refusal> {
    match (&state.previous, state.canary()) {
        (Some(previous), None) => staging::fits(state, previous),
        (None, _) | (_, Some(_)) => Ok(()),
    }
}

/// From idle, or in a window that has settled.
pub(super) fn update(
    state: &mut GroupState,
    stage: Stage,
    id: String,
    slot: Slot,
    now: Millis,
) -> Vec<Effect> {
    if let Err(refusal) = not_busy(&stage) {
        return answer(state, stage, id, Outcome::Refused(refusal));
    }
    if state.word.current() == u32::from(slot) {
        return answer(state, stage, id, Outcome::Unchanged);
    }
    let order = Order {
        id,
        ..Order::default()
    };
    let cutover = cutover(state, order, Kind::Update, state.live.clone(), slot);
    preparing::begin(state, cutover, window_of(stage), now)
}

/// Before the store it stops what is being prepared, afterwards it is a rollback.
pub(super) fn abort(
    state: &mut GroupState,
    stage: Stage,
    order: Order,
    now: Millis,
) -> Vec<Effect> {
    if let Err(refusal) = preconditions(state, &order) {
        return answer(state, stage, order.id, Outcome::Refused(refusal));
    }
    let refusal = match stage {
        Stage::Preparing(preparing) => return stop(state, preparing, order, now),
        Stage::Idle | Stage::Switching(_) | Stage::Draining(_) if state.canary().is_some() => {
            return back(state, stage, order, now);
        }
        Stage::Switching(ref window)
        | Stage::Confirming(ref window)
        | Stage::Baking(ref window)
        | Stage::Draining(ref window) => match window.cutover.kind {
            Kind::Flip | Kind::Canary | Kind::Emergency => match way_back_fits(state) {
                Ok(()) => return back(state, stage, order, now),
                Err(refusal) => refusal,
            },
            Kind::Rollback => busy(
                "it is rolling back already",
                "use `flip` to go forward again",
            ),
            Kind::Update => busy(
                "new flows use the changed endpoints already",
                "apply the configuration that names the former ones",
            ),
        },
        Stage::Idle => busy(
            "nothing is going on",
            "use `rollback` to undo the last flip",
        ),
    };
    answer(state, stage, order.id, Outcome::Refused(refusal))
}

/// Stops what is being prepared, and says so to both sides.
fn stop(state: &mut GroupState, preparing: Preparing, order: Order, now: Millis) -> Vec<Effect> {
    if preparing.stopping.is_some() {
        let refusal = busy("it is being stopped already", "look at `status`");
        let stage = Stage::Preparing(preparing);
        return answer(state, stage, order.id, Outcome::Refused(refusal));
    }
    if preparing.scheduled {
        let (outcome, end) = (Outcome::Aborted, End::Aborted);
        return scheduled::stop(state, preparing, outcome, end, Some(order));
    }
    let cutover = preparing.cutover.id.clone();
    let mut effects = preparing::call_off(state, preparing, Outcome::Aborted, End::Aborted, now);
    effects.push(Effect::Reply {
        id: order.id,
        outcome: Outcome::Stopped { cutover },
    });
    effects
}

/// To the previous colour; from a canary, to the live one alone.
pub(super) fn back(state: &mut GroupState, stage: Stage, order: Order, now: Millis) -> Vec<Effect> {
    let canary = state.canary().map(|share| share.colour.clone());
    let target = canary
        .as_ref()
        .map_or(state.previous.as_ref(), |_| Some(&state.live))
        .map(|to| (to.clone(), state.slots.get(to).copied()));
    let (to, slot) = match target {
        Some((to, Some(slot))) => (to, slot),
        Some((to, None)) => {
            let detail = format!("the previous colour {to} has no endpoints any more");
            let refusal = Refusal::new(Why::NotEligible, detail, "flip to a colour that has");
            return answer(state, stage, order.id, Outcome::Refused(refusal));
        }
        None => {
            let detail = no_previous(state);
            let refusal = Refusal::new(Why::NotEligible, detail, "use `flip` to choose a colour");
            return answer(state, stage, order.id, Outcome::Refused(refusal));
        }
    };
    let mut cutover = cutover(state, order, Kind::Rollback, to, slot);
    if let Some(canary) = canary {
        cutover.from = canary;
    }
    preparing::begin(state, cutover, window_of(stage), now)
}

/// The colour that a flip without a name goes to, if it is clear which one that is.
#[must_use]
pub fn next_flip(state: &GroupState) -> Option<String> {
    the_other(state).ok()
}

/// Why there is no previous colour.
pub fn no_previous(state: &GroupState) -> String {
    let mut colours = state.releases.colours.iter();
    match colours.find(|(_, release)| release.staged && release.served) {
        Some((colour, release)) => {
            let what = release.version.as_deref().unwrap_or("another release");
            format!("{what} has been put on {colour}, which was live before")
        }
        None => format!("{} has been live from the beginning", state.live),
    }
}

/// The colour and its slot, or nothing if it is live already.
fn flip_target(
    state: &GroupState,
    stage: &Stage,
    order: &Order,
) -> Result<Option<(String, Slot)>, Refusal> {
    preconditions(state, order)?;
    let to = match &order.to {
        Some(to) => to.clone(),
        None => the_other(state)?,
    };
    let Some(slot) = state.slots.get(&to) else {
        let detail = format!("there is no colour {to}");
        let advice = format!("choose one of: {}", colours(state));
        return Err(Refusal::new(Why::NoSuchColour, detail, advice));
    };
    not_busy(stage)?;
    match state.canary() {
        Some(Share {
            live,
            colour,
            percent,
        }) if to == *live => {
            let detail = format!("{live} is live, and {colour} has {percent} % of its new flows");
            let advice = "`abort` ends the canary, `flip` to its colour finishes it";
            Err(busy(&detail, advice))
        }
        Some(Share { colour, .. }) if order.terms.at.is_some() || order.terms.confirm.is_some() => {
            let detail = format!("{colour} is a canary; a flip from there takes no terms");
            let advice = "finish it at once (with --no-confirm), or `abort` it and flip from there";
            Err(busy(&detail, advice))
        }
        _ if to == state.live => Ok(None),
        _ => {
            if order.terms.confirm.is_some() {
                staging::fits(state, &state.live).map_err(|refusal| Refusal {
                    detail: format!("the way back is closed: {}", refusal.detail),
                    advice: "flip with --no-confirm".to_owned(),
                    ..refusal
                })?;
            }
            Ok(Some((to, *slot)))
        }
    }
}

/// The share, or nothing if it is there already.
fn canary_target(
    state: &GroupState,
    stage: &Stage,
    order: &Order,
    percent: u8,
) -> Result<Option<Share>, Refusal> {
    preconditions(state, order)?;
    let colour = order.to.clone().unwrap_or_default();
    if !state.slots.contains_key(&colour) {
        let detail = format!("there is no colour {colour}");
        let advice = format!("choose one of: {}", colours(state));
        return Err(Refusal::new(Why::NoSuchColour, detail, advice));
    }
    if colour == state.live {
        let detail = format!("{colour} is live; a canary is another colour");
        let advice = "name another colour; `abort` ends a canary";
        return Err(Refusal::new(Why::Precondition, detail, advice));
    }
    not_busy(stage)?;
    let share = Share {
        live: state.live.clone(),
        colour,
        percent,
    };
    Ok((state.canary() != Some(&share)).then_some(share))
}

fn the_other(state: &GroupState) -> Result<String, Refusal> {
    if let Some(share) = state.canary() {
        return Ok(share.colour.clone());
    }
    let mut others = state.slots.keys().filter(|colour| **colour != state.live);
    match (others.next(), others.next()) {
        (Some(other), None) => Ok(other.clone()),
        (None, _) => Err(Refusal::new(
            Why::WhichColour,
            format!("{} is the only colour", state.live),
            "add endpoints of another colour to the configuration",
        )),
        (Some(_), Some(_)) => the_staged(state).ok_or_else(|| {
            Refusal::new(
                Why::WhichColour,
                format!("there are {} colours to choose from", state.slots.len()),
                format!("name one of: {}", colours(state)),
            )
        }),
    }
}

/// The only colour on which a release waits.
pub(super) fn the_staged(state: &GroupState) -> Option<String> {
    let staged = |colour: &&String| **colour != state.live && state.releases.is_staged(colour);
    let mut staged = state.slots.keys().filter(staged);
    let first = staged.next()?;
    staged.next().is_none().then(|| first.clone())
}

pub(super) fn colours(state: &GroupState) -> String {
    let colours: Vec<&str> = state.slots.keys().map(String::as_str).collect();
    colours.join(", ")
}

pub(super) fn not_busy(stage: &Stage) -> Result<(), Refusal> {
    match stage {
        Stage::Draining(Window { cutover, hooks, .. }) if *hooks => {
            let detail = format!(
                "the hooks after {cutover} (cut-over {}) are running",
                cutover.id
            );
            Err(busy(&detail, "wait for them, or `rollback`"))
        }
        Stage::Idle | Stage::Draining(_) => Ok(()),
        Stage::Confirming(Window { cutover, .. }) => {
            let detail = format!(
                "{cutover} (cut-over {}) is waiting to be confirmed",
                cutover.id
            );
            let advice = "`confirm` or `rollback` it first";
            Err(Refusal::new(Why::Unconfirmed, detail, advice))
        }
        Stage::Baking(Window { cutover, .. }) => {
            let detail = format!("{cutover} (cut-over {}) is being watched", cutover.id);
            let advice = "wait until it has passed (`wait --for baked`), end that with `confirm`, or \
                          `rollback`";
            Err(busy(&detail, advice))
        }
        Stage::Preparing(Preparing { cutover, .. }) | Stage::Switching(Window { cutover, .. }) => {
            let detail = format!("{cutover} (cut-over {}) is in progress", cutover.id);
            Err(busy(&detail, "wait for it, or stop it with `abort`"))
        }
    }
}

pub(super) fn busy(detail: &str, advice: &str) -> Refusal {
    Refusal::new(Why::Busy, detail, advice)
}

pub(super) fn preconditions(state: &GroupState, order: &Order) -> Result<(), Refusal> {
    if let Some(revision) = order.if_revision
        && revision != state.revision
    {
        let detail = format!("the revision is {}, not {revision}", state.revision);
        return Err(Refusal::new(
            Why::Precondition,
            detail,
            "look at `status` and decide again",
        ));
    }
    if let Some(live) = &order.if_live
        && *live != state.live
    {
        let detail = format!("{} is live, not {live}", state.live);
        return Err(Refusal::new(
            Why::Precondition,
            detail,
            "look at `status` and decide again",
        ));
    }
    Ok(())
}

fn cutover(state: &GroupState, order: Order, kind: Kind, to: String, slot: Slot) -> Cutover {
    Cutover {
        id: order.id,
        kind,
        from: state.live.clone(),
        to,
        slot,
        forced: order.force,
        hard: order.hard,
        terms: order.terms,
        percent: None,
    }
}

fn window_of(stage: Stage) -> Option<Window> {
    match stage {
        Stage::Idle => None,
        Stage::Preparing(preparing) => preparing.before,
        Stage::Switching(window)
        | Stage::Confirming(window)
        | Stage::Baking(window)
        | Stage::Draining(window) => Some(window),
    }
}

pub(super) fn answer(
    state: &mut GroupState,
    stage: Stage,
    id: String,
    outcome: Outcome,
) -> Vec<Effect> {
    state.stage = stage;
    vec![Effect::Reply { id, outcome }]
}
