//! Who is at the other end of a connection, and what they may do.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::Arc;

use jiff::Timestamp;
use nix::unistd::{Uid, User};
use rustls::pki_types::CertificateDer;
use tokio::net::UnixStream;

use crate::config::{Role, Roles};
use crate::exit::{Exit, Failure};
use crate::tls;

/// Supplementary groups that are looked at; Linux allows 65536.
const GROUPS_MAX: usize = 1024;

/// Whoever has opened a connection: as the kernel knows it, or as its certificate says.
#[derive(Clone, Debug)]
pub struct Peer(Arc<Known>);

#[derive(Debug)]
struct Known {
    who: Whom,
    name: String,
}

#[derive(Debug)]
enum Whom {
    /// A process of this host.
    Process {
        uid: u32,
        /// All its groups.
        gids: Vec<u32>,
    },
    /// What the kernel didn't tell.
    Unknown,
    /// Whoever has the key of a certificate that an authority of ours has signed.
    Certificate {
        names: Vec<String>,
        /// No longer than that.
        until: Timestamp,
    },
}

impl Peer {
    fn new(who: Whom, name: String) -> Self {
        Self(Arc::new(Known { who, name }))
    }

    /// At the other end of a Unix socket.
    pub(super) fn of_socket(stream: &UnixStream) -> Self {
        match stream.peer_cred() {
            Ok(peer) => {
                let mut gids = groups(stream);
                gids.push(peer.gid());
                Self::process(peer.uid(), gids, peer.pid())
            }
            Err(error) => Self::new(Whom::Unknown, format!("unknown ({error})")),
        }
    }

    /// The own group is the last.
    fn process(uid: u32, gids: Vec<u32>, pid: Option<i32>) -> Self {
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        let user = user.map_or_else(|| format!("uid {uid}"), |user| user.name);
        let pid = pid
            .map(|pid| format!(", pid {pid} {}", command(pid)))
            .unwrap_or_default();
        let gid = gids.last().copied().unwrap_or_default();
        let name = format!("{user} (uid {uid}, gid {gid}{pid})");
        Self::new(Whom::Process { uid, gids }, name)
    }

    /// Whoever has shown a certificate that was found good.
    pub(super) fn of_certificate(certificate: &CertificateDer<'_>, from: SocketAddr) -> Self {
        let names = tls::names(certificate);
        let name = names.first().map_or("without a name", |it| it.as_str());
        let ip = from.ip();
        let name = format!("{} (certificate, from {ip})", plain(name, 128));
        let until = tls::expires(certificate).unwrap_or(Timestamp::MIN);
        Self::new(Whom::Certificate { names, until }, name)
    }

    /// For the record: `root (uid 0, gid 0, pid 123 curl)`, `ci.internal (certificate, from 10.0.0.7)`.
    #[must_use]
    pub fn actor(&self) -> String {
        self.0.name.clone()
    }

    /// Those who share a bound are of one key.
    pub(super) fn key(&self) -> String {
        match &self.0.who {
            Whom::Process { uid, .. } => format!("uid {uid}"),
            Whom::Unknown => "unknown".to_owned(),
            Whom::Certificate { names, .. } => format!("certificate {}", names.join(" ")),
        }
    }

    /// Whether it is root of this host or the agent's own user: who can do what the agent can, anyway.
    pub(super) fn is_own(&self, own_uid: u32) -> bool {
        matches!(self.0.who, Whom::Process { uid, .. } if uid == 0 || uid == own_uid)
    }

    /// What it may do; nothing at all if none.
    pub(super) fn role(&self, roles: Option<&Roles>, own_uid: u32) -> Option<Role> {
        if self.is_own(own_uid) {
            return Some(Role::Admin);
        }
        match (&self.0.who, roles) {
            (Whom::Process { uid, gids }, Some(roles)) => roles.of_process(*uid, gids),
            (Whom::Certificate { names, until }, Some(roles)) if *until > Timestamp::now() => {
                let held = names.iter().filter_map(|name| roles.of_certificate(name));
                held.max()
            }
            // The socket's mode has let it in.
            (Whom::Process { .. } | Whom::Unknown, None) => Some(Role::Viewer),
            (Whom::Unknown | Whom::Certificate { .. }, _) => None,
        }
    }

    /// That it may do something that needs a role.
    ///
    /// # Errors
    /// When it has another one, or none; says which.
    pub(super) fn may(
        &self,
        (roles, own_uid): (Option<&Roles>, u32),
        needs: Role,
        what: &str,
    ) -> Result<(), Failure> {
        let has = self.role(roles, own_uid);
        if has >= Some(needs) {
            return Ok(());
        }
        let name = &self.0.name;
        let expired =
            matches!(&self.0.who, Whom::Certificate { until, .. } if *until <= Timestamp::now());
        let why = match has {
            _ if expired => format!("the certificate of {name} has expired"),
            Some(has) => format!("{name} is {has}; to {what} takes {needs}"),
            None => format!("{name} has no role; to {what} takes {needs}"),
        };
        let advice = match (&self.0.who, roles) {
            (Whom::Process { .. } | Whom::Unknown, None) => {
                "ask as root, for example with sudo, or have [agent.roles] in the configuration name you"
            }
            _ if expired => "get a new one",
            _ => "ask somebody who may, or have [agent.roles] in the configuration name you",
        };
        Err(Failure::new(Exit::NotPermitted, "", why).advise(advice))
    }
}

/// Supplementary groups of the process at the other end; none if the kernel doesn't tell.
fn groups(stream: &UnixStream) -> Vec<u32> {
    let mut gids = vec![0_u32; GROUPS_MAX];
    let mut length = libc::socklen_t::try_from(size_of::<u32>() * GROUPS_MAX).unwrap_or_default();
    // SAFETY: the kernel writes at most `length` bytes to `gids`, which has them, and says how many it wrote.
    let status = unsafe {
        libc::getsockopt(
            stream.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            gids.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let count = usize::try_from(length).unwrap_or_default() / size_of::<u32>();
    gids.truncate(if status == 0 { count } else { 0 });
    gids
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
    use std::time::Duration;

    use super::*;
    use crate::config::Member;

    #[test]
    fn without_roles_root_and_the_agents_user_do_everything_and_others_look() {
        let role = |uid| Peer::process(uid, vec![uid], None).role(None, 1000);
        assert_eq!([0, 1000].map(role), [Some(Role::Admin); 2]);
        assert_eq!(role(1001), Some(Role::Viewer));
        let peer = Peer::process(4_000_001, vec![7], None);
        let failure = peer.may((None, 0), Role::Operator, "flip");
        let failure = failure.expect_err("is refused");
        assert_eq!(failure.exit, Exit::NotPermitted);
        assert_eq!(
            failure.why,
            "uid 4000001 (uid 4000001, gid 7) is viewer; to flip takes operator"
        );
    }

    #[test]
    fn with_roles_who_is_not_named_may_nothing() {
        let roles = Roles(vec![
            (Role::Operator, Member::Gid(27)),
            (Role::Admin, Member::Uid(1001)),
        ]);
        let role =
            |uid, gids: &[u32]| Peer::process(uid, gids.to_vec(), None).role(Some(&roles), 0);
        assert_eq!(role(0, &[0]), Some(Role::Admin));
        assert_eq!(role(1001, &[1001]), Some(Role::Admin));
        assert_eq!(role(1002, &[27, 1002]), Some(Role::Operator));
        assert_eq!(role(1002, &[1002]), None);
    }

    #[test]
    fn a_certificate_that_expires_ends_what_its_connection_may() {
        let roles = Roles(vec![(Role::Operator, Member::Certificate("ci".into()))]);
        let roles = (Some(&roles), 0);
        let until = Timestamp::now() + Duration::from_secs(1);
        let names = vec!["ci".into()];
        let who = Whom::Certificate { names, until };
        let peer = Peer::new(who, "ci (certificate)".into());
        assert_eq!(peer.role(roles.0, roles.1), Some(Role::Operator));
        assert_eq!(peer.may(roles, Role::Operator, "flip"), Ok(()));
        while Timestamp::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(peer.role(roles.0, roles.1), None);
        for needs in [Role::Viewer, Role::Operator] {
            let failure = peer.may(roles, needs, "flip").expect_err("is over");
            assert_eq!(failure.exit, Exit::NotPermitted);
            assert_eq!(
                (failure.why.as_str(), failure.advice.as_str()),
                (
                    "the certificate of ci (certificate) has expired",
                    "get a new one"
                )
            );
        }
    }

    #[test]
    fn a_peer_is_named_with_its_process() {
        let name = Peer::process(0, vec![7], Some(std::process::id().cast_signed())).actor();
        assert!(name.starts_with("root (uid 0, gid 7, pid "), "{name}");
    }

    #[tokio::test]
    async fn the_kernel_tells_all_groups() {
        let (one, _other) = UnixStream::pair().expect("a pair");
        let peer = Peer::of_socket(&one);
        let Whom::Process { gids, .. } = &peer.0.who else {
            panic!("no process");
        };
        let own = nix::unistd::getgroups().expect("has groups");
        for gid in own {
            assert!(gids.contains(&gid.as_raw()), "{gid} is not in {gids:?}");
        }
    }

    #[test]
    fn what_others_write_stays_on_its_line() {
        assert_eq!(plain("a\nINFO forged\u{1b}[0m", 8), "a INFO f");
        assert_eq!(plain("a\u{2028}b\u{202e}c\u{200b}\u{85}é", 9), "a b c  é");
    }
}
