//! Clients that check what they get.

mod tcp;
mod udp;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use switcher_harness::Topology;
use switcher_harness::chance::Chance;

use crate::judge::{Judge, Kind};

/// How long a client waits for any answer. Pauses, links that are down and a busy machine only delay.
const PATIENCE: Duration = Duration::from_secs(45);
/// The shortest of one that is to live long.
const SHORTEST: Duration = Duration::from_millis(500);

type Work = fn(&mut Client);

/// How many of each.
const CLIENTS: [(Kind, usize, Work); 7] = [
    (Kind::Download, 2, tcp::downloads),
    (Kind::Upload, 2, tcp::uploads),
    (Kind::Idle, 6, tcp::idle),
    (Kind::Requests, 3, tcp::requests),
    (Kind::New, 2, tcp::new),
    (Kind::Datagrams, 4, udp::flow),
    (Kind::NewDatagram, 1, udp::new),
];

/// Clients at work; they stop on drop.
#[derive(Debug)]
pub struct Clients {
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What one works with.
#[derive(Debug)]
struct Client {
    kind: Kind,
    web: SocketAddr,
    echo: SocketAddr,
    judge: Arc<Judge>,
    stopping: Arc<AtomicBool>,
    chance: Chance,
    /// The longest life of a flow.
    life: Duration,
}

impl Clients {
    /// Starts them.
    ///
    /// # Errors
    /// When a thread can't be started.
    pub fn start(
        topology: &Topology,
        judge: &Arc<Judge>,
        seed: u64,
        life: Duration,
    ) -> Result<Self> {
        let mut clients = Self {
            stopping: Arc::default(),
            threads: Vec::new(),
        };
        for (kind, number, work) in CLIENTS {
            for _ in 0..number {
                let place = clients.threads.len() as u64;
                let mut client = Client {
                    kind,
                    web: topology.web(),
                    echo: topology.echo(),
                    judge: Arc::clone(judge),
                    stopping: Arc::clone(&clients.stopping),
                    chance: Chance::seeded(seed ^ (place + 1) << 32),
                    life,
                };
                let body = move || {
                    while !client.is_stopping() {
                        work(&mut client);
                    }
                };
                let thread = topology.client.spawn(kind.name(), body)?;
                clients.threads.push(thread);
            }
        }
        Ok(clients)
    }

    /// Ends them, when each has finished what it is at.
    ///
    /// # Errors
    /// When one has panicked.
    pub fn stop(mut self) -> Result<()> {
        self.stopping.store(true, Ordering::Relaxed);
        for thread in std::mem::take(&mut self.threads) {
            ensure!(thread.join().is_ok(), "a client has panicked");
        }
        Ok(())
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

impl Client {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// When a flow that begins now is to end.
    fn end(&mut self) -> Instant {
        Instant::now() + SHORTEST + self.chance.time(self.life - SHORTEST)
    }

    fn goes_on(&self, end: Instant) -> bool {
        !self.is_stopping() && Instant::now() < end
    }

    /// Some time of up to `most`.
    fn pause(&mut self, most: Duration) {
        std::thread::sleep(self.chance.time(most));
    }
}
