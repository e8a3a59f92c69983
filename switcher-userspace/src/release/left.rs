//! Colours that new flows have left since the window opened. Each has drained when none of its flows is there
//! any more, or when the deadline takes what is left: then it may be destroyed and rebuilt.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::event::{Count, Effect, Record};
use super::hooks::{Call, Moment};
use super::state::{Cutover, GroupState, Kind, Window};

/// By whom a colour was left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LeftBy {
    /// The cut-over.
    pub cutover: String,
    /// What that is.
    pub kind: Kind,
}

/// Colours that new flows have left, and that may have flows still.
pub type Left = BTreeMap<String, LeftBy>;

/// Flows at endpoints that new flows don't go to, by colour; `""` for those whose colour isn't known.
pub type Elsewhere = BTreeMap<String, u64>;

/// What will have been left when a cut-over is made. The word is the one before.
pub(super) fn by(state: &GroupState, before: Option<&Window>, cutover: &Cutover) -> Left {
    let left = before.map(|window| window.left.clone());
    after(left.unwrap_or_default(), served(state), state, cutover)
}

/// What has been left when `served` were served and now those are that the cut-over's slot has.
pub(super) fn after(
    mut left: Left,
    served: Vec<String>,
    state: &GroupState,
    cutover: &Cutover,
) -> Left {
    let stays = |colour: &String| match state.shares.get(&cutover.slot) {
        Some(share) => *colour == share.live || *colour == share.colour,
        None => *colour == cutover.to,
    };
    let by = LeftBy {
        cutover: cutover.id.clone(),
        kind: cutover.kind,
    };
    left.extend(served.into_iter().map(|colour| (colour, by.clone())));
    left.retain(|colour, _| !stays(colour));
    left
}

/// Colours that new flows go to.
pub(super) fn served(state: &GroupState) -> Vec<String> {
    let canary = state.canary().map(|share| share.colour.clone());
    std::iter::once(state.live.clone()).chain(canary).collect()
}

/// Tells of those that have no flows any more.
pub(super) fn drained(state: &GroupState, window: &mut Window, count: &Count) -> Vec<Effect> {
    let Some(elsewhere) = &count.elsewhere else {
        return Vec::new();
    };
    // Those whose colour isn't known may be anybody's.
    let has_flows = |colour: &str| elsewhere.get(colour).is_some_and(|flows| *flows > 0);
    if has_flows("") {
        return Vec::new();
    }
    let gone = window.left.extract_if(.., |colour, _| !has_flows(colour));
    gone.flat_map(|(colour, by)| tell(state, colour, by, 0))
        .collect()
}

/// Tells of all of them: the window ends. What they have left is given up.
pub(super) fn end(state: &GroupState, left: Left, elsewhere: Option<&Elsewhere>) -> Vec<Effect> {
    let each = left.into_iter().flat_map(|(colour, by)| {
        let leftovers = elsewhere.and_then(|it| it.get(&colour)).copied();
        tell(state, colour, by, leftovers.unwrap_or(0))
    });
    each.collect()
}

/// Hooks first: a call is recorded, so that no crash leaves it out.
fn tell(state: &GroupState, colour: String, by: LeftBy, leftovers: u64) -> Vec<Effect> {
    let LeftBy { cutover: id, kind } = by;
    let wanted = state.gates.policy.hooks.contains(&Moment::Drained);
    let call = wanted.then(|| {
        Effect::CallHooks(Call {
            moment: Moment::Drained,
            id: id.clone(),
            kind: Some(kind),
            from: colour.clone(),
            to: state.live.clone(),
        })
    });
    let record = Effect::Record(Record::Drained {
        id,
        colour,
        leftovers,
    });
    call.into_iter().chain([record]).collect()
}
