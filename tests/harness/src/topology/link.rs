//! What joins namespaces: veth pairs, VLANs, cables, a bridge.

use anyhow::Result;

use super::INTERFACE;
use crate::Namespace;
use crate::netns::run;

/// What is between client and switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// A veth pair.
    Veth,
    /// A VLAN on a veth pair, whose frames carry their tag.
    Vlan,
    /// Two network cards of this machine with a cable between them: for the client, for the switch.
    Cards(String, String),
}

/// The interface below [`INTERFACE`] in [`Link::Vlan`].
const TRUNK: &str = "trunk0";

impl Link {
    /// The name of the interface that frames come in by.
    pub(super) const fn carrier(&self) -> &'static str {
        match self {
            Self::Veth | Self::Cards(..) => INTERFACE,
            Self::Vlan => TRUNK,
        }
    }

    pub(super) fn lay(&self, client: &Namespace, switch: &Namespace) -> Result<()> {
        match self {
            Self::Veth => link(client, INTERFACE, switch, INTERFACE),
            Self::Vlan => {
                link(client, TRUNK, switch, TRUNK)?;
                for namespace in [client, switch] {
                    // Else the tag travels beside the frame, and programs don't see it.
                    let untagged = ["-K", TRUNK, "rxvlan", "off", "txvlan", "off"];
                    namespace.run("ethtool", &untagged)?;
                    namespace.ip(&format!(
                        "link add link {TRUNK} name {INTERFACE} type vlan id 7"
                    ))?;
                    namespace.ip(&format!("link set {INTERFACE} up"))?;
                }
                client.run("ethtool", &["-K", TRUNK, "gro", "on"]).map(drop)
            }
            Self::Cards(left, right) => {
                for (namespace, card) in [(client, left), (switch, right)] {
                    run("ip", &["link", "set", card, "down"])?;
                    run(
                        "ip",
                        &[
                            "link",
                            "set",
                            card,
                            "netns",
                            namespace.name(),
                            "name",
                            INTERFACE,
                        ],
                    )?;
                    namespace.ip(&format!("link set {INTERFACE} up"))?;
                }
                Ok(())
            }
        }
    }
}

/// A link with these on it.
pub(super) fn bridge(hosts: &[(&str, &Namespace)]) -> Result<Namespace> {
    let bridge = Namespace::new("bridge")?;
    bridge.ip("link add br0 type bridge")?;
    bridge.ip("link set br0 up")?;
    for (port, host) in hosts {
        plug(&bridge, port, host)?;
    }
    Ok(bridge)
}

/// One more host on it.
pub(super) fn plug(bridge: &Namespace, port: &str, host: &Namespace) -> Result<()> {
    link(bridge, port, host, INTERFACE)?;
    bridge.ip(&format!("link set {port} master br0")).map(drop)
}

/// A veth pair between two namespaces, both ends up.
pub(super) fn link(
    left: &Namespace,
    left_name: &str,
    right: &Namespace,
    right_name: &str,
) -> Result<()> {
    left.ip(&format!(
        "link add {left_name} type veth peer name {right_name} netns {}",
        right.name()
    ))?;
    left.ip(&format!("link set {left_name} up"))?;
    right.ip(&format!("link set {right_name} up"))?;
    Ok(())
}

/// Gives an interface an address.
pub(super) fn address(namespace: &Namespace, device: &str, address: &str) -> Result<()> {
    namespace
        .ip(&format!("address add {address} dev {device}"))
        .map(drop)
}
