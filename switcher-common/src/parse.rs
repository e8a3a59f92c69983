//! Frame to tuple, or why not.

use network_types::tcp::TcpHdr;

use crate::abi::{Address, Port, TCP, UDP};
use crate::checksum;
use crate::frame::{Frame, Kept};
use crate::icmp::is_icmp;
use crate::layers::{LINK, Layers};
use crate::rewrite::field;
use crate::steer::Segment;
use crate::verdict::Reason;

/// What the rest of the pipeline needs to know of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source port.
    pub source_port: Port,
    /// Destination port.
    pub destination_port: Port,
    /// Offset of the IP header.
    pub l3: u16,
    /// Offset of the TCP or UDP header.
    pub l4: u16,
    /// IP protocol number: TCP or UDP.
    pub protocol: u8,
    /// IPv6, else IPv4.
    pub is_v6: bool,
}

impl Kept for Packet {}

impl Packet {
    /// Nothing yet.
    pub(crate) const NONE: Self = Self {
        source: Address([0; 2]),
        destination: Address([0; 2]),
        source_port: Port(0),
        destination_port: Port(0),
        l3: 0,
        l4: 0,
        protocol: 0,
        is_v6: false,
    };

    /// A packet without a frame, as it would stand in a plain one.
    pub const fn made_up(
        source: (Address, Port),
        destination: (Address, Port),
        protocol: u8,
    ) -> Self {
        let is_v6 = !destination.0.is_v4();
        Self {
            source: source.0,
            destination: destination.0,
            source_port: source.1,
            destination_port: destination.1,
            l3: LINK as u16,
            l4: LINK as u16 + if is_v6 { 40 } else { 20 },
            protocol,
            is_v6,
        }
    }

    /// Whether the frame has VLAN tags.
    #[inline(always)]
    pub const fn is_tagged(&self) -> bool {
        self.l3 as usize != LINK
    }
}

/// Reads the headers of a frame.
///
/// # Errors
/// The reason why the frame is none that we handle.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(frame: &F) -> Result<Packet, Reason> {
    let layers = frame.layers(Layers::find(frame)?);
    match layers.protocol {
        TCP | UDP => {}
        protocol if is_icmp(protocol, layers.is_v6) => return Err(Reason::IcmpError),
        // Behind the header of a later fragment there can be anything.
        _ if layers.is_v6 && layers.fragment != 0 => return Err(Reason::Fragment),
        _ => return Err(Reason::Protocol),
    }
    if layers.fragment != 0 {
        return Err(Reason::Fragment);
    }
    packet(frame, &layers)
}

/// The packet in these layers, whose transport header has to be TCP or UDP.
///
/// # Errors
/// When it is cut off, or has addresses that must not be seen on a wire.
#[inline(always)]
pub fn packet<F: Frame + ?Sized>(frame: &F, layers: &Layers) -> Result<Packet, Reason> {
    let [source, destination] = addresses(frame, layers).ok_or(Reason::Malformed)?;
    let (source_port, destination_port) =
        ports(frame, layers.protocol, layers.l4.into()).ok_or(Reason::Malformed)?;
    Ok(Packet {
        source,
        destination,
        source_port,
        destination_port,
        l3: layers.l3,
        l4: layers.l4,
        protocol: layers.protocol,
        is_v6: layers.is_v6,
    })
}

/// The packet in these layers, whatever follows them: without ports.
///
/// # Errors
/// As [`packet`].
#[inline(always)]
pub fn bare<F: Frame + ?Sized>(frame: &F, layers: &Layers) -> Result<Packet, Reason> {
    let [source, destination] = addresses(frame, layers).ok_or(Reason::Malformed)?;
    Ok(Packet {
        source,
        destination,
        source_port: Port(0),
        destination_port: Port(0),
        l3: layers.l3,
        l4: layers.l4,
        protocol: layers.protocol,
        is_v6: layers.is_v6,
    })
}

/// Source and destination; nothing if they are cut off or must not be seen on a wire.
#[inline(always)]
pub fn addresses<F: Frame + ?Sized>(frame: &F, layers: &Layers) -> Option<[Address; 2]> {
    let l3 = usize::from(layers.l3);
    if !layers.is_v6 {
        let [a, b, c, d, e, f, g, h]: [u8; 8] = frame.read(l3 + field::v4::SOURCE)?;
        return Some([Address::v4([a, b, c, d]), Address::v4([e, f, g, h])]);
    }
    let [source, destination]: [Address; 2] = frame.read(l3 + field::v6::SOURCE)?;
    // An IPv4-mapped one would be taken for the IPv4 address. A stack drops it, too (RFC 4038, 4.2).
    (!source.is_v4() && !destination.is_v4()).then_some([source, destination])
}

/// The ports, if the whole fixed transport header is there: later stages write into it.
#[inline(always)]
fn ports<F: Frame + ?Sized>(frame: &F, protocol: u8, l4: usize) -> Option<(Port, Port)> {
    if protocol == TCP {
        let tcp: TcpHdr = frame.read(l4)?;
        Some((Port::from_wire(tcp.source), Port::from_wire(tcp.dest)))
    } else {
        let [s0, s1, d0, d1, ..]: [u8; 8] = frame.read(l4)?;
        Some((Port::from_wire([s0, s1]), Port::from_wire([d0, d1])))
    }
}

/// What forwarding needs to know besides. Read apart from [`Packet`], since most packets are not
/// forwarded by the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carriage {
    /// What routing rules may look at: the type of service, or IPv6's traffic class and flow label as they
    /// stand in the header.
    pub class: u32,
    /// Bytes from the IP header on; of one segment, where there are many.
    pub length: u16,
    /// Time to live, or hop limit.
    pub ttl: u8,
}

/// Everything in the first word of an IPv6 header but the version.
const FLOW_INFO: u32 = 0x0fff_ffff_u32.to_be();

/// The carriage of a packet that [`parse`] accepted.
#[inline(always)]
pub fn carriage<F: Frame + ?Sized>(frame: &F, packet: &Packet) -> Option<Carriage> {
    let l3 = usize::from(packet.l3);
    if packet.is_v6 {
        let payload = u16::from_be(frame.read(l3 + 4)?);
        let [ttl]: [u8; 1] = frame.read(l3 + field::v6::HOP_LIMIT)?;
        return Some(Carriage {
            class: frame.read::<u32>(l3)? & FLOW_INFO,
            length: frame.segment(packet, payload.saturating_add(40)),
            ttl,
        });
    }
    let [_, tos]: [u8; 2] = frame.read(l3)?;
    let [ttl]: [u8; 1] = frame.read(l3 + field::v4::TTL)?;
    Some(Carriage {
        class: u32::from(tos),
        length: frame.segment(packet, u16::from_be(frame.read(l3 + 2)?)),
        ttl,
    })
}

/// Whether the L4 checksum may still have to be completed: the field holds the pseudo-header's sum alone.
/// So do frames that a virtual peer sends with checksum offload on, and those that GRO has put together;
/// of those with a complete checksum, one in 65,536.
#[inline(always)]
pub fn is_unfinished<F: Frame + ?Sized>(frame: &F, packet: &Packet, carriage: Carriage) -> bool {
    if F::COMPLETED {
        return false;
    }
    let length = carriage.length.wrapping_sub(packet.l4 - packet.l3);
    let sum = checksum::pseudo_header(packet.source, packet.destination, packet.protocol, length);
    frame.read(field::check(packet.l4, packet.protocol)) == Some(sum)
}

/// Flags of a TCP header that steering looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlags(u8);

impl TcpFlags {
    /// None, as of a datagram.
    pub const NONE: Self = Self(0);

    const FIN: u8 = 0x01;
    const SYN: u8 = 0x02;
    const RST: u8 = 0x04;
    const ACK: u8 = 0x10;

    /// A connection is being asked for: SYN without ACK (RFC 9293, 3.5). With RST or FIN it is nonsense
    /// that no stack answers with a connection.
    #[inline(always)]
    pub const fn opens(self) -> bool {
        self.0 & (Self::SYN | Self::ACK | Self::RST | Self::FIN) == Self::SYN
    }

    /// The connection is being reset.
    #[inline(always)]
    pub const fn resets(self) -> bool {
        self.0 & Self::RST != 0
    }

    /// The connection is being reset, or the sender's sequence number is an initial one: what is counted of
    /// replies, by one test.
    #[inline(always)]
    pub const fn resets_or_synchronises(self) -> bool {
        self.0 & (Self::RST | Self::SYN) != 0
    }

    /// The sender has nothing more to say.
    #[inline(always)]
    pub const fn finishes(self) -> bool {
        self.0 & Self::FIN != 0
    }

    /// The connection is being reset, or finished by the sender.
    #[inline(always)]
    pub const fn closes(self) -> bool {
        self.0 & (Self::RST | Self::FIN) != 0
    }

    /// The sender's sequence number is an initial one.
    #[inline(always)]
    pub const fn synchronises(self) -> bool {
        self.0 & Self::SYN != 0
    }
}

/// The flags of a TCP packet.
#[inline(always)]
pub fn flags<F: Frame + ?Sized>(frame: &F, packet: &Packet) -> TcpFlags {
    let [flags]: [u8; 1] = frame.read(usize::from(packet.l4) + 13).unwrap_or_default();
    TcpFlags(flags)
}

/// What steering needs to know of a TCP packet.
#[inline(always)]
pub fn segment<F: Frame + ?Sized>(frame: &F, packet: &Packet) -> Segment {
    let flags = flags(frame, packet);
    Segment {
        opens: flags.opens(),
        resets: flags.resets(),
        sequence: frame.read(usize::from(packet.l4) + 4).unwrap_or_default(),
    }
}
