//! New connections, one after the other, and what answered each; and connections that are kept.

use std::io::{Read as _, Result as IoResult, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use switcher_harness::Namespace;
use switcher_harness::topology::COLOURS;

/// How long a client waits for anything.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two connections of a prober.
const PAUSE: Duration = Duration::from_micros(300);

/// One connection and the place of the colour that answered it; none if nobody did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    pub(crate) place: Option<usize>,
}

/// Two clients that connect, ask, close, and connect again.
pub(crate) struct Probers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Probe>>>,
}

impl Probers {
    pub(crate) fn start(client: &Namespace, at: SocketAddr) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for _ in 0..2 {
            let stop = Arc::clone(&stop);
            threads.push(client.spawn("prober", move || probe(at, &stop))?);
        }
        Ok(Self { stop, threads })
    }

    pub(crate) fn stop(self) -> Result<Vec<Probe>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for thread in self.threads {
            let found = thread.join();
            ensure!(found.is_ok(), "a prober panicked");
            all.extend(found.unwrap_or_default());
        }
        Ok(all)
    }
}

fn probe(at: SocketAddr, stop: &AtomicBool) -> Vec<Probe> {
    let mut all = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let place = Kept::open(at).and_then(|mut it| it.ask());
        all.push(Probe {
            begun,
            ended: Instant::now(),
            place: place.ok(),
        });
        std::thread::sleep(PAUSE);
    }
    all
}

/// A connection that stays open.
pub(crate) struct Kept(TcpStream);

impl Kept {
    pub(crate) fn open(at: SocketAddr) -> IoResult<Self> {
        let stream = TcpStream::connect_timeout(&at, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    /// The place of the colour that answers.
    pub(crate) fn ask(&mut self) -> IoResult<usize> {
        self.0.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")?;
        let mut answer = [0; 1024];
        // The servers send it in one piece.
        let size = self.0.read(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer[..size]);
        let names = |colour: &&str| answer.trim_end().ends_with(*colour);
        let place = COLOURS.iter().position(names);
        place.ok_or_else(|| std::io::ErrorKind::InvalidData.into())
    }
}
