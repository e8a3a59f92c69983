//! What goes over the socket: a promise to scripts.

mod change;
mod configuration;
mod drift;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use change::{ChangeAnswer, ChangeRequest, NoteAnswer, PauseAnswer};
pub use configuration::{ConfigAnswer, ConfigRequest, PlanRequest};
pub use drift::{Difference, DifferenceKind, Drift};

use crate::config::{Protocol, Role};
use crate::datapath::clients::LocalClients;
use crate::journal::{AuditRecord, BakeRecord, CutoverRecord};
use crate::release::Kind;

/// `GET /v1/whoami`: who asks, and what for they may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    /// As the record names them.
    pub name: String,
    /// What they are.
    pub role: Role,
    /// Changes of groups that they may ask for, as in `/v1/groups/{group}/…`.
    pub may: Vec<String>,
}

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The agent itself.
    pub agent: AgentStatus,
    /// Interfaces whose traffic is steered.
    pub interfaces: Vec<InterfaceStatus>,
    /// Whether clients on this host are steered, too.
    pub local_clients: LocalClients,
    /// Flows that go on as this host's own; none without a masqueraded service.
    #[serde(default)]
    pub masquerade: Option<MasqueradeStatus>,
    /// Groups by name.
    pub groups: Vec<GroupStatus>,
    /// Packets that were not forwarded, and other things worth a reason, of all groups since the programs
    /// were first attached. Reasons that never came up are left out.
    #[serde(default)]
    pub reasons: BTreeMap<String, u64>,
}

impl Status {
    /// What keeps traffic from being steered as it is configured.
    pub fn unready(&self) -> impl Iterator<Item = String> {
        let interfaces = self.interfaces.iter().filter(|it| !it.attached);
        let lost = interfaces.map(|it| format!("{}: its traffic is not steered", it.name));
        let pending = self.agent.pending.iter();
        lost.chain(pending.map(|why| format!("not in the kernel yet: {why}")))
    }
}

/// Flows that go on as this host's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MasqueradeStatus {
    /// Flows that are remembered, with those that are closing.
    pub flows: u64,
    /// Flows that there is room for.
    pub capacity: u64,
    /// Ports in use, by endpoint.
    pub ports: Vec<PortsStatus>,
    /// Flows refused since the programs were first attached, because an endpoint had no port left.
    pub exhausted: u64,
    /// Flows refused because there was no room for more.
    pub full: u64,
}

/// This host's ports towards an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortsStatus {
    /// The endpoint.
    pub endpoint: String,
    /// Ports in use.
    pub used: u64,
    /// Ports there are; none if no address of this host leads to it.
    pub of: u64,
}

/// The agent itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentStatus {
    /// Of the program.
    pub version: String,
    /// Of the process.
    pub pid: u32,
    /// When it started.
    pub started_at: Timestamp,
    /// The file it was started with.
    pub config: String,
    /// SHA-256 of the configuration it has taken.
    pub config_digest: String,
    /// Which revision of its source that is, if `apply` was told.
    pub config_source: Option<String>,
    /// Counts configurations that were taken.
    pub config_revision: u64,
    /// What the configuration asks for and the kernel doesn't have yet, and why.
    pub pending: Option<String>,
    /// The API over TCP, if there is one.
    #[serde(default)]
    pub api: Option<SecureStatus>,
}

/// The API over TCP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecureStatus {
    /// Where it listens.
    pub listen: String,
    /// When the agent's certificate expires.
    pub expires: Timestamp,
    /// Why certificate, key and authorities are older than their files; none if they are as these are.
    pub problem: Option<String>,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// `native`, `generic` or `tc`.
    pub xdp: String,
    /// Whether the programs are on it.
    pub attached: bool,
    /// Why not.
    pub reason: Option<String>,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GroupStatus {
    /// Its name.
    pub name: String,
    /// The colour that new connections go to.
    pub live: String,
    /// The one that was live before.
    pub previous: Option<String>,
    /// What is going on.
    pub phase: String,
    /// What keeps clients from being served as they should, and what to do.
    #[serde(default)]
    pub degraded: Vec<String>,
    /// Events that are on their way, by the hooks that hear of them.
    #[serde(default)]
    pub outbox: Vec<OutboxStatus>,
    /// Counts changes of `live`.
    pub revision: u64,
    /// Counts windows.
    pub epoch: u32,
    /// Since when `live` is live.
    pub since: Timestamp,
    /// Who has made it so.
    pub by: String,
    /// Until when new flows are held, at most.
    #[serde(default)]
    pub paused_until: Option<Timestamp>,
    /// What will happen by itself.
    pub next: Option<NextStatus>,
    /// The window, while one is open.
    pub window: Option<WindowStatus>,
    /// Colours by name.
    pub colours: BTreeMap<String, ColourStatus>,
    /// Whether it could be rolled back.
    pub rollback: RollbackStatus,
    /// The version of the database's schema, if `schema` has recorded one.
    #[serde(default)]
    pub schema: Option<u64>,
    /// Manual gates by name.
    #[serde(default)]
    pub gates: BTreeMap<String, GateStatus>,
    /// Why nobody flips.
    #[serde(default)]
    pub frozen: Option<FreezeStatus>,
    /// What stands in the way of the next flip, as far as it is clear where that goes.
    #[serde(default)]
    pub blockers: Vec<String>,
    /// What somebody should know of it now.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The cut-over that is going on.
    pub cutover: Option<CutoverStatus>,
    /// The colour that has a share of new connections.
    #[serde(default)]
    pub canary: Option<CanaryStatus>,
}

/// Events for one receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutboxStatus {
    /// The hook.
    pub hook: String,
    /// How many wait.
    pub waiting: u64,
    /// Since when the oldest does.
    pub since: Option<Timestamp>,
    /// How often it was sent in vain.
    pub failures: u32,
    /// Why, the last time.
    pub reason: Option<String>,
}

/// A colour that has a share of new connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CanaryStatus {
    /// The colour.
    pub colour: String,
    /// Its share, in percent.
    pub percent: u8,
    /// It grows by itself.
    #[serde(default)]
    pub policy: bool,
}

/// A manual gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GateStatus {
    /// Open, or closed.
    pub open: bool,
    /// Who has decided that; nobody if it is as configured.
    pub by: Option<String>,
    /// Until when that holds.
    pub until: Option<Timestamp>,
}

/// Why nobody flips.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FreezeStatus {
    /// What for.
    pub reason: String,
    /// Who has said so.
    pub by: String,
    /// Until when; until somebody ends it if none.
    pub until: Option<Timestamp>,
}

/// What will happen by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NextStatus {
    /// When, at the latest.
    pub at: Timestamp,
    /// What.
    pub what: String,
}

/// An open window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WindowStatus {
    /// Of the word: `arming`, `open` or `draining`.
    pub phase: String,
    /// Flows at endpoints that new flows don't go to; none if they could not be counted.
    pub flows_on_old: Option<u64>,
    /// The same for each colour that was left since it opened and has not drained.
    #[serde(default)]
    pub left: BTreeMap<String, Option<u64>>,
    /// From 0 to 1.
    pub flow_map_used: f64,
}

/// A colour of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ColourStatus {
    /// `live`, `previous`, `staging` or `retired`.
    pub role: String,
    /// What runs there, if `stage` has said so.
    pub version: Option<String>,
    /// Which versions of the database's schema that can live with, such as `12..14`; any if none.
    #[serde(default)]
    pub schema: Option<String>,
    /// Whether all its endpoints are; none while that isn't known.
    pub healthy: Option<bool>,
    /// Its endpoints.
    pub endpoints: Vec<EndpointStatus>,
    /// Packets from clients, ever.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Connections and UDP flows begun.
    pub connections: u64,
    /// TCP resets seen from its endpoints.
    pub resets: u64,
    /// Flows that are there now, as far as the kernel knows; none if they could not be counted.
    pub flows: Option<u64>,
    /// When the agent last saw `packets` grow.
    pub last_packet_at: Option<Timestamp>,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndpointStatus {
    /// The service it serves.
    pub service: String,
    /// Where it listens.
    pub address: String,
    /// Its share.
    pub weight: u16,
    /// Whether it passes its checks; none while that isn't known.
    pub healthy: Option<bool>,
    /// Why it failed the last one.
    pub reason: Option<String>,
    /// It is down, and the other endpoints of its colour have what it had until it is back.
    #[serde(default)]
    pub handed_over: bool,
}

/// Whether a group could be rolled back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RollbackStatus {
    /// Whether it would do good.
    pub eligible: bool,
    /// The colour it would go to.
    pub to: Option<String>,
    /// Why not.
    pub blockers: Vec<String>,
}

/// The cut-over that is going on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CutoverStatus {
    /// Its name.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// The colour that was live.
    pub from: String,
    /// The colour that is to be live.
    pub to: String,
    /// The group's phase.
    pub stage: String,
    /// When its window ends at the latest.
    pub deadline: Option<Timestamp>,
    /// The instant it is set for.
    #[serde(default)]
    pub at: Option<Timestamp>,
    /// When it undoes itself unless it is confirmed.
    #[serde(default)]
    pub confirm_by: Option<Timestamp>,
    /// When the first new connection met the switch, if one did.
    #[serde(default)]
    pub first_packet_at: Option<Timestamp>,
    /// How its colour is watched, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake: Option<BakeRecord>,
}

/// `data` of the event `agent` of `GET /v1/events`: the agent, as far as it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentState {
    /// Counts configurations that were taken.
    pub config_revision: u64,
    /// SHA-256 of the configuration it has taken.
    pub config_digest: String,
    /// What the configuration asks for and the kernel doesn't have yet, and why.
    pub pending: Option<String>,
    /// Interfaces whose traffic is steered.
    pub interfaces: Vec<InterfaceStatus>,
}

/// `data` of the event `state` of `GET /v1/events`: a group, as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupState {
    /// Its name.
    pub group: String,
    /// The colour that new connections go to.
    pub live: String,
    /// The one that was live before.
    pub previous: Option<String>,
    /// What is going on.
    pub phase: String,
    /// Counts changes of `live`.
    pub revision: u64,
    /// Since when `live` is live.
    pub since: Timestamp,
    /// Who has made it so.
    pub by: String,
    /// The cut-over that is going on.
    pub cutover: Option<String>,
    /// When that undoes itself unless it is confirmed.
    pub confirm_by: Option<Timestamp>,
    /// New flows are held.
    pub paused: bool,
    /// Why nobody flips.
    pub frozen: Option<FreezeStatus>,
    /// The colour that has a share of new connections.
    pub canary: Option<CanaryStatus>,
    /// Colours by name.
    pub colours: BTreeMap<String, ColourState>,
}

/// A colour of a group, as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ColourState {
    /// `live`, `previous`, `staging` or `retired`.
    pub role: String,
    /// What runs there, if `stage` has said so.
    pub version: Option<String>,
    /// Whether all its endpoints are; none while that isn't known.
    pub healthy: Option<bool>,
}

/// `data` of the event `missed` of `GET /v1/events`: something has happened that is not told, or not as it was.
/// What holds now follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Missed {
    /// Why.
    pub why: String,
    /// The time of the last event that was told, if that is known.
    pub since: Option<Timestamp>,
    /// What the audit has about the time since, the oldest first.
    pub records: Vec<AuditRecord>,
    /// It has more than that; these are the newest.
    pub more: bool,
}

/// `GET /v1/history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// The newest first.
    pub cutovers: Vec<CutoverRecord>,
}

/// `GET /v1/audit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Audit {
    /// The newest first.
    pub records: Vec<AuditRecord>,
}

/// `POST /v1/explain`: a packet that nobody sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// The group asked about; none for all.
    pub group: Option<String>,
    /// Its protocol.
    pub protocol: Protocol,
    /// The client's side.
    #[schema(value_type = String, pattern = "^((0|[1-9][0-9]?)(\\.(0|[1-9][0-9]?)){3}|\\[[0-9a-f]{1,4}(:[0-9a-f]{1,4}){7}\\]):[1-9][0-9]{0,3}$")]
    pub source: SocketAddr,
    /// The service's side.
    #[schema(value_type = String, pattern = "^((0|[1-9][0-9]?)(\\.(0|[1-9][0-9]?)){3}|\\[[0-9a-f]{1,4}(:[0-9a-f]{1,4}){7}\\]):[1-9][0-9]{0,3}$")]
    pub destination: SocketAddr,
    /// Whether the packet opens a connection: a SYN, or an Initial of QUIC.
    #[serde(default)]
    pub syn: bool,
}
