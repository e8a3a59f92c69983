//! The configuration that an agent of a topology gets.

use std::fmt::Write as _;
use std::time::Duration;

use crate::Topology;
use crate::agent::Place;
use crate::topology::{COLOURS, Endpoint};

/// The group of every topology.
pub const GROUP: &str = "shop";

/// What tests vary.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `native`, `generic` or `tc`.
    pub xdp: &'static str,
    /// The same for interfaces towards servers, if they differ.
    pub inner_xdp: Option<&'static str>,
    /// Servers a colour has.
    pub servers: u16,
    /// `[groups.shop.drain] arm`.
    pub arm: Duration,
    /// `[groups.shop.drain] learn`. Flows that are silent for longer are promised nothing: far above
    /// [`idle_pause`](crate::Plan::idle_pause).
    pub learn: Duration,
    /// `[groups.shop.drain] deadline`.
    pub deadline: Duration,
    /// The kind of health check: `http`, `tcp` or `none`.
    pub health: &'static str,
    /// Time between two health checks.
    pub interval: Duration,
    /// Services and servers have IPv6 addresses.
    pub v6: bool,
    /// Servers have, and services have not.
    pub servers_v6: bool,
    /// The MTU of every link.
    pub mtu: u16,
    /// Weights of a colour's servers, in turn; none for equal ones.
    pub weights: &'static [u16],
    /// Servers that the agent is not told of, by place of their colour and number.
    pub without: Vec<(usize, u16)>,
    /// Lines that go into the section of the TCP service, as they are.
    pub web: &'static str,
    /// Lines that go into `[agent]`, as they are.
    pub agent: &'static str,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            xdp: "native",
            inner_xdp: None,
            servers: 1,
            arm: Duration::from_millis(20),
            learn: Duration::from_millis(400),
            deadline: Duration::from_secs(600),
            health: "http",
            interval: Duration::from_millis(200),
            v6: false,
            servers_v6: false,
            mtu: 1500,
            weights: &[],
            without: Vec::new(),
            web: "",
            agent: "",
        }
    }
}

impl Settings {
    /// The configuration file for `topology` with everything the agent writes at `place`.
    #[must_use]
    pub fn render(&self, topology: &Topology, place: &Place) -> String {
        let mut endpoints = topology.endpoints(self.servers);
        let is_left_out = |it: &Endpoint| {
            let mut without = self.without.iter();
            without.any(|&(colour, number)| (COLOURS[colour], number) == (it.colour, it.number))
        };
        endpoints.retain(|endpoint| !is_left_out(endpoint));
        let mut text = self.agent_section(topology, place) + &self.group_section();
        text += &service(
            "web",
            &format!("{}/tcp", topology.web()),
            topology,
            &endpoints,
            |it| it.web,
            self,
        );
        text += &service(
            "echo",
            &format!("{}/udp", topology.echo()),
            topology,
            &endpoints,
            |it| it.echo,
            self,
        );
        text
    }

    fn agent_section(&self, topology: &Topology, place: &Place) -> String {
        let interfaces = topology.interfaces();
        let (outer, inner) = interfaces.split_at(1);
        let inner = inner.iter().map(|name| match self.inner_xdp {
            Some(xdp) => format!("{{ name = \"{name}\", xdp = \"{xdp}\" }}"),
            None => format!("{name:?}"),
        });
        let outer = outer.iter().map(|name| format!("{name:?}"));
        let interfaces: Vec<String> = outer.chain(inner).collect();
        format!(
            "[agent]\ninterfaces = [{}]\nxdp = \"{}\"\nsocket = {:?}\nstate_dir = {:?}\nbpffs = {:?}\n{}\n\n",
            interfaces.join(", "),
            self.xdp,
            place.socket(),
            place.state(),
            place.bpffs(),
            self.agent
        )
    }

    fn group_section(&self) -> String {
        let Self {
            arm,
            learn,
            deadline,
            interval,
            ..
        } = self;
        let mut text = format!("[groups.{GROUP}]\ninitial = \"{}\"\n\n", COLOURS[0]);
        let _ = write!(
            text,
            "[groups.{GROUP}.drain]\narm = \"{}ms\"\nlearn = \"{}ms\"\ndeadline = \"{}ms\"\n\n",
            arm.as_millis(),
            learn.as_millis(),
            deadline.as_millis()
        );
        let _ = write!(
            text,
            "[groups.{GROUP}.health]\nkind = \"{}\"\n",
            self.health
        );
        if self.health == "http" {
            text += "path = \"/healthz\"\n";
        }
        if self.health != "none" {
            let _ = write!(
                text,
                "interval = \"{}ms\"\ntimeout = \"1s\"\nrise = 1\nfall = 2\n",
                interval.as_millis()
            );
        }
        text + "\n"
    }
}

fn service(
    name: &str,
    vip: &str,
    topology: &Topology,
    endpoints: &[Endpoint],
    address: fn(&Endpoint) -> std::net::SocketAddr,
    settings: &Settings,
) -> String {
    let lines = if name == "web" { settings.web } else { "" };
    let mut text = format!(
        "[groups.{GROUP}.services.{name}]\nvip = \"{vip}\"\nforward = \"{}\"\n{lines}\n\
         [groups.{GROUP}.services.{name}.endpoints]\n",
        topology.mode
    );
    for colour in COLOURS {
        let of_colour = endpoints
            .iter()
            .filter(|endpoint| endpoint.colour == colour);
        let weights = settings.weights.iter().cycle().chain(std::iter::repeat(&1));
        let addresses: Vec<String> = of_colour
            .zip(weights)
            .map(|(endpoint, weight)| {
                let address = address(endpoint);
                format!("{{ address = \"{address}\", weight = {weight} }}")
            })
            .collect();
        let _ = writeln!(text, "{colour} = [{}]", addresses.join(", "));
    }
    text + "\n"
}
