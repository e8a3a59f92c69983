//! What is kept for clients on this host, whose sockets are steered instead of their packets.

use bytemuck::{Pod, Zeroable};

use super::{Address, Port};

/// The only element of `CLIENTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Clients {
    /// Cookie of the network namespace whose sockets are steered; 0: nobody's.
    pub namespace: u64,
}
const _: () = assert!(size_of::<Clients>() == 8);

/// Bits of [`SocketNote::flags`].
pub mod socket_flags {
    /// The agent's own socket: it means the address it says.
    pub const OWN: u32 = 1;
    /// It has sent datagrams to a VIP or preview.
    pub const SENDS: u32 = 1 << 1;
}

/// Endpoints that a [`SocketNote`] can make an exception for.
pub const EXCEPTIONS: usize = 4;

/// An endpoint whose datagrams do not get its service's VIP as their source.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Exception {
    /// The endpoint's id.
    pub endpoint: u16,
    /// 0 for none, [`Exception::DIRECT`], or the preview's service index plus one.
    pub front: u16,
}
const _: () = assert!(size_of::<Exception>() == 4);

impl Exception {
    /// The socket speaks to the endpoint's own address.
    pub const DIRECT: u16 = u16::MAX;
}

/// Value of `SOCKETS`: what is remembered of a socket for as long as it lives. Only of sockets that have
/// had to do with a service.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SocketNote {
    /// The VIP or preview that it connected to.
    pub front: Address,
    /// The endpoint that it was connected to instead.
    pub endpoint: Address,
    /// Port of `front`.
    pub front_port: Port,
    /// Port of `endpoint`.
    pub endpoint_port: Port,
    /// Bits of [`socket_flags`].
    pub flags: u32,
    /// The last exceptions, as a ring.
    pub exceptions: [Exception; EXCEPTIONS],
    /// Exceptions made so far; says which is overwritten next.
    pub made: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<SocketNote>() == 64);
