//! The small networks that tests and the demo run in.
//!
//! ```text
//! local    client 10.77.0.2 --- 10.77.0.1 switch: services on 10.77.1.1, a port for each server
//! routed   client 10.77.0.2 --- 10.77.0.1 switch 10.77.11.1 --- 10.77.11.2 backend1 (blue)
//!                                                10.77.12.1 --- 10.77.12.2 backend2 (green)
//! dsr      client 10.77.0.2, 10.77.0.1 switch and 10.77.0.11 to 10.77.0.22, a host for each server, which has
//!          10.77.1.1, too: all on one bridge
//! ipip     the same; servers are sent their packets inside others
//! ```
//!
//! In IPv6 each address stands at the end of `fd77::/96`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;

use crate::Namespace;

mod link;

pub use link::Link;
use link::{address, bridge, link, plug};

/// The address that clients know.
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
/// The TCP service.
pub const WEB: u16 = 80;
/// The UDP service.
pub const ECHO: u16 = 53;
/// The interface towards the others, in every namespace.
pub const INTERFACE: &str = "eth0";

/// Where the servers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// On the switching host itself.
    Local,
    /// On hosts behind it.
    Routed,
    /// On hosts that know no way to clients.
    Masquerade,
    /// On hosts of the same link, which answer clients directly.
    Dsr,
    /// On hosts that are sent packets inside others, and answer clients directly.
    Ipip,
}

impl Mode {
    /// Whether flows are known by tags of a window.
    #[must_use]
    pub const fn is_tagged(self) -> bool {
        matches!(self, Self::Routed | Self::Dsr | Self::Ipip)
    }

    /// Whether servers have the service's address.
    #[must_use]
    pub const fn keeps_vip(self) -> bool {
        matches!(self, Self::Dsr | Self::Ipip)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Local => "local",
            Self::Routed => "routed",
            Self::Dsr => "dsr",
            Self::Ipip => "ipip",
            Self::Masquerade => "masquerade",
        })
    }
}

/// A network: namespaces, links, routes.
#[derive(Debug)]
pub struct Topology {
    /// Where the servers are.
    pub mode: Mode,
    /// Where clients run.
    pub client: Namespace,
    /// Where the agent runs.
    pub switch: Namespace,
    /// The hosts of blue and green, or of each of their servers; empty in mode `local`.
    pub backends: Vec<Namespace>,
    /// The switch's interface towards clients, where programs see its frames.
    outer: &'static str,
    /// Services and servers are asked for by their IPv6 addresses.
    pub v6: bool,
    /// Servers are asked for by their IPv6 addresses, and services by their IPv4 ones.
    pub servers_v6: bool,
    /// What is in the middle if all are on one link.
    bridge: Option<Namespace>,
}

/// One server that a colour has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `blue` or `green`.
    pub colour: &'static str,
    /// Number within its colour, from 1.
    pub number: u16,
    /// Where it serves HTTP.
    pub web: SocketAddr,
    /// Where it answers datagrams.
    pub echo: SocketAddr,
}

/// The colours of every topology.
pub const COLOURS: [&str; 2] = ["blue", "green"];

impl Topology {
    /// Builds the network. Without `offloads`, frames carry whole checksums, as on a wire.
    ///
    /// # Errors
    /// Without the privilege, or when a tool is missing.
    pub fn new(mode: Mode, offloads: bool) -> Result<Self> {
        Self::over(&Link::Veth, mode, offloads)
    }

    /// The same, with something else between client and switch.
    ///
    /// # Errors
    /// As for [`Topology::new`].
    pub fn over(between: &Link, mode: Mode, offloads: bool) -> Result<Self> {
        let client = Namespace::new("client")?;
        let switch = Namespace::new("switch")?;
        let bridge = match mode.keeps_vip() {
            true => Some(bridge(&[("client", &client), ("switch", &switch)])?),
            false => {
                between.lay(&client, &switch)?;
                None
            }
        };
        let mut topology = Self {
            mode,
            client,
            switch,
            backends: Vec::new(),
            outer: between.carrier(),
            v6: false,
            servers_v6: false,
            bridge,
        };
        topology.address_outer()?;
        match mode {
            Mode::Local => {}
            Mode::Routed | Mode::Masquerade => topology.add_backends()?,
            Mode::Dsr | Mode::Ipip => topology.add_neighbours()?,
        }
        topology.settle_kernels()?;
        topology.set_offloads(offloads)?;
        Ok(topology)
    }

    /// Gives everybody an IPv6 address as well, by which servers and services are asked for from now on.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn speak_v6(&mut self) -> Result<()> {
        self.switch.sysctl("ipv6/conf/all/forwarding", "1")?;
        let add = |namespace: &Namespace, device: &str, v4: Ipv4Addr, length: u8| {
            namespace.ip(&format!(
                "address add {}/{length} dev {device} nodad",
                six(v4)
            ))
        };
        let route = |namespace: &Namespace, via: Ipv4Addr| {
            namespace.ip(&format!("-6 route add default via {}", six(via)))
        };
        let gateway = Ipv4Addr::new(10, 77, 0, 1);
        add(&self.client, INTERFACE, Ipv4Addr::new(10, 77, 0, 2), 120)?;
        add(&self.switch, INTERFACE, gateway, 120)?;
        add(&self.switch, INTERFACE, VIP, 128)?;
        route(&self.client, gateway)?;
        if self.mode.keeps_vip() {
            for (own, host) in neighbours().zip(&self.backends) {
                add(host, INTERFACE, own, 120)?;
                add(host, "lo", VIP, 128)?;
            }
            self.v6 = true;
            return Ok(());
        }
        for (number, host) in (1u16..).zip(&self.backends) {
            let [a, b, c, _] = backend(number).octets();
            let gateway = Ipv4Addr::new(a, b, c, 1);
            add(&self.switch, &format!("be{number}"), gateway, 120)?;
            add(host, INTERFACE, backend(number), 120)?;
            if self.mode == Mode::Routed {
                route(host, gateway)?;
            }
        }
        self.v6 = true;
        Ok(())
    }

    /// The same, but services are asked for by their IPv4 addresses.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn servers_speak_v6(&mut self) -> Result<()> {
        self.speak_v6()?;
        (self.v6, self.servers_v6) = (false, true);
        Ok(())
    }

    fn family(&self, address: Ipv4Addr) -> IpAddr {
        if self.v6 {
            six(address).into()
        } else {
            address.into()
        }
    }

    /// The address of the TCP service.
    #[must_use]
    pub fn web(&self) -> SocketAddr {
        SocketAddr::from((self.family(VIP), WEB))
    }

    /// The address of the UDP service.
    #[must_use]
    pub fn echo(&self) -> SocketAddr {
        SocketAddr::from((self.family(VIP), ECHO))
    }

    /// The interfaces of the switching host that carry traffic of services.
    #[must_use]
    pub fn interfaces(&self) -> Vec<String> {
        let backends = if self.bridge.is_some() {
            0
        } else {
            self.backends.len()
        };
        let inner = (1..=backends).map(|number| format!("be{number}"));
        std::iter::once(self.outer.to_owned())
            .chain(inner)
            .collect()
    }

    /// The other end of the switching host's link, if that is a bridge's port.
    #[must_use]
    pub fn port_of_switch(&self) -> Option<(&Namespace, String)> {
        self.bridge
            .as_ref()
            .map(|bridge| (bridge, "switch".to_owned()))
    }

    /// `number` servers for each colour, the first colour's first.
    #[must_use]
    pub fn endpoints(&self, number: u16) -> Vec<Endpoint> {
        let pairs = COLOURS.into_iter().zip(1u16..);
        pairs
            .flat_map(|(colour, place)| {
                (1..=number).map(move |server| self.endpoint(colour, place, server))
            })
            .collect()
    }

    /// The namespace in which a colour's servers run.
    #[must_use]
    pub fn host(&self, colour: &str) -> &Namespace {
        self.backends.get(place(colour)).unwrap_or(&self.switch)
    }

    /// The namespace in which a server runs.
    #[must_use]
    pub fn home(&self, server: &Endpoint) -> &Namespace {
        match self.mode.keeps_vip() {
            true => {
                &self.backends
                    [usize::from(server.number - 1) * COLOURS.len() + place(server.colour)]
            }
            false => self.host(server.colour),
        }
    }

    /// Where a server listens, for HTTP and datagrams. Servers that have the service's address get its
    /// packets, but checks come to their own.
    #[must_use]
    pub fn listens(&self, server: &Endpoint) -> (SocketAddr, SocketAddr) {
        match self.mode.keeps_vip() {
            true => {
                let any = unspecified(self.v6 || self.servers_v6);
                ((any, WEB).into(), self.echo())
            }
            false => (server.web, server.echo),
        }
    }

    /// Removes the link between client and switch, with its addresses and routes.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn remove_link(&self) -> Result<()> {
        self.switch.ip(&format!("link del {INTERFACE}")).map(drop)
    }

    /// Makes it anew: interfaces of the same names, and nothing attached to them.
    ///
    /// # Errors
    /// When `ip` or `ethtool` fails.
    pub fn renew_link(&self, offloads: bool) -> Result<()> {
        link(&self.client, INTERFACE, &self.switch, INTERFACE)?;
        self.address_outer()?;
        self.poll_at_peers()?;
        self.set_offloads(offloads)
    }

    fn address_outer(&self) -> Result<()> {
        address(&self.client, INTERFACE, "10.77.0.2/24")?;
        address(&self.switch, INTERFACE, "10.77.0.1/24")?;
        address(&self.switch, INTERFACE, &format!("{VIP}/32"))?;
        self.client.ip("route add default via 10.77.0.1").map(drop)
    }

    /// Lets every link take packets of this size.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn set_mtu(&self, mtu: u16) -> Result<()> {
        for (namespace, device) in self.devices() {
            namespace.ip(&format!("link set {device} mtu {mtu}"))?;
        }
        Ok(())
    }

    /// Turns checksum and segmentation offloads on or off at every end of every link.
    ///
    /// # Errors
    /// When `ethtool` fails.
    pub fn set_offloads(&self, on: bool) -> Result<()> {
        let state = if on { "on" } else { "off" };
        for (namespace, device) in self.devices() {
            let features = [
                "-K", &device, "rx", state, "tx", state, "tso", state, "gso", state,
            ];
            namespace.run("ethtool", &features)?;
        }
        Ok(())
    }

    fn endpoint(&self, colour: &'static str, place: u16, number: u16) -> Endpoint {
        let (address, web, echo) = match self.mode {
            Mode::Local => (VIP, 8000 + number * 10 + place, 5000 + number * 10 + place),
            Mode::Routed | Mode::Masquerade => {
                (backend(place), 8000 + number * 10, 5000 + number * 10)
            }
            Mode::Dsr | Mode::Ipip => (neighbour(number, place), WEB, ECHO),
        };
        let address = match self.servers_v6 {
            true => six(address).into(),
            false => self.family(address),
        };
        Endpoint {
            colour,
            number,
            web: (address, web).into(),
            echo: (address, echo).into(),
        }
    }

    fn add_backends(&mut self) -> Result<()> {
        for (number, _) in (1u16..).zip(COLOURS) {
            let host = Namespace::new(&format!("backend{number}"))?;
            let device = format!("be{number}");
            link(&self.switch, &device, &host, INTERFACE)?;
            address(&self.switch, &device, &format!("10.77.1{number}.1/24"))?;
            address(&host, INTERFACE, &format!("{}/24", backend(number)))?;
            if self.mode == Mode::Routed {
                host.ip(&format!("route add default via 10.77.1{number}.1"))?;
            }
            self.backends.push(host);
        }
        Ok(())
    }

    /// Two hosts a colour on the one link. They have the service's address, and keep quiet about it.
    fn add_neighbours(&mut self) -> Result<()> {
        for number in 1..=NEIGHBOURS {
            for (place, colour) in (1u16..).zip(COLOURS) {
                let host = Namespace::new(&format!("{colour}{number}"))?;
                if let Some(bridge) = &self.bridge {
                    plug(bridge, &format!("{colour}{number}"), &host)?;
                }
                let own = neighbour(number, place);
                address(&host, INTERFACE, &format!("{own}/24"))?;
                address(&host, "lo", &format!("{VIP}/32"))?;
                host.sysctl("ipv4/conf/all/arp_ignore", "1")?;
                host.sysctl("ipv4/conf/all/arp_announce", "2")?;
                self.backends.push(host);
            }
        }
        Ok(())
    }

    /// Forwarding on, and nothing that second-guesses where packets come from or should go.
    fn settle_kernels(&self) -> Result<()> {
        self.switch.sysctl("ipv4/ip_forward", "1")?;
        for namespace in self.namespaces() {
            for device in ["all", "default", INTERFACE] {
                namespace.sysctl(&format!("ipv4/conf/{device}/rp_filter"), "0")?;
                namespace.sysctl(&format!("ipv4/conf/{device}/send_redirects"), "0")?;
            }
            // A busy run makes more connections than the default range has ports in a minute.
            namespace.sysctl("ipv4/ip_local_port_range", "20000 65535")?;
        }
        // Apart from the ports of masqueraded flows.
        let switch = &self.switch;
        switch.sysctl("ipv4/ip_local_port_range", "32768 65535")?;
        self.poll_at_peers()
    }

    /// What XDP transmits into a veth vanishes unless its other end polls, which GRO makes it do.
    fn poll_at_peers(&self) -> Result<()> {
        for (namespace, port) in self.ports() {
            namespace.run("ethtool", &["-K", &port, "gro", "on"])?;
        }
        for namespace in std::iter::once(&self.client).chain(&self.backends) {
            namespace.run("ethtool", &["-K", INTERFACE, "gro", "on"])?;
        }
        Ok(())
    }

    fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        [&self.client, &self.switch]
            .into_iter()
            .chain(&self.backends)
    }

    fn devices(&self) -> Vec<(&Namespace, String)> {
        let switch = self
            .interfaces()
            .into_iter()
            .map(|device| (&self.switch, device));
        let others = std::iter::once(&self.client).chain(&self.backends);
        switch
            .chain(others.map(|namespace| (namespace, INTERFACE.to_owned())))
            .chain(self.ports())
            .collect()
    }

    /// The ports of the bridge.
    fn ports(&self) -> Vec<(&Namespace, String)> {
        let Some(bridge) = &self.bridge else {
            return Vec::new();
        };
        let servers = (1..=NEIGHBOURS).flat_map(|number| COLOURS.map(|it| format!("{it}{number}")));
        let names = ["client".to_owned(), "switch".to_owned()].into_iter();
        let ports = names.chain(servers);
        ports.map(|port| (bridge, port)).collect()
    }
}

/// The IPv6 address that goes with an IPv4 address.
#[must_use]
pub const fn six(address: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, d] = address.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, high, low)
}

/// The address of backend `number`, from 1.
fn backend(number: u16) -> Ipv4Addr {
    let [_, number] = number.to_be_bytes();
    Ipv4Addr::new(10, 77, 10 + number, 2)
}

/// Hosts of a colour that are on one link with clients.
const NEIGHBOURS: u16 = 2;

/// The address that stands for all of a host's.
fn unspecified(v6: bool) -> IpAddr {
    match v6 {
        true => Ipv6Addr::UNSPECIFIED.into(),
        false => Ipv4Addr::UNSPECIFIED.into(),
    }
}

/// The addresses of all hosts that are on one link with clients, in the order in which they are made.
fn neighbours() -> impl Iterator<Item = Ipv4Addr> {
    (1..=NEIGHBOURS).flat_map(|number| {
        let places = (1u16..).zip(COLOURS);
        places.map(move |(place, _)| neighbour(number, place))
    })
}

/// The address of a colour's server `number`, from 1, that is on one link with clients.
fn neighbour(number: u16, place: u16) -> Ipv4Addr {
    let [_, last] = (number * 10 + place).to_be_bytes();
    Ipv4Addr::new(10, 77, 0, last)
}

fn place(colour: &str) -> usize {
    let mut known = COLOURS.iter();
    known.position(|&known| known == colour).unwrap_or_default()
}
