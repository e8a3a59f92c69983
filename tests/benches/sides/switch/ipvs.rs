//! IPVS: the live colour is the server that has a weight.

use anyhow::{Context as _, Result};
use switcher_harness::Mode;
use switcher_harness::topology::COLOURS;

use super::Switch;
use crate::site::Site;

pub(crate) struct Ipvs<'a>(&'a Site);

/// `ipvsadm`'s word for the way to servers (ipvsadm(8)); none for those that know no way back, and for this host's own.
pub(crate) const fn method(mode: Mode) -> Option<&'static str> {
    match mode {
        Mode::Routed => Some("--masquerading"),
        Mode::Dsr => Some("--gatewaying"),
        Mode::Ipip => Some("--ipip"),
        Mode::Local | Mode::Masquerade => None,
    }
}

impl<'a> Ipvs<'a> {
    pub(crate) fn new(site: &'a Site) -> Result<Self> {
        let this = Self(site);
        for service in site.services() {
            this.tell(&["--add-service", "--tcp-service", &service.to_string()])?;
        }
        for place in 0..COLOURS.len() {
            this.weigh("--add-server", place, u8::from(place == 0))?;
        }
        Ok(this)
    }

    /// Gives a colour's servers a weight.
    fn weigh(&self, verb: &str, place: usize, weight: u8) -> Result<()> {
        let mode = self.0.topology.mode;
        let method = method(mode).with_context(|| format!("IPVS knows no {mode}"))?;
        let servers = self.0.servers(place);
        for (service, server) in self.0.services().into_iter().zip(servers) {
            let (service, server) = (service.to_string(), server.to_string());
            let words = [verb, "--tcp-service", &service, "--real-server", &server];
            let weight = weight.to_string();
            self.tell(&[&words[..], &[method, "--weight", &weight]].concat())?;
        }
        Ok(())
    }

    fn tell(&self, words: &[&str]) -> Result<()> {
        self.0.topology.switch.run("ipvsadm", words).map(drop)
    }
}

impl Switch for Ipvs<'_> {
    fn flip(&mut self, place: usize) -> Result<()> {
        self.weigh("--edit-server", place, 1)?;
        self.weigh("--edit-server", 1 - place, 0)
    }
}

impl Drop for Ipvs<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.tell(&["--clear"]) {
            eprintln!("left behind: IPVS's services: {error:#}");
        }
    }
}
