//! The thread that decides and does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::clock::{Clock, Steps};
use super::drift::Comparisons;
use super::events::Known;
use super::group::{Gate, Group};
use super::handle::{Handle, Message};
use super::outbox::Outbox;
use super::settler::Settler;
use super::slots::up_to_date;
use crate::api::model::SecureStatus;
use crate::config::{AgentConfig, Config};
use crate::datapath::{Attachment, Datapath, Have};
use crate::events::Events;
use crate::health::{Book, Monitor, Report, Verdict};
use crate::journal::{Journal, Keyed};
use crate::listen::meters::Meters;
use crate::neighbours::Neighbours;
use crate::release::{Event, Stage, ready_slots, shared_slots};
use crate::traces::Traces;

/// Time between two looks at the kernel.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How soon it is looked when a link has changed: seldom alone.
const LOOK_SOON: Duration = Duration::from_millis(50);

/// Why a runner has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// Somebody has removed what it had pinned, so that nothing is steered.
    Bereft,
}

/// Which addresses are this host's own.
pub type IsOwn = Box<dyn Fn(IpAddr) -> bool + Send>;

/// Owns the data path and the journal; see [`super`].
pub struct Runner {
    pub(super) datapath: Box<dyn Datapath>,
    pub(super) journal: Journal,
    pub(super) config: Config,
    pub(super) config_file: PathBuf,
    pub(super) config_revision: u64,
    pub(super) is_own: IsOwn,
    pub(super) seed: u64,
    pub(super) have: Have,
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) health: Book,
    pub(super) monitor: Monitor,
    pub(super) neighbours: Neighbours,
    pub(super) clock: Clock,
    pub(super) steps: Steps,
    pub(super) started_at: Timestamp,
    /// Groups whose configuration is not in the kernel yet.
    pub(super) unfinished: BTreeSet<String>,
    /// Groups whose tables are to be looked at once they are idle.
    pub(super) untended: BTreeSet<String>,
    /// Groups whose endpoints' health has changed since their tables were looked at.
    pub(super) unwell: BTreeSet<String>,
    /// Why the configuration is not in the kernel.
    pub(super) pending: Option<String>,
    /// Idempotency keys of changes that are under way.
    pub(super) under_way: BTreeSet<String>,
    /// Why a state file that was removed is not there again.
    pub(super) lost_record: Option<String>,
    /// What could not be recorded of idempotency keys.
    pub(super) unrecorded: BTreeMap<String, Keyed>,
    pub(super) changes: watch::Sender<u64>,
    /// Tells others what was taken.
    pub(super) taken: watch::Sender<Arc<AgentConfig>>,
    /// Where that can be heard.
    pub(super) events: Arc<Events>,
    /// What listeners know.
    pub(super) told: Known,
    /// How the API over TCP fares, if there is one.
    pub secure: Option<SecureStatus>,
    pub(super) attachments: Vec<Attachment>,
    /// Events on their way.
    pub(super) outbox: Outbox,
    /// What this host is called.
    pub(super) host: String,
    /// How others reach this.
    pub(super) handle: Handle,
    /// Where hooks run.
    pub(super) runtime: tokio::runtime::Handle,
    /// What becomes known of cut-overs elsewhere.
    pub(super) traces: Traces,
    pub(super) looked: Instant,
    /// Links have changed since.
    pub(super) links_changed: bool,
    /// What is counted as it happens.
    pub(super) meters: Meters,
    /// Nothing of it is pinned any more.
    pub(super) bereft: bool,
    /// How kernel, record and configuration were compared.
    pub(super) comparisons: Comparisons,
    /// Who waits for grace periods; without it the runner does.
    pub(super) settler: Option<Settler>,
    /// How often the settler was asked.
    pub(super) tickets: u64,
}

impl Runner {
    /// Until it is told to stop, or nobody is left who could tell it anything, or there is nothing left to
    /// work with.
    pub(super) fn run(mut self, messages: &Receiver<Message>) -> Ended {
        let mut next = None;
        loop {
            let message = match next.take() {
                Some(message) => Ok(message),
                None => messages.recv_timeout(self.until_next()),
            };
            match message {
                Ok(Message::Do(what)) => what(&mut self),
                Ok(Message::Checked(report)) => next = self.hear_checks(report, messages),
                Ok(Message::Settled { tickets, result }) => self.settled(tickets, &result),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.tick();
            if self.bereft {
                error!("the pins have been removed: starting anew from the record");
                return Ended::Bereft;
            }
        }
        self.settle_all();
        info!("stopped; traffic goes on as it is");
        Ended::Stopped
    }

    /// Takes what a probe came to, and what others did meanwhile: there may be thousands at once, and to
    /// look at a group's tables takes as long for all of them as for one. Returns the message behind them.
    fn hear_checks(&mut self, first: Report, messages: &Receiver<Message>) -> Option<Message> {
        let mut next = Some(Message::Checked(first));
        while let Some(Message::Checked(report)) = next {
            self.checked(report);
            next = messages.try_recv().ok();
        }
        for name in std::mem::take(&mut self.unwell) {
            self.tend(&name);
        }
        next
    }

    fn checked(&mut self, report: Report) {
        let group = report.target.group.clone();
        let what = format!("{} {}", report.target.service, report.target.address);
        let reason = report.reason.clone().unwrap_or_default();
        let healthy = report.healthy;
        if !self.health.record(report) {
            return;
        }
        match healthy {
            Some(true) => info!(group, endpoint = what, "healthy"),
            Some(false) => warn!(group, endpoint = what, reason, "unhealthy"),
            // It is just being asked.
            None => {}
        }
        self.changes.send_modify(|count| *count += 1);
        self.ask_gate(&group);
        self.observe_now(&group);
        self.look_at_canary(&group);
        self.unwell.insert(group);
    }

    /// Whether a colour could take over; if only time is missing, how much.
    pub(super) fn readiness(&self, name: &str, colour: &str) -> (Verdict, Option<Duration>) {
        let config = self.config.groups.get(name);
        let least = config.map(|it| it.health.min_healthy).unwrap_or_default();
        self.health.readiness(name, colour, least)
    }

    /// Tells a cut-over that waits for its target's health what that is.
    pub(super) fn ask_gate(&mut self, name: &str) {
        if let Some(event) = self.hear_gate(name) {
            self.feed(name, event);
        }
    }

    /// What it is to be told, if that has changed.
    pub(super) fn hear_gate(&mut self, name: &str) -> Option<Event> {
        let now = self.clock.now();
        let group = self.groups.get_mut(name)?;
        let preparing = match &group.state.stage {
            Stage::Preparing(preparing) => Some(preparing.cutover.id.as_str()),
            Stage::Idle
            | Stage::Switching(_)
            | Stage::Confirming(_)
            | Stage::Baking(_)
            | Stage::Draining(_) => None,
        };
        let Some(gate) = group
            .gate
            .take_if(|gate| preparing == Some(gate.id.as_str()))
        else {
            group.gate = None;
            return None;
        };
        let (verdict, missing) = self.readiness(name, &gate.colour);
        let id = gate.id.clone();
        let (event, passed) = match verdict {
            Verdict::Healthy if gate.passed => (None, true),
            Verdict::Healthy => (Some(Vec::new()), true),
            Verdict::Unknown(_) if now < gate.patience => (None, gate.passed),
            Verdict::Unknown(blockers) | Verdict::Unhealthy(blockers) => (Some(blockers), false),
        };
        let again = missing.map(|missing| now + missing + Duration::from_millis(1));
        let group = self.groups.get_mut(name)?;
        group.gate = Some(Gate {
            passed,
            again,
            ..gate
        });
        event.map(|blockers| Event::Health { id, blockers })
    }

    /// Does what is due.
    fn tick(&mut self) {
        self.hear();
        let now = self.clock.now();
        let due = |group: &Group| {
            let wake = group.wake.is_some_and(|wake| wake <= now);
            let gate = group
                .gate
                .as_ref()
                .is_some_and(|gate| !gate.passed && gate.due() <= now);
            (group.name.clone(), wake, gate)
        };
        // What comes next for others waits for a grace period.
        let groups = self.groups.values().filter(|it| it.pending.is_none());
        let due: Vec<_> = groups.map(due).collect();
        for (name, wake, gate) in due {
            if gate {
                self.ask_gate(&name);
            }
            if wake {
                if let Some(group) = self.groups.get_mut(&name) {
                    group.wake = None;
                }
                self.feed(&name, Event::Timer);
            }
        }
        let over = |group: &&Group| group.state.paused_until().is_some_and(|until| until <= now);
        let groups = self.groups.values().filter(|it| it.pending.is_none());
        let over: Vec<_> = groups
            .filter(over)
            .map(|group| group.name.clone())
            .collect();
        for name in over {
            self.feed(&name, Event::PauseOver);
        }
        self.flip_by_itself();
        self.advance_canaries();
        self.finish_drills();
        self.deliver();
        if self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            self.look();
        }
        self.publish();
    }

    fn until_next(&self) -> Duration {
        let groups = || self.groups.values().filter(|it| it.pending.is_none());
        let wakes = groups().filter_map(|group| group.wake);
        let pauses = groups().filter_map(|group| group.state.paused_until());
        let gates = groups().filter_map(|group| group.gate.as_ref());
        let gates = gates.filter(|gate| !gate.passed).map(Gate::due);
        let look = LOOK_EVERY.saturating_sub(self.looked.elapsed());
        let coming = self.groups.values();
        let coming = coming.filter_map(|group| Some(group.automatic.coming.as_ref()?.1));
        wakes
            .chain(coming)
            .chain(gates)
            .chain(pauses)
            .chain(self.next_step())
            .chain(self.next_delivery())
            .map(|at| self.clock.until(at))
            .chain(self.next_publication())
            .fold(look, Ord::min)
    }

    /// A link has changed, seldom alone.
    pub(super) fn links_changed(&mut self) {
        self.links_changed = true;
        self.look_soon();
    }

    /// Something has changed around here: looks sooner than in turn.
    pub(super) fn look_soon(&mut self) {
        let sooner = Instant::now().checked_sub(LOOK_EVERY.saturating_sub(LOOK_SOON));
        self.looked = sooner.map_or(self.looked, |sooner| self.looked.min(sooner));
    }

    /// Looks at the kernel: are words and programs as they were left?
    pub(super) fn look(&mut self) {
        self.bereft = !self.datapath.is_pinned();
        if self.bereft {
            return;
        }
        if std::mem::take(&mut self.links_changed) {
            self.datapath.links_changed();
        }
        self.keep_record();
        self.record_what_is_owed();
        let words: Vec<_> = self
            .groups
            .values()
            .filter(|group| self.datapath.word(group.index) != group.state.word)
            .map(|group| group.name.clone())
            .collect();
        for name in words {
            self.adopt(&name);
        }
        self.notice_clock();
        self.look_after_programs();
        self.sample();
        self.finish_configuration();
        self.tend_again();
        self.repair_drift();
    }

    /// A state file that somebody has removed is written again.
    fn keep_record(&mut self) {
        self.lost_record = match self.journal.restore() {
            Ok(false) => None,
            Ok(true) => {
                let file = self.journal.file();
                warn!("{} was removed, and is written again", file.display());
                None
            }
            Err(error) => {
                let why = format!("{error:#}");
                if self.lost_record.is_none() {
                    error!("the record may be lost: {why}");
                }
                Some(why)
            }
        };
    }

    /// Deadlines go by the time since boot; what people have given as a time of day is such a deadline from then on.
    fn notice_clock(&mut self) {
        let Some(step) = self.steps.next() else {
            return;
        };
        let way = if step.is_negative() {
            "back"
        } else {
            "forward"
        };
        let seconds = (step.abs().as_millis_f64() / 1e3).round();
        let by = humantime::format_duration(Duration::from_secs_f64(seconds));
        warn!(
            "the host's clock was set {way} by {by}: deadlines and switches set for a time of day stay as far away as \
             they were, and times that were recorded before are those of the clock before"
        );
    }

    /// Somebody else has stored a word.
    fn adopt(&mut self, name: &str) {
        match self.datapath.have() {
            Ok(have) => self.have = have,
            Err(error) => {
                error!(
                    group = name,
                    "the word has changed, and the maps can't be read: {error:#}"
                );
                return;
            }
        }
        let id = self.journal.fresh_id(Timestamp::now());
        let Some(group) = self.groups.get_mut(name) else {
            return;
        };
        let Some(have) = self
            .have
            .groups
            .get(&group.index)
            .filter(|it| it.name == name)
        else {
            error!(
                group = name,
                "the group has gone from the kernel; apply the configuration"
            );
            return;
        };
        let word = have.word;
        warn!(
            group = name,
            word = format!("{:#018x}", word.0),
            "the word was changed by somebody else"
        );
        let current = self.config.groups.get(name);
        let current = current.map(|config| up_to_date(&self.have, (group.index, have), config));
        let current = current.as_ref().unwrap_or(have);
        group.state.slots = ready_slots(current, Some(&group.state.slots));
        group.state.shares = shared_slots(have);
        self.feed(name, Event::Found { id, word });
    }
}
