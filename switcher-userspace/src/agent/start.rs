//! From a checked configuration to a running agent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::Context;
use jiff::Timestamp;
use tokio::sync::watch;
use tracing::{info, warn};

use super::clock::{Clock, Steps};
use super::handle::Handle;
use super::runner::{Ended, IsOwn, Runner};
use super::settler::Settler;
use crate::config::{AgentConfig, Config};
use crate::datapath::Datapath;
use crate::events::Events;
use crate::health::{Book, Monitor};
use crate::journal::{Journal, Who};
use crate::neighbours::Neighbours;
use crate::traces::Traces;

/// What an agent is made of.
pub struct Setup {
    /// The configuration it starts with.
    pub config: Config,
    /// Where that came from.
    pub config_file: PathBuf,
    /// The hash seed of the kernel's tables.
    pub seed: u64,
    /// Its records.
    pub journal: Journal,
    /// The kernel.
    pub datapath: Box<dyn Datapath>,
    /// Which addresses are this host's own.
    pub is_own: IsOwn,
    /// Where probes run.
    pub runtime: tokio::runtime::Handle,
    /// Where traces of cut-overs go.
    pub traces: Traces,
}

/// Takes over what is in the kernel, brings it to the configuration, and goes on in a thread of its own.
///
/// # Errors
/// When the kernel or the journal can't be read, and when a new installation can't be set up. A
/// configuration that can't be carried out yet is no error if groups are there to be served.
pub fn start(setup: Setup) -> anyhow::Result<(Handle, JoinHandle<Ended>)> {
    let (sender, messages) = channel();
    let (changes, changed) = watch::channel(0);
    let (taken, receiver) = watch::channel(Arc::new(setup.config.agent.clone()));
    let started_at = Timestamp::now();
    let events = Arc::new(Events::new(started_at));
    let handle = Handle::new(sender, changed, receiver, Arc::clone(&events));
    let mut runner = runner(setup, (changes, taken, events), handle.clone(), started_at)?;
    runner.bring_up()?;
    let run = move || runner.run(&messages);
    let thread = std::thread::Builder::new()
        .name("runner".to_owned())
        .spawn(run);
    Ok((handle, thread.context("start the runner's thread")?))
}

/// By what others hear of the agent.
type Told = (
    watch::Sender<u64>,
    watch::Sender<Arc<AgentConfig>>,
    Arc<Events>,
);

fn runner(
    setup: Setup,
    (changes, taken, events): Told,
    handle: Handle,
    started_at: Timestamp,
) -> anyhow::Result<Runner> {
    let Setup {
        config,
        config_file,
        seed,
        journal,
        datapath,
        is_own,
        runtime,
        traces,
    } = setup;
    let teller = handle.clone();
    let tell = move |report| teller.checked(report);
    let neighbours = Neighbours::new(runtime.clone());
    let monitor = Monitor::new(runtime.clone(), datapath.bypass(), tell);
    let settler = datapath.grace();
    let settler = settler.map(|grace| Settler::start(grace, handle.clone()));
    Ok(Runner {
        settler: settler.transpose()?,
        tickets: 0,
        seed,
        have: datapath.have().context("read the kernel's maps")?,
        attachments: datapath.attachments(),
        datapath,
        config_revision: journal.config_revision()?,
        journal,
        config,
        config_file,
        is_own,
        groups: BTreeMap::new(),
        health: Book::default(),
        neighbours,
        monitor,
        clock: Clock,
        steps: Steps::new(),
        started_at,
        unfinished: BTreeSet::new(),
        untended: BTreeSet::new(),
        unwell: BTreeSet::new(),
        pending: None,
        under_way: BTreeSet::new(),
        lost_record: None,
        unrecorded: BTreeMap::new(),
        changes,
        taken,
        events,
        told: super::events::Known::default(),
        secure: None,
        outbox: super::outbox::Outbox::new(),
        host: crate::hooks::host(),
        handle,
        runtime,
        traces,
        looked: Instant::now(),
        links_changed: false,
        meters: crate::listen::meters::Meters::default(),
        bereft: false,
        comparisons: super::drift::Comparisons::default(),
    })
}

impl Runner {
    /// First what is there, then what should be.
    fn bring_up(&mut self) -> anyhow::Result<()> {
        match self.journal.audited(None, 1).as_deref() {
            Ok([last, ..]) => info!(records = last.id, hash = last.hash, "the audit so far"),
            Ok([]) => {}
            Err(error) => warn!("{error:#}"),
        }
        self.take(self.config.clone(), None);
        self.refresh()?;
        let who = Who {
            actor: "agent".to_owned(),
            reason: Some("start".to_owned()),
        };
        self.say_what_is_initial();
        let plan = self.plan_for(&self.config);
        let done = match plan {
            Ok(plan) => self.carry_out_plan(&plan, &who).map(drop),
            Err(refusal) => Err(refusal.into()),
        };
        match done {
            // What was served goes on being served; the rest is tried again when windows have closed.
            Err(error) if !self.groups.is_empty() => {
                self.unfinished = self.config.groups.keys().cloned().collect();
                self.set_pending(format!("{error:#}"));
                Ok(())
            }
            other => other.context("bring the kernel to the configuration"),
        }
    }

    /// Of groups that neither the kernel nor the record knows.
    fn say_what_is_initial(&self) {
        for (name, group) in &self.config.groups {
            let is_known = self.groups.contains_key(name);
            if !is_known && matches!(self.journal.group(name), Ok(None)) {
                let live = &group.initial;
                info!(
                    group = name,
                    "nothing is pinned or recorded: {live} is live, as `initial` says"
                );
            }
        }
    }
}
