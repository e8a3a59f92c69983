//! What the network does.

use std::net::SocketAddrV4;

use anyhow::Result;
use switcher_harness::chance::Chance;
use switcher_harness::flood;
use switcher_harness::topology::{VIP, WEB};

use super::{Acts, ms};
use crate::counts::How;
use crate::junk;

impl Acts {
    /// At the switch: there, addresses and their routes outlive it.
    pub(super) fn link_down(&mut self, link: u8, for_ms: u64) -> Result<How> {
        let interfaces = self.stand.topology.interfaces();
        let name = &interfaces[usize::from(link) % interfaces.len()];
        let switch = &self.stand.topology.switch;
        self.judge.cuts(ms(for_ms));
        switch.ip(&format!("link set {name} down"))?;
        std::thread::sleep(ms(for_ms));
        switch.ip(&format!("link set {name} up"))?;
        // What the flood comes from is behind a route that has gone.
        flood::route_back(&self.stand.topology)?;
        Ok(How::Done)
    }

    pub(super) fn flood(&mut self, syns: u32) -> Result<How> {
        let to = SocketAddrV4::new(VIP, WEB);
        let mut chance = Chance::seeded(u64::from(syns));
        flood::syns(&self.stand.topology.client, to, syns, &mut chance)?;
        Ok(How::Done)
    }

    pub(super) fn junk(&mut self, frames: u32, seed: u64) -> Result<How> {
        junk::send(&self.stand.topology, frames, seed)?;
        Ok(How::Done)
    }
}
