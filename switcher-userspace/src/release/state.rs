//! What is known of a group.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Add;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use switcher_common::abi::Times;
use switcher_common::word::{Word, flags};
use utoipa::ToSchema;

use super::baking::{Bake, Baking};
use super::event::{Effect, Order, Outcome};
use super::gates::Gates;
use super::left::{Elsewhere, Left};
use super::releases::{Releases, Role};
use crate::datapath::{HaveGroup, Mix, Slot};

/// A moment on the runner's clock: milliseconds of `CLOCK_BOOTTIME`, which programs go by as well. It goes
/// on while the host is suspended, and nobody sets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl Millis {
    /// For [`Times`].
    #[must_use]
    pub const fn nanoseconds(self) -> u64 {
        self.0.saturating_mul(1_000_000)
    }

    /// Inverse of [`Self::nanoseconds`]; never early.
    #[must_use]
    pub const fn of(nanoseconds: u64) -> Self {
        Self(nanoseconds.div_ceil(1_000_000))
    }
}

impl Add<Duration> for Millis {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }
}

/// What is known of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupState {
    /// The steering word, as it was stored last.
    pub word: Word,
    /// When it changes its meaning, as far as its flags say that it does.
    pub times: Times,
    /// The colour that new flows go to.
    pub live: String,
    /// The colour that was live before.
    pub previous: Option<String>,
    /// Counts changes of `live`.
    pub revision: u64,
    /// The slot of each colour's table that is complete and up to date.
    pub slots: BTreeMap<String, Slot>,
    /// Slots in which another colour has a share of the live one's tables.
    pub shares: BTreeMap<Slot, Share>,
    /// What is on the colours.
    pub releases: Releases,
    /// What stands in the way of a switch.
    pub gates: Gates,
    /// How long the phases of a window last.
    pub timing: Timing,
    /// What is going on.
    pub stage: Stage,
}

/// A canary: a part of the live colour's new flows that goes to another colour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The colour that has the rest.
    pub live: String,
    /// The colour that has the share.
    pub colour: String,
    /// How much, in percent.
    pub percent: u8,
}

/// How long the phases of a window last, and whether they are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Time in `arming`.
    pub arm: Duration,
    /// The least time in `open`, from the last switch.
    pub learn: Duration,
    /// The end of the window, from the last switch.
    pub deadline: Duration,
    /// Whether some service's flows are known by tags of the window: TCP that ends on other hosts. The
    /// others need neither arming nor learning nor a flow map.
    pub tagged: bool,
}

/// What is going on in a group; see the drawing at the top of [`super`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each group, and it seldom moves"
)]
pub enum Stage {
    /// Nothing.
    Idle,
    /// A switch is near.
    Preparing(Preparing),
    /// The word is stored; a CPU may still act on the one before.
    Switching(Window),
    /// The switch undoes itself unless somebody confirms it.
    Confirming(Window),
    /// The live colour is watched, and does not stay if it does badly.
    Baking(Window),
    /// Flows of the old table are learnt and waited for.
    Draining(Window),
}

/// One operation on a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cutover {
    /// Its name in records and logs.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// The colour that was live.
    pub from: String,
    /// The colour that shall be live.
    pub to: String,
    /// The slot of its table.
    pub slot: Slot,
    /// Gates were skipped.
    pub forced: bool,
    /// Old flows are moved too, now.
    pub hard: bool,
    /// When it is made, and whether it stays.
    pub terms: Terms,
    /// For a canary: its share of new flows, in percent.
    pub percent: Option<u8>,
}

/// When a switch is made, and whether it stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Not as soon as it can be, but then.
    pub at: Option<Millis>,
    /// It undoes itself after this long, unless somebody confirms it.
    pub confirm: Option<Duration>,
    /// It is watched, and undone if its colour does badly.
    pub bake: Option<Bake>,
    /// For a canary: its share grows by itself.
    pub policy: bool,
    /// It is a drill: made to be undone.
    pub drill: bool,
}

/// What a cut-over is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// To another colour.
    Flip,
    /// Back to the colour before.
    Rollback,
    /// A share of new flows to another colour.
    Canary,
    /// To other endpoints of the live colour.
    Update,
    /// A change of the word that somebody made behind the agent's back.
    Emergency,
}

impl Kind {
    /// As in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flip => "flip",
            Self::Rollback => "rollback",
            Self::Canary => "canary",
            Self::Update => "update",
            Self::Emergency => "emergency",
        }
    }
}

/// How a cut-over came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Its word is stored, and switches at an instant to come.
    Scheduled,
    /// Its colour is live; flows of the other one may be left.
    Switched,
    /// It is over, and its colour was live to the end.
    Succeeded,
    /// It was undone.
    RolledBack,
    /// It was stopped before anything was switched.
    Aborted,
    /// It could not be carried out.
    Failed,
}

impl End {
    /// As in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Switched => "switched",
            Self::Succeeded => "succeeded",
            Self::RolledBack => "rolled-back",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
        }
    }
}

/// A cut-over on its way to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preparing {
    /// Which.
    pub cutover: Cutover,
    /// The intent is on disk and the window has its flow map.
    pub prepared: bool,
    /// The target's endpoints are healthy, or nobody asks.
    pub healthy: bool,
    /// How far the hooks that come before the store are.
    pub hooks: Called,
    /// When SYNs will have been tagged for long enough.
    pub armed: Option<Millis>,
    /// Its word is stored, and switches by itself at the time in its terms.
    pub scheduled: bool,
    /// The same, but it is being taken back.
    pub stopping: Option<Box<Stopping>>,
    /// Colours that new flows will have left when it is made.
    pub left: Left,
    /// The window that is open already, and what opened it.
    pub before: Option<Window>,
}

/// How far hooks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// They are called when the rest is well.
    Due,
    /// They are running.
    Waiting,
    /// They have passed, or there are none.
    Passed,
}

/// Why a scheduled cut-over is being taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopping {
    /// What its record says, if it was not too late.
    pub end: End,
    /// What whoever asked for it is told.
    pub outcome: Outcome,
    /// Who wants it stopped; nobody if it failed.
    pub order: Option<Order>,
}

impl Preparing {
    pub(super) fn is(&self, id: &str) -> bool {
        self.cutover.id == id
    }
}

/// The time from a switch until nothing of the old table is needed any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The cut-over that switched last.
    pub cutover: Cutover,
    /// No CPU acts on the word before its switch any more.
    pub settled: bool,
    /// The hooks that decide whether the switch stays are running.
    pub hooks: bool,
    /// When flows without a tag may count as new.
    pub learnt: Millis,
    /// When it ends at the latest.
    pub deadline: Millis,
    /// Flows at endpoints that new flows don't go to, when they were last counted.
    pub elsewhere: Option<Elsewhere>,
    /// Colours that new flows have left since it opened, and that have not drained.
    pub left: Left,
    /// Until when SYNs whose tags are refused wait, before the window drains.
    pub held_until: Option<Millis>,
    /// The cut-over is being watched.
    pub bake: Option<Baking>,
}

impl Window {
    pub(super) fn new(cutover: Cutover, timing: &Timing, now: Millis) -> Self {
        let learn = if timing.tagged {
            timing.learn
        } else {
            Duration::ZERO
        };
        Self {
            cutover,
            settled: false,
            hooks: false,
            learnt: now + learn,
            deadline: now + timing.deadline,
            elsewhere: None,
            left: Left::new(),
            held_until: None,
            bake: None,
        }
    }

    /// Flows at endpoints that new flows don't go to, when they were last counted.
    #[must_use]
    pub fn flows_elsewhere(&self) -> Option<u64> {
        Some(self.elsewhere.as_ref()?.values().sum())
    }
}

impl GroupState {
    /// The cut-over that is going on.
    #[must_use]
    pub fn cutover(&self) -> Option<&Cutover> {
        match &self.stage {
            Stage::Idle => None,
            Stage::Preparing(preparing) => Some(&preparing.cutover),
            Stage::Switching(window)
            | Stage::Confirming(window)
            | Stage::Baking(window)
            | Stage::Draining(window) => Some(&window.cutover),
        }
    }

    /// The window that is open.
    #[must_use]
    pub fn window(&self) -> Option<&Window> {
        match &self.stage {
            Stage::Idle => None,
            Stage::Preparing(preparing) => preparing.before.as_ref(),
            Stage::Switching(window)
            | Stage::Confirming(window)
            | Stage::Baking(window)
            | Stage::Draining(window) => Some(window),
        }
    }

    /// The group's phase, as people see it.
    #[must_use]
    pub fn phase(&self) -> &'static str {
        let back = self.cutover().is_some_and(|it| it.kind == Kind::Rollback);
        match &self.stage {
            Stage::Idle | Stage::Draining(_) if self.paused_until().is_some() => "paused",
            Stage::Idle | Stage::Draining(_) if self.canary().is_some() => "holding",
            Stage::Idle => "idle",
            Stage::Preparing(_) | Stage::Switching(_) if back => "rolling-back",
            Stage::Preparing(_) => "preparing",
            Stage::Switching(_) => "switching",
            Stage::Confirming(_) => "confirming",
            Stage::Baking(window) if window.bake.is_some_and(|it| it.degraded) => "degraded",
            Stage::Baking(_) => "baking",
            Stage::Draining(_) => "draining",
        }
    }

    /// When the switch undoes itself, if it does.
    #[must_use]
    pub fn confirm_by(&self) -> Option<Millis> {
        let timed = self.word.has(flags::TIMED) && self.times.revert_at != Times::NEVER;
        timed.then(|| Millis::of(self.times.revert_at))
    }

    /// When new flows are let in again, while they are held.
    #[must_use]
    pub fn paused_until(&self) -> Option<Millis> {
        let paused = self.word.has(flags::PAUSED);
        paused.then(|| Millis::of(self.times.paused_until))
    }

    /// What a colour is for.
    #[must_use]
    pub fn role(&self, colour: &str) -> Role {
        let release = self.releases.colours.get(colour);
        if self.live == colour {
            Role::Live
        } else if self.previous.as_deref() == Some(colour) {
            Role::Previous
        } else if release.is_some_and(|it| it.served && !it.staged) {
            Role::Retired
        } else {
            Role::Staging
        }
    }

    /// The colour that the next release goes to, if only one comes into question: not the live one, and not
    /// the one before as long as there is another.
    #[must_use]
    pub fn idle_colour(&self) -> Option<String> {
        let idle = |role: fn(Role) -> bool| {
            let mut found = self.slots.keys().filter(|it| role(self.role(it)));
            (found.next(), found.next())
        };
        let one = match idle(|role| matches!(role, Role::Staging | Role::Retired)) {
            (None, _) => idle(|role| role == Role::Previous),
            some => some,
        };
        match one {
            (Some(colour), None) => Some(colour.clone()),
            (None | Some(_), _) => None,
        }
    }

    /// The slot that previews lead to once `live` is live: that of a release that waits, if one does.
    pub(super) fn previewed(&self, live: &str) -> Option<Slot> {
        let slot = |(colour, slot): (&String, &Slot)| {
            let waits = colour != live && self.releases.is_staged(colour);
            waits.then_some(*slot)
        };
        let mut waiting = self.slots.iter().filter_map(slot);
        let now = self.word.staging() as Slot;
        let first = waiting.clone().next();
        waiting.find(|slot| *slot == now).or(first)
    }

    /// Has previews lead to the release that waits, unless a word is in use whose moves are set.
    pub fn turn_preview(&mut self) -> Option<Effect> {
        let slot = match self.stage {
            Stage::Idle | Stage::Draining(_) => u32::from(self.previewed(&self.live)?),
            Stage::Preparing(_) | Stage::Switching(_) | Stage::Confirming(_) | Stage::Baking(_) => {
                return None;
            }
        };
        if self.word.staging() == slot {
            return None;
        }
        self.word = self.word.with_staging(slot);
        Some(Effect::Store(self.word))
    }

    /// From now on this colour is live.
    pub(super) fn make_live(&mut self, to: &str, now: Millis) {
        if self.live != to {
            self.gates.switched(to, now);
            self.releases.switched(&self.live, to);
            self.previous = Some(std::mem::replace(&mut self.live, to.to_owned()));
            self.revision += 1;
        }
    }

    /// The colour whose table lies in a slot, if that table is up to date.
    #[must_use]
    pub fn colour_of(&self, slot: Slot) -> Option<&str> {
        if let Some(share) = self.shares.get(&slot) {
            return Some(&share.live);
        }
        let found = self.slots.iter().find(|(_, ready)| **ready == slot);
        found.map(|(colour, _)| colour.as_str())
    }

    /// The canary that new flows go to, if there is one. The word says so: its slot has a share.
    #[must_use]
    pub fn canary(&self) -> Option<&Share> {
        self.shares.get(&(self.word.current() as Slot))
    }

    /// Takes over what a configuration change has done to an idle word, to tables and to durations.
    pub fn refit(&mut self, have: &HaveGroup, timing: Timing) {
        self.word = have.word;
        self.timing = timing;
        self.slots = ready_slots(have, Some(&self.slots));
        self.shares = shared_slots(have);
    }
}

impl fmt::Display for Cutover {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} {} -> {}",
            self.kind.name(),
            self.from,
            self.to
        )?;
        match self.percent {
            Some(percent) => write!(formatter, " {percent} %"),
            None => Ok(()),
        }
    }
}

/// Slots in which a canary has a share.
#[must_use]
pub fn shared_slots(have: &HaveGroup) -> BTreeMap<Slot, Share> {
    let named = |colour| have.colours.get(&colour).cloned();
    let share = |(slot, mix): (&Slot, &Mix)| {
        let canary = mix.canary?;
        let share = Share {
            live: named(mix.colour)?,
            colour: named(canary.colour)?,
            percent: canary.percent,
        };
        Some((*slot, share))
    };
    have.slots.iter().filter_map(share).collect()
}

/// Which slot holds each colour's table. Of several of one colour, the current one, then the staging one
/// (where a switch leaves the table it came from), then one that no flow can be using, then the one that
/// was `known` before.
#[must_use]
pub fn ready_slots(
    have: &HaveGroup,
    known: Option<&BTreeMap<String, Slot>>,
) -> BTreeMap<String, Slot> {
    let word = have.word;
    let rank = |slot: Slot, colour: &String| {
        let known = known.and_then(|known| known.get(colour)) == Some(&slot);
        (
            u32::from(slot) == word.current(),
            u32::from(slot) == word.staging(),
            word.in_use() & 1 << slot == 0,
            known,
        )
    };
    let mut ready: BTreeMap<String, Slot> = BTreeMap::new();
    for (slot, mix) in have.slots.iter().filter(|(_, mix)| mix.canary.is_none()) {
        let (slot, Some(colour)) = (*slot, have.colours.get(&mix.colour)) else {
            continue;
        };
        let best = ready.entry(colour.clone()).or_insert(slot);
        if rank(slot, colour) > rank(*best, colour) {
            *best = slot;
        }
    }
    ready
}
