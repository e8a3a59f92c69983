//! Keys and values of the maps of `forward = "masquerade"`.
//!
//! A flow has two entries: [`NatFlow`] under the client's side, which requests find, and [`NatClient`]
//! under this host's side, which replies find. Each is the authority on what its own side does; the
//! other side's activity is copied when it closes, so that one look-up serves a packet.

use bytemuck::{Pod, Zeroable};

use super::{Address, FlowKey, Port};

/// Flows that `NAT_FLOWS` holds unless the configuration says otherwise.
pub const DEFAULT_NAT_FLOWS: u32 = 1 << 18;
/// Addresses that one endpoint's flows can come from.
pub const NAT_ADDRESSES: usize = 4;

/// Endpoints of a host that can be masqueraded for.
pub const MAX_NAT_SOURCES: u32 = 8192;

/// Value of `NAT_SOURCES`, by endpoint: where its flows come from.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct NatSource {
    /// Addresses of this host, of the endpoint's family.
    pub addresses: [Address; NAT_ADDRESSES],
    /// How many of them count; 0 where there is no way to the endpoint.
    pub count: u32,
    /// The first port, as people write it.
    pub first: u16,
    /// Ports from there on.
    pub ports: u16,
}
const _: () = assert!(size_of::<NatSource>() == 72);

/// What one side of a flow was last seen to do: a tick and bits of [`activity`]. One word, so that it is
/// written at once.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct Activity(pub u64);

/// Bits of an [`Activity`].
pub mod activity {
    /// It has sent something.
    pub const SPEAKS: u32 = 1;
    /// It has sent something other than a SYN.
    pub const TALKS: u32 = 1 << 1;
    /// It has sent a FIN.
    pub const FIN: u32 = 1 << 2;
    /// The last it sent was a RST.
    pub const RESET: u32 = 1 << 3;
}

impl Activity {
    /// At this tick.
    #[inline(always)]
    pub const fn new(seen: u32, state: u32) -> Self {
        Self(seen as u64 | (state as u64) << 32)
    }

    /// The tick of its last packet.
    #[inline(always)]
    pub const fn seen(self) -> u32 {
        self.0 as u32
    }

    /// Bits of [`activity`].
    #[inline(always)]
    pub const fn state(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Whether all bits of `state` are set.
    #[inline(always)]
    pub const fn has(self, state: u32) -> bool {
        self.state() & state == state
    }
}

/// Value of `NAT_FLOWS`, whose key is a [`FlowKey`] of [`flow_space::NAT`](super::flow_space::NAT).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct NatFlow {
    /// The address it has towards its endpoint.
    pub source: Address,
    /// The port it has towards its endpoint.
    pub port: Port,
    /// Where it goes.
    pub endpoint: u16,
    /// The word's epoch when it began: by it the agent tells what is given up.
    pub epoch: u32,
    /// Initial sequence number of its SYN, as in the header; 0 for UDP.
    pub sequence: u32,
    /// Zero.
    pub reserved: u32,
    /// What the client does.
    pub client: Activity,
    /// What the endpoint did when it last closed something.
    pub server: Activity,
}
const _: () = assert!(size_of::<NatFlow>() == 48);

impl NatFlow {
    /// Where replies find its client.
    #[inline(always)]
    pub const fn back(&self) -> NatPort {
        NatPort {
            source: self.source,
            port: self.port,
            endpoint: self.endpoint,
            reserved: 0,
        }
    }
}

/// Key of `NAT_PORTS`: a port of this host that an endpoint answers to.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct NatPort {
    /// This host's address.
    pub source: Address,
    /// This host's port.
    pub port: Port,
    /// The endpoint.
    pub endpoint: u16,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<NatPort>() == 24);

/// Value of `NAT_PORTS`: who has the port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct NatClient {
    /// The client's address.
    pub address: Address,
    /// The client's port.
    pub port: Port,
    /// Index of the service or preview it came by.
    pub service: u16,
    /// As in [`NatFlow`].
    pub epoch: u32,
    /// What the client did when it last closed something.
    pub client: Activity,
    /// What the endpoint does.
    pub server: Activity,
}
const _: () = assert!(size_of::<NatClient>() == 40);

impl NatClient {
    /// Where requests find the flow.
    #[inline(always)]
    pub const fn flow(&self) -> FlowKey {
        FlowKey::nat(self.address, self.port, self.service)
    }
}
