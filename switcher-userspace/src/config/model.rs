//! What a configuration means, once every check has passed.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use switcher_common::abi::nat::DEFAULT_NAT_FLOWS;
use utoipa::ToSchema;

use super::roles::Roles;
use crate::log::LogFormat;
use crate::release::{Bake, FlapBudget, GateRule, Hold, Moment, Policy};

/// A checked configuration: every name resolves, every limit holds, every default is filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where and how the agent runs.
    pub agent: AgentConfig,
    /// Groups by name.
    pub groups: BTreeMap<String, GroupConfig>,
    /// SHA-256 of the file's bytes, in lower-case hexadecimal.
    pub digest: String,
}

/// Where and how the agent runs: section `[agent]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// Interfaces whose incoming traffic is steered; at least one, none twice.
    pub interfaces: Vec<InterfaceConfig>,
    /// The agent's Unix socket.
    pub socket: PathBuf,
    /// Where the agent keeps its records.
    pub state_dir: PathBuf,
    /// Where programs and maps are pinned.
    pub bpffs: PathBuf,
    /// Capacity of the window's flow map, in flows.
    pub flows: u32,
    /// Where metrics and states can be read by everybody; nowhere if none.
    pub listen: Option<SocketAddr>,
    /// Whether the page is there, too, for everybody to see.
    pub page: bool,
    /// How the agent's log looks, if the command line does not say; what suits its reader if none.
    pub log: Option<LogFormat>,
    /// Where traces of cut-overs go: the URL of a collector for OpenTelemetry. Where the environment says, if none.
    pub traces: Option<String>,
    /// Whether sockets of this host are steered, too.
    pub local_clients: bool,
    /// Whether the agent repairs what somebody else has changed in the kernel and in its records.
    pub repair: bool,
    /// The cgroup (version 2) whose processes that concerns; where there is none, the root of the hierarchy.
    pub cgroup: Option<PathBuf>,
    /// Where masqueraded flows come from.
    pub masquerade: Masquerade,
    /// The API over TCP; on the Unix socket alone if none.
    pub api: Option<Api>,
    /// Who may do what. If nobody has said: root and the agent's user everything, others on this host look.
    pub roles: Option<Roles>,
}

/// The API over TCP, by mutual TLS: section `[agent.api]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The agent's certificate and what leads to its authority, a PEM file.
    pub cert: PathBuf,
    /// Its key, a PEM file.
    pub key: PathBuf,
    /// The authorities that vouch for clients, a PEM file.
    pub client_ca: PathBuf,
}

/// An interface whose incoming traffic is steered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceConfig {
    /// Its name.
    pub name: String,
    /// Where the program meets its packets.
    pub xdp: XdpMode,
}

/// Where masqueraded flows come from and how long they are remembered: section `[agent.masquerade]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masquerade {
    /// This host's addresses towards endpoints, at most
    /// [`NAT_ADDRESSES`](switcher_common::abi::nat::NAT_ADDRESSES) of a family. None of a family: whatever
    /// this host itself would use.
    pub addresses: Vec<IpAddr>,
    /// Their ports.
    pub ports: RangeInclusive<u16>,
    /// Flows that can be remembered.
    pub flows: u32,
    /// Silence that ends a TCP connection.
    pub established: Duration,
    /// Silence that ends an attempt at one.
    pub opening: Duration,
    /// How long a closed connection is remembered.
    pub closing: Duration,
    /// Silence that ends a UDP flow.
    pub udp: Duration,
}

impl Default for Masquerade {
    /// Ports that Linux gives to nobody by itself (`ip_local_port_range` begins at 32768), and times in
    /// the manner of RFC 5382 and RFC 4787.
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            ports: 16_384..=32_767,
            flows: DEFAULT_NAT_FLOWS,
            established: Duration::from_secs(2 * 3600),
            opening: Duration::from_secs(30),
            closing: Duration::from_secs(30),
            udp: Duration::from_secs(60),
        }
    }
}

/// Where the program meets incoming packets; never changed silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// XDP in the driver, before the kernel allocates anything for the packet.
    Native,
    /// XDP in the kernel's receive path: any driver, less speed.
    Generic,
    /// tc ingress, behind XDP: any driver, and large packets of virtual interfaces stay whole.
    Tc,
}

/// Services that are switched together: section `[groups.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// The group's name, at most [`NAME_MAX`](super::limits::NAME_MAX) bytes.
    pub name: String,
    /// The colour that is live the very first time; one of `colours`.
    pub initial: String,
    /// The group's colours: in the order written, or sorted when they come from the endpoints.
    pub colours: Vec<String>,
    /// A flip undoes itself after this long unless it is confirmed; none if it stays.
    pub confirm_within: Option<Duration>,
    /// Why nobody flips, as long as the configuration says so.
    pub freeze: Option<String>,
    /// For how long a flip's colour is watched afterwards, and what is doing badly; not at all if none.
    pub bake: Option<Bake>,
    /// How a canary grows by itself; it does not if empty.
    pub canary: Vec<Hold>,
    /// Manual gates by name.
    pub gates: BTreeMap<String, GateRule>,
    /// How often the live colour may change; any number of times if none.
    pub flap_budget: Option<FlapBudget>,
    /// A staged release becomes live by itself when its checks have passed for this long; never if none.
    pub automatic_after: Option<Duration>,
    /// How long the phases of a window last.
    pub drain: Drain,
    /// How endpoints are checked.
    pub health: Health,
    /// What is called, in this order.
    pub hooks: Vec<Hook>,
    /// Services by name; at least one.
    pub services: BTreeMap<String, ServiceConfig>,
}

/// How long the phases of a window last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Time spent in *arming* before the store; zero skips it.
    pub arm: Duration,
    /// Time spent in *open*, in which flows of the old colour are learnt.
    pub learn: Duration,
    /// The end of *draining*, counted from the switch; never shorter than `learn`.
    pub deadline: Duration,
}

/// How endpoints are checked, each at its own address and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What is asked of an endpoint.
    pub kind: HealthKind,
    /// Time from the start of one check to the start of the next.
    pub interval: Duration,
    /// Time after which a check has failed.
    pub timeout: Duration,
    /// Passed checks in a row that make an endpoint healthy.
    pub rise: u32,
    /// Failed checks in a row that make an endpoint unhealthy.
    pub fall: u32,
    /// How long endpoints have to have been healthy before a flip.
    pub min_healthy: Duration,
}

/// What a health check asks of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthKind {
    /// Nothing: endpoints count as healthy.
    None,
    /// That it accepts a connection.
    Tcp,
    /// That it answers a GET of `path` with a 2xx or 3xx status.
    Http {
        /// The path, with its leading slash.
        path: String,
    },
    /// That a program ends with 0.
    Exec(Program),
}

/// A program of the operator's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its absolute path, and its arguments; there is no shell.
    pub argv: Vec<String>,
    /// Whom it runs as, by name; the agent's user if none.
    pub user: Option<String>,
}

impl GroupConfig {
    /// What is demanded before a switch.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy {
            gates: self.gates.clone(),
            budget: self.flap_budget,
            automatic: self.automatic_after,
            canary: self.canary.clone(),
            freeze: self.freeze.clone(),
            hooks: self
                .hooks
                .iter()
                .flat_map(|hook| hook.on.moments())
                .copied()
                .collect(),
        }
    }
}

/// What is called at a moment of a group's life: section `[[groups.NAME.hooks]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Its name, unique in its group.
    pub name: String,
    /// When it is called.
    pub on: On,
    /// What is called.
    pub what: HookKind,
    /// Time after which one attempt has failed.
    pub timeout: Duration,
    /// How often it is called again when it has failed; without meaning for events.
    pub retries: u32,
    /// Whether its failure calls the flip off, or undoes it.
    pub abort: bool,
}

/// When a hook is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// At a moment.
    Moment(Moment),
    /// Whatever happens, sooner or later.
    Event,
    /// When all is over, one way or the other: Flagger's `post-rollout`.
    Over,
    /// After a switch and as long as it is to be confirmed; a pass means to roll back. Flagger's `rollback`.
    Rollback,
}

impl On {
    /// The moments that this comes to.
    #[must_use]
    pub const fn moments(self) -> &'static [Moment] {
        match self {
            Self::Moment(Moment::Stage) => &[Moment::Stage],
            Self::Moment(Moment::PreFlip) => &[Moment::PreFlip],
            Self::Moment(Moment::PostFlip) | Self::Rollback => &[Moment::PostFlip],
            Self::Moment(Moment::RolledBack) => &[Moment::RolledBack],
            Self::Moment(Moment::Drained) => &[Moment::Drained],
            Self::Over => &[Moment::RolledBack, Moment::Drained],
            Self::Event => &[],
        }
    }
}

/// What a hook calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookKind {
    /// A program, which passes by ending with 0.
    Exec(Program),
    /// A receiver of HTTP requests, which passes by a status of success.
    Web(Webhook),
}

/// A receiver of HTTP requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where requests go: `http` or `https`, with a host.
    pub url: String,
    /// What they say.
    pub format: Format,
    /// Where the secret is that they are signed with.
    pub secret_file: Option<PathBuf>,
    /// Whose certificates are believed; the system's choice if none.
    pub ca_file: Option<PathBuf>,
    /// For Flagger's format: what is sent along.
    pub metadata: BTreeMap<String, String>,
}

/// What requests to a receiver say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Everything, as Switcher calls it.
    Plain,
    /// CloudEvents in structured mode, of CDEvents' types where there is one.
    CloudEvents,
    /// As Flagger says it.
    Flagger,
}

/// One address, port and protocol that clients use: section `[groups.NAME.services.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceConfig {
    /// The service's name, unique in its group.
    pub name: String,
    /// What clients connect to.
    pub vip: SocketAddr,
    /// The protocol of `vip`, `preview` and every endpoint.
    pub protocol: Protocol,
    /// How packets get to endpoints, as written; see [`resolve`](super::resolve()).
    pub forward: Forward,
    /// What decides on a client's endpoint.
    pub hash: HashMode,
    /// For [`Forward::Ipip`]: where outer headers say to come from; this host's address on the way if nothing.
    pub tunnel_source: Option<Prefix>,
    /// What a flow is, for UDP; [`UdpMode::Flow`] and without meaning for TCP.
    pub udp: UdpMode,
    /// An address that always reaches the idle colour.
    pub preview: Option<SocketAddr>,
    /// Endpoints by colour: an entry for every colour of the group, none of them empty.
    pub endpoints: BTreeMap<String, Vec<EndpointConfig>>,
}

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The first of them.
    pub address: IpAddr,
    /// Bits that are alike.
    pub length: u8,
}

/// One server of a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// Where it listens. Equal to the VIP: packets are not rewritten.
    pub address: SocketAddr,
    /// Its share of new flows, relative to the others of its colour: 1 to 1000.
    pub weight: u16,
}

/// A service's transport protocol.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// How packets get to a service's endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forward {
    /// Whatever the endpoints' addresses ask for; see [`resolve`](super::resolve()).
    Auto,
    /// Endpoints on this host, or in containers and machines behind it.
    Local,
    /// Endpoints on other hosts whose way back leads through this one.
    Routed,
    /// Endpoints on other hosts, which see this host as their client.
    Masquerade,
    /// Endpoints on other hosts of the same link that have the VIP themselves and answer directly.
    Dsr,
    /// Endpoints on other hosts anywhere, reached inside other packets, that have the VIP themselves and
    /// answer directly.
    Ipip,
}

impl Forward {
    /// Whether packets reach endpoints with the VIP and its port in them, so that endpoints answer clients
    /// directly.
    #[must_use]
    pub const fn keeps_vip(self) -> bool {
        match self {
            Self::Dsr | Self::Ipip => true,
            Self::Auto | Self::Local | Self::Routed | Self::Masquerade => false,
        }
    }
}

/// What the bucket of a new flow follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HashMode {
    /// The client's address and port: flows of one client spread over endpoints.
    Flow,
    /// The client's address alone: its flows stay together.
    Source,
}

/// Which datagrams of a UDP service stay together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UdpMode {
    /// Those of one pair of addresses and ports, while it is not idle for long.
    Flow,
    /// None: each datagram is on its own.
    Packet,
    /// Those of a QUIC client, told apart in windows only.
    Quic,
}

macro_rules! named {
    ($($type:ident { $($variant:ident = $name:literal),+ $(,)? })+) => {$(
        impl $type {
            /// The name used in configuration and JSON.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.pad(self.name())
            }
        }
    )+};
}

named! {
    XdpMode { Native = "native", Generic = "generic", Tc = "tc" }
    Protocol { Tcp = "tcp", Udp = "udp" }
    Forward {
        Auto = "auto",
        Local = "local",
        Routed = "routed",
        Masquerade = "masquerade",
        Dsr = "dsr",
        Ipip = "ipip",
    }
    Format { Plain = "plain", CloudEvents = "cloudevents", Flagger = "flagger" }
    HashMode { Flow = "flow", Source = "source" }
    UdpMode { Flow = "flow", Packet = "packet", Quic = "quic" }
}
