//! What the runner keeps of a group, beside its state.

use std::collections::BTreeMap;
use std::time::Instant;

use jiff::Timestamp;
use switcher_common::abi::Counters;
use tokio::sync::oneshot;

use super::automatic::Automatic;
use super::clock::Clock;
use super::feed::Pending;
use super::gates::gates_record;
use super::hooks::Running;
use super::owed::Owed;
use super::rollout::Steps;
use crate::api::model::{ChangeAnswer, ChangeRequest};
use crate::datapath::{Flows, GroupIndex};
use crate::exit::Failure;
use crate::hooks::Occasion;
use crate::journal::{CutoverRecord, GatesRecord, GroupRecord, Once, Who};
use crate::release::{Cutover, GroupState, Millis};

/// What the runner keeps of a group.
pub(super) struct Group {
    /// Its name.
    pub(super) name: String,
    /// Its word's place.
    pub(super) index: GroupIndex,
    /// The release logic's view.
    pub(super) state: GroupState,
    /// When the release logic wants to be woken.
    pub(super) wake: Option<Millis>,
    /// A flip that nobody orders.
    pub(super) automatic: Automatic,
    /// A canary that goes on by itself.
    pub(super) steps: Steps,
    /// The health it waits for.
    pub(super) gate: Option<Gate>,
    /// Cut-overs that aren't over.
    pub(super) records: BTreeMap<String, CutoverRecord>,
    /// What could not be recorded of cut-overs.
    pub(super) owed: BTreeMap<String, Owed>,
    /// Who waits for which answer.
    pub(super) waiting: BTreeMap<String, Waiting>,
    /// A drill has begun, and there is no report of it yet.
    pub(super) drilled: bool,
    /// What had been counted of the live colour's TCP when the watch over it began.
    pub(super) switched_at: Option<Counters>,
    /// Hooks that are running.
    pub(super) calls: Vec<Running>,
    /// The cut-over that is undone because of its hooks, and why.
    pub(super) undone_for: Option<(String, String)>,
    /// When the word of the last cut-over was stored.
    pub(super) stored: Option<Instant>,
    /// What waits for a grace period.
    pub(super) pending: Option<Pending>,
    /// Something is being done for it.
    pub(super) busy: bool,
    /// Since when the live colour is live.
    pub(super) since: Timestamp,
    /// Who has made it so.
    pub(super) by: String,
    /// Flows by endpoint, when they were last counted.
    pub(super) flows: Option<Counted>,
    /// When the first new connection met the last switch, as far as is known.
    pub(super) first_packet: Option<Timestamp>,
    /// Tags that this host had refused when the window opened.
    pub(super) refused: u64,
    /// Packets by colour, and when they last grew.
    pub(super) activity: BTreeMap<String, Activity>,
    /// When that was read.
    pub(super) sampled: Option<Instant>,
    /// What was prepared, and nobody has heard of.
    pub(super) begun: Option<Begun>,
}

/// A cut-over that was prepared just now.
pub(super) struct Begun {
    pub(super) cutover: Cutover,
    /// What others hear of it.
    pub(super) occasion: Occasion,
}

/// A cut-over that waits for its target's health.
pub(super) struct Gate {
    /// The cut-over.
    pub(super) id: String,
    /// The colour.
    pub(super) colour: String,
    /// When not to know becomes a no.
    pub(super) patience: Millis,
    /// When to ask again although nothing has changed.
    pub(super) again: Option<Millis>,
    /// Whether the release logic believes that all is well.
    pub(super) passed: bool,
}

/// Whoever asked.
pub(super) struct Waiting {
    /// What they asked for, in words.
    pub(super) tried: String,
    /// Who they are.
    pub(super) who: Who,
    /// The change, if it is to be carried out once.
    pub(super) once: Option<Once>,
    /// The same for the audit, and the group before, if it is the group that they asked.
    pub(super) asked: Option<(ChangeRequest, GroupState)>,
    /// Where the answer goes.
    pub(super) reply: oneshot::Sender<Result<ChangeAnswer, Failure>>,
}

/// Flows by endpoint.
pub(super) struct Counted {
    /// When they were counted.
    pub(super) at: Instant,
    /// None if that failed.
    pub(super) flows: Option<Flows>,
}

/// What a colour's counters said last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Activity {
    /// Their sum over services.
    pub(super) counters: Counters,
    /// When the packets last grew.
    pub(super) last_packet: Option<Timestamp>,
    /// Their sum over TCP services whose answers are seen.
    pub(super) tcp: Counters,
    /// The same some time ago, and the time before that.
    pub(super) marks: [Counters; 2],
    /// When the newer of these was taken.
    pub(super) marked: Option<Instant>,
}

impl Group {
    /// Its phase, as people see it: a window is over when its flow map is gone and that is recorded.
    pub(super) fn phase(&self) -> &'static str {
        match self.state.phase() {
            "idle" if self.pending.is_some() => "draining",
            phase => phase,
        }
    }

    /// As it stands in the journal.
    pub(super) fn record(&self) -> GroupRecord {
        self.record_of(&self.state)
    }

    /// The same once this is its state.
    pub(super) fn record_of(&self, state: &GroupState) -> GroupRecord {
        GroupRecord {
            name: self.name.clone(),
            live: state.live.clone(),
            previous: state.previous.clone(),
            revision: state.revision,
            epoch: state.word.epoch(),
            since: self.since,
            by: self.by.clone(),
            releases: state.releases.clone(),
            gates: GatesRecord {
                paused: state.paused_until().map(|until| Clock.wall(until)),
                ..gates_record(&state.gates)
            },
        }
    }
}

impl Gate {
    /// When to look again.
    pub(super) fn due(&self) -> Millis {
        self.again
            .map_or(self.patience, |again| again.min(self.patience))
    }
}
