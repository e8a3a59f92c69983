//! Who is at the other end of a connection.

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use nix::unistd::{Uid, User};
use tokio::net::UnixListener;

use crate::exit::{Exit, Failure};

/// The process that has opened a connection, as the kernel knows it.
#[derive(Clone, Debug)]
pub struct Peer {
    uid: Option<u32>,
    name: String,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        match stream.io().peer_cred() {
            Ok(peer) => Self::new(peer.uid(), peer.gid(), peer.pid()),
            Err(error) => Self {
                uid: None,
                name: format!("unknown ({error})"),
            },
        }
    }
}

impl Peer {
    fn new(uid: u32, gid: u32, pid: Option<i32>) -> Self {
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        let user = user.map_or_else(|| format!("uid {uid}"), |user| user.name);
        let pid = pid
            .map(|pid| format!(", pid {pid} {}", command(pid)))
            .unwrap_or_default();
        Self {
            uid: Some(uid),
            name: format!("{user} (uid {uid}, gid {gid}{pid})"),
        }
    }

    /// For the record: `root (uid 0, gid 0, pid 123 curl)`.
    #[must_use]
    pub fn actor(&self) -> String {
        self.name.clone()
    }

    /// That it may change things.
    ///
    /// # Errors
    /// When it is neither root nor the agent's own user.
    pub fn may_change(&self, own_uid: u32) -> Result<(), Failure> {
        if self.uid.is_some_and(|uid| uid == 0 || uid == own_uid) {
            return Ok(());
        }
        let why = format!("{} may look, but not change anything", self.name);
        Err(Failure::new(Exit::NotPermitted, "", why).advise("ask as root, for example with sudo"))
    }
}

/// A process's name, as it was when it connected.
fn command(pid: i32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    plain(name.trim_end(), 32)
}

/// What others wrote, without what could be taken for a line of our own log.
pub(super) fn plain(text: &str, longest: usize) -> String {
    let plain = text.chars().map(|c| if misleads(c) { ' ' } else { c });
    plain.take(longest).collect()
}

/// Controls, ends of lines, and what turns the direction of text or takes no place in it.
pub(crate) fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_agents_user_may_change_things() {
        let peer = |uid| Peer {
            uid,
            name: "someone".into(),
        };
        assert!(peer(Some(0)).may_change(1000).is_ok());
        assert!(peer(Some(1000)).may_change(1000).is_ok());
        for uid in [Some(1001), None] {
            let failure = peer(uid).may_change(1000).expect_err("is refused");
            assert_eq!(failure.exit, Exit::NotPermitted);
        }
    }

    #[test]
    fn a_peer_is_named_with_its_process() {
        let name = Peer::new(0, 7, Some(std::process::id().cast_signed())).actor();
        assert!(name.starts_with("root (uid 0, gid 7, pid "), "{name}");
    }

    #[test]
    fn what_others_write_stays_on_its_line() {
        assert_eq!(plain("a\nINFO forged\u{1b}[0m", 8), "a INFO f");
        assert_eq!(plain("a\u{2028}b\u{202e}c\u{200b}\u{85}é", 9), "a b c  é");
    }
}
