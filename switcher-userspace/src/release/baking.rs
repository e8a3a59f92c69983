//! A switch that is watched: its colour stays live unless it does badly, and worse than the other one did.
//!
//! What is watched are checks of its endpoints, connections that they reset, and handshakes that nobody
//! answers. From the store on, also while somebody is to confirm it; the window is kept as it is for a way
//! back. There is none to something worse: then it stays, and is called degraded.

use std::time::Duration;
use utoipa::ToSchema;

use super::asked::{back, way_back_fits};
use super::confirming::{self, learnt};
use super::event::{Blocker, COUNT_EVERY, Count, Effect, Order, Outcome, Record};
use super::scheduled::way_back;
use super::state::{Cutover, GroupState, Kind, Millis, Stage, Window};
use super::window::next_count;

/// For how long a switch is watched, and what is doing badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bake {
    /// For how long.
    pub time: Duration,
    /// Resets of a hundred connections that are too many: so many more than the other colour had.
    pub resets: u32,
    /// Handshakes of a hundred that nobody answers, likewise.
    pub failed: u32,
    /// Connections that have to have begun before ratios count.
    pub sample: u32,
}

/// What is doing badly where the configuration does not say. More than usual by that much is no chance with so
/// many connections.
pub const DEFAULT_BAKE: Bake = Bake {
    time: Duration::from_secs(300),
    resets: 10,
    failed: 10,
    sample: 50,
};

/// A switch that is being watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Baking {
    /// What is doing badly.
    pub limits: Bake,
    /// Until when.
    pub until: Millis,
    /// It does badly, and there is no way back to something better.
    pub degraded: bool,
}

/// What a colour's endpoints made of TCP connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections that began, as far as their answers are seen.
    pub connections: u64,
    /// Resets that endpoints sent.
    pub resets: u64,
    /// Handshakes that nobody answered.
    pub failed: u64,
}

/// How a watched colour does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Endpoints that fail their checks.
    pub failing: Vec<Blocker>,
    /// Of some endpoints it isn't known whether they pass.
    pub unknown: bool,
    /// Its traffic since the switch.
    pub seen: Traffic,
    /// The other colour's before.
    pub before: Traffic,
    /// What keeps the way back from doing good.
    pub way_back: Vec<Blocker>,
}

/// How far the watch over a switch has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = BakeVerdict)]
pub enum Verdict {
    /// It goes on.
    Watching,
    /// Its time is over, and all was well.
    Passed,
    /// It did badly, and was rolled back.
    RolledBack,
    /// It did badly, but the way back would have led to something worse.
    Degraded,
    /// Somebody ended the watch before its time.
    Ended,
}

impl Verdict {
    /// As in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Watching => "watching",
            Self::Passed => "passed",
            Self::RolledBack => "rolled-back",
            Self::Degraded => "degraded",
            Self::Ended => "ended",
        }
    }

    /// Whether nothing more comes of it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Passed | Self::RolledBack | Self::Ended)
    }
}

/// Everything that a colour does badly.
#[must_use]
pub fn troubles(limits: &Bake, observed: &Observed) -> Vec<Blocker> {
    let Observed { seen, before, .. } = observed;
    let mut troubles = observed.failing.clone();
    let mut hold = |what: &str, of: fn(&Traffic) -> u64, limit: u32| {
        if seen.connections < u64::from(limits.sample) {
            return;
        }
        // A few connections say nothing of what is usual.
        let usual = match before.connections < u64::from(limits.sample) {
            true => 0,
            false => permille(of(before), before.connections),
        };
        let now = permille(of(seen), seen.connections);
        if now > usual + u64::from(limit) * 10 {
            let (count, all) = (of(seen), seen.connections);
            troubles.push(Blocker {
                what: what.to_owned(),
                why: format!(
                    "{count} of {all} connections, {}; {} before the switch, and {limit} % more is the limit",
                    percent(now),
                    percent(usual)
                ),
            });
        }
    };
    hold("resets", |it| it.resets, limits.resets);
    hold("failed handshakes", |it| it.failed, limits.failed);
    troubles
}

fn permille(part: u64, all: u64) -> u64 {
    part.saturating_mul(1000) / all.max(1)
}

fn percent(permille: u64) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

/// The watch that begins with a switch, if there is to be one.
pub(super) fn begins(cutover: &Cutover, now: Millis) -> Option<Baking> {
    let limits = cutover.terms.bake?;
    (cutover.kind == Kind::Flip && !cutover.hard).then(|| Baking {
        limits,
        until: now + limits.time,
        degraded: false,
    })
}

/// From now on it is only watched.
pub(super) fn enter(state: &mut GroupState, window: Window, now: Millis) -> Effect {
    let wake = next(&window, now);
    state.stage = Stage::Baking(window);
    wake
}

/// Time to look.
pub(super) fn wake(state: &mut GroupState, window: Window) -> Vec<Effect> {
    let id = window.cutover.id.clone();
    state.stage = Stage::Baking(window);
    vec![Effect::CountFlows, Effect::Observe { id }]
}

/// As while somebody is to confirm it: the window goes on learning.
pub(super) fn counted(
    state: &mut GroupState,
    mut window: Window,
    count: &Count,
    now: Millis,
) -> Vec<Effect> {
    let mut effects = learnt(state, &mut window, count, now);
    effects.push(enter(state, window, now));
    effects
}

/// How the colour does: rolled back if badly, over if its time is.
pub(super) fn observed(
    state: &mut GroupState,
    mut window: Window,
    observed: &Observed,
    now: Millis,
) -> Vec<Effect> {
    let Some(bake) = window.bake.as_mut() else {
        return go_on(state, window, now);
    };
    let id = window.cutover.id.clone();
    let mut why = troubles(&bake.limits, observed);
    let record = |verdict, why| {
        let id = id.clone();
        Effect::Record(Record::Bake { id, verdict, why })
    };
    let mut effects = Vec::new();
    if why.is_empty() {
        if std::mem::take(&mut bake.degraded) {
            effects.push(record(Verdict::Watching, Vec::new()));
        }
    } else if observed.way_back.is_empty() && way_back_fits(state).is_ok() {
        effects.push(record(Verdict::RolledBack, why));
        let order = Order {
            id: way_back(&id),
            ..Order::default()
        };
        // Whichever of the two stages it is in, the way back is the same.
        effects.extend(back(state, Stage::Baking(window), order, now));
        return effects;
    } else if !std::mem::replace(&mut bake.degraded, true) {
        why.extend(observed.way_back.iter().cloned());
        effects.push(record(Verdict::Degraded, why));
    }
    if bake.until <= now && !observed.unknown {
        if !bake.degraded {
            effects.push(record(Verdict::Passed, Vec::new()));
        }
        window.bake = None;
    }
    effects.extend(go_on(state, window, now));
    effects
}

/// To where the window belongs: confirmed or not, watched or not.
fn go_on(state: &mut GroupState, window: Window, now: Millis) -> Vec<Effect> {
    if state.confirm_by().is_some() {
        let wake = confirming::next(state, &window, now);
        state.stage = Stage::Confirming(window);
        return vec![wake];
    }
    if window.bake.is_some() {
        return vec![enter(state, window, now)];
    }
    let wake = Effect::WakeAt(next_count(&window, now));
    state.stage = Stage::Draining(window);
    vec![wake]
}

/// Somebody has seen enough.
pub(super) fn end(
    state: &mut GroupState,
    mut window: Window,
    order: String,
    now: Millis,
) -> Vec<Effect> {
    window.bake = None;
    let id = window.cutover.id.clone();
    let mut effects = vec![
        Effect::Record(Record::Bake {
            id: id.clone(),
            verdict: Verdict::Ended,
            why: Vec::new(),
        }),
        Effect::Reply {
            id: order,
            outcome: Outcome::Kept { cutover: id },
        },
    ];
    effects.extend(go_on(state, window, now));
    effects
}

/// Every so often, the more often the shorter it is, and at its end.
pub(super) fn look_at(bake: &Baking, now: Millis) -> Millis {
    let every = (bake.limits.time / 10).clamp(LEAST, COUNT_EVERY);
    match bake.until > now {
        true => bake.until.min(now + every),
        false => now + every,
    }
}

/// How often a short watch looks at most.
const LEAST: Duration = Duration::from_millis(50);

fn next(window: &Window, now: Millis) -> Effect {
    let look = window.bake.as_ref().map(|bake| look_at(bake, now));
    let held = window.held_until.filter(|until| *until > now);
    let due = [look, held].into_iter().flatten();
    Effect::WakeAt(due.fold(now + COUNT_EVERY, Ord::min))
}
