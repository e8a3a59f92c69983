//! Clients under whose eyes a switch happens: each answer is checked and recorded.

mod connection;
mod record;
mod report;
mod tcp;
mod udp;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{Namespace, Topology};
pub use connection::{Connection, connect_from};
pub use record::{Answer, Kind, Recorder};
pub use report::{Report, Second};
pub use udp::fresh as fresh_socket;

/// How many clients of each kind, and how busy they are.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Connections on which one request follows the other, for the whole run.
    pub keep_alive: usize,
    /// The same, but closed and opened anew after [`Plan::requests`] requests.
    pub short_lived: usize,
    /// Requests of a short-lived connection.
    pub requests: usize,
    /// Workers that connect, ask once and close.
    pub new: usize,
    /// Downloads of a checked pattern, one after the other.
    pub downloads: usize,
    /// How long a download takes.
    pub download: Duration,
    /// Connections that speak a line each [`Plan::idle_pause`].
    pub idle: usize,
    /// The silence of an idle connection.
    pub idle_pause: Duration,
    /// UDP sockets that go on for the whole run.
    pub udp_flows: usize,
    /// Workers that send one datagram from a new socket, again and again.
    pub udp_new: usize,
    /// The pause of a worker between two requests.
    pub pause: Duration,
    /// The longest run: clients stop by themselves then.
    pub at_most: Duration,
}

/// Bytes of a download.
pub const DOWNLOAD_BYTES: u64 = 2_000_000;

/// How long a client waits for any answer.
pub const PATIENCE: Duration = Duration::from_secs(5);

impl Default for Plan {
    fn default() -> Self {
        Self {
            keep_alive: 4,
            short_lived: 2,
            requests: 20,
            new: 3,
            downloads: 1,
            download: Duration::from_secs(10),
            idle: 1,
            idle_pause: Duration::from_millis(100),
            udp_flows: 2,
            udp_new: 1,
            pause: Duration::from_millis(5),
            at_most: Duration::from_secs(300),
        }
    }
}

impl Plan {
    /// Connections that end by themselves, so that they keep no colour in use; and no UDP flows, which are remembered for a
    /// minute.
    #[must_use]
    pub fn passing() -> Self {
        Self {
            keep_alive: 0,
            downloads: 0,
            idle: 0,
            udp_flows: 0,
            udp_new: 0,
            ..Self::default()
        }
    }
}

/// A running load; stops on drop.
#[derive(Debug)]
pub struct Load {
    recorder: Arc<Recorder>,
    threads: Vec<JoinHandle<()>>,
}

/// What a client works with.
#[derive(Clone, Debug)]
struct Client {
    web: SocketAddr,
    echo: SocketAddr,
    plan: Plan,
    recorder: Arc<Recorder>,
}

type Work = fn(&Client);

impl Load {
    /// Starts clients of the topology's services.
    ///
    /// # Errors
    /// When a thread can't be started.
    pub fn start(topology: &Topology, plan: &Plan) -> Result<Self> {
        Self::start_at(&topology.client, topology.web(), topology.echo(), plan)
    }

    /// Starts clients of two addresses: HTTP over TCP, and echo over UDP.
    ///
    /// # Errors
    /// When a thread can't be started.
    pub fn start_at(
        namespace: &Namespace,
        web: SocketAddr,
        echo: SocketAddr,
        plan: &Plan,
    ) -> Result<Self> {
        let mut load = Self {
            recorder: Arc::default(),
            threads: Vec::new(),
        };
        let recorder = Arc::clone(&load.recorder);
        let client = Client {
            web,
            echo,
            plan: plan.clone(),
            recorder,
        };
        let kinds: [(&str, usize, Work); 7] = [
            ("keep-alive", plan.keep_alive, tcp::keep_alive),
            ("short-lived", plan.short_lived, tcp::short_lived),
            ("new", plan.new, tcp::new),
            ("download", plan.downloads, tcp::download),
            ("idle", plan.idle, tcp::idle),
            ("udp-flow", plan.udp_flows, udp::flow),
            ("udp-new", plan.udp_new, udp::new),
        ];
        for (name, number, work) in kinds {
            for _ in 0..number {
                let client = client.clone();
                load.threads
                    .push(namespace.spawn(name, move || work(&client))?);
            }
        }
        Ok(load)
    }

    /// What was recorded so far, for watching.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Ends the load once every client has finished what it is at, and reports.
    ///
    /// # Errors
    /// When a client panicked: then nothing it says can be trusted.
    pub fn stop(mut self) -> Result<Report> {
        self.recorder.stop();
        for thread in std::mem::take(&mut self.threads) {
            ensure!(thread.join().is_ok(), "a client of the load panicked");
        }
        Ok(Report::new(&self.recorder))
    }
}

impl Drop for Load {
    /// Nobody asks for a report: clients end by themselves, and no one waits for their last download.
    fn drop(&mut self) {
        self.recorder.stop();
    }
}

impl Client {
    /// Whether to go on with another request.
    fn goes_on(&self) -> bool {
        !self.recorder.is_stopping() && self.recorder.begun().elapsed() < self.plan.at_most
    }

    fn pause(&self) {
        std::thread::sleep(self.plan.pause);
    }
}
