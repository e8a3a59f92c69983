//! A port that leads to a socket in the file system, as `ssh -L PORT:SOCKET` makes one.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::Namespace;

/// Passes bytes to and fro; no new connections are taken once it is dropped.
#[derive(Debug)]
pub struct Bridge {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bridge {
    /// Listens at a port of the namespace's own host.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(namespace: &Namespace, socket: &Path) -> Result<Self> {
        let bound = namespace.inside(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let listener = bound.context("listening for a browser")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let stopped = Arc::new(AtomicBool::new(false));
        let (socket, seen) = (socket.to_owned(), Arc::clone(&stopped));
        let thread = std::thread::spawn(move || accept(&listener, &socket, &seen));
        Ok(Self {
            address,
            stopped,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, socket: &Path, stopped: &AtomicBool) {
    while !stopped.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((client, _)) => {
                // Whoever comes while nobody listens at the socket is turned away.
                if let Ok(agent) = UnixStream::connect(socket) {
                    let _refused = pass(client, agent);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(_) => return,
        }
    }
}

fn pass(client: TcpStream, agent: UnixStream) -> io::Result<()> {
    client.set_nonblocking(false)?;
    let (mut from_client, mut from_agent) = (client.try_clone()?, agent.try_clone()?);
    let (mut client, mut agent) = (client, agent);
    std::thread::spawn(move || {
        let _cut = io::copy(&mut from_client, &mut agent);
        let _gone = agent.shutdown(Shutdown::Write);
    });
    std::thread::spawn(move || {
        let _cut = io::copy(&mut from_agent, &mut client);
        let _gone = client.shutdown(Shutdown::Both);
    });
    Ok(())
}
