//! What one connection carries between virtual interfaces, by the hook at which packets are met.

use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use switcher_harness::agent::binary;
use switcher_harness::config::Settings;
use switcher_harness::topology::COLOURS;
use switcher_harness::{Agent, Mode, Namespace, Place, Topology};
use switcher_tests::receiver::Receivers;

use crate::report::Report;

const GIGABIT: f64 = 1e9;
/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// With everything that the kernel leaves to a card, as between containers.
pub(crate) fn measure(seconds: u32, report: &mut Report) -> anyhow::Result<()> {
    for (mode, names) in [
        (
            Mode::Local,
            [
                "one stream, local, no program",
                "one stream, local, native XDP",
                "one stream, local, generic XDP",
                "one stream, local, tc",
            ],
        ),
        (
            Mode::Routed,
            [
                "one stream, routed, no program",
                "one stream, routed, native XDP",
                "one stream, routed, generic XDP",
                "one stream, routed, tc",
            ],
        ),
    ] {
        for (xdp, name) in [None, Some("native"), Some("generic"), Some("tc")]
            .into_iter()
            .zip(names)
        {
            let rate = stream(mode, xdp, seconds).context(name)?;
            report.figure(name, rate / GIGABIT, "Gbit/s", None);
        }
    }
    Ok(())
}

/// Bits a second from the client to the service, or to its server itself where there is no program.
fn stream(mode: Mode, xdp: Option<&'static str>, seconds: u32) -> anyhow::Result<f64> {
    let topology = Topology::new(mode, true)?;
    let servers = topology.endpoints(1);
    let server = servers
        .iter()
        .find(|server| server.colour == COLOURS[0])
        .context("no server")?;
    let _server = Server::start(topology.home(server), server.web)?;
    let Some(xdp) = xdp else {
        return carried(&topology.client, server.web, seconds);
    };
    // Native XDP needs somebody who takes what it sends.
    let _receivers = match xdp {
        "native" => Some(Receivers::attach(&topology)?),
        _ => None,
    };
    let settings = Settings {
        xdp,
        health: "none",
        ..Settings::default()
    };
    let place = Place::new()?;
    let config = settings.render(&topology, &place);
    let mut agent = Agent::new(&topology.switch, &binary()?, place, &config)?;
    agent.start()?;
    carried(&topology.client, topology.web(), seconds)
}

fn carried(client: &Namespace, to: SocketAddr, seconds: u32) -> anyhow::Result<f64> {
    let (host, port) = (to.ip().to_string(), to.port().to_string());
    let seconds = seconds.to_string();
    let arguments = ["-J", "-c", &host, "-p", &port, "-t", &seconds];
    let answer: Value = serde_json::from_str(&client.run("iperf3", &arguments)?)?;
    let rate = &answer["end"]["sum_received"]["bits_per_second"];
    rate.as_f64()
        .with_context(|| format!("no rate in {answer}"))
}

/// Takes one stream; ended when dropped.
struct Server(Child);

impl Server {
    fn start(home: &Namespace, at: SocketAddr) -> anyhow::Result<Self> {
        let mut command = home.command("iperf3");
        command.args(["-s", "-1", "-p", &at.port().to_string()]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = Self(child.context("starting iperf3, which `cargo xtask setup` installs")?);
        let deadline = Instant::now() + PATIENCE;
        let listening = format!("sport = :{}", at.port());
        while home.run("ss", &["-Hltn", &listening])?.is_empty() {
            ensure!(Instant::now() < deadline, "iperf3 does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended by itself if it was asked.
        let _gone = self.0.kill();
        let _ended = self.0.wait();
    }
}
