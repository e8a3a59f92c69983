//! What an interface has to be, have and let through.

use std::fs;

use super::Check;
use crate::config::{AgentConfig, InterfaceConfig, XdpMode};
use crate::datapath::attach;
use crate::datapath::pins::Pins;
use crate::host::{self, Interface};

/// Drivers with native XDP, as far as known (kernel sources, `ndo_bpf`).
const NATIVE: [&str; 34] = [
    "atlantic",
    "bnxt_en",
    "bonding",
    "cpsw",
    "dpaa2-eth",
    "ena",
    "fec",
    "fsl_dpa",
    "fsl_enetc",
    "gve",
    "hv_netvsc",
    "i40e",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "ixgbevf",
    "lan966x-switch",
    "mana",
    "mlx4_en",
    "mlx5_core",
    "mvneta",
    "mvpp2",
    "netsec",
    "nfp",
    "nicvf",
    "qede",
    "rvu_nicpf",
    "sfc",
    "stmmac",
    "tun",
    "veth",
    "virtio_net",
    "vmxnet3",
];

/// Kinds of virtual interfaces whose peers hand over large packets as they are.
const VIRTUAL: [&str; 6] = ["bridge", "macvlan", "macvtap", "netkit", "tun", "veth"];

/// The largest MTU that fits into a page with what drivers and the kernel add.
const ONE_PAGE: u32 = 3498;

/// In which families there are services of a kind.
#[derive(Clone, Copy)]
pub(super) struct Families {
    pub(super) v4: bool,
    pub(super) v6: bool,
}

impl Families {
    pub(super) const fn any(self) -> bool {
        self.v4 || self.v6
    }
}

/// `routed`: services have their replies come back through this host. `direct`: endpoints answer clients
/// directly.
pub(super) fn checks(
    agent: &AgentConfig,
    InterfaceConfig { name, xdp }: &InterfaceConfig,
    routed: Families,
    direct: Families,
) -> Vec<Check> {
    let interface = match host::interface(name) {
        Ok(Some(interface)) => interface,
        Ok(None) => {
            let advice = "`ip -br link` lists those there are; correct `interfaces` under [agent]";
            let check = Check::problem(name, "there is no such interface", advice);
            return vec![check.about("interface")];
        }
        Err(error) => return vec![Check::unknown(name, error.to_string(), "").about("interface")],
    };
    let driver = host::driver(name);
    let driver = driver.as_deref();
    let mut checks = vec![
        up(&interface).about("interface"),
        mode(&interface, *xdp, driver).about("xdp-mode"),
        free(&interface, *xdp, &Pins::new(&agent.bpffs)).about("xdp-program"),
    ];
    if *xdp == XdpMode::Native {
        checks.push(mtu(&interface).about("mtu"));
    }
    if routed.v4 || direct.v4 {
        let check = forwarding(name, &setting("ipv4", name, "forwarding"));
        checks.push(check.about("forwarding"));
    }
    if direct.any() && *xdp == XdpMode::Generic {
        checks.push(merging(name, host::merges(name)).about("gro"));
    }
    if routed.v4 {
        let check = reverse_path(name, &setting("ipv4", name, "rp_filter"));
        checks.push(check.about("reverse-path-filter"));
    }
    if routed.v6 || direct.v6 {
        let setting = setting("ipv6", name, "forwarding");
        checks.push(forwarding_v6(name, setting.as_deref()).about("forwarding"));
    }
    if (routed.any() || direct.any()) && driver == Some("veth") && *xdp != XdpMode::Tc {
        checks.push(virtual_peer(name).about("offloads"));
    }
    checks
}

fn up(interface: &Interface) -> Check {
    let name = &interface.name;
    match interface.up {
        true => Check::ok(name, format!("up, MTU {}", interface.mtu)),
        false => Check::problem(name, "down", &format!("ip link set dev {name} up")),
    }
}

fn mode(interface: &Interface, mode: XdpMode, driver: Option<&str>) -> Check {
    let name = format!("{} XDP mode", interface.name);
    let kind = interface.kind.as_deref().unwrap_or_default();
    match (mode, driver) {
        (XdpMode::Tc, _) => Check::ok(name, "tc: behind XDP, works with any driver"),
        _ if VIRTUAL.contains(&kind) => Check::unknown(
            name,
            format!(
                "{mode}, on a {kind}: the kernel hands large packets over whole there, and cuts them up for XDP"
            ),
            &format!(
                "interfaces = [{{ name = \"{}\", xdp = \"tc\" }}] is several times as fast for bulk transfers",
                interface.name
            ),
        ),
        (XdpMode::Generic, _) => Check::ok(name, "generic: works with any driver, less speed"),
        (XdpMode::Native, Some(driver)) if NATIVE.contains(&driver) => {
            Check::ok(name, format!("native, and driver {driver} has it"))
        }
        (XdpMode::Native, driver) => Check::unknown(
            name,
            format!(
                "native, and driver {} is not known to have it",
                driver.unwrap_or("(none named)")
            ),
            "the agent's start will tell; xdp = \"generic\" under [agent] works with any driver",
        ),
    }
}

/// Where packets of an interface are best met, and why there.
pub(crate) fn suited(interface: &Interface, driver: Option<&str>) -> (XdpMode, String) {
    let kind = interface.kind.as_deref().unwrap_or_default();
    match driver {
        _ if VIRTUAL.contains(&kind) => (
            XdpMode::Tc,
            format!("a {kind} hands large packets over whole, which XDP would have to see cut up"),
        ),
        _ if !interface.xdp.is_empty() => (
            XdpMode::Tc,
            "an XDP program is on it, beside which there can be no other".into(),
        ),
        Some(driver) if NATIVE.contains(&driver) => {
            (XdpMode::Native, format!("driver {driver} has XDP"))
        }
        _ => (
            XdpMode::Tc,
            format!(
                "driver {} is not known to have XDP",
                driver.unwrap_or("(none named)")
            ),
        ),
    }
}

/// Whether nobody else's XDP program is there; at tc it may be.
fn free(interface: &Interface, mode: XdpMode, pins: &Pins) -> Check {
    let name = format!("{} XDP program", interface.name);
    if interface.xdp.is_empty() {
        return Check::ok(name, "none yet");
    }
    match attach::is_ours(pins, interface) {
        Ok(true) => Check::ok(name, "Switcher's"),
        Ok(false) if mode == XdpMode::Tc => {
            Check::ok(name, "somebody else's, which sees packets first")
        }
        Ok(false) => {
            let refusal = attach::usable(pins, &interface.name, mode).err();
            let found = refusal.map_or_else(String::new, |error| format!("{error:#}"));
            Check::problem(name, found, "")
        }
        Err(error) => Check::unknown(name, format!("{error:#}"), "run this as root"),
    }
}

fn mtu(interface: &Interface) -> Check {
    let name = format!("{} MTU", interface.name);
    let found = interface.mtu.to_string();
    match interface.mtu <= ONE_PAGE {
        true => Check::ok(name, found),
        false => Check::unknown(
            name,
            found,
            "some drivers refuse native XDP above about 3500 bytes, even to programs that take frames in \
             parts, as ours do; the agent's start will tell",
        ),
    }
}

/// Over IPv6 the FIB answers nothing to a program unless the interface forwards.
fn forwarding_v6(interface: &str, setting: Option<&str>) -> Check {
    let name = format!("{interface} IPv6 forwarding");
    match setting {
        Some("0") => Check::problem(
            name,
            "off, but services are routed",
            "sysctl -w net.ipv6.conf.all.forwarding=1 (and keep it in /etc/sysctl.d; router \
             advertisements are then taken with accept_ra=2 only)",
        ),
        Some(_) => Check::ok(name, "on"),
        None => Check::unknown(name, "the setting can't be read", ""),
    }
}

fn forwarding(interface: &str, setting: &Option<String>) -> Check {
    let name = format!("{interface} forwarding");
    match setting.as_deref() {
        Some("1") => Check::ok(name, "on"),
        Some(_) => Check::problem(
            name,
            "off, but services have endpoints on other hosts",
            "sysctl -w net.ipv4.ip_forward=1 (and keep it in /etc/sysctl.d)",
        ),
        None => Check::unknown(name, "the setting can't be read", ""),
    }
}

/// The kernel takes the stricter of the interface's and everybody's.
fn reverse_path(interface: &str, own: &Option<String>) -> Check {
    let name = format!("{interface} reverse path filter");
    let strictest = [own.clone(), setting("ipv4", "all", "rp_filter")]
        .into_iter()
        .flatten()
        .max();
    match strictest.as_deref() {
        Some("0" | "2") => Check::ok(name, "off or loose"),
        Some(_) => Check::unknown(
            name,
            "strict",
            "fine as long as clients are reached by this interface; otherwise set rp_filter=2",
        ),
        None => Check::unknown(name, "the setting can't be read", ""),
    }
}

/// In generic mode the program sees what the kernel has put together; nobody takes it apart again.
fn merging(interface: &str, merges: Option<bool>) -> Check {
    let name = format!("{interface} GRO");
    match merges {
        Some(false) => Check::ok(name, "off"),
        Some(true) => Check::problem(
            name,
            "on, with xdp = \"generic\": merged packets are too big for the way to an endpoint",
            &format!("ethtool -K {interface} gro off"),
        ),
        None => Check::unknown(
            name,
            "the setting can't be read",
            "it has to be off with xdp = \"generic\"",
        ),
    }
}

fn virtual_peer(interface: &str) -> Check {
    Check::unknown(
        format!("{interface} offloads"),
        "a veth: what its peer leaves to offloads can't be seen from here",
        "checksums that the peer leaves unfinished go out wrong after forwarding: `ethtool -K PEER \
         tx off` in the peer's namespace. Forwarding to a veth takes GRO on its peer (`ethtool -K \
         PEER gro on`), or an XDP program where packets leave by the veth they came in by",
    )
}

fn setting(family: &str, interface: &str, name: &str) -> Option<String> {
    let path = format!("/proc/sys/net/{family}/conf/{interface}/{name}");
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn drivers_are_known_or_said_to_be_unknown() {
        let interface = Interface::default();
        let state = |xdp, driver| mode(&interface, xdp, driver).state;
        assert_eq!(state(XdpMode::Native, Some("ice")), State::Ok);
        assert_eq!(state(XdpMode::Native, Some("bridge")), State::Unknown);
        assert_eq!(state(XdpMode::Native, None), State::Unknown);
        assert_eq!(state(XdpMode::Generic, None), State::Ok);
        assert_eq!(state(XdpMode::Tc, Some("bridge")), State::Ok);
    }

    #[test]
    fn what_suits_an_interface_is_no_problem_of_it() {
        let of = |kind: Option<&str>, xdp: bool| Interface {
            name: "eth0".into(),
            kind: kind.map(str::to_owned),
            xdp: xdp
                .then_some((host::XdpAttached::Native, 7))
                .into_iter()
                .collect(),
            ..Interface::default()
        };
        let cases = [
            (of(None, false), Some("ice"), XdpMode::Native),
            (of(None, true), Some("ice"), XdpMode::Tc),
            (of(None, false), Some("8139too"), XdpMode::Tc),
            (of(None, false), None, XdpMode::Tc),
            (of(Some("veth"), false), Some("veth"), XdpMode::Tc),
        ];
        for (interface, driver, wanted) in cases {
            let (suits, why) = suited(&interface, driver);
            assert_eq!(suits, wanted, "{why}");
            assert_eq!(mode(&interface, suits, driver).state, State::Ok);
        }
    }

    #[test]
    fn tc_is_recommended_for_what_is_virtual() {
        for kind in ["veth", "tun", "bridge"] {
            let interface = Interface {
                name: "br0".into(),
                kind: Some(kind.into()),
                ..Interface::default()
            };
            let generic = mode(&interface, XdpMode::Generic, Some(kind));
            assert_eq!(generic.state, State::Unknown);
            assert!(
                generic.advice.contains("xdp = \"tc\""),
                "{}",
                generic.advice
            );
            assert_eq!(mode(&interface, XdpMode::Tc, Some(kind)).state, State::Ok);
        }
    }

    #[test]
    fn routed_services_need_forwarding() {
        let state = |setting: &str| forwarding("eth0", &Some(setting.into())).state;
        assert_eq!((state("1"), state("0")), (State::Ok, State::Problem));
        assert_eq!(forwarding("eth0", &None).state, State::Unknown);
        let state = |setting| forwarding_v6("eth0", setting).state;
        assert_eq!(
            (state(Some("1")), state(Some("0"))),
            (State::Ok, State::Problem)
        );
        assert_eq!(state(None), State::Unknown);
    }

    #[test]
    fn merged_packets_are_a_problem_for_who_sends_them_on() {
        let state = |merges| merging("eth0", merges).state;
        assert_eq!(state(Some(true)), State::Problem);
        assert_eq!(state(Some(false)), State::Ok);
        assert_eq!(state(None), State::Unknown);
    }

    #[test]
    fn an_interface_that_is_missing_or_down_is_a_problem() {
        let down = Interface {
            name: "eth0".into(),
            ..Interface::default()
        };
        assert_eq!(up(&down).advice, "ip link set dev eth0 up");
        assert_eq!(mtu(&Interface { mtu: 9000, ..down }).state, State::Unknown);
    }
}
