//! Entries of systemd's journal, in its native protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>): a datagram of
//! fields, each with its length, so that no value can pass for a field.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tracing::Level;

use super::line::Line;
use super::plain;

/// Characters that the journal allows in a field's name.
const LONGEST_NAME: usize = 64;

/// Where entries go.
pub(super) struct Journal {
    /// None if this process may have no sockets of the kind.
    socket: Option<UnixDatagram>,
    path: PathBuf,
}

impl Journal {
    /// Nobody needs to listen yet: the journal may be started anew at any time.
    pub(super) fn at(path: &Path) -> Self {
        Self {
            socket: UnixDatagram::unbound().ok(),
            path: path.to_owned(),
        }
    }

    /// # Errors
    /// When nobody takes it, or it is larger than a datagram may be.
    pub(super) fn send(&self, line: &Line) -> io::Result<()> {
        let Some(socket) = &self.socket else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        socket.send_to(&entry(line), &self.path).map(drop)
    }
}

fn entry(line: &Line) -> Vec<u8> {
    let mut entry = Vec::new();
    put(&mut entry, "MESSAGE", &plain::on_its_lines(&line.message));
    put(&mut entry, "PRIORITY", priority(line.level));
    put(&mut entry, "SYSLOG_IDENTIFIER", "switcher");
    put(&mut entry, "TARGET", &line.target);
    for (name, value) in &line.fields {
        let value = match value {
            Value::String(text) => plain::on_its_lines(text),
            other => other.to_string(),
        };
        put(&mut entry, &field(name), &value);
    }
    entry
}

fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    entry.push(b'\n');
    entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

/// Upper-case letters, digits and underscores, and none of the latter at the beginning: these are the journal's.
fn field(name: &str) -> String {
    let allowed = name.chars().map(|c| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_uppercase(),
        false => '_',
    });
    let own = allowed.skip_while(|c| !c.is_ascii_uppercase());
    own.take(LONGEST_NAME).collect()
}

/// As syslog(3) has them.
const fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}
