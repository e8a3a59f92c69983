//! Flips that nobody orders: to a staged release, when everything speaks for it.

use std::time::Duration;

use super::asked::the_staged;
use super::gates::{DEFAULT_BUDGET, Policy, blockers};
use super::state::{GroupState, Millis, Stage};

/// When a group flips by itself, and to which colour, if all stays as it is.
///
/// Only from idle, to the one colour that a release was staged on, unless somebody has stopped that before;
/// only if nothing is in the way, a switch is left in the budget, and the live colour would be good for a
/// rollback afterwards. `passing` says for how long all checks of a colour have passed: nothing if some fail, or
/// nobody checks.
#[must_use]
pub fn automatic(
    state: &GroupState,
    now: Millis,
    passing: impl Fn(&str) -> Option<Duration>,
) -> Option<(String, Millis)> {
    let Policy {
        automatic, budget, ..
    } = state.gates.policy;
    let after = automatic?;
    let calm =
        state.stage == Stage::Idle && state.canary().is_none() && state.paused_until().is_none();
    let to = the_staged(state).filter(|to| calm && !state.gates.declined.contains(to))?;
    let spent = budget.is_none() && state.gates.spent(DEFAULT_BUDGET, now).is_some();
    let way_back = state.releases.misfit(&state.live, state.releases.applied);
    let safe = passing(&state.live).is_some() && way_back.is_none();
    if spent || !safe || !blockers(state, &to, now).is_empty() {
        return None;
    }
    let since = passing(&to)?;
    Some((to, now + after.saturating_sub(since)))
}
