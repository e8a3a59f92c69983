//! Whether what XDP sends on can leave by the interfaces that lead to endpoints and clients.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Check;
use crate::config::{AgentConfig, XdpMode};
use crate::host::{self, Interface, route};

/// Kinds of virtual interfaces that take no frames from XDP in a driver (they have no `ndo_xdp_xmit`).
const REFUSING: [&str; 10] = [
    "bridge",
    "dummy",
    "geneve",
    "ipvlan",
    "macvlan",
    "macvtap",
    "team",
    "vlan",
    "vxlan",
    "wireguard",
];

/// Whether XDP in a driver can't redirect to interfaces of this kind.
pub(crate) fn takes_no_xdp(kind: &str) -> bool {
    REFUSING.contains(&kind)
}

/// A check of each interface that packets to these endpoints, or answers to clients, would get lost at.
pub(super) fn checks(agent: &AgentConfig, endpoints: impl Iterator<Item = IpAddr>) -> Vec<Check> {
    let native = agent
        .interfaces
        .iter()
        .filter(|it| it.xdp == XdpMode::Native);
    let native: Vec<&str> = native.map(|it| it.name.as_str()).collect();
    let Ok(all) = host::interfaces() else {
        return Vec::new();
    };
    let ways = endpoints.filter_map(|address| route::way(address).ok()?);
    let ways: Vec<u32> = ways.map(|way| way.interface).collect();
    let ours = |name: &str| agent.interfaces.iter().any(|it| it.name == name);
    let ours = all.iter().filter(|it| ours(&it.name));
    let ours: Vec<u32> = ours.map(|it| it.index).collect();
    // Who comes in by a VLAN comes in by its trunk, and is answered by the VLAN.
    let lies_on_ours = |it: &Interface| {
        takes_no_xdp(it.kind.as_deref().unwrap_or_default()) && ours.contains(&it.link)
    };
    let leads =
        |it: &&Interface| ways.contains(&it.index) || ours.contains(&it.index) || lies_on_ours(it);
    // Each once, by its name.
    let out: BTreeMap<&String, &Interface> =
        all.iter().filter(leads).map(|it| (&it.name, it)).collect();
    out.values()
        .filter_map(|interface| of_interface(interface, &native))
        .map(|check| check.about("forwarding-to-an-interface"))
        .collect()
}

fn of_interface(out: &Interface, native: &[&str]) -> Option<Check> {
    let kind = out.kind.as_deref().filter(|kind| takes_no_xdp(kind))?;
    let first = native.iter().find(|name| **name != out.name)?;
    Some(Check::problem(
        format!("forwarding to {}", out.name),
        format!(
            "a {kind}, to which XDP in a driver can't redirect: what comes in by {} is lost",
            native.join(", ")
        ),
        &format!(
            "interfaces = [{{ name = \"{first}\", xdp = \"tc\" }}, ...], or \"generic\", under [agent]"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn a_bridge_takes_nothing_from_native_xdp() {
        let of_kind = |kind: &str| Interface {
            name: "br0".into(),
            kind: Some(kind.into()),
            ..Interface::default()
        };
        let check = of_interface(&of_kind("bridge"), &["eth0"]).expect("a problem");
        assert_eq!(check.state, State::Problem);
        assert!(check.found.contains("bridge") && check.found.contains("eth0"));
        assert!(check.advice.contains("\"eth0\", xdp = \"tc\""), "{check:?}");
        assert_eq!(
            of_interface(&of_kind("bridge"), &[]),
            None,
            "at tc all is well"
        );
        assert_eq!(of_interface(&of_kind("veth"), &["eth0"]), None);
        assert_eq!(of_interface(&Interface::default(), &["eth0"]), None);
    }
}
