//! nftables: destination NAT, switched by replacing the table in one transaction.

use std::fmt::Write as _;

use anyhow::Result;
use switcher_harness::Mode;
use switcher_harness::topology::COLOURS;

use super::Switch;
use crate::site::Site;

const TABLE: &str = "ip shop";

pub(crate) struct Nftables<'a>(&'a Site);

impl<'a> Nftables<'a> {
    pub(crate) fn new(site: &'a Site) -> Result<Self> {
        for (place, colour) in COLOURS.iter().enumerate() {
            std::fs::write(site.file(&format!("{colour}.nft")), rules(site, place))?;
        }
        let mut this = Self(site);
        this.flip(0)?;
        Ok(this)
    }
}

impl Switch for Nftables<'_> {
    fn flip(&mut self, place: usize) -> Result<()> {
        let file = self.0.file(&format!("{}.nft", COLOURS[place]));
        self.0.topology.switch.run("nft", &["-f", &file]).map(drop)
    }
}

impl Drop for Nftables<'_> {
    fn drop(&mut self) {
        let mut words = vec!["delete", "table"];
        words.extend(TABLE.split(' '));
        if let Err(error) = self.0.topology.switch.run("nft", &words) {
            eprintln!("left behind: table {TABLE}: {error:#}");
        }
    }
}

fn rules(site: &Site, place: usize) -> String {
    let mut text = format!("table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n");
    text += "chain in { type nat hook prerouting priority dstnat;\n";
    let pairs = site.services().into_iter().zip(site.servers(place));
    for (service, server) in pairs.clone() {
        let (address, port) = (service.ip(), service.port());
        let _ = writeln!(text, "ip daddr {address} tcp dport {port} dnat to {server}");
    }
    text += "}\n";
    if site.topology.mode == Mode::Masquerade {
        text += "chain out { type nat hook postrouting priority srcnat;\n";
        for (_, server) in pairs {
            let (address, port) = (server.ip(), server.port());
            let _ = writeln!(text, "ip daddr {address} tcp dport {port} masquerade");
        }
        text += "}\n";
    }
    text + "}\n"
}
