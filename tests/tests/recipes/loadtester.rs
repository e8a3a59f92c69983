//! What Flagger's load tester does with the requests that matter here: gates that are checked, opened and closed by
//! a canary's name and namespace, closed at first; everything else is a task.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use switcher_harness::Namespace;

/// Listens until the process ends.
pub(crate) struct LoadTester {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    open: HashSet<String>,
    tasks: Vec<Value>,
}

impl LoadTester {
    pub(crate) fn start(namespace: &Namespace) -> Result<Self> {
        let listener = namespace.inside(|| TcpListener::bind("127.0.0.1:0"))??;
        let address = listener.local_addr()?;
        let shared = Arc::default();
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _gone = serve(stream, &theirs);
            }
        });
        Ok(Self { address, shared })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What its paths `/gate/open` and the like do for a canary, by somebody who does it by hand.
    pub(crate) fn set(&self, gate: &str, open: bool) {
        let mut shared = lock(&self.shared);
        match open {
            true => shared.open.insert(gate.to_owned()),
            false => shared.open.remove(gate),
        };
    }

    /// Tasks that it was given.
    pub(crate) fn tasks(&self) -> Vec<Value> {
        lock(&self.shared).tasks.clone()
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut stream: TcpStream, shared: &Mutex<Shared>) -> Result<()> {
    let (path, payload) = read(&mut stream)?;
    let text = |key: &str| payload[key].as_str().context("a name");
    let canary = format!("{}.{}", text("name")?, text("namespace")?);
    let answer = {
        let mut shared = lock(shared);
        match path.as_str() {
            "/gate/check" => checked(shared.open.contains(&canary)),
            "/rollback/check" => checked(shared.open.contains(&format!("rollback.{canary}"))),
            "/" if payload["metadata"]["type"] == "bash" => {
                shared.tasks.push(payload);
                "200 OK\r\ncontent-length: 0\r\n\r\n"
            }
            _ => "400 Bad Request\r\ncontent-length: 27\r\n\r\nmetadata not found in payload",
        }
    };
    write!(stream, "HTTP/1.1 {answer}")?;
    Ok(())
}

const fn checked(open: bool) -> &'static str {
    match open {
        true => "200 OK\r\ncontent-length: 8\r\n\r\nApproved",
        false => "403 Forbidden\r\ncontent-length: 9\r\n\r\nForbidden",
    }
}

/// A request's path and its body.
fn read(stream: &mut TcpStream) -> Result<(String, Value)> {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer)?;
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                let is_length = name.eq_ignore_ascii_case("content-length");
                is_length.then(|| value.parse::<usize>().ok())?
            });
            if body.len() >= length.context("a length")? {
                let path = head.split(' ').nth(1).context("a path")?;
                return Ok((path.to_owned(), serde_json::from_str(body)?));
            }
        }
        if count == 0 {
            bail!("the request ends early");
        }
    }
}
