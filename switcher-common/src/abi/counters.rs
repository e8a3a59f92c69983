//! What is counted of a colour's traffic.

use core::ops::Add;

use bytemuck::{Pod, Zeroable};

/// Per-CPU cell of `COUNTERS`; never reset.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counters {
    /// Packets from clients to this colour.
    pub packets: u64,
    /// Their bytes, Ethernet header included.
    pub bytes: u64,
    /// SYNs of new connections, or UDP flows begun.
    pub connections: u64,
    /// RSTs seen from its endpoints.
    pub resets: u64,
    /// SYN-ACKs seen from its endpoints, and connections of clients on this host, whose SYN-ACKs nobody sees.
    pub answers: u64,
}
const _: () = assert!(size_of::<Counters>() == 40);

impl Add for Counters {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            packets: self.packets + more.packets,
            bytes: self.bytes + more.bytes,
            connections: self.connections + more.connections,
            resets: self.resets + more.resets,
            answers: self.answers + more.answers,
        }
    }
}
