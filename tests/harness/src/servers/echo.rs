//! A UDP server that sends every datagram back behind its identity.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Identity, Seen};
use crate::Namespace;

/// How soon a stopped server notices.
const PATIENCE: Duration = Duration::from_millis(100);

/// A running server; stops on drop.
#[derive(Debug)]
pub struct EchoServer {
    seen: Arc<Seen>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EchoServer {
    /// Answers on `address` inside `namespace`.
    ///
    /// # Errors
    /// When the address can't be bound.
    pub fn start(namespace: &Namespace, address: SocketAddr, identity: Identity) -> Result<Self> {
        let socket = namespace
            .inside(|| UdpSocket::bind(address))?
            .with_context(|| format!("binding {address} in {}", namespace.name()))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let (seen, stopping) = (Arc::<Seen>::default(), Arc::<AtomicBool>::default());
        let working = (Arc::clone(&seen), Arc::clone(&stopping));
        let work = move || answer(&socket, &identity, &working.0, &working.1);
        let thread = namespace.spawn("echo", work)?;
        Ok(Self {
            seen,
            stopping,
            thread: Some(thread),
        })
    }

    /// What it has seen so far.
    #[must_use]
    pub fn seen(&self) -> &Arc<Seen> {
        &self.seen
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(socket: &UdpSocket, identity: &Identity, seen: &Seen, stopping: &AtomicBool) {
    let mut buffer = vec![0; 1 << 16];
    while !stopping.load(Ordering::Relaxed) {
        let Ok((size, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let text = String::from_utf8_lossy(&buffer[..size]);
        // A client that has gone is not our concern.
        let _ = socket.send_to(format!("{identity} {text}").as_bytes(), from);
        seen.answered.fetch_add(1, Ordering::Relaxed);
    }
}
