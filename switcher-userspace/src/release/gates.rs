//! What stands in the way of a switch: a freeze, manual gates, the flap budget, the database.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use humantime::format_duration;

use super::asked::{answer, preconditions};
use super::event::{Blocker, Effect, Order, Outcome, Refusal, Why};
use super::hooks::Moment;
use super::preparing;
use super::rollout::{Hold, Rollout};
use super::state::{Cutover, End, GroupState, Kind, Millis, Preparing, Stage};

/// The manual gate that no switch asks: while it is open, controllers that poll it are to go back.
pub const ROLLBACK: &str = "rollback";

/// What a group's configuration demands before a switch, and what people have decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    /// What the configuration demands.
    pub policy: Policy,
    /// Nobody flips meanwhile.
    pub frozen: Option<Freeze>,
    /// By manual gate; those without one are as their rule says.
    pub decisions: BTreeMap<String, Decision>,
    /// When `live` has changed, the oldest first, as far back as the budget looks.
    pub switches: Vec<Millis>,
    /// Colours that are not flipped to by themselves: somebody has stopped that.
    pub declined: BTreeSet<String>,
    /// A canary that goes on by itself: somebody has ordered that.
    pub rollout: Option<Rollout>,
}

/// What the configuration demands before a switch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Manual gates by name.
    pub gates: BTreeMap<String, GateRule>,
    /// How often `live` may change; any number of times if none.
    pub budget: Option<FlapBudget>,
    /// A staged release becomes live by itself when its checks have passed for this long.
    pub automatic: Option<Duration>,
    /// How a canary grows by itself, its shares in ascending order.
    pub canary: Vec<Hold>,
    /// Why nobody flips, as long as the configuration says so.
    pub freeze: Option<String>,
    /// Moments that have hooks.
    pub hooks: BTreeSet<Moment>,
}

/// What a manual gate is when nobody has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateRule {
    /// Open, or closed.
    pub open: bool,
    /// How long a decision holds; until the next switch if none.
    pub expires: Option<Duration>,
}

/// So many changes of `live` within so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlapBudget {
    /// How many; at least one.
    pub switches: u32,
    /// In how much time.
    pub within: Duration,
}

/// What somebody has decided of a manual gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Open, or closed.
    pub open: bool,
    /// Who.
    pub by: String,
    /// Until when it holds.
    pub until: Option<Millis>,
}

/// Why nobody flips.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// What for.
    pub reason: String,
    /// Who has said so.
    pub by: String,
    /// Until when.
    pub until: Option<Millis>,
}

/// What automatic switches have to do with where the configuration says nothing.
pub const DEFAULT_BUDGET: FlapBudget = FlapBudget {
    switches: 3,
    within: Duration::from_secs(3600),
};

impl Gates {
    /// Whether a manual gate is open at a time, and the decision that makes it so.
    #[must_use]
    pub fn gate(&self, name: &str, rule: GateRule, now: Millis) -> (bool, Option<&Decision>) {
        let holds = |it: &&Decision| it.until.is_none_or(|until| now < until);
        let decision = self.decisions.get(name).filter(holds);
        (decision.map_or(rule.open, |it| it.open), decision)
    }

    /// The freeze, if there is one at a time.
    #[must_use]
    pub fn frozen(&self, now: Millis) -> Option<&Freeze> {
        let frozen = self.frozen.as_ref();
        frozen.filter(|it| it.until.is_none_or(|until| now < until))
    }

    /// The manual gates that a switch asks.
    fn asked(&self) -> impl Iterator<Item = (&String, &GateRule)> {
        let gates = self.policy.gates.iter();
        gates.filter(|(name, _)| *name != ROLLBACK)
    }

    /// When the budget allows another switch, if it does not now.
    pub(super) fn spent(&self, budget: FlapBudget, now: Millis) -> Option<Millis> {
        let recent = self.switches.iter().filter(|at| now < **at + budget.within);
        let over = recent
            .clone()
            .count()
            .checked_sub(budget.switches as usize)?;
        recent.clone().nth(over).map(|at| *at + budget.within)
    }

    /// `live` changes. What was let through was this one; the next one is asked about anew.
    pub(super) fn switched(&mut self, to: &str, now: Millis) {
        let within = self.policy.budget.unwrap_or(DEFAULT_BUDGET).within;
        self.switches.retain(|at| now < *at + within);
        self.switches.push(now);
        self.decisions
            .retain(|name, decision| !decision.open || name == ROLLBACK);
        self.declined.remove(to);
    }

    /// A release has been flipped to: that others go back was meant for the one before.
    pub(super) fn flipped(&mut self) {
        self.decisions.remove(ROLLBACK);
    }
}

/// Everything that stands in the way of a switch to a colour at a time but its health, and how to clear it.
#[must_use]
pub fn blockers(state: &GroupState, to: &str, at: Millis) -> Vec<Blocker> {
    let gates = &state.gates;
    let mut blockers = Vec::new();
    let mut add = |what: &str, why: String| {
        let what = what.to_owned();
        blockers.push(Blocker { what, why });
    };
    if let Some(misfit) = state.releases.misfit(to, state.releases.applied) {
        add(
            "schema",
            format!("{misfit}; `schema` and `stage` correct that, --force does not skip it"),
        );
    }
    if let Some(Freeze { reason, by, until }) = gates.frozen(at) {
        let left = left(*until, at);
        add(
            "freeze",
            format!("{reason:?}, by {by}{left}; `unfreeze` ends it"),
        );
    }
    if let Some(reason) = &gates.policy.freeze {
        add(
            "freeze",
            format!("{reason:?}, by the configuration; to `apply` one without `freeze` ends it"),
        );
    }
    for (name, rule) in gates.asked() {
        let why = match gates.gate(name, *rule, at) {
            (true, _) => continue,
            (false, Some(Decision { by, until, .. })) => {
                format!("closed by {by}{}", left(*until, at))
            }
            (false, None) => "closed until somebody opens it".to_owned(),
        };
        add(
            &format!("gate {name}"),
            format!("{why}; `gate {name} open` does"),
        );
    }
    if let Some(budget) = gates.policy.budget
        && let Some(again) = gates.spent(budget, at)
    {
        let FlapBudget { switches, within } = budget;
        let (within, wait) = (format_duration(within), until(again, at));
        add(
            "flap budget",
            format!(
                "{switches} of {switches} switches within {within} are used up; there is one again in {wait}"
            ),
        );
    }
    blockers
}

/// What a switch to a colour has to pass and does at a time, and why; but its health.
#[must_use]
pub fn passed(state: &GroupState, to: &str, at: Millis) -> Vec<Blocker> {
    let gates = &state.gates;
    let mut passed = Vec::new();
    let mut add = |what: String, why: String| passed.push(Blocker { what, why });
    for (name, rule) in gates.asked() {
        match gates.gate(name, *rule, at) {
            (false, _) => {}
            (true, Some(Decision { by, .. })) => {
                add(format!("gate {name}"), format!("open by {by}"));
            }
            (true, None) => add(format!("gate {name}"), "nobody has closed it".to_owned()),
        }
    }
    if let Some(budget) = gates.policy.budget
        && gates.spent(budget, at).is_none()
    {
        let FlapBudget { switches, within } = budget;
        let recent = gates.switches.iter().filter(|it| at < **it + within);
        let (used, within) = (recent.count(), format_duration(within));
        add(
            "flap budget".to_owned(),
            format!("{used} of {switches} switches within {within} were used up"),
        );
    }
    let applied = state.releases.applied;
    if let Some(applied) = applied.filter(|_| state.releases.misfit(to, applied).is_none()) {
        add("schema".to_owned(), format!("{to} can live with {applied}"));
    }
    passed
}

/// That a flip or canary may go on; else it is called off. Rollbacks ask nobody.
pub(super) fn hold_up(state: &GroupState, cutover: &Cutover, now: Millis) -> Vec<Blocker> {
    let gated = matches!(cutover.kind, Kind::Flip | Kind::Canary) && !cutover.forced;
    if !gated {
        return Vec::new();
    }
    let at = cutover.terms.at.map_or(now, |at| at.max(now));
    blockers(state, &cutover.to, at)
}

/// Nobody flips for a while. What is being prepared is called off.
pub(super) fn freeze(
    state: &mut GroupState,
    stage: Stage,
    order: Order,
    freeze: Option<(String, String, Option<Duration>)>,
    now: Millis,
) -> Vec<Effect> {
    let frozen = freeze.map(|(reason, by, time)| Freeze {
        reason,
        by,
        until: time.map(|time| now + time),
    });
    if let Err(refusal) = preconditions(state, &order) {
        return answer(state, stage, order.id, Outcome::Refused(refusal));
    }
    if let (None, None, Some(reason)) =
        (&frozen, state.gates.frozen(now), &state.gates.policy.freeze)
    {
        let detail = format!("it is the configuration that freezes it: {reason:?}");
        let advice = "remove `freeze` from it, and `apply` it";
        let refusal = Refusal::new(Why::Precondition, detail, advice);
        return answer(state, stage, order.id, Outcome::Refused(refusal));
    }
    if frozen.is_none() && state.gates.frozen(now).is_none() {
        return answer(state, stage, order.id, Outcome::Unchanged);
    }
    state.gates.frozen = frozen;
    decided(state, stage, order, now)
}

/// Somebody has opened or closed a manual gate.
pub(super) fn gate(
    state: &mut GroupState,
    stage: Stage,
    order: Order,
    (name, open, by): (String, bool, String),
    now: Millis,
) -> Vec<Effect> {
    let rule = state.gates.policy.gates.get(&name).copied();
    let allowed = preconditions(state, &order).and_then(|()| {
        rule.ok_or_else(|| {
            let gates: Vec<&str> = state
                .gates
                .policy
                .gates
                .keys()
                .map(String::as_str)
                .collect();
            let advice = match gates.as_slice() {
                [] => "none are configured".to_owned(),
                gates => format!("choose one of: {}", gates.join(", ")),
            };
            Refusal::new(Why::NoSuchGate, format!("there is no gate {name}"), advice)
        })
    });
    match allowed {
        Err(refusal) => answer(state, stage, order.id, Outcome::Refused(refusal)),
        Ok(rule) => {
            let until = rule.expires.map(|time| now + time);
            let decision = Decision { open, by, until };
            state.gates.decisions.insert(name, decision);
            decided(state, stage, order, now)
        }
    }
}

/// What is being prepared has to hold against it.
fn decided(state: &mut GroupState, stage: Stage, order: Order, now: Millis) -> Vec<Effect> {
    let mut effects = match stage {
        Stage::Preparing(preparing) => recheck(state, preparing, now),
        stage @ (Stage::Idle
        | Stage::Switching(_)
        | Stage::Confirming(_)
        | Stage::Baking(_)
        | Stage::Draining(_)) => {
            state.stage = stage;
            Vec::new()
        }
    };
    let outcome = Outcome::Noted {
        colour: None,
        warnings: Vec::new(),
    };
    effects.push(Effect::Reply {
        id: order.id,
        outcome,
    });
    effects
}

fn recheck(state: &mut GroupState, preparing: Preparing, now: Millis) -> Vec<Effect> {
    let blockers = hold_up(state, &preparing.cutover, now);
    if blockers.is_empty() {
        state.stage = Stage::Preparing(preparing);
        return Vec::new();
    }
    let colour = preparing.cutover.to.clone();
    let outcome = Outcome::Blocked { colour, blockers };
    preparing::call_off(state, preparing, outcome, End::Aborted, now)
}

/// How long something lasts, for people.
fn left(end: Option<Millis>, now: Millis) -> String {
    end.map_or_else(String::new, |end| format!(", for {} more", until(end, now)))
}

/// Whole seconds, rounded up.
fn until(then: Millis, now: Millis) -> impl std::fmt::Display {
    let seconds = then.0.saturating_sub(now.0).div_ceil(1000);
    format_duration(Duration::from_secs(seconds))
}
