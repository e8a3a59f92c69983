//! What can happen to a group, and what is to be done about it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use switcher_common::abi::Times;
use switcher_common::word::{Phase, Word};

use super::baking::{Observed, Verdict};
use super::hooks::{Call, Moment};
use super::left::{Elsewhere, Left};
use super::releases::SchemaRange;
use super::state::{Cutover, End, Millis, Terms};
use crate::datapath::Slot;

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody wants another colour to be live.
    Flip(Order),
    /// Somebody wants the previous colour back.
    Rollback(Order),
    /// Somebody wants a share of new flows to go to another colour; the tables for it are ready.
    Canary {
        /// What is asked for; `to` is the colour.
        order: Order,
        /// Its share, in percent.
        percent: u8,
        /// Slot of the tables.
        slot: Slot,
    },
    /// The live colour's endpoints have changed; the table with the new ones is ready.
    Update {
        /// Name of the cut-over.
        id: String,
        /// Slot of the new table.
        slot: Slot,
    },
    /// Somebody has put a release on a colour.
    Stage {
        /// By whom it was asked; `to` is the colour.
        order: Order,
        /// What it is called.
        version: String,
        /// Which versions of the database's schema it can live with; any, if nobody says so.
        schema: Option<SchemaRange>,
    },
    /// Somebody has changed the database's schema.
    Schema {
        /// By whom it was asked.
        order: Order,
        /// Its version now.
        applied: u64,
        /// That this closes the rollback is meant.
        close: bool,
    },
    /// Somebody wants nobody to flip.
    Freeze {
        /// By whom it was asked.
        order: Order,
        /// What for.
        reason: String,
        /// Who, in words.
        by: String,
        /// For how long; until somebody says otherwise if none.
        time: Option<Duration>,
    },
    /// Somebody wants flips to be possible again.
    Unfreeze(Order),
    /// Somebody opens or closes a manual gate.
    Gate {
        /// By whom it was asked.
        order: Order,
        /// Which.
        name: String,
        /// Open, or closed.
        open: bool,
        /// Who, in words.
        by: String,
    },
    /// Somebody wants what is going on to be stopped.
    Abort(Order),
    /// Somebody wants a switch that would undo itself to stay.
    Confirm(Order),
    /// Somebody wants it to undo itself later than it would.
    Extend {
        /// By whom it was asked.
        order: Order,
        /// How much later.
        by: Duration,
    },
    /// Somebody wants new flows to be held.
    Pause {
        /// By whom it was asked.
        order: Order,
        /// For how long at most.
        time: Duration,
    },
    /// Somebody wants new flows to be let in again.
    Resume(Order),
    /// The time of a pause is over.
    PauseOver,
    /// Answers [`Effect::Prepare`].
    Prepared {
        /// The cut-over.
        id: String,
    },
    /// Answers [`Effect::Prepare`] when it failed.
    Unprepared {
        /// The cut-over.
        id: String,
        /// What went wrong.
        why: String,
    },
    /// Answers [`Effect::CheckHealth`], and comes again when the answer changes.
    Health {
        /// The cut-over.
        id: String,
        /// What keeps the target from being called healthy.
        blockers: Vec<Blocker>,
    },
    /// Answers [`Effect::CallHooks`] of a moment that is waited for, when all hooks have ended.
    Hooks {
        /// The cut-over.
        id: String,
        /// The moment.
        moment: Moment,
        /// Those that failed and matter.
        blockers: Vec<Blocker>,
    },
    /// Answers [`Effect::Settle`].
    Settled {
        /// The cut-over.
        id: String,
    },
    /// Answers [`Effect::CountFlows`].
    Flows(Count),
    /// Answers [`Effect::Observe`], and comes unasked when a check's result changes.
    Observed(Observed),
    /// Answers [`Effect::WakeAt`].
    Timer,
    /// The kernel's word is not the one that was stored last: somebody else has changed it.
    Found {
        /// Name for the cut-over, should it be one.
        id: String,
        /// The kernel's word.
        word: Word,
    },
}

/// What a look at a window's flows came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Flows at endpoints that new flows don't go to, if they could be counted.
    pub elsewhere: Option<Elsewhere>,
    /// Percentage of the flow map that is used.
    pub used: u8,
    /// Tags were refused on this host since the window opened.
    pub refused: bool,
}

/// What somebody asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Name of the cut-over, should one come of it.
    pub id: String,
    /// The colour asked for.
    pub to: Option<String>,
    /// Skip gates.
    pub force: bool,
    /// For a rollback: move flows that began with the other colour too.
    pub hard: bool,
    /// Only if the group's revision is this.
    pub if_revision: Option<u64>,
    /// Only if this colour is live.
    pub if_live: Option<String>,
    /// For a flip: when, and whether it stays.
    pub terms: Terms,
}

/// One thing that keeps an operation from being carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocker {
    /// What it is: an endpoint, a gate.
    pub what: String,
    /// What is the matter with it.
    pub why: String,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Commits the intent to the journal and, if asked, gives the window a flow map. Answered by
    /// [`Event::Prepared`] or [`Event::Unprepared`].
    Prepare {
        /// The cut-over.
        cutover: Cutover,
        /// A flow map is needed; one that is there is kept.
        window: bool,
        /// Without a record there is no cut-over. A rollback goes on without.
        recorded: bool,
    },
    /// Asks whether a colour's endpoints are healthy, once that is known. Answered by [`Event::Health`].
    CheckHealth {
        /// The cut-over.
        id: String,
        /// The colour.
        colour: String,
    },
    /// Calls hooks. Answered by [`Event::Hooks`] if the moment is waited for.
    CallHooks(Call),
    /// Ends the hooks of a cut-over that were waited for.
    StopHooks {
        /// The cut-over.
        id: String,
    },
    /// Sets until when a held word is to be obeyed, should the agent die: comes before the store.
    Hold,
    /// Stores instants, and waits until no CPU can act on older ones.
    SetTimes(Times),
    /// Stores the steering word.
    Store(Word),
    /// Gives up flows of other colours: UDP flows that began before an epoch are new, masqueraded ones are
    /// forgotten, and connections of this host are reset.
    Abandon(u32),
    /// Waits until no CPU can act on an older word. Answered by [`Event::Settled`].
    Settle {
        /// The cut-over.
        id: String,
    },
    /// Waits until no CPU can act on an older word, then drops the flow map.
    CloseWindow,
    /// Counts flows. Answered by [`Event::Flows`].
    CountFlows,
    /// Looks how the live colour does. Answered by [`Event::Observed`].
    Observe {
        /// The cut-over.
        id: String,
    },
    /// Asks for [`Event::Timer`] at a time; only the last such time counts.
    WakeAt(Millis),
    /// Writes to the journal what has happened. That it can't be written changes nothing.
    Record(Record),
    /// Answers whoever asked for a cut-over.
    Reply {
        /// The cut-over, or what would have become one.
        id: String,
        /// The answer.
        outcome: Outcome,
    },
}

/// What goes to the journal after the fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The word of a cut-over is stored and settled, and its colour live.
    Switched {
        /// The cut-over.
        id: String,
    },
    /// A cut-over is over.
    Ended {
        /// The cut-over.
        id: String,
        /// How it came out.
        end: End,
        /// Flows that were still elsewhere at the deadline.
        leftovers: u64,
    },
    /// A colour that a cut-over has left has no flows any more, or none that are waited for.
    Drained {
        /// The cut-over.
        id: String,
        /// The colour.
        colour: String,
        /// Flows that it had at the deadline.
        leftovers: u64,
    },
    /// A cut-over that would have undone itself stays.
    Confirmed {
        /// The cut-over.
        id: String,
    },
    /// The hooks after a switch have ended.
    Hooked {
        /// The cut-over.
        id: String,
    },
    /// It undoes itself later than it would have.
    Extended {
        /// The cut-over.
        id: String,
    },
    /// How the watch over a cut-over goes.
    Bake {
        /// The cut-over.
        id: String,
        /// How far it has come.
        verdict: Verdict,
        /// What the colour does badly, and what keeps it from being rolled back.
        why: Vec<Blocker>,
    },
    /// A cut-over that somebody made behind the agent's back, or the program by itself.
    Found {
        /// The cut-over.
        cutover: Cutover,
        /// Colours that have been left with it, and have not drained.
        left: Left,
    },
}

/// The answer to an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is switched and settled.
    Switched,
    /// The word is stored, and switches by itself when its time has come.
    Scheduled,
    /// The colour asked for was live already.
    Unchanged,
    /// A cut-over stays now, or for longer.
    Kept {
        /// The cut-over.
        cutover: String,
    },
    /// New flows are held, or let in again.
    Held,
    /// What was said is to be kept.
    Noted {
        /// The colour it concerns.
        colour: Option<String>,
        /// What somebody should know of it.
        warnings: Vec<String>,
    },
    /// What was going on has been stopped; nothing had been switched.
    Stopped {
        /// The cut-over that was stopped.
        cutover: String,
    },
    /// Somebody stopped it.
    Aborted,
    /// It was carried out, and then undone by another one.
    RolledBack {
        /// The cut-over that undid it.
        by: String,
    },
    /// The target is not healthy.
    Unhealthy(Vec<Blocker>),
    /// Policy stands in the way. What ails the target's endpoints is for the runner to add.
    Blocked {
        /// The target.
        colour: String,
        /// What it is, and how to clear it.
        blockers: Vec<Blocker>,
    },
    /// It can't be done: see [`Why`].
    Refused(Refusal),
    /// It was tried and went wrong.
    Failed(String),
}

/// Why an order is refused at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The class, which decides the exit code.
    pub why: Why,
    /// What is the matter.
    pub detail: String,
    /// What to do.
    pub advice: String,
}

/// Classes of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is no such colour.
    NoSuchColour,
    /// There is no such gate.
    NoSuchGate,
    /// The order names no colour, and it isn't clear which one is meant.
    WhichColour,
    /// The revision or the live colour is another one.
    Precondition,
    /// Something else is going on, or nothing is.
    Busy,
    /// There is nothing to roll back to.
    NotEligible,
    /// A switch is waiting for somebody to confirm it.
    Unconfirmed,
    /// The time to confirm it is over.
    Expired,
    /// A release can't live with the version of the database's schema.
    Schema,
}

impl fmt::Display for Effect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepare { window: true, .. } => {
                formatter.write_str("record the intent, make a flow map")
            }
            Self::Prepare { window: false, .. } => formatter.write_str("record the intent"),
            Self::CheckHealth { colour, .. } => {
                write!(
                    formatter,
                    "make sure that every endpoint of {colour} is healthy"
                )
            }
            Self::CallHooks(Call { moment, .. }) => {
                write!(formatter, "call the {} hooks", moment.name())
            }
            Self::StopHooks { .. } => formatter.write_str("end the hooks that are running"),
            Self::Hold => formatter.write_str("limit how long new connections may wait"),
            Self::SetTimes(_) => {
                formatter.write_str("set the instants at which the kernel acts by itself")
            }
            Self::Store(word) => {
                let (current, previous) = (word.current(), word.previous());
                let what = match word.phase() {
                    Phase::Steady => format!("every flow goes to slot {current}"),
                    Phase::Arming => format!("tag new connections to slot {current}"),
                    Phase::Open => {
                        format!(
                            "new flows go to slot {current}, unknown ones stay at slot {previous}"
                        )
                    }
                    Phase::Draining => format!("known flows stay, all others go to slot {current}"),
                };
                write!(formatter, "store word {:#018x}: {what}", word.0)
            }
            Self::Abandon(epoch) => write!(
                formatter,
                "reset connections left at other endpoints, forget flows there from before epoch {epoch}"
            ),
            Self::Settle { .. } => formatter.write_str("wait until no CPU acts on the old word"),
            Self::CloseWindow => formatter.write_str("drop the flow map"),
            Self::CountFlows => formatter.write_str("count flows"),
            Self::Observe { .. } => formatter.write_str("look how the new colour does"),
            Self::WakeAt(_) => formatter.write_str("wait"),
            Self::Record(_) => formatter.write_str("record the result"),
            Self::Reply { .. } => formatter.write_str("report"),
        }
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.what, self.why)
    }
}

impl Refusal {
    pub(super) fn new(why: Why, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            why,
            detail: detail.into(),
            advice: advice.into(),
        }
    }
}

/// How long the runner should wait between two counts of flows.
pub(super) const COUNT_EVERY: Duration = Duration::from_secs(1);
