//! A receiver of requests on the loopback of a namespace.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;
use switcher_harness::Namespace;

/// A request that is longer in coming will not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes requests, and answers them with a status.
pub struct Hooks {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    requests: Receiver<Request>,
    /// Connections that get no answer.
    _silent: Arc<Mutex<Vec<TcpStream>>>,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// When it had come.
    pub at: Instant,
    /// Its headers, in lower case.
    pub headers: String,
    /// Its body, as it came.
    pub text: String,
    /// The same as JSON.
    pub body: Value,
}

impl Hooks {
    /// Listens in a namespace. With status 0 it takes connections and answers nothing.
    ///
    /// # Errors
    /// When it can't listen.
    pub fn listen(namespace: &Namespace, status: u16) -> Result<Self> {
        namespace.ip("link set lo up")?;
        let listener = namespace.inside(|| TcpListener::bind("127.0.0.1:0"))??;
        let address = listener.local_addr()?;
        let status = Arc::new(AtomicU16::new(status));
        let silent = Arc::default();
        let (sender, requests) = channel();
        let (answers, kept) = (Arc::clone(&status), Arc::clone(&silent));
        // It ends with the process: nobody waits for it.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream, &answers, &sender, &kept);
            }
        });
        Ok(Self {
            address,
            status,
            requests,
            _silent: silent,
        })
    }

    /// Where requests go.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    /// From now on with this status.
    pub fn answer(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    /// The next request.
    ///
    /// # Errors
    /// When none comes.
    pub fn next(&self) -> Result<Request> {
        self.requests
            .recv_timeout(PATIENCE)
            .context("no request has come")
    }

    /// Whether none has come; one that has is forgotten.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.try_recv().is_err()
    }

    /// Forgets what came so far.
    pub fn forget(&self) {
        while !self.is_empty() {}
    }
}

fn serve(
    mut stream: TcpStream,
    status: &AtomicU16,
    sender: &Sender<Request>,
    silent: &Mutex<Vec<TcpStream>>,
) {
    let Some(request) = read(&mut stream) else {
        return;
    };
    let status = status.load(Ordering::Relaxed);
    let _nobody_listens = sender.send(request);
    if status == 0 {
        let mut silent = silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.push(stream);
        return;
    }
    let answer =
        format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let _gone = stream.write_all(answer.as_bytes());
}

fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((headers, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let headers = headers.to_lowercase();
        let length = headers
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length?.parse().ok()? {
            let text = body.to_owned();
            let body = serde_json::from_str(&text).ok()?;
            return Some(Request {
                at: Instant::now(),
                headers,
                text,
                body,
            });
        }
    }
}
