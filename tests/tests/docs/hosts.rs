//! The hosts that pages talk of.
//!
//! ```text
//! one-host   client 198.51.100.7, 203.0.113.1 --- 203.0.113.10 host
//! lan        the same, and 203.0.113.21 blue, 203.0.113.22 green: all on one link, whose router is the client
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use switcher_harness::Namespace;
use switcher_harness::servers::{HttpServer, Identity};

use crate::page::Step;
use crate::shell::Shell;

/// Hosts with a shell on each that was used, and servers that a page takes for given.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    // Before what they run in.
    shells: BTreeMap<String, Shell>,
    servers: Vec<HttpServer>,
    namespaces: BTreeMap<String, Namespace>,
}

const HOST: &str = "203.0.113.10/24";
const LAN: [(&str, &str); 2] = [("blue", "203.0.113.21/24"), ("green", "203.0.113.22/24")];

impl Hosts {
    /// Does a step.
    pub(crate) fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Network { name, .. } => self.build(name),
            Step::Given {
                colour, address, ..
            } => self.serve(colour, address),
            Step::File { path, text, .. } => self.write(path, text),
            Step::Command(command) => {
                let shell = self.shell(&command.host)?;
                let done = shell.type_in(command);
                done.map_err(|error| {
                    let background = shell.background();
                    error.context(format!("in the background was said\n{background}"))
                })
            }
        }
    }

    fn build(&mut self, name: &str) -> Result<()> {
        *self = Self::default();
        let mut hosts = vec![("host", HOST)];
        match name {
            "one-host" => {}
            "lan" => hosts.extend(LAN),
            _ => bail!("there is no network {name:?}"),
        }
        let router = Namespace::new("client")?;
        router.ip("link add br0 type bridge")?;
        router.ip("address add 203.0.113.1/24 dev br0")?;
        router.ip("address add 198.51.100.7/32 dev lo")?;
        router.ip("link set br0 up")?;
        router.ip("route replace 203.0.113.0/24 dev br0 src 198.51.100.7")?;
        router.sysctl("ipv4/conf/all/send_redirects", "0")?;
        for (name, address) in hosts {
            let host = Namespace::new(name)?;
            router.ip(&format!(
                "link add {name} type veth peer name eth0 netns {}",
                host.name()
            ))?;
            router.ip(&format!("link set {name} master br0 up"))?;
            // What is sent into a veth by XDP needs it.
            router.run("ethtool", &["-K", name, "gro", "on"])?;
            host.ip("link set eth0 up")?;
            host.ip(&format!("address add {address} dev eth0"))?;
            host.ip("route add default via 203.0.113.1")?;
            for device in ["all", "default", "eth0"] {
                host.sysctl(&format!("ipv4/conf/{device}/rp_filter"), "0")?;
            }
            self.namespaces.insert(name.to_owned(), host);
        }
        self.namespaces.insert("client".to_owned(), router);
        Ok(())
    }

    fn serve(&mut self, colour: &str, address: &str) -> Result<()> {
        let identity = Identity {
            colour: colour.to_owned(),
            version: "v1".to_owned(),
            host: colour.to_owned(),
        };
        let host = self.namespace("host")?;
        let server = HttpServer::start(host, address.parse()?, identity)?;
        self.servers.push(server);
        Ok(())
    }

    fn write(&mut self, path: &str, text: &str) -> Result<()> {
        let directory = Path::new(path)
            .parent()
            .context("a file is in a directory")?;
        let mode = if text.starts_with("#!") { 755 } else { 644 };
        let command = format!(
            "mkdir -p {} && cat >{path} <<'end of the file'\n{text}end of the file\nchmod {mode} {path}",
            directory.display()
        );
        let (exit, said) = self.shell("host")?.run(&command)?;
        anyhow::ensure!(exit == 0, "{path} can't be written: {said}");
        Ok(())
    }

    fn shell(&mut self, host: &str) -> Result<&mut Shell> {
        if !self.shells.contains_key(host) {
            let shell = Shell::new(self.namespace(host)?)?;
            self.shells.insert(host.to_owned(), shell);
        }
        self.shells.get_mut(host).context("it was just made")
    }

    fn namespace(&self, host: &str) -> Result<&Namespace> {
        let found = self.namespaces.get(host);
        found
            .with_context(|| format!("no host {host:?}: a page says first which hosts it is about"))
    }
}
