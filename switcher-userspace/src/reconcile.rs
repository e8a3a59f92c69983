//! Have and want to changes, in an order that keeps traffic served after each of them. No I/O.
//!
//! Adding: endpoints, tables, services, a grace period, names and word, and only then the address that
//! clients use. Removing is the reverse: the address first, a grace period, then what it led to. A table
//! in use is never edited: new endpoints of a live colour are a new table in another slot, reached by a
//! window like any other switch. Numbers of what stays the same stay the same.
//!
//! The planner tries every change on [`Memory`] as it goes, so each next step is decided on what the one
//! before has left.

mod bring_up;
mod canary;
mod describe;
mod draft;
mod fragments;
mod hand_over;
mod mixture;
mod number;
mod retire;
mod slots;
mod space;
#[cfg(test)]
mod tests;
mod tidy;
mod want;

use std::collections::{BTreeSet, HashSet};

use switcher_common::word::Phase;
use thiserror::Error;

use crate::config::ResolveError;
use crate::datapath::memory::Memory;
use crate::datapath::{Change, GroupIndex, Have};
use number::Numbers;
use space::Space;

pub use crate::health::Standing;
pub use canary::{Step, step};
pub use hand_over::hand_over;
pub use want::{Want, WantCanary, WantEndpoint, WantGroup, WantService};

/// What has to be done, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The steps. [`Change::Switch`]es come last.
    pub changes: Vec<Change>,
    /// What they come to, in sentences for people.
    pub summary: Vec<String>,
    /// Groups that need another plan once the window of their [`Change::Switch`] has closed: it frees the
    /// table that was live.
    pub unfinished: Vec<String>,
}

impl Plan {
    /// Whether the kernel already has what is wanted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Why there is no plan. Nothing is to be changed then.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// An open window still needs what would be changed.
    #[error(
        "group {group}: its configuration can't change while a switch is under way (window {phase}); \
         wait until it is idle (switcher wait {group} --for idle) and apply again"
    )]
    Window {
        /// The group's name.
        group: String,
        /// The window's phase.
        phase: &'static str,
    },
    /// Traffic flows to a colour that is not wanted any more.
    #[error(
        "group {group}: colour {colour} is live and can't be removed; flip to another one first"
    )]
    LiveColour {
        /// The group's name.
        group: String,
        /// The colour's name.
        colour: String,
    },
    /// New flows go to a colour that is not wanted any more.
    #[error(
        "group {group}: colour {colour} is a canary and can't be removed; end it first (switcher abort {group})"
    )]
    CanaryColour {
        /// The group's name.
        group: String,
        /// The colour's name.
        colour: String,
    },
    /// All slots hold tables.
    #[error(
        "group {group}: all {} table slots are in use, so the endpoints of colour {colour} can't be \
         replaced without touching live traffic; remove a colour that is not needed",
        switcher_common::abi::SLOTS
    )]
    Slots {
        /// The group's name.
        group: String,
        /// The colour's name.
        colour: String,
    },
    /// No room for a table.
    #[error(
        "service {service}, colour {colour}: a table of {needed} buckets is needed, but the largest \
         free range has {largest} ({free} of {} are free); use fewer endpoints, services or colours",
        switcher_common::abi::MAX_BUCKETS
    )]
    Space {
        /// `GROUP/SERVICE`.
        service: String,
        /// The colour's name.
        colour: String,
        /// Buckets of the table.
        needed: u32,
        /// Buckets of the largest free range.
        largest: u32,
        /// Free buckets altogether.
        free: u32,
    },
    /// A map is full.
    #[error(
        "no room for more {what}: a host can have {limit}; what is being replaced counts until then"
    )]
    Full {
        /// Groups, services or endpoints.
        what: &'static str,
        /// How many there can be.
        limit: u32,
    },
    /// A colour name that does not fit the group.
    #[error("group {group}: initial colour {colour} is none of its colours")]
    Initial {
        /// The group's name.
        group: String,
        /// The colour's name.
        colour: String,
    },
    /// Forwarding can't be settled on this host.
    #[error("group {group}: {error}")]
    Forward {
        /// The group's name.
        group: String,
        /// Why.
        error: ResolveError,
    },
}

/// The changes that lead from what the kernel has to what it should have. `seed` is the installation's.
///
/// # Errors
/// When some of it can't be done now or at all; nothing should be changed then.
pub fn plan(have: &Have, want: &Want, seed: u64) -> Result<Plan, Refusal> {
    let mut planner = Planner::new(have, seed);
    for (name, group) in &want.groups {
        planner.group(name, group)?;
    }
    planner.retire(want)?;
    let Planner {
        mut changes,
        switches,
        summary,
        unfinished,
        ..
    } = planner;
    changes.extend(switches);
    Ok(Plan {
        changes,
        summary,
        unfinished,
    })
}

/// The changes that one group needs, when nothing but the health of its endpoints or its tables has
/// changed. Everything else stays as it is.
///
/// # Errors
/// When some of it can't be done now; nothing should be changed then.
pub fn plan_group(have: &Have, name: &str, want: &WantGroup, seed: u64) -> Result<Plan, Refusal> {
    let mut planner = Planner::new(have, seed);
    planner.group(name, want)?;
    let Planner {
        mut changes,
        switches,
        summary,
        unfinished,
        ..
    } = planner;
    changes.extend(switches);
    Ok(Plan {
        changes,
        summary,
        unfinished,
    })
}

/// A plan in the making.
#[derive(Clone)]
struct Planner {
    state: Memory,
    seed: u64,
    space: Space,
    numbers: Numbers,
    changes: Vec<Change>,
    switches: Vec<Change>,
    summary: Vec<String>,
    /// What the summary has.
    said: HashSet<String>,
    unfinished: Vec<String>,
    /// Groups with an open window, which must stay as they are.
    busy: BTreeSet<GroupIndex>,
    /// Services and previews that are wanted.
    services: BTreeSet<u16>,
    /// Endpoints that are wanted.
    endpoints: BTreeSet<u16>,
}

impl Planner {
    fn new(have: &Have, seed: u64) -> Self {
        let busy = have.groups.iter();
        let busy = busy.filter(|(_, group)| group.word.phase() != Phase::Steady);
        Self {
            state: Memory::from(have.clone()),
            seed,
            space: Space::besides(have.tables_in_use()),
            numbers: Numbers::new(have),
            changes: Vec::new(),
            switches: Vec::new(),
            summary: Vec::new(),
            said: HashSet::new(),
            unfinished: Vec::new(),
            busy: busy.map(|(index, _)| *index).collect(),
            services: BTreeSet::new(),
            endpoints: BTreeSet::new(),
        }
    }

    fn have(&self) -> &Have {
        self.state.state()
    }

    fn emit(&mut self, change: Change) {
        self.state.change(&change);
        self.changes.push(change);
    }

    fn say(&mut self, sentence: String) {
        if self.said.insert(sentence.clone()) {
            self.summary.push(sentence);
        }
    }

    /// Brings a group up to what is wanted, and drops what that has replaced.
    fn group(&mut self, name: &str, want: &WantGroup) -> Result<(), Refusal> {
        let index = self.find_group(name);
        let Some(busy) = index.filter(|index| self.busy.contains(index)) else {
            return self.bring_up(name, want);
        };
        let before = self.changes.len();
        self.bring_up(name, want)?;
        if self.changes.len() == before && self.switches.iter().all(|c| !switches(c, busy)) {
            return Ok(());
        }
        Err(self.refuse_window(busy))
    }

    fn refuse_window(&self, group: GroupIndex) -> Refusal {
        let (group, phase) = match self.have().groups.get(&group) {
            Some(have) => (have.name.clone(), have.word.phase()),
            None => (group.to_string(), Phase::Steady),
        };
        let phase = match phase {
            Phase::Steady => "closed",
            Phase::Arming => "arming",
            Phase::Open => "open",
            Phase::Draining => "draining",
        };
        Refusal::Window { group, phase }
    }
}

fn switches(change: &Change, index: GroupIndex) -> bool {
    matches!(change, Change::Switch { group, .. } if *group == index)
}
