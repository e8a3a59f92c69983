//! Names of the maps, as in the object and under the pin directory.

/// `Array<PortEntry, 65536>`, mapped.
pub const PORTS: &str = "PORTS";
/// `Array<u64, 1024>`, mapped: see [`known_port`](super::known_port).
pub const KNOWN_PORTS: &str = "KNOWN_PORTS";
/// `HashMap<AddressKey, u32>`.
pub const ADDRESSES: &str = "ADDRESSES";
/// `Array<Service, MAX_SERVICES>`, mapped.
pub const SERVICES: &str = "SERVICES";
/// `Array<u64, MAX_GROUPS>`: the steering words, mapped.
pub const STEERING: &str = "STEERING";
/// `Array<GroupState, MAX_GROUPS>`, mapped.
pub const GROUPS: &str = "GROUPS";
/// `Array<[u16; 4], MAX_BUCKETS / 4>`: the buckets of all tables, endpoint ids, mapped.
pub const TABLES: &str = "TABLES";
/// `Array<Endpoint, MAX_ENDPOINTS>`, mapped.
pub const ENDPOINTS: &str = "ENDPOINTS";
/// `Array<Tunnel, MAX_ENDPOINTS>`, mapped.
pub const TUNNELS: &str = "TUNNELS";
/// `Array<Settings, 1>`, mapped.
pub const SETTINGS: &str = "SETTINGS";
/// `PerCpuArray<NextHop, NEXT_HOPS>`, at the low bits of an endpoint's id.
pub const NEXT_HOPS: &str = "NEXT_HOPS";
/// `PerCpuArray<Counters, MAX_COUNTERS>`.
pub const COUNTERS: &str = "COUNTERS";
/// `PerCpuArray<u64, 64>` by `Reason`.
pub const REASONS: &str = "REASONS";
/// `LruHashMap<FlowKey, Note, MAX_NOTES>`.
pub const NOTES: &str = "NOTES";
/// `LruHashMap<FragmentKey, Fragmented, MAX_FRAGMENTED>`.
pub const FRAGMENTS: &str = "FRAGMENTS";
/// `ArrayOfMaps<HashMap<FlowKey, Tag>, MAX_GROUPS>`: a group's tags while its window is open.
pub const WINDOWS: &str = "WINDOWS";
/// `ArrayOfMaps<LruHashMap<FlowKey, Tag>, MAX_GROUPS>`: a group's UDP flows.
pub const UDP_FLOWS_OF: &str = "UDP_FLOWS_OF";
/// `Array<GroupName, MAX_GROUPS>`: for people and `emergency`; not read by the programs.
pub const GROUP_NAMES: &str = "GROUP_NAMES";
/// `Array<ServiceName, MAX_SERVICES>`: likewise.
pub const SERVICE_NAMES: &str = "SERVICE_NAMES";
/// `PerCpuArray<TagBudget, 1>`.
pub const TAG_BUDGET: &str = "TAG_BUDGET";
/// `RingBuf`: see [`Notice`](super::notice::Notice).
pub const NOTICES: &str = "NOTICES";
/// `PerCpuArray<Noticed, MAX_GROUPS>`.
pub const NOTICED: &str = "NOTICED";
/// `PerCpuArray<[u64; 32], 3>`: what is kept of the packet that is being worked on, at XDP and at tc hooks, and what
/// one stage hands on to the next.
pub const SCRATCH: &str = "SCRATCH";
/// `ProgramArray<6>` by `Stage`: where the first program tail-calls to.
pub const STAGES: &str = "STAGES";
/// Likewise at tc ingress.
pub const TC_STAGES: &str = "TC_STAGES";
/// `ProgramArray<1>`: the tc program that takes over from the one at egress.
pub const EGRESS_STAGES: &str = "EGRESS_STAGES";
/// `Array<Clients, 1>`, mapped.
pub const CLIENTS: &str = "CLIENTS";
/// `SkStorage<SocketNote>`: sockets of this host that had to do with a service.
pub const SOCKETS: &str = "SOCKETS";

/// `HashMap<u32, NatSource, MAX_NAT_SOURCES>` by endpoint.
pub const NAT_SOURCES: &str = "NAT_SOURCES";
/// `HashMap<FlowKey, NatFlow>`.
pub const NAT_FLOWS: &str = "NAT_FLOWS";
/// `HashMap<NatPort, NatClient>`, as large.
pub const NAT_PORTS: &str = "NAT_PORTS";

/// `Array<TraceFilter, 1>`, mapped.
pub const TRACE_FILTER: &str = "TRACE_FILTER";
/// `PerCpuArray<Tracing, 2>` by [`kind`](super::trace::kind) of hook.
pub const TRACING: &str = "TRACING";
/// `RingBuf`: see [`Trace`](super::trace::Trace).
pub const TRACES: &str = "TRACES";
/// `ProgramArray`: the programs that trace, by `Stage`, and behind them by [`place`](super::trace::place).
pub const TRACE_STAGES: &str = "TRACE_STAGES";
/// Likewise at tc hooks.
pub const TC_TRACE_STAGES: &str = "TC_TRACE_STAGES";

/// All of them.
pub const ALL: &[&str] = &[
    PORTS,
    KNOWN_PORTS,
    ADDRESSES,
    SERVICES,
    STEERING,
    GROUPS,
    TABLES,
    ENDPOINTS,
    TUNNELS,
    SETTINGS,
    NEXT_HOPS,
    COUNTERS,
    REASONS,
    NOTES,
    FRAGMENTS,
    WINDOWS,
    UDP_FLOWS_OF,
    GROUP_NAMES,
    SERVICE_NAMES,
    TAG_BUDGET,
    NOTICES,
    NOTICED,
    SCRATCH,
    STAGES,
    TC_STAGES,
    EGRESS_STAGES,
    CLIENTS,
    SOCKETS,
    NAT_SOURCES,
    NAT_FLOWS,
    NAT_PORTS,
    TRACE_FILTER,
    TRACING,
    TRACES,
    TRACE_STAGES,
    TC_TRACE_STAGES,
];
