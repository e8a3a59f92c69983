//! The tables of a canary's next step.

use super::{Plan, Planner, Refusal, WantGroup};
use crate::datapath::{Have, Slot};

/// What a canary's next step takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The slot to switch to.
    pub slot: Slot,
    /// What makes it ready. Nothing that a word points at is changed.
    pub plan: Plan,
}

/// Makes the tables for `want`'s canary ready in a slot that nothing uses, in a window or not; nothing
/// without a live colour beside it.
///
/// # Errors
/// When there is no slot or no space for them.
pub fn step(have: &Have, name: &str, want: &WantGroup, seed: u64) -> Result<Option<Step>, Refusal> {
    let mut planner = Planner::new(have, seed);
    let mut draft = planner.draft(name, want)?;
    let Some(mix) = draft.mixes.iter().copied().find(|mix| mix.canary.is_some()) else {
        return Ok(None);
    };
    if let Some(missing) = planner.choose_targets(&mut draft) {
        let (group, colour) = (draft.name.clone(), draft.said(missing));
        return Err(Refusal::Slots { group, colour });
    }
    planner.install(&mut draft)?;
    let Some(slot) = draft.targets.get(&mix).copied() else {
        return Ok(None);
    };
    let Planner {
        changes, summary, ..
    } = planner;
    let plan = Plan {
        changes,
        summary,
        unfinished: Vec::new(),
    };
    Ok(Some(Step { slot, plan }))
}
