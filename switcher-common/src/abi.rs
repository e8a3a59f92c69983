//! Keys, values, limits and names of the BPF maps: the one truth both sides compile against.
//!
//! Every struct is `repr(C)` without hidden padding (`Pod` refuses it) and has its size asserted beside
//! it. Addresses and ports are kept in network order, as they stand in a packet. A change of anything
//! here is a change of [`ABI`].

mod address;
pub mod client;
mod counters;
mod flow;
pub mod fragment;
pub mod map;
pub mod nat;
pub mod notice;
mod times;
pub mod trace;

use bytemuck::{Pod, Zeroable};

pub use address::{Address, Port};
pub use counters::Counters;
pub use flow::{FlowKey, Note, TICK_SHIFT, Tag, TagBudget, flow_space, note_kind};
pub use times::Times;

/// Version of the map layout; part of the pin path, so that two layouts never meet in one directory.
pub const ABI: u32 = 2;

/// Tables a group can hold at once.
pub const SLOTS: usize = 8;
/// Colours a group can have.
pub const COLOURS: usize = 8;
/// Groups on one host.
pub const MAX_GROUPS: u32 = 256;
/// Services (and previews, which are services to the data path) on one host.
pub const MAX_SERVICES: u32 = 1 << 14;
/// Elements of `ENDPOINTS`: every id a `u16` can hold but the last, whose [`PortEntry`] code would be 0.
/// Id 0 is never given, so a host can have one endpoint less.
pub const MAX_ENDPOINTS: u32 = u16::MAX as u32;
/// Entries of `ADDRESSES`: every service and endpoint can be published.
pub const MAX_ADDRESSES: u32 = MAX_SERVICES + MAX_ENDPOINTS;
/// Buckets of all tables together: every service has room for two colours of two endpoints, twice.
pub const MAX_BUCKETS: u32 = 1 << 24;
/// Buckets that one element of the `TABLES` array holds (an array's stride is 8 bytes).
pub const BUCKETS_PER_ELEMENT: u32 = 4;
/// Cells of the `COUNTERS` map: one per (service, colour) that has endpoints. There are fewer than there
/// could be of those, since every CPU has them all.
pub const MAX_COUNTERS: u32 = MAX_SERVICES * 2;
/// Elements of `NEXT_HOPS`, which endpoints share by their ids' low bits.
pub const NEXT_HOPS: u32 = 1 << 12;
/// Entries of the window's flow map unless the configuration says otherwise.
pub const DEFAULT_FLOWS: u32 = 1 << 20;
/// Entries of a group's UDP flow map.
pub const UDP_FLOWS: u32 = 1 << 15;
/// Exceptions remembered: direct and preview connections.
pub const MAX_NOTES: u32 = 1 << 14;
/// Bytes of a name in [`GroupName`] and [`ServiceName`], NUL padded.
pub const NAME: usize = 32;

/// [`PortEntry`]: more than one candidate uses this port, ask the `ADDRESSES` map.
pub const MANY: u16 = u16::MAX;

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IP protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;

/// Element of `PORTS`, indexed by port number: who might be concerned by a packet with this port.
///
/// A field is 0 (nobody), an index plus one, or [`MANY`]. The address still has to be compared. This
/// array answers "not ours" and, in the common case, "which service" without a hash look-up.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PortEntry {
    /// Service whose VIP (or preview) has this TCP port.
    pub tcp_service: u16,
    /// Service whose VIP (or preview) has this UDP port.
    pub udp_service: u16,
    /// Endpoint with this TCP port.
    pub tcp_endpoint: u16,
    /// Endpoint with this UDP port.
    pub udp_endpoint: u16,
}
const _: () = assert!(size_of::<PortEntry>() == 8);

/// Ports that one element of `KNOWN_PORTS` stands for.
pub const PORTS_PER_WORD: u32 = 64;

/// The element of `KNOWN_PORTS` and the bit in it that stand for a port. A bit is set if the port's
/// [`PortEntry`] is not zero; 8 KiB answer "nobody's" for most packets of a host, and stay in the cache.
#[inline(always)]
pub const fn known_port(port: u16) -> (u32, u64) {
    (
        port as u32 / PORTS_PER_WORD,
        1 << (port as u32 % PORTS_PER_WORD),
    )
}

/// Which kind of thing an [`AddressKey`] names: see [`AddressKey::kind`].
pub mod address_kind {
    /// The value is an index of `SERVICES`.
    pub const SERVICE: u8 = 0;
    /// The value is an index of `ENDPOINTS`.
    pub const ENDPOINT: u8 = 1;
    /// Fragments to this address may have to be forwarded. Without port or value.
    pub const FRAGMENTS_TO: u8 = 2;
    /// Fragments from this address may need another source. Without port or value.
    pub const FRAGMENTS_FROM: u8 = 3;
}

/// Key of `ADDRESSES`, asked where `PORTS` says [`MANY`]; the value is an index.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct AddressKey {
    /// Address of the service or endpoint.
    pub address: Address,
    /// Its port.
    pub port: Port,
    /// IP protocol number.
    pub protocol: u8,
    /// One of [`address_kind`].
    pub kind: u8,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<AddressKey>() == 24);

impl AddressKey {
    /// Whether `PORTS` says something about it.
    pub const fn has_port(&self) -> bool {
        matches!(self.kind, address_kind::SERVICE | address_kind::ENDPOINT)
    }
}

/// Where a table lies in `TABLES`, and how many buckets it has.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct TableRef(pub u32);

impl TableRef {
    /// Tables begin at multiples of this many buckets; also the smallest table.
    pub const UNIT: u32 = 256;

    /// A table of `1 << bits` buckets (at least [`Self::UNIT`]) that begins at bucket `first`, a
    /// multiple of [`Self::UNIT`].
    pub const fn new(first: u32, bits: u32) -> Self {
        assert!(first.is_multiple_of(Self::UNIT) && bits >= 8 && bits < 32);
        Self((first / Self::UNIT) << 5 | bits)
    }

    /// False for the zero value: no table here.
    #[inline(always)]
    pub const fn exists(self) -> bool {
        self.0 != 0
    }

    /// Base-two logarithm of the number of buckets.
    #[inline(always)]
    pub const fn bits(self) -> u32 {
        self.0 & 31
    }

    /// First bucket.
    #[inline(always)]
    pub const fn first(self) -> u32 {
        (self.0 >> 5) * Self::UNIT
    }

    /// The bucket of a flow.
    #[inline(always)]
    pub const fn bucket(self, hash: u32) -> u32 {
        self.first() + (hash & ((1 << self.bits()) - 1))
    }
}

/// Bits of [`Service::flags`].
pub mod service_flags {
    /// The entry is in use.
    pub const PRESENT: u8 = 1;
    /// All endpoints are sockets of this network namespace and the protocol is TCP: in a window the
    /// kernel's socket table says who owns a flow, and no tags are kept.
    pub const SOCKETS: u8 = 1 << 1;
    /// UDP: each datagram on its own.
    pub const PER_PACKET: u8 = 1 << 2;
    /// The entry is a preview: it reaches the staging slot of `parent`'s group.
    pub const PREVIEW: u8 = 1 << 3;
    /// Buckets are chosen by the client's address alone.
    pub const BY_SOURCE: u8 = 1 << 4;
    /// Flows go on as this host's own: see [`nat`](super::nat).
    pub const MASQUERADE: u8 = 1 << 5;
    /// Packets reach endpoints with the VIP in them, and endpoints answer clients directly: the program of
    /// [`Stage::Tunnel`](crate::verdict::Stage::Tunnel) takes over.
    pub const KEEPS_VIP: u8 = 1 << 6;
    /// UDP: QUIC. Its flows are tagged in windows, as those of TCP, and only then.
    pub const QUIC: u8 = 1 << 7;
}

/// Element of `SERVICES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Service {
    /// The address that clients use.
    pub address: Address,
    /// The port that clients use.
    pub port: Port,
    /// IP protocol number.
    pub protocol: u8,
    /// Bits of [`service_flags`].
    pub flags: u8,
    /// Index of its group's word.
    pub group: u16,
    /// For a preview the index of the service it previews, else its own index.
    pub parent: u16,
    /// Its table in each slot of the group.
    pub tables: [TableRef; SLOTS],
    /// Zero.
    pub reserved: [u32; 2],
}
const _: () = assert!(size_of::<Service>() == 64);

impl Service {
    /// Whether all bits of `flag` are set.
    #[inline(always)]
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag == flag
    }

    /// Whether clients make connections, whose packets a window keeps together: TCP, and QUIC.
    #[inline(always)]
    pub const fn has_connections(&self) -> bool {
        self.protocol == TCP || self.has(service_flags::QUIC)
    }
}

/// Bits of [`Endpoint::flags`].
pub mod endpoint_flags {
    /// The entry is in use.
    pub const PRESENT: u8 = 1;
    /// On another host: packets are forwarded by the program, replies come back through it.
    pub const ROUTED: u8 = 1 << 1;
    /// The endpoint is the VIP itself: packets pass untouched both ways.
    pub const UNTOUCHED: u8 = 1 << 2;
    /// On another host, which answers to an address of this one.
    pub const MASQUERADE: u8 = 1 << 3;
    /// On the same link, and has the VIP, too: only link addresses change, and it answers clients itself.
    pub const DSR: u8 = 1 << 4;
    /// Anywhere, and has the VIP, too: packets travel inside others, and it answers clients itself.
    pub const TUNNEL: u8 = 1 << 5;
    /// Those that have the VIP and answer clients themselves.
    pub const DIRECT: u8 = DSR | TUNNEL;
}

/// Element of `ENDPOINTS`: one server of one colour of one service.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Endpoint {
    /// Its address.
    pub address: Address,
    /// Its port.
    pub port: Port,
    /// IP protocol number.
    pub protocol: u8,
    /// Bits of [`endpoint_flags`].
    pub flags: u8,
    /// Index of the service it serves.
    pub service: u16,
    /// Colour number within the group.
    pub colour: u8,
    /// Zero.
    pub reserved: u8,
    /// Cell of `COUNTERS`.
    pub counter: u32,
    /// Set by the program when an exception for this endpoint's replies was noted; until then no
    /// reply needs a look-up in `NOTES`.
    pub noted: u32,
}
const _: () = assert!(size_of::<Endpoint>() == 32);

impl Endpoint {
    /// Whether all bits of `flag` are set.
    #[inline(always)]
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag == flag
    }
}

/// Element of `TUNNELS`, in step with `ENDPOINTS`: the source of outer headers to an endpoint with
/// [`endpoint_flags::TUNNEL`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Tunnel {
    /// Of the endpoint's family; bits that vary are zero. All zero if it isn't known.
    pub source: Address,
    /// Bits of the address's last word, as it stands in a header, that vary by flow.
    pub varied: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<Tunnel>() == 24);

impl Tunnel {
    /// Sources from a prefix: its host bits vary, the last 32 of them at most.
    pub fn new(prefix: core::net::IpAddr, length: u8) -> Self {
        let bits: u32 = if prefix.is_ipv4() { 32 } else { 128 };
        let hosts = bits.saturating_sub(length.into()).min(32);
        let varied = match hosts {
            0 => 0,
            hosts => (u32::MAX >> (32 - hosts)).to_be(),
        };
        let [a, b, c, d] = Address::from(prefix).words();
        Self {
            source: Address::of_words([a, b, c, d & !varied]),
            varied,
            reserved: 0,
        }
    }

    /// Whether packets can come from there.
    #[inline(always)]
    pub const fn is_known(&self) -> bool {
        self.source.0[0] | self.source.0[1] != 0
    }
}

/// The only element of `SETTINGS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// Seed of the flow hash; drawn once per installation.
    pub seed: u64,
    /// A UDP flow that was idle for more ticks is forgotten.
    pub udp_idle: u32,
    /// New tags a CPU may make in a tick, for SYNs and for flows that are learnt each; 0 for any number.
    pub tags: u32,
    /// The endpoint id that was given last: the next one is the first free one above, and around, so that
    /// an id comes back as late as possible. A flow may still be remembered with it.
    pub last_endpoint: u16,
    /// SYNs have one tag in so many of those, so that a flood leaves room for flows that are learnt, however long it is
    /// armed; 0 and 1 for all.
    pub syn_share: u16,
    /// A masqueraded UDP flow that was idle for more ticks is forgotten.
    pub nat_udp_idle: u32,
}
const _: () = assert!(size_of::<Settings>() == 24);

impl Settings {
    /// How many tags like this one a CPU may make in a tick; 0 for any number.
    #[inline(always)]
    pub fn tags_like(&self, tag: &Tag) -> u32 {
        if tag.from_syn == 1 && self.syn_share > 1 && self.tags > 0 {
            return (self.tags / u32::from(self.syn_share)).max(1);
        }
        self.tags
    }
}

/// Element of `GROUPS`, read off the fast path.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct GroupState {
    /// UDP tags of an earlier epoch are void: set by a hard rollback.
    pub udp_floor: u32,
    /// The tick from which on a held word is as one that is not.
    pub held_until: u32,
    /// When a timed or paused word changes its meaning.
    pub times: Times,
}
const _: () = assert!(size_of::<GroupState>() == 40);

/// Per-CPU element of `NEXT_HOPS`: the last answer of the FIB for one of the endpoints that share it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct NextHop {
    /// Tick until which it may be used; see [`TICK_SHIFT`].
    pub expires: u32,
    /// Interface index.
    pub interface: u32,
    /// Destination MAC address.
    pub destination: [u8; 6],
    /// Source MAC address.
    pub source: [u8; 6],
    /// Link MTU of the route in bytes, without the Ethernet header; 0 if unknown.
    pub mtu: u16,
    /// Whose it is.
    pub endpoint: u16,
}
const _: () = assert!(size_of::<NextHop>() == 24);

/// Element of `GROUP_NAMES`: what people call the numbers. Written by the agent, never read by the
/// program; pinned, so that `emergency` works with nothing but the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct GroupName {
    /// The group's name; empty where the element is unused.
    pub name: [u8; NAME],
    /// Colour number -> name; empty where unused.
    pub colours: [[u8; NAME]; COLOURS],
    /// Slot -> colour number plus one; 0 where the slot is unused.
    pub slots: [u8; SLOTS],
    /// Slot -> what part of its tables is another colour's.
    pub canaries: [CanaryShare; SLOTS],
}
const _: () = assert!(size_of::<GroupName>() == 312);

/// The part of a slot's tables that is another colour's.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct CanaryShare {
    /// That colour's number plus one; 0 where there is none.
    pub colour: u8,
    /// Its share in percent.
    pub percent: u8,
}
const _: () = assert!(size_of::<CanaryShare>() == 2);

/// Element of `SERVICE_NAMES`, in step with `SERVICES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ServiceName {
    /// The service's name; empty where the element is unused.
    pub name: [u8; NAME],
}
const _: () = assert!(size_of::<ServiceName>() == NAME);
