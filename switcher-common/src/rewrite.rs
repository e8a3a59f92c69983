//! New addresses and ports for a packet, with incremental checksums: emitted in one place.

use network_types::eth::EthHdr;

use crate::abi::{Address, Port, TCP};
use crate::checksum::{change, change_address, change16, update, update_sum, update_udp};
use crate::frame::Frame;
use crate::parse::Packet;

/// Where fields are, counted from the beginning of their header.
pub mod field {
    use crate::abi::TCP;

    /// In an IPv4 header.
    pub mod v4 {
        /// TTL and, behind it, the protocol: a word of the header checksum.
        pub const TTL: usize = 8;
        /// Header checksum.
        pub const CHECK: usize = 10;
        /// Source address.
        pub const SOURCE: usize = 12;
        /// Destination address.
        pub const DESTINATION: usize = 16;
    }

    /// In an IPv6 header.
    pub mod v6 {
        /// Hop limit.
        pub const HOP_LIMIT: usize = 7;
        /// Source address.
        pub const SOURCE: usize = 8;
        /// Destination address.
        pub const DESTINATION: usize = 24;
    }

    /// Offset in the frame of the checksum of a TCP or UDP header at `l4`.
    #[inline(always)]
    pub const fn check(l4: u16, protocol: u8) -> usize {
        l4 as usize + if protocol == TCP { 16 } else { 6 }
    }
}

/// Which end of a packet changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A reply gets the service's address back.
    Source,
    /// A request gets an endpoint's address.
    Destination,
}

impl End {
    /// The other one.
    #[inline(always)]
    pub const fn other(self) -> Self {
        match self {
            Self::Source => Self::Destination,
            Self::Destination => Self::Source,
        }
    }
}

/// Link addresses for a packet that the program forwards itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Destination MAC address.
    pub destination: [u8; 6],
    /// Source MAC address.
    pub source: [u8; 6],
}

/// An edit of one packet's headers. What stood there before is read where it is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The new address, of the packet's family.
    pub address: Address,
    /// The new port.
    pub port: Port,
    /// Offset of the IP header.
    pub l3: u16,
    /// Offset of the TCP or UDP header.
    pub l4: u16,
    /// IP protocol number: where the checksum is.
    pub protocol: u8,
    /// IPv6, else IPv4.
    pub is_v6: bool,
    /// Which address and port are replaced.
    pub end: End,
    /// The L4 checksum is that of the pseudo-header alone: see [`crate::parse::is_unfinished`].
    pub unfinished: bool,
    /// Whether the other end is replaced, too.
    pub both: bool,
    /// The other end's new port.
    pub other_port: Port,
    /// The other end's new address.
    pub other_address: Address,
    /// The TTL is decremented and the link header replaced, if the program forwards the packet.
    pub hop: Option<Hop>,
}

/// Offsets in the frame of what an edit changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// The address.
    pub address: usize,
    /// The port.
    pub port: usize,
    /// The checksum of the transport header.
    pub check: usize,
}

impl Edit {
    /// Sends `packet` to an endpoint.
    #[inline(always)]
    pub const fn to(packet: &Packet, address: Address, port: Port) -> Self {
        Self::of(packet, End::Destination, address, port)
    }

    /// Makes `packet` come from a service.
    #[inline(always)]
    pub const fn from(packet: &Packet, address: Address, port: Port) -> Self {
        Self::of(packet, End::Source, address, port)
    }

    #[inline(always)]
    const fn of(packet: &Packet, end: End, address: Address, port: Port) -> Self {
        Self {
            address,
            port,
            l3: packet.l3,
            l4: packet.l4,
            protocol: packet.protocol,
            is_v6: packet.is_v6,
            end,
            unfinished: false,
            both: false,
            other_port: Port(0),
            other_address: Address([0; 2]),
            hop: None,
        }
    }

    /// The same at the other end.
    #[inline(always)]
    #[must_use]
    pub const fn turned(&self) -> Self {
        let end = match self.end {
            End::Source => End::Destination,
            End::Destination => End::Source,
        };
        Self { end, ..*self }
    }

    /// And replaces the other end, too.
    #[inline(always)]
    #[must_use]
    pub const fn and(self, address: Address, port: Port) -> Self {
        Self {
            both: true,
            other_address: address,
            other_port: port,
            ..self
        }
    }

    /// Of what is masqueraded leaves this host's side to the egress hook, but for its port, by which that finds the flow: a
    /// client's port may be in use for two at one endpoint, by the service and by a preview.
    #[inline(always)]
    pub const fn leave_source(&mut self, packet: &Packet) {
        if matches!(self.end, End::Source) {
            self.end = End::Destination;
            self.address = self.other_address;
            self.port = packet.destination_port;
            self.both = false;
        } else {
            self.other_address = packet.source;
        }
    }

    /// Where it changes something.
    #[inline(always)]
    pub const fn places(&self) -> Places {
        self.places_at(self.end)
    }

    /// Likewise at the other end, if [`both`](Self::both) change.
    #[inline(always)]
    pub const fn other_places(&self) -> Places {
        self.places_at(self.end.other())
    }

    #[inline(always)]
    const fn places_at(&self, end: End) -> Places {
        let (address, port) = match (end, self.is_v6) {
            (End::Source, false) => (field::v4::SOURCE, 0),
            (End::Source, true) => (field::v6::SOURCE, 0),
            (End::Destination, false) => (field::v4::DESTINATION, 2),
            (End::Destination, true) => (field::v6::DESTINATION, 2),
        };
        Places {
            address: self.l3 as usize + address,
            port: self.l4 as usize + port,
            check: field::check(self.l4, self.protocol),
        }
    }
}

/// Carries out `edit` on bytes that can be written directly, updating checksums by difference.
#[inline(always)]
pub fn in_place<F: Frame + ?Sized>(frame: &mut F, edit: &Edit) -> Option<()> {
    let places = edit.places();
    let check = places.check;
    let mut changes = replace(frame, edit.is_v6, &places, edit.address, edit.port)?;
    if edit.both {
        let places = edit.other_places();
        let (address, port) = (edit.other_address, edit.other_port);
        let other = replace(frame, edit.is_v6, &places, address, port)?;
        changes = (changes.0 + other.0, changes.1 + other.1);
    }
    let (address_change, port_change) = changes;
    let l4_change = address_change + port_change;

    let sum: u16 = frame.read(check)?;
    let updated = if edit.unfinished {
        update_sum(sum, address_change)
    } else if edit.protocol == TCP {
        update(sum, l4_change)
    } else {
        update_udp(sum, l4_change)
    };
    frame.write(check, updated)?;
    finish_header(frame, edit, address_change)
}

/// Carries out `edit` on a packet without a transport header.
#[inline(always)]
pub(crate) fn header<F: Frame + ?Sized>(frame: &mut F, edit: &Edit) -> Option<()> {
    let mut change = replace_address(frame, edit)?;
    if edit.both {
        let end = edit.end.other();
        let address = edit.other_address;
        change += replace_address(
            frame,
            &Edit {
                end,
                address,
                ..*edit
            },
        )?;
    }
    finish_header(frame, edit, change)
}

/// Replaces the address. The change of the sum over it.
#[inline(always)]
pub(crate) fn replace_address<F: Frame + ?Sized>(frame: &mut F, edit: &Edit) -> Option<u64> {
    let Places { address, .. } = edit.places();
    if edit.is_v6 {
        let from: Address = frame.read(address)?;
        frame.write(address, edit.address)?;
        Some(change_address(from, edit.address))
    } else {
        let from: u32 = frame.read(address)?;
        frame.write(address, edit.address.v4_word())?;
        Some(change(from, edit.address.v4_word()))
    }
}

/// What is left to do in the IP header after `change`, and in the link header.
#[inline(always)]
pub(crate) fn finish_header<F: Frame + ?Sized>(
    frame: &mut F,
    edit: &Edit,
    mut change: u64,
) -> Option<()> {
    if let Some(hop) = edit.hop {
        change += forward(frame, edit, hop)?;
    }
    if edit.is_v6 {
        return Some(());
    }
    let place = usize::from(edit.l3) + field::v4::CHECK;
    let sum: u16 = frame.read(place)?;
    frame.write(place, update(sum, change))
}

/// Puts an address and a port in; the changes of the sums of addresses and of ports.
#[inline(always)]
pub fn replace<F: Frame + ?Sized>(
    frame: &mut F,
    is_v6: bool,
    places: &Places,
    address: Address,
    port: Port,
) -> Option<(u64, u64)> {
    let address_change = if is_v6 {
        let from: Address = frame.read(places.address)?;
        frame.write(places.address, address)?;
        change_address(from, address)
    } else {
        let from: u32 = frame.read(places.address)?;
        frame.write(places.address, address.v4_word())?;
        change(from, address.v4_word())
    };
    let from: u16 = frame.read(places.port)?;
    frame.write(places.port, port.0)?;
    Some((address_change, change16(from, port.0)))
}

/// One hop further: link addresses and time to live. The change of the sum over the IP header.
#[inline(always)]
pub fn forward<F: Frame + ?Sized>(frame: &mut F, edit: &Edit, hop: Hop) -> Option<u64> {
    let mut ethernet: EthHdr = frame.read(0)?;
    ethernet.dst_addr = hop.destination;
    ethernet.src_addr = hop.source;
    frame.write(0, ethernet)?;
    let l3 = usize::from(edit.l3);
    if edit.is_v6 {
        let place = l3 + field::v6::HOP_LIMIT;
        let [limit]: [u8; 1] = frame.read(place)?;
        let next = limit.wrapping_sub(1);
        frame.write(place, [next])?;
        // Nobody else has a sum over a header without a checksum.
        let word = |limit| u16::from_ne_bytes([0, limit]);
        return Some(match F::COMPLETED {
            true => change16(word(limit), word(next)),
            false => 0,
        });
    }
    let place = l3 + field::v4::TTL;
    let ttl: u16 = frame.read(place)?;
    let next = u16::from_be(ttl).wrapping_sub(0x100).to_be();
    frame.write(place, next)?;
    Some(change16(ttl, next))
}

/// One hop further, and nothing else: the time to live, which the caller has seen to be above one, and the
/// link addresses.
#[inline(always)]
pub(crate) fn hop<F: Frame + ?Sized>(frame: &mut F, packet: &Packet, hop: Hop) -> Option<()> {
    let edit = Edit::to(packet, packet.destination, packet.destination_port);
    let change = forward(frame, &edit, hop)?;
    if packet.is_v6 {
        return Some(());
    }
    let place = usize::from(packet.l3) + field::v4::CHECK;
    let sum: u16 = frame.read(place)?;
    frame.write(place, update(sum, change))
}
