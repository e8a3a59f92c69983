//! What is said of a group's colours, and of its database: recorded, and held against what is asked later.

use super::asked::{answer, colours, not_busy, preconditions};
use super::event::{Effect, Order, Outcome, Refusal, Why};
use super::hooks;
use super::releases::{Release, Role, SchemaRange};
use super::state::{GroupState, Stage};

/// A release is on a colour now. On the one that was live before, that gives up the rollback; the preview
/// turns to it.
pub(super) fn stage(
    state: &mut GroupState,
    stage: Stage,
    order: Order,
    (version, schema): (String, Option<SchemaRange>),
) -> Vec<Effect> {
    let target = preconditions(state, &order)
        .and_then(|()| not_busy(&stage))
        .and_then(|()| stage_target(state, &order, &version))
        .and_then(|colour| could_live(state, colour, &version, schema));
    let colour = match target {
        Ok(colour) => colour,
        Err(refusal) => return answer(state, stage, order.id, Outcome::Refused(refusal)),
    };
    let known = state.releases.colours.get(&colour).cloned();
    let known = known.unwrap_or_default();
    let role = state.role(&colour);
    let same = known.version.as_ref() == Some(&version);
    // Who only repeats the version takes nothing back.
    let schema = schema.or_else(|| known.schema.filter(|_| same));
    let staged = match role {
        Role::Live => false,
        Role::Previous if same => false,
        Role::Previous | Role::Staging | Role::Retired => true,
    };
    let release = Release {
        version: Some(version),
        schema,
        staged,
        ..known.clone()
    };
    if release == known {
        return answer(state, stage, order.id, Outcome::Unchanged);
    }
    let mut warnings = Vec::new();
    if role == Role::Previous && staged {
        state.previous = None;
        let gone = known.said(&colour);
        warnings.push(format!("there is no rollback to {gone} any more"));
    }
    state.gates.declined.remove(&colour);
    state.releases.colours.insert(colour.clone(), release);
    state.stage = stage;
    let mut effects: Vec<Effect> = state.turn_preview().into_iter().collect();
    effects.extend(hooks::staged(state, &order.id, &colour));
    effects.push(Effect::Reply {
        id: order.id,
        outcome: Outcome::Noted {
            colour: Some(colour),
            warnings,
        },
    });
    effects
}

/// A version of the database's schema is applied now. Where that closes the rollback, it has to be meant.
pub(super) fn schema(
    state: &mut GroupState,
    stage: Stage,
    order: Order,
    (applied, close): (u64, bool),
) -> Vec<Effect> {
    let allowed = preconditions(state, &order)
        .and_then(|()| not_busy(&stage))
        .and_then(|()| could_apply(state, applied, close));
    let outcome = match allowed {
        Err(refusal) => Outcome::Refused(refusal),
        Ok(()) if state.releases.applied == Some(applied) => Outcome::Unchanged,
        Ok(()) => {
            state.releases.applied = Some(applied);
            let others = state.slots.keys();
            let warnings = others.filter_map(|colour| state.releases.misfit(colour, Some(applied)));
            Outcome::Noted {
                colour: None,
                warnings: warnings.collect(),
            }
        }
    };
    answer(state, stage, order.id, outcome)
}

/// That a switch to a colour, or back to it, leaves a release live that the database suits.
pub(super) fn fits(state: &GroupState, colour: &str) -> Result<(), Refusal> {
    match state.releases.misfit(colour, state.releases.applied) {
        None => Ok(()),
        Some(misfit) => Err(Refusal::new(Why::Schema, misfit, MISFIT)),
    }
}

const MISFIT: &str = "`schema` records another version, `stage` what a release can live with; \
                      --force does not help";

fn stage_target(state: &GroupState, order: &Order, version: &str) -> Result<String, Refusal> {
    let colour = match &order.to {
        Some(colour) => colour.clone(),
        None => state.idle_colour().ok_or_else(|| {
            let advice = format!("name one of: {}", colours(state));
            Refusal::new(
                Why::WhichColour,
                "more than one colour could take it",
                advice,
            )
        })?,
    };
    if !state.slots.contains_key(&colour) {
        let detail = format!("there is no colour {colour}");
        let advice = format!("choose one of: {}", colours(state));
        return Err(Refusal::new(Why::NoSuchColour, detail, advice));
    }
    if let Some(share) = state.canary().filter(|share| share.colour == colour) {
        let detail = format!("{colour} has {} % of new connections", share.percent);
        let advice = "`flip` finishes the canary, `abort` ends it";
        return Err(Refusal::new(Why::Busy, detail, advice));
    }
    let live = state.releases.colours.get(&colour);
    let live = live.and_then(|it| it.version.as_deref());
    match live.filter(|live| colour == state.live && *live != version) {
        None => Ok(colour),
        Some(live) => {
            let detail = format!("{colour} is live, with {live}");
            let advice = "put a new release on another colour, and `flip` to it";
            Err(Refusal::new(Why::Precondition, detail, advice))
        }
    }
}

fn could_live(
    state: &GroupState,
    colour: String,
    version: &str,
    schema: Option<SchemaRange>,
) -> Result<String, Refusal> {
    let mut releases = state.releases.clone();
    let release = releases.colours.entry(colour.clone()).or_default();
    (release.version, release.schema) = (Some(version.to_owned()), schema);
    match releases.misfit(&colour, releases.applied) {
        None => Ok(colour),
        Some(misfit) => Err(Refusal::new(Why::Schema, misfit, MISFIT)),
    }
}

fn could_apply(state: &GroupState, applied: u64, close: bool) -> Result<(), Refusal> {
    let misfit = |colour: &str| state.releases.misfit(colour, Some(applied));
    let canary = state.canary().map(|share| share.colour.as_str());
    let serving = std::iter::once(state.live.as_str()).chain(canary);
    for colour in serving {
        if let Some(misfit) = misfit(colour) {
            let advice = "it serves clients: `stage` corrects what a release can live with";
            return Err(Refusal::new(Why::Schema, misfit, advice));
        }
    }
    let previous = state.previous.as_deref().filter(|_| !close);
    match previous.and_then(misfit) {
        None => Ok(()),
        Some(misfit) => {
            let detail = format!("that closes the rollback: {misfit}");
            let advice = "--close-rollback says that this is meant";
            Err(Refusal::new(Why::Schema, detail, advice))
        }
    }
}
