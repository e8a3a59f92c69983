//! nginx as a proxy of streams, switched by a reload.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use super::Switch;
use crate::machine::beside_path;
use crate::site::{Process, Site};

/// Debian has it in a package of its own.
const MODULE: &str = "../lib/nginx/modules/ngx_stream_module.so";

pub(crate) struct Nginx<'a> {
    site: &'a Site,
    module: String,
    _process: Option<Process>,
}

impl<'a> Nginx<'a> {
    pub(crate) fn new(site: &'a Site) -> Result<Self> {
        let module = beside_path(MODULE).context("nginx has no module for streams here")?;
        let mut this = Self {
            site,
            module: module.display().to_string(),
            _process: None,
        };
        this.configure(0)?;
        let mut command = site.topology.switch.command("nginx");
        command.args(["-e", "stderr", "-c", &site.file("proxy.conf")]);
        this._process = Some(Process::start(
            command,
            &site.topology.switch,
            &site.services(),
        )?);
        Ok(this)
    }

    fn configure(&self, place: usize) -> Result<()> {
        let mut text = format!(
            "load_module {}; daemon off; user root; worker_processes auto; pid {};\n\
             events {{ worker_connections 8192; }}\nstream {{ proxy_timeout 1h;\n",
            self.module,
            self.site.file("proxy.pid")
        );
        let pairs = self
            .site
            .services()
            .into_iter()
            .zip(self.site.servers(place));
        for (service, server) in pairs {
            let _ = writeln!(
                text,
                "server {{ listen {service} backlog=4096; proxy_pass {server}; }}"
            );
        }
        std::fs::write(self.site.file("proxy.conf"), text + "}\n")?;
        Ok(())
    }
}

impl Switch for Nginx<'_> {
    fn flip(&mut self, place: usize) -> Result<()> {
        self.configure(place)?;
        let file = self.site.file("proxy.conf");
        let words = ["-e", "stderr", "-c", &file, "-s", "reload"];
        self.site.topology.switch.run("nginx", &words).map(drop)
    }
}
