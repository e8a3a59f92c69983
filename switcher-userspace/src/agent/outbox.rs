//! Events for hooks with `on = "event"`: committed with what they tell of, delivered in order, one at a time
//! for each hook, until they arrive. A receiver that does not answer keeps nobody waiting but itself.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::AbortHandle;
use tracing::{debug, warn};

use super::Runner;
use crate::api::model::OutboxStatus;
use crate::config::{Config, Hook, On};
use crate::hooks::{self, Occasion, Outcome};
use crate::journal::{CutoverRecord, Outgoing};
use crate::release::{End, Kind, Millis};

/// Time until an event is sent again; doubled from one failure to the next.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// What deliveries are called where moments are named.
const EVENT: &str = "event";
/// When an event is given up.
const TOO_OLD: SignedDuration = SignedDuration::from_hours(24);

/// Events by group and hook.
pub(super) type Outbox = BTreeMap<(String, String), Lane>;

/// The events of one hook.
#[derive(Default)]
pub(super) struct Lane {
    /// There is nothing to send.
    empty: bool,
    /// One is being sent.
    task: Option<AbortHandle>,
    /// Not before.
    again: Millis,
    failures: u32,
    /// Why, the last time.
    reason: Option<String>,
    /// It has arrived, and could not be taken out of the journal.
    arrived: Option<i64>,
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Runner {
    /// Sends what is due.
    pub(super) fn deliver(&mut self) {
        let now = self.clock.now();
        let due = |lane: &Lane| lane.task.is_none() && !lane.empty && lane.again <= now;
        let due = self.outbox.iter().filter(|(_, lane)| due(lane));
        let due: Vec<_> = due.map(|(key, _)| key.clone()).collect();
        for key in due {
            if let Err(error) = self.send_next(&key) {
                warn!(group = key.0, hook = key.1, "{error:#}");
                self.put_off(&key);
            }
        }
    }

    fn send_next(&mut self, key: &(String, String)) -> anyhow::Result<()> {
        let (group, name) = key;
        let Some(hook) = hooks(&self.config, group).find(|hook| hook.name == *name) else {
            return Ok(());
        };
        let Some(lane) = self.outbox.get_mut(key) else {
            return Ok(());
        };
        if let Some(number) = lane.arrived {
            self.journal.sent(number)?;
            lane.arrived = None;
        }
        let Some(waiting) = self.journal.next_out(group, name)? else {
            lane.empty = true;
            return Ok(());
        };
        if Timestamp::now().duration_since(waiting.occasion.time) > TOO_OLD {
            let Occasion {
                id: event, cutover, ..
            } = waiting.occasion;
            warn!(group, cutover, hook = name, event, "given up after a day");
            self.meters.hook(group, name, EVENT, "given-up");
            return self.journal.sent(waiting.number);
        }
        let (handle, hook, key) = (self.handle.clone(), hook.clone(), key.clone());
        let task = self.runtime.spawn(async move {
            let outcome = hooks::try_once(&hook, &waiting.occasion).await;
            handle.tell(move |runner| {
                let about = waiting.occasion.cutover.unwrap_or_default();
                let _about = runner.about(&key.0, &about);
                runner.delivered(&key, waiting.number, &outcome);
            });
        });
        lane.task = Some(task.abort_handle());
        Ok(())
    }

    fn delivered(&mut self, key: &(String, String), number: i64, outcome: &Outcome) {
        let (group, hook) = key;
        let Some(lane) = self.outbox.get_mut(key) else {
            return;
        };
        lane.task = None;
        let result = if outcome.passed { "passed" } else { "failed" };
        self.meters.hook(group, hook, EVENT, result);
        if !outcome.passed {
            let failures = lane.failures + 1;
            lane.reason = Some(outcome.reason());
            warn!(
                group,
                hook,
                failures,
                "an event has not arrived: {}",
                outcome.reason()
            );
            self.put_off(key);
            return;
        }
        debug!(group, hook, "an event has arrived");
        (lane.failures, lane.reason) = (0, None);
        if let Err(error) = self.journal.sent(number) {
            warn!(
                group,
                hook, "it has arrived, and may be sent again: {error:#}"
            );
            lane.arrived = Some(number);
            self.put_off(key);
        }
    }

    fn put_off(&mut self, key: &(String, String)) {
        let now = self.clock.now();
        if let Some(lane) = self.outbox.get_mut(key) {
            let pause = FIRST_PAUSE * 2_u32.saturating_pow(lane.failures.min(16));
            lane.again = now + pause.min(LONGEST_PAUSE);
            lane.failures += 1;
        }
    }

    /// When something is to be sent.
    pub(super) fn next_delivery(&self) -> Option<Millis> {
        let waits = |lane: &&Lane| lane.task.is_none() && !lane.empty;
        let waiting = self.outbox.values().filter(waits);
        waiting.map(|lane| lane.again).min()
    }

    /// Follows the configuration: hooks that have changed begin anew, those that have gone are forgotten.
    pub(super) fn sync_outbox(&mut self, before: &Config) {
        let mut lanes = Outbox::new();
        for (group, config) in &self.config.groups {
            for hook in config.hooks.iter().filter(|hook| hook.on == On::Event) {
                let key = (group.clone(), hook.name.clone());
                let same = hooks(before, group).any(|it| it == hook);
                let lane = self.outbox.remove(&key).filter(|_| same);
                lanes.insert(key, lane.unwrap_or_default());
            }
        }
        let known: Vec<(&str, &str)> = lanes
            .keys()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        if let Err(error) = self.journal.keep_outboxes(&known) {
            warn!("{error:#}");
        }
        self.outbox = lanes;
    }

    /// Events have been committed.
    pub(super) fn wake_outbox(&mut self, group: &str) {
        let lanes = self.outbox.iter_mut().filter(|((it, _), _)| it == group);
        lanes.for_each(|(_, lane)| lane.empty = false);
    }

    /// How many events wait, and why.
    pub(super) fn outbox_status(&self, group: &str) -> Vec<OutboxStatus> {
        let lanes = self.outbox.iter().filter(|((it, _), _)| it == group);
        let each = lanes.map(|((_, hook), lane)| {
            let waiting = match lane.empty {
                true => Ok((0, None)),
                false => self.journal.waiting_out(group, hook),
            };
            let (waiting, since) = waiting.unwrap_or_else(|error| {
                warn!(group, hook, "{error:#}");
                (0, None)
            });
            OutboxStatus {
                hook: hook.clone(),
                waiting,
                since,
                failures: lane.failures,
                reason: lane.reason.clone(),
            }
        });
        each.collect()
    }

    /// What is told of something that is no cut-over.
    pub(super) fn outgoing(&self, occasion: &Occasion) -> Vec<Outgoing> {
        outgoing(&self.config, std::slice::from_ref(occasion))
    }
}

/// Occasions for each hook that wants to hear of them.
pub(super) fn outgoing(config: &Config, occasions: &[Occasion]) -> Vec<Outgoing> {
    let each = occasions.iter().flat_map(|occasion| {
        let wants = hooks(config, &occasion.group).filter(|hook| hook.on == On::Event);
        wants.map(|hook| Outgoing {
            hook: hook.name.clone(),
            occasion: occasion.clone(),
        })
    });
    each.collect()
}

fn hooks<'a>(config: &'a Config, group: &str) -> impl Iterator<Item = &'a Hook> {
    let group = config.groups.get(group);
    group.into_iter().flat_map(|group| &group.hooks)
}

/// What a switch is called when it has been made.
pub(super) const fn switched(kind: Kind) -> &'static str {
    match kind {
        Kind::Flip => "switched",
        Kind::Rollback => "rolled-back",
        Kind::Canary => "canary",
        Kind::Update => "updated",
        Kind::Emergency => "emergency",
    }
}

/// What the end of a cut-over is called. That it was undone is told by what undid it.
pub(super) fn ended(record: &CutoverRecord, end: End) -> Vec<&'static str> {
    let left = record.from != record.to;
    match (end, record.kind) {
        (End::Succeeded, Kind::Flip) if left => vec!["succeeded"],
        (End::Aborted, _) => vec!["aborted"],
        (End::Failed, _) => vec!["failed"],
        (End::Succeeded | End::RolledBack | End::Switched | End::Scheduled, _) => Vec::new(),
    }
}
