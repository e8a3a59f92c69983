//! An HTTP/1.1 server that names its colour.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Result as IoResult, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::socket::sockopt;

use super::request::{self, Request};
use super::{Identity, Seen};
use crate::{Namespace, pattern};

/// A running server; stops on drop, and so do its connections.
#[derive(Debug)]
pub struct HttpServer {
    shared: Arc<Shared>,
    listener: TcpListener,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    identity: Identity,
    seen: Arc<Seen>,
    stopping: AtomicBool,
    /// Connections being served, so that they can be ended.
    connections: Mutex<HashMap<u64, TcpStream>>,
}

impl HttpServer {
    /// Listens on `address` inside `namespace`.
    ///
    /// # Errors
    /// When the address can't be bound.
    pub fn start(namespace: &Namespace, address: SocketAddr, identity: Identity) -> Result<Self> {
        let listener = namespace
            .inside(|| TcpListener::bind(address))?
            .with_context(|| format!("listening on {address} in {}", namespace.name()))?;
        let shared = Arc::new(Shared {
            identity,
            seen: Arc::default(),
            stopping: AtomicBool::new(false),
            connections: Mutex::default(),
        });
        let accepting = (listener.try_clone()?, Arc::clone(&shared));
        let acceptor = namespace.spawn("http", move || accept(&accepting.0, &accepting.1))?;
        Ok(Self {
            shared,
            listener,
            acceptor: Some(acceptor),
        })
    }

    /// What it has seen so far.
    #[must_use]
    pub fn seen(&self) -> &Arc<Seen> {
        &self.shared.seen
    }

    /// Makes `GET /healthz` say 200 or 503.
    pub fn set_healthy(&self, healthy: bool) {
        self.shared
            .seen
            .unhealthy
            .store(!healthy, Ordering::Relaxed);
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // Wakes the acceptor; closing alone would not.
        let _ =
            nix::sys::socket::shutdown(self.listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        for stream in self.shared.connections().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn connections(&self) -> std::sync::MutexGuard<'_, HashMap<u64, TcpStream>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for number in 0.. {
        let Ok((stream, _)) = listener.accept() else {
            if shared.stopping.load(Ordering::Relaxed) {
                return;
            }
            // Out of descriptors, most likely: others may end.
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        shared.seen.accepted.fetch_add(1, Ordering::Relaxed);
        if let Ok(kept) = stream.try_clone() {
            shared.connections().insert(number, kept);
        }
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            let result = serve(stream, &shared);
            shared.connections().remove(&number);
            if result.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset) {
                shared.seen.resets.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> IoResult<()> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::new(stream.try_clone()?);
    while let Some(request) = request::read(&mut input)? {
        shared.seen.answered.fetch_add(1, Ordering::Relaxed);
        match request {
            Request::Identity if shared.seen.resetting.load(Ordering::Relaxed) => {
                let at_once = nix::libc::linger {
                    l_onoff: 1,
                    l_linger: 0,
                };
                nix::sys::socket::setsockopt(&stream, sockopt::Linger, &at_once)?;
                return Ok(());
            }
            Request::Identity => answer(
                &mut stream,
                shared,
                "200 OK",
                &format!("{}\n", shared.identity),
            )?,
            Request::Once => {
                let text = format!("{}\n", shared.identity);
                return answer(&mut stream, shared, "200 OK", &text);
            }
            Request::Health if shared.seen.unhealthy.load(Ordering::Relaxed) => {
                answer(
                    &mut stream,
                    shared,
                    "503 Service Unavailable",
                    "told to be unhealthy\n",
                )?;
            }
            Request::Health => answer(&mut stream, shared, "200 OK", "ok\n")?,
            Request::Long {
                seconds,
                bytes,
                seed,
            } => long(&mut stream, shared, seed, seconds, bytes)?,
            Request::Pattern { bytes, seed } => {
                let said = check(&mut input, seed, bytes)?;
                answer(&mut stream, shared, "200 OK", &said)?;
            }
            Request::Echo => return echo(&mut stream, &mut input, shared),
            Request::Unknown => answer(
                &mut stream,
                shared,
                "404 Not Found",
                "try / /once /healthz /long\n",
            )?,
        }
    }
    Ok(())
}

fn answer(stream: &mut TcpStream, shared: &Shared, status: &str, body: &str) -> IoResult<()> {
    let head = head(shared, status, body.len());
    stream.write_all((head + body).as_bytes())
}

fn head(shared: &Shared, status: &str, length: impl std::fmt::Display) -> String {
    let Identity {
        colour, version, ..
    } = &shared.identity;
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nX-Colour: {colour}\r\nX-Version: {version}\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

/// Writes the pattern in pieces, at an even pace.
fn long(
    stream: &mut TcpStream,
    shared: &Shared,
    seed: u8,
    seconds: f64,
    bytes: u64,
) -> IoResult<()> {
    stream.write_all(head(shared, "200 OK", bytes).as_bytes())?;
    let pieces = (seconds.clamp(0.0, 3600.0) * 50.0).max(1.0);
    let begun = Instant::now();
    let (mut sent, mut piece) = (
        0u64,
        vec![0; (bytes as f64 / pieces).ceil().clamp(1.0, 1e6) as usize],
    );
    while sent < bytes && !shared.stopping.load(Ordering::Relaxed) {
        let size = piece.len().min((bytes - sent) as usize);
        pattern::fill(seed, sent, &mut piece[..size]);
        stream.write_all(&piece[..size])?;
        sent += size as u64;
        let due = Duration::from_secs_f64(seconds.clamp(0.0, 3600.0) * sent as f64 / bytes as f64);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    Ok(())
}

/// Reads the pattern, and says whether every byte is as it should be.
fn check(input: &mut BufReader<TcpStream>, seed: u8, bytes: u64) -> IoResult<String> {
    let (mut got, mut piece) = (0, vec![0; 16 * 1024]);
    let mut wrong = None;
    while got < bytes {
        let most = piece.len().min((bytes - got) as usize);
        let size = input.read(&mut piece[..most])?;
        if size == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        wrong = wrong.or_else(|| pattern::first_wrong(seed, got, &piece[..size]));
        got += size as u64;
    }
    Ok(wrong.map_or_else(
        || "all right\n".to_owned(),
        |offset| format!("byte {offset} is wrong\n"),
    ))
}

fn echo(stream: &mut TcpStream, input: &mut BufReader<TcpStream>, shared: &Shared) -> IoResult<()> {
    while let Some(text) = request::line(input)? {
        shared.seen.answered.fetch_add(1, Ordering::Relaxed);
        stream.write_all(format!("{} {text}\n", shared.identity).as_bytes())?;
        if input.fill_buf()?.is_empty() {
            break;
        }
    }
    Ok(())
}
