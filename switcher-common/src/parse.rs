//! Frame to tuple, or why not.

use network_types::eth::EthHdr;
use network_types::ip::Ipv4Hdr;
use network_types::tcp::TcpHdr;

use crate::abi::{Address, Port, TCP, UDP};
use crate::checksum;
use crate::frame::Frame;
use crate::rewrite::{L3, L4, field};
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
    /// IP protocol number: TCP or UDP.
    pub protocol: u8,
}

/// What forwarding needs to know besides. Read apart from [`Packet`], since most packets are not
/// forwarded by the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carriage {
    /// Time to live.
    pub ttl: u8,
    /// Type of service.
    pub tos: u8,
    /// Bytes from the IP header on.
    pub length: u16,
}

/// The carriage of a packet that [`parse`] accepted.
#[inline(always)]
pub fn carriage<F: Frame + ?Sized>(frame: &F) -> Option<Carriage> {
    let ip: Ipv4Hdr = frame.read(L3)?;
    Some(Carriage {
        ttl: ip.ttl,
        tos: ip.tos,
        length: u16::from_be_bytes(ip.tot_len),
    })
}

/// Whether the L4 checksum may still have to be completed: the field holds the pseudo-header's sum alone.
/// So do frames that a virtual peer sends with checksum offload on, and those that GRO has put together;
/// of those with a complete checksum, one in 65,536.
#[inline(always)]
pub fn is_unfinished<F: Frame + ?Sized>(frame: &F, packet: &Packet, carriage: Carriage) -> bool {
    let place = if packet.protocol == TCP {
        field::TCP_CHECK
    } else {
        field::UDP_CHECK
    };
    let length = carriage.length.wrapping_sub((L4 - L3) as u16);
    let (source, destination) = (packet.source.v4_word(), packet.destination.v4_word());
    let sum = checksum::pseudo_header(source, destination, packet.protocol, length);
    frame.read(place) == Some(sum)
}

/// EtherType of IPv4 as it stands in the frame.
const IPV4: u16 = 0x0800_u16.to_be();
/// "More fragments" and the fragment offset (RFC 791, 3.1).
const FRAGMENT: u16 = 0x3fff_u16.to_be();
/// Version 4, five words of header: no options.
const PLAIN_IPV4: u8 = 0x45;

/// Reads the headers of a frame.
///
/// # Errors
/// The reason why the frame is none that we handle.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(frame: &F) -> Result<Packet, Reason> {
    let ethernet: EthHdr = frame.read(0).ok_or(Reason::Malformed)?;
    if { ethernet.ether_type } != IPV4 {
        return Err(Reason::NotIpv4);
    }
    let ip: Ipv4Hdr = frame.read(L3).ok_or(Reason::Malformed)?;
    match ip.proto {
        TCP | UDP => {}
        _ => return Err(Reason::Protocol),
    }
    match ip.vihl {
        PLAIN_IPV4 => {}
        0x46..=0x4f => return Err(Reason::Options),
        _ => return Err(Reason::Malformed),
    }
    if frame.read::<u16>(L3 + 6).ok_or(Reason::Malformed)? & FRAGMENT != 0 {
        return Err(Reason::Fragment);
    }
    let (source_port, destination_port) = ports(frame, ip.proto).ok_or(Reason::Malformed)?;
    Ok(Packet {
        source: Address::v4(ip.src_addr),
        destination: Address::v4(ip.dst_addr),
        source_port,
        destination_port,
        protocol: ip.proto,
    })
}

/// The ports, if the whole fixed transport header is there: later stages write into it.
#[inline(always)]
fn ports<F: Frame + ?Sized>(frame: &F, protocol: u8) -> Option<(Port, Port)> {
    if protocol == TCP {
        let tcp: TcpHdr = frame.read(L4)?;
        Some((Port::from_wire(tcp.source), Port::from_wire(tcp.dest)))
    } else {
        let [s0, s1, d0, d1, ..]: [u8; 8] = frame.read(L4)?;
        Some((Port::from_wire([s0, s1]), Port::from_wire([d0, d1])))
    }
}

/// Flags of a TCP header that steering looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlags(u8);

impl TcpFlags {
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
}

/// The flags of a TCP packet.
#[inline(always)]
pub fn flags<F: Frame + ?Sized>(frame: &F) -> TcpFlags {
    let [flags]: [u8; 1] = frame.read(L4 + 13).unwrap_or_default();
    TcpFlags(flags)
}

/// What steering needs to know of a TCP packet.
#[inline(always)]
pub fn segment<F: Frame + ?Sized>(frame: &F) -> Segment {
    let flags = flags(frame);
    Segment {
        opens: flags.opens(),
        resets: flags.resets(),
        sequence: frame.read(L4 + 4).unwrap_or_default(),
    }
}
