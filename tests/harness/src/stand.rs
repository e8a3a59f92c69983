//! All of it together: a network, servers of two colours, and an agent that switches between them.

use std::panic::Location;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;

use crate::config::Settings;
use crate::load::Connection;
use crate::servers::Fleet;
use crate::{Agent, Mode, Place, Topology};

/// Far more than an agent takes for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// In the order in which it goes: the agent first.
#[derive(Debug)]
pub struct Stand {
    /// Switches.
    pub agent: Agent,
    /// Answer.
    pub servers: Fleet,
    /// Connects them.
    pub topology: Topology,
    /// What the agent was told.
    pub settings: Settings,
}

impl Stand {
    /// Builds everything and waits until the agent answers.
    ///
    /// # Errors
    /// When a part of it can't be had; says which.
    pub fn new(mode: Mode, offloads: bool, settings: Settings, binary: &Path) -> Result<Self> {
        let mut stand = Self::without_agent(mode, offloads, settings, binary)?;
        stand.agent.start()?;
        Ok(stand)
    }

    /// The same, with the agent yet to be started.
    ///
    /// # Errors
    /// When a part of it can't be had; says which.
    pub fn without_agent(
        mode: Mode,
        offloads: bool,
        settings: Settings,
        binary: &Path,
    ) -> Result<Self> {
        let mut topology = Topology::new(mode, offloads)?;
        topology.set_mtu(settings.mtu)?;
        if settings.v6 {
            topology.speak_v6()?;
        }
        if settings.servers_v6 {
            topology.servers_speak_v6()?;
        }
        Self::on(topology, settings, binary)
    }

    /// On a network that is there, with the agent yet to be started.
    ///
    /// # Errors
    /// When a part of it can't be had; says which.
    pub fn on(topology: Topology, settings: Settings, binary: &Path) -> Result<Self> {
        let servers = Fleet::start(&topology, settings.servers)?;
        let place = Place::new()?;
        let config = settings.render(&topology, &place);
        let agent = Agent::new(&topology.switch, binary, place, &config)?;
        Ok(Self {
            agent,
            servers,
            topology,
            settings,
        })
    }

    /// Makes so many connections, one after the other, each of which is to be answered.
    ///
    /// # Errors
    /// When one is not.
    pub fn ask(&self, times: usize) -> Result<()> {
        let web = self.topology.web();
        self.topology.client.inside(|| {
            for _ in 0..times {
                Connection::open(web)?.colour()?;
            }
            Ok(())
        })?
    }

    /// Makes some that may not be.
    ///
    /// # Errors
    /// When nobody can even try.
    pub fn ask_in_vain(&self) -> Result<()> {
        let web = self.topology.web();
        self.topology.client.inside(|| {
            for _ in 0..4 {
                let _reset = Connection::open(web).and_then(|mut it| it.colour());
            }
        })
    }

    /// Waits until what `status` says of the group is so.
    ///
    /// # Errors
    /// When it never is: with where that was expected, what is so instead, and the agent's log.
    #[track_caller]
    pub fn until(&self, is_so: impl Fn(&Value) -> bool) -> Result<()> {
        let begun = Instant::now();
        let caller = Location::caller();
        loop {
            let group = self.agent.status()?;
            if is_so(&group) {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                bail!("{caller}: never so: {group:#}\n{}", self.agent.log());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
