//! New addresses and ports for a packet, with incremental checksums: emitted in one place.

use network_types::eth::EthHdr;

use crate::abi::{Address, Port, TCP};
use crate::checksum::{change, change16, update, update_sum, update_udp};
use crate::frame::Frame;
use crate::parse::Packet;

/// Offset of the IPv4 header: the only link layer so far is untagged Ethernet.
pub const L3: usize = 14;
/// Offset of the transport header: IPv4 without options.
pub const L4: usize = L3 + 20;

/// Offsets of fields that an edit touches.
pub mod field {
    use super::{L3, L4};
    /// TTL and protocol, a word of the header checksum.
    pub const TTL: usize = L3 + 8;
    /// IPv4 header checksum.
    pub const IP_CHECK: usize = L3 + 10;
    /// IPv4 source address.
    pub const SOURCE: usize = L3 + 12;
    /// IPv4 destination address.
    pub const DESTINATION: usize = L3 + 16;
    /// Source port of TCP and UDP.
    pub const SOURCE_PORT: usize = L4;
    /// Destination port of TCP and UDP.
    pub const DESTINATION_PORT: usize = L4 + 2;
    /// TCP checksum.
    pub const TCP_CHECK: usize = L4 + 16;
    /// UDP checksum.
    pub const UDP_CHECK: usize = L4 + 6;
}

/// Which end of a packet changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A reply gets the service's address back.
    Source,
    /// A request gets an endpoint's address.
    Destination,
}

/// Link addresses for a packet that the program forwards itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Destination MAC address.
    pub destination: [u8; 6],
    /// Source MAC address.
    pub source: [u8; 6],
}

/// An edit of one packet's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Which address and port are replaced.
    pub end: End,
    /// IP protocol number: where the checksum is.
    pub protocol: u8,
    /// Address before, in network order.
    pub from_address: u32,
    /// Address after, in network order.
    pub to_address: u32,
    /// Port before.
    pub from_port: Port,
    /// Port after.
    pub to_port: Port,
    /// The TTL is decremented and the link header replaced, if the program forwards the packet.
    pub hop: Option<Hop>,
    /// The L4 checksum is that of the pseudo-header alone: see [`crate::parse::is_unfinished`].
    pub unfinished: bool,
}

impl Edit {
    /// Sends `packet` to an endpoint.
    #[inline(always)]
    pub fn to(packet: &Packet, address: Address, port: Port) -> Self {
        Self {
            end: End::Destination,
            protocol: packet.protocol,
            from_address: packet.destination.v4_word(),
            to_address: address.v4_word(),
            from_port: packet.destination_port,
            to_port: port,
            hop: None,
            unfinished: false,
        }
    }

    /// Makes `packet` come from a service.
    #[inline(always)]
    pub fn from(packet: &Packet, address: Address, port: Port) -> Self {
        Self {
            end: End::Source,
            protocol: packet.protocol,
            from_address: packet.source.v4_word(),
            to_address: address.v4_word(),
            from_port: packet.source_port,
            to_port: port,
            hop: None,
            unfinished: false,
        }
    }

    /// The address after.
    #[inline(always)]
    pub const fn to_address(&self) -> Address {
        Address::v4(self.to_address.to_ne_bytes())
    }

    /// Offsets of the address and the port that change.
    #[inline(always)]
    pub const fn offsets(&self) -> (usize, usize) {
        match self.end {
            End::Source => (field::SOURCE, field::SOURCE_PORT),
            End::Destination => (field::DESTINATION, field::DESTINATION_PORT),
        }
    }
}

/// Carries out `edit` on bytes that can be written directly, updating checksums by difference.
#[inline(always)]
pub fn in_place<F: Frame + ?Sized>(frame: &mut F, edit: &Edit) -> Option<()> {
    let (address, port) = edit.offsets();
    let address_change = change(edit.from_address, edit.to_address);
    let l4_change = address_change + change16(edit.from_port.0, edit.to_port.0);

    if edit.unfinished {
        let place = if edit.protocol == TCP {
            field::TCP_CHECK
        } else {
            field::UDP_CHECK
        };
        let check: u16 = frame.read(place)?;
        frame.write(place, update_sum(check, address_change))?;
    } else if edit.protocol == TCP {
        let check: u16 = frame.read(field::TCP_CHECK)?;
        frame.write(field::TCP_CHECK, update(check, l4_change))?;
    } else {
        let check: u16 = frame.read(field::UDP_CHECK)?;
        frame.write(field::UDP_CHECK, update_udp(check, l4_change))?;
    }

    let mut ip_change = address_change;
    if let Some(hop) = edit.hop {
        let ttl: u16 = frame.read(field::TTL)?;
        let next = (u16::from_be(ttl) - 0x100).to_be();
        ip_change += change16(ttl, next);
        frame.write(field::TTL, next)?;
        let mut ethernet: EthHdr = frame.read(0)?;
        ethernet.dst_addr = hop.destination;
        ethernet.src_addr = hop.source;
        frame.write(0, ethernet)?;
    }
    let check: u16 = frame.read(field::IP_CHECK)?;
    frame.write(field::IP_CHECK, update(check, ip_change))?;
    frame.write(address, edit.to_address)?;
    frame.write(port, edit.to_port.0)
}
