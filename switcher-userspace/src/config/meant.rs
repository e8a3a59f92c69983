//! What is meant: defaults filled in, and all parts checked against each other.

mod addresses;
mod api;
mod capacity;
mod colours;
mod group;
mod hooks;

use std::path::PathBuf;

use super::report::Report;
use super::typed::{TypedAgent, TypedConfig, TypedInterface, TypedMasquerade};
use super::{AgentConfig, Config, InterfaceConfig, Masquerade, XdpMode};

/// The configuration, or nothing if something in it could not be understood; which is reported.
/// What comes back is only good if nothing is reported.
pub(super) fn mean(typed: TypedConfig, digest: String, report: &Report<'_>) -> Option<Config> {
    addresses::check(&typed.groups, report);
    capacity::check(&typed.groups, report);
    let groups: Vec<_> = typed
        .groups
        .into_iter()
        .map(|g| group::mean(g, report))
        .collect();
    let groups: Option<Vec<_>> = groups.into_iter().collect();
    Some(Config {
        agent: agent(typed.agent, report),
        groups: groups?
            .into_iter()
            .map(|group| (group.name.clone(), group))
            .collect(),
        digest,
    })
}

fn agent(typed: TypedAgent, report: &Report<'_>) -> AgentConfig {
    api::check(&typed, report);
    let TypedAgent {
        interfaces,
        xdp,
        socket,
        state_dir,
        bpffs,
        flows,
        listen,
        page,
        log,
        traces,
        local_clients,
        repair,
        cgroup,
        masquerade: typed,
        api: typed_api,
        roles,
    } = typed;
    let path = |typed: Option<PathBuf>, default: &str| typed.unwrap_or_else(|| default.into());
    let xdp = xdp.unwrap_or(XdpMode::Native);
    let interface = |typed: TypedInterface| InterfaceConfig {
        name: typed.name,
        xdp: typed.xdp.unwrap_or(xdp),
    };
    AgentConfig {
        interfaces: interfaces.into_iter().map(interface).collect(),
        socket: path(socket, super::DEFAULT_SOCKET),
        state_dir: path(state_dir, super::DEFAULT_STATE_DIR),
        bpffs: path(bpffs, super::DEFAULT_BPFFS),
        flows: flows.unwrap_or(super::DEFAULT_FLOWS),
        listen: listen.map(|typed| typed.value),
        page,
        log,
        traces,
        local_clients: local_clients.unwrap_or(true),
        repair: repair.unwrap_or(true),
        cgroup,
        masquerade: masquerade(typed),
        api: typed_api.and_then(api::mean),
        roles: roles.map(api::roles),
    }
}

fn masquerade(typed: TypedMasquerade) -> Masquerade {
    let TypedMasquerade {
        addresses,
        ports,
        flows,
        established,
        opening,
        closing,
        udp,
    } = typed;
    let default = Masquerade::default();
    Masquerade {
        addresses,
        ports: ports.unwrap_or(default.ports),
        flows: flows.unwrap_or(default.flows),
        established: established.unwrap_or(default.established),
        opening: opening.unwrap_or(default.opening),
        closing: closing.unwrap_or(default.closing),
        udp: udp.unwrap_or(default.udp),
    }
}
