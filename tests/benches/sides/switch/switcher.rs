//! Switcher, by its command.

use std::fmt::Write as _;

use anyhow::Result;
use switcher_harness::agent::binary;
use switcher_harness::topology::COLOURS;
use switcher_harness::{Agent, Place};

use super::Switch;
use crate::site::Site;

pub(crate) struct Switcher<'a> {
    site: &'a Site,
    agent: Agent,
}

impl<'a> Switcher<'a> {
    /// At tc or in native mode.
    pub(crate) fn new(site: &'a Site, at_tc: bool) -> Result<Self> {
        let place = Place::new()?;
        let config = config(site, &place, if at_tc { "tc" } else { "native" });
        let mut agent = Agent::new(&site.topology.switch, &binary()?, place, &config)?;
        agent.start()?;
        // A flip waits for that, and others don't ask.
        for colour in COLOURS {
            let healthy = format!("healthy={colour}");
            agent.cli(&["wait", "shop", "--for", &healthy])?.expect(0)?;
        }
        Ok(Self { site, agent })
    }
}

impl Switch for Switcher<'_> {
    fn flip(&mut self, place: usize) -> Result<()> {
        let switch = &self.site.topology.switch;
        let socket = self.agent.place().socket().display().to_string();
        let program = self.agent.binary().display().to_string();
        let words = ["--socket", &socket, "flip", "shop", COLOURS[place]];
        switch.run(&program, &words).map(drop)
    }
}

/// For a network whose round trips take microseconds, and clients who are silent for less than a second. One client opens all
/// connections: others have the ports from 1024 on for it, too.
fn config(site: &Site, place: &Place, xdp: &str) -> String {
    let topology = &site.topology;
    let mut text = format!(
        "[agent]\ninterfaces = {:?}\nxdp = \"{xdp}\"\nsocket = {:?}\nstate_dir = {:?}\nbpffs = {:?}\n\
         [agent.masquerade]\nports = \"1024-32767\"\n\
         [groups.shop]\ninitial = \"{}\"\n[groups.shop.health]\nkind = \"tcp\"\n\
         [groups.shop.drain]\narm = \"20ms\"\nlearn = \"1s\"\n",
        topology.interfaces(),
        place.socket(),
        place.state(),
        place.bpffs(),
        COLOURS[0]
    );
    for (number, service) in site.services().iter().enumerate() {
        let _ = writeln!(
            text,
            "[groups.shop.services.s{number}]\nvip = \"{service}/tcp\"\nforward = \"{}\"\n\
             endpoints.{} = [\"{}\"]\nendpoints.{} = [\"{}\"]",
            topology.mode,
            COLOURS[0],
            site.servers(0)[number],
            COLOURS[1],
            site.servers(1)[number]
        );
    }
    text
}
