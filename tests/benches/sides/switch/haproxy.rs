//! HAProxy in TCP mode: the live colour is an entry of a map, changed by the runtime API.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use anyhow::{Result, ensure};
use switcher_harness::topology::COLOURS;

use super::Switch;
use crate::site::{Process, Site};

pub(crate) struct Haproxy<'a> {
    site: &'a Site,
    _process: Process,
}

impl<'a> Haproxy<'a> {
    pub(crate) fn new(site: &'a Site) -> Result<Self> {
        std::fs::write(site.file("live.map"), format!("live {}\n", COLOURS[0]))?;
        std::fs::write(site.file("haproxy.cfg"), config(site))?;
        let mut command = site.topology.switch.command("haproxy");
        command.args(["-db", "-f", &site.file("haproxy.cfg")]);
        let process = Process::start(command, &site.topology.switch, &site.services())?;
        Ok(Self {
            site,
            _process: process,
        })
    }
}

impl Switch for Haproxy<'_> {
    /// Without the process that people would start for it.
    fn flip(&mut self, place: usize) -> Result<()> {
        let mut socket = UnixStream::connect(self.site.file("haproxy.sock"))?;
        let map = self.site.file("live.map");
        socket.write_all(format!("set map {map} live {}\n", COLOURS[place]).as_bytes())?;
        socket.shutdown(Shutdown::Write)?;
        let mut said = String::new();
        socket.read_to_string(&mut said)?;
        ensure!(said.trim().is_empty(), "HAProxy: {}", said.trim());
        Ok(())
    }
}

fn config(site: &Site) -> String {
    let mut text = format!(
        "global\n stats socket {} level admin\n maxconn 4096\n\
         defaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n",
        site.file("haproxy.sock")
    );
    let map = site.file("live.map");
    for (number, service) in site.services().iter().enumerate() {
        let _ = writeln!(
            text,
            "frontend service{number}\n bind {service}\n use_backend {number}-%[str(live),map({map})]"
        );
        for (place, colour) in COLOURS.iter().enumerate() {
            let server = site.servers(place)[number];
            let _ = writeln!(text, "backend {number}-{colour}\n server one {server}");
        }
    }
    text
}
