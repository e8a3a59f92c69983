//! Clients on this host: programs on the hooks of a cgroup, by links that are pinned and outlive the agent.
//!
//! Without them everything else works, so what stands in their way is told and not fatal.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use serde::{Deserialize, Serialize};
use switcher_common::abi::client::{Clients, SocketNote, socket_flags};
use switcher_common::abi::map;
use utoipa::ToSchema;

use super::attach::{pinned_link, remove_link};
use super::pinned::Pinned;
use super::pins::Pins;
use super::programs::Programs;
use super::refusal;
use super::sys::{self, Hook};
use crate::config::AgentConfig;

/// Name of the hook, of its program behind `switcher_`, and of its pin.
const HOOKS: [(&str, Hook); 8] = [
    // What is shown before what is steered: no socket may see an endpoint where it asked for a VIP.
    ("recvmsg4", Hook::RecvMsg4),
    ("recvmsg6", Hook::RecvMsg6),
    ("getpeername4", Hook::GetPeerName4),
    ("getpeername6", Hook::GetPeerName6),
    ("sendmsg4", Hook::SendMsg4),
    ("sendmsg6", Hook::SendMsg6),
    ("connect4", Hook::Connect4),
    ("connect6", Hook::Connect6),
];

/// Whether sockets of this host are steered.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct LocalClients {
    /// How it stands.
    pub state: LocalClientsState,
    /// The cgroup whose processes' sockets are steered.
    #[schema(value_type = Option<String>)]
    pub cgroup: Option<PathBuf>,
    /// Why they are not, and what to do about it.
    pub reason: Option<String>,
}

/// How it stands with clients on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LocalClientsState {
    /// The configuration does not want it.
    #[default]
    Off,
    /// The programs are attached.
    On,
    /// Wanted, but not to be had.
    Refused,
    /// They were attached, and are not any more.
    Lost,
}

/// Attaches the programs, or removes them if they are not wanted.
pub(super) fn attach(
    pins: &Pins,
    pinned: &Pinned,
    programs: &mut Programs,
    config: &AgentConfig,
) -> anyhow::Result<LocalClients> {
    if !config.local_clients {
        release(pins)?;
        pinned.maps.clients.set(0, &Clients::default());
        return Ok(LocalClients::default());
    }
    let attached = cgroup(config.cgroup.as_deref())
        .and_then(|cgroup| attach_to(&cgroup, pins, pinned, programs).map(|()| cgroup));
    match attached {
        Ok(cgroup) => Ok(LocalClients {
            state: LocalClientsState::On,
            cgroup: Some(cgroup),
            reason: None,
        }),
        Err(error) => {
            release(pins)?;
            let reason = format!("{error:#}");
            tracing::warn!("clients on this host are not steered: {reason}");
            Ok(LocalClients {
                state: LocalClientsState::Refused,
                cgroup: config.cgroup.clone(),
                reason: Some(reason),
            })
        }
    }
}

fn attach_to(
    cgroup: &Path,
    pins: &Pins,
    pinned: &Pinned,
    programs: &mut Programs,
) -> anyhow::Result<()> {
    let namespace = sys::namespace_cookie()
        .context("this network namespace can't be told from others (Linux 5.14)")?;
    let directory = File::open(cgroup).with_context(|| shown(cgroup, "can't be opened"))?;
    let number = directory.metadata().map(|it| it.ino());
    let number = number.with_context(|| shown(cgroup, "can't be read"))?;
    let ready = HOOKS
        .map(|(name, hook)| Ok((name, hook, programs.get(&format!("switcher_{name}"))?)))
        .into_iter()
        .collect::<anyhow::Result<Vec<_>>>()?;
    pinned.maps.clients.set(0, &Clients { namespace });
    for (name, hook, program) in &ready {
        let pin = pins.client(name);
        let program = program.as_fd();
        if let Some((link, info)) = pinned_link(&pin)? {
            if info.cgroup == number {
                sys::update_link(link.as_fd(), program)
                    .with_context(|| shown(&pin, "its program can't be replaced"))?;
                continue;
            }
            drop(link);
            remove_link(&pin)?;
        }
        let link = sys::create_cgroup_link(program, directory.as_fd(), *hook);
        let link = link.map_err(|error| refusal::cgroup(cgroup, name, error))?;
        sys::pin(link.as_fd(), &pin).with_context(|| shown(&pin, "can't be pinned"))?;
    }
    Ok(())
}

/// Detaches the programs.
pub(super) fn release(pins: &Pins) -> anyhow::Result<()> {
    // What is steered before what is shown.
    for (name, _) in HOOKS.iter().rev() {
        remove_link(&pins.client(name))?;
    }
    Ok(())
}

/// Whether all programs are attached to a cgroup that is still there.
pub(crate) fn attached(pins: &Pins) -> bool {
    HOOKS.iter().all(|(name, _)| {
        let link = pinned_link(&pins.client(name));
        matches!(link, Ok(Some((_, info))) if info.cgroup != 0)
    })
}

/// The cgroup to attach to: the one that is configured, or the root of the hierarchy.
///
/// # Errors
/// When there is no cgroup v2 there, or anywhere.
pub(crate) fn cgroup(configured: Option<&Path>) -> anyhow::Result<PathBuf> {
    let Some(path) = configured else {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        return root(&mounts).context(
            "no cgroup v2 hierarchy is mounted. Mount one (mount -t cgroup2 none /sys/fs/cgroup/unified) \
             and restart the agent, or set local_clients = false under [agent]",
        );
    };
    let kind = statfs(path).with_context(|| shown(path, "can't be looked at"))?;
    anyhow::ensure!(
        kind.filesystem_type() == CGROUP2_SUPER_MAGIC,
        "{}: not in a cgroup v2 hierarchy; correct `cgroup` under [agent], or leave it out to have the \
         root of the hierarchy",
        path.display()
    );
    Ok(path.into())
}

/// Where /proc/self/mounts has a cgroup v2 hierarchy.
fn root(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (place, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| place.into())
    })
}

fn shown(path: &Path, what: &str) -> String {
    format!("{}: {what}", path.display())
}

/// Lets the agent's own sockets reach exactly the address they say, as health checks must.
#[derive(Clone, Debug, Default)]
pub struct Bypass(Option<Arc<OwnedFd>>);

impl Bypass {
    pub(super) fn new(pins: &Pins) -> anyhow::Result<Self> {
        let map = aya::maps::MapData::from_pin(pins.map(map::SOCKETS))?;
        anyhow::ensure!(
            map.info()?.value_size() as usize == size_of::<SocketNote>(),
            "map {} has another shape than this version's",
            map::SOCKETS
        );
        let descriptor = map.fd().as_fd().try_clone_to_owned()?;
        Ok(Self(Some(Arc::new(descriptor))))
    }

    /// Makes a socket, which has not connected yet, one that is not steered.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn mark(&self, socket: impl AsFd) -> io::Result<()> {
        let Some(map) = &self.0 else {
            return Ok(());
        };
        let note = SocketNote {
            flags: socket_flags::OWN,
            ..SocketNote::default()
        };
        sys::set_of_socket(map.as_fd(), socket.as_fd(), &note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found_among_older_ones() {
        let mounts = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        assert_eq!(root(mounts), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(root("proc /proc proc rw 0 0\n"), None);
    }

    #[test]
    fn what_is_no_cgroup_is_told() {
        let error = cgroup(Some(Path::new("/proc"))).expect_err("no cgroup");
        assert!(
            error.to_string().contains("/proc: not in a cgroup v2"),
            "{error}"
        );
    }
}
