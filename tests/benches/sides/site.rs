//! A network with servers of two colours that are fast enough not to be what is measured.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use switcher_harness::topology::{COLOURS, VIP};
use switcher_harness::{Mode, Namespace, Topology, process};
use switcher_tests::receiver::Receivers;
use tempfile::TempDir;

/// The port of the service that takes one stream.
const BULK: u16 = 5201;
/// How long a program may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A network, and nginx and iperf3 as servers of each colour.
pub(crate) struct Site {
    pub(crate) topology: Topology,
    /// For files of programs.
    pub(crate) directory: TempDir,
    _servers: Vec<Process>,
    /// What lets links take what XDP transmits, and takes tunnels' headers off where that is done.
    _receivers: Option<Receivers>,
}

impl Site {
    pub(crate) fn new(mode: Mode, offloads: bool) -> Result<Self> {
        let topology = Topology::new(mode, offloads)?;
        for namespace in [&topology.client, &topology.switch] {
            // Whoever opens many connections of its own would run out of ports else.
            namespace.sysctl("ipv4/tcp_tw_reuse", "1")?;
        }
        let mut site = Self {
            topology,
            directory: tempfile::tempdir()?,
            _servers: Vec::new(),
            _receivers: None,
        };
        // Packets of many segments are for the kernel's own tunnels.
        if !offloads {
            site._receivers = Some(Receivers::attach(&site.topology)?);
        } else if mode == Mode::Ipip {
            for host in &site.topology.backends {
                host.ip("link set tunl0 up")?;
                host.sysctl("ipv4/conf/tunl0/rp_filter", "0")?;
            }
        }
        for place in 0..COLOURS.len() {
            let servers = [site.http(place)?, site.iperf(place)?];
            site._servers.extend(servers);
        }
        Ok(site)
    }

    /// Has every host forget the connections that are over: else one product's new connections meet those of the one
    /// before, and their SYNs are sent again a second later.
    pub(crate) fn forget(&self) -> Result<()> {
        let Topology {
            client,
            switch,
            backends,
            ..
        } = &self.topology;
        for host in [client, switch].into_iter().chain(backends) {
            host.run(
                "ss",
                &["--kill", "--tcp", "--no-header", "state", "time-wait"],
            )?;
        }
        Ok(())
    }

    /// The services, as clients know them: HTTP and bulk data.
    pub(crate) fn services(&self) -> [SocketAddr; 2] {
        [self.topology.web(), (VIP, BULK).into()]
    }

    /// The servers of a colour for these.
    pub(crate) fn servers(&self, place: usize) -> [SocketAddr; 2] {
        let all = self.topology.endpoints(1);
        let web = all[place].web;
        let port = match self.topology.mode.keeps_vip() {
            // It gets what clients have sent, as it is.
            true => BULK,
            false => BULK + 10 + u16::try_from(place).unwrap_or_default(),
        };
        [web, (web.ip(), port).into()]
    }

    /// Where they listen.
    fn listens(&self, place: usize) -> [SocketAddr; 2] {
        let servers = self.servers(place);
        match self.topology.mode.keeps_vip() {
            true => servers.map(|it| (Ipv4Addr::UNSPECIFIED, it.port()).into()),
            false => servers,
        }
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn home(&self, place: usize) -> &Namespace {
        self.topology.host(COLOURS[place])
    }

    fn http(&self, place: usize) -> Result<Process> {
        let colour = COLOURS[place];
        let at = self.listens(place)[0];
        let file = |what: &str| self.file(&format!("{colour}.{what}"));
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|it| format!("{it}_temp_path {};", file(it)))
            .join(" ");
        let config = format!(
            "daemon off; user root; worker_processes 1; pid {};\n\
             events {{ worker_connections 8192; }}\n\
             http {{ access_log off; keepalive_timeout 1h; keepalive_requests 1000000000; {temporary}\n\
             server {{ listen {at} backlog=4096; return 200 \"{colour}\\n\"; }} }}\n",
            file("pid")
        );
        std::fs::write(file("conf"), config)?;
        let mut command = self.home(place).command("nginx");
        command.args(["-e", "stderr", "-c", &file("conf")]);
        Process::start(command, self.home(place), &[at])
    }

    fn iperf(&self, place: usize) -> Result<Process> {
        let at = self.listens(place)[1];
        let mut command = self.home(place).command("iperf3");
        let (host, port) = (at.ip().to_string(), at.port().to_string());
        command.args(["-s", "-B", &host, "-p", &port]);
        Process::start(command, self.home(place), &[at])
    }
}

/// A running program; ended when dropped, with its own children.
pub(crate) struct Process(Child);

impl Process {
    /// Starts it and waits until it listens.
    pub(crate) fn start(
        mut command: Command,
        home: &Namespace,
        listens: &[SocketAddr],
    ) -> Result<Self> {
        let log = tempfile::NamedTempFile::new()?;
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = quiet.stderr(log.reopen()?).spawn();
        let mut process = Self(child.with_context(|| format!("starting {command:?}"))?);
        let deadline = Instant::now() + PATIENCE;
        for at in listens {
            let filter = format!("sport = :{}", at.port());
            while home.run("ss", &["-Hltn", &filter])?.is_empty() {
                let ended = process.0.try_wait()?;
                ensure!(
                    ended.is_none() && Instant::now() < deadline,
                    "{command:?} does not listen on {at}:\n{}",
                    read(log.path())
                );
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(process)
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

impl Drop for Process {
    fn drop(&mut self) {
        process::end(&mut self.0);
    }
}
