//! Frames from scratch: every checksum computed in full, by other means than the code under test.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use switcher_common::abi::{ICMP, TCP, UDP};

/// Offset of the network header in an untagged frame.
pub const L3: usize = 14;
/// Offset of the transport header behind an IPv4 header without options.
pub const L4: usize = L3 + 20;

/// TCP flags.
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 2;
    /// Reset the connection.
    pub const RST: u8 = 4;
    /// Push.
    pub const PSH: u8 = 8;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 16;
}

/// Link address of a frame as it comes in; nothing depends on it.
pub const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 0xaa];
/// Link address that frames come in to.
pub const RECEIVER: [u8; 6] = [2, 0, 0, 0, 0, 0xbb];

/// The sequence number of TCP segments, unless another is asked for. As the initial one of a connection it
/// makes its copies the same connection.
pub const SEQUENCE: u32 = 0x0102_0304;

/// Type of service and traffic class, unless another is asked for; nothing may change it.
pub const CLASS: u8 = 0xb8;

/// What to build a frame from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// Source MAC address.
    pub link_source: [u8; 6],
    /// Destination MAC address.
    pub link_destination: [u8; 6],
    /// Where it comes from.
    pub source: SocketAddrV4,
    /// Where it goes.
    pub destination: SocketAddrV4,
    /// Time to live.
    pub ttl: u8,
    /// Type of service.
    pub tos: u8,
    /// Flags and fragment offset of the IPv4 header.
    pub fragment: u16,
    /// IPv4 options, in words of four bytes.
    pub options: Vec<[u8; 4]>,
    /// VLAN tags, the outer first: their EtherTypes and the rest.
    pub tags: Vec<[u8; 4]>,
    /// Extension headers, if the frame is to be IPv6: each address becomes [`six`]'s.
    pub v6: Option<Vec<Extension>>,
    /// The transport header.
    pub transport: Transport,
    /// What follows the transport header.
    pub payload: Vec<u8>,
}

/// An IPv6 extension header: its protocol number and what follows the byte that names the next.
pub type Extension = (u8, Vec<u8>);

/// The flow label of IPv6 frames; nothing may change it.
const FLOW_LABEL: u32 = 0x000b_1e5e;

/// The IPv6 address that stands for an IPv4 address of the town.
pub const fn six(address: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, d] = address.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, high, low)
}

/// A transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP, without options.
    Tcp {
        /// Bits of [`flag`].
        flags: u8,
        /// Sequence number.
        sequence: u32,
        /// Acknowledgement number.
        acknowledges: u32,
    },
    /// UDP.
    Udp {
        /// Whether the sender computed a checksum; if not, the field is zero (RFC 768).
        checked: bool,
    },
}

impl Build {
    /// A TCP segment.
    pub fn tcp(source: SocketAddrV4, destination: SocketAddrV4, flags: u8) -> Self {
        let transport = Transport::Tcp {
            flags,
            sequence: SEQUENCE,
            acknowledges: 0x0506_0708,
        };
        Self::new(source, destination, transport)
    }

    /// A UDP datagram.
    pub fn udp(source: SocketAddrV4, destination: SocketAddrV4) -> Self {
        Self::new(source, destination, Transport::Udp { checked: true })
    }

    fn new(source: SocketAddrV4, destination: SocketAddrV4, transport: Transport) -> Self {
        Self {
            link_source: SENDER,
            link_destination: RECEIVER,
            source,
            destination,
            ttl: 64,
            tos: CLASS,
            fragment: 0x4000,
            options: Vec::new(),
            tags: Vec::new(),
            v6: None,
            transport,
            payload: b"blue or green?".to_vec(),
        }
    }

    /// The first segment after the SYN, with this acknowledgement number; only for TCP.
    #[must_use]
    pub fn acknowledging(mut self, number: u32) -> Self {
        if let Transport::Tcp {
            sequence,
            acknowledges,
            ..
        } = &mut self.transport
        {
            *sequence = SEQUENCE.wrapping_add(1);
            *acknowledges = number;
        }
        self
    }

    /// As it looks on its way to `destination`, delivered to this host.
    #[must_use]
    pub fn to(mut self, destination: SocketAddrV4) -> Self {
        self.destination = destination;
        self
    }

    /// As it looks when it seems to come from `source`.
    #[must_use]
    pub fn from(mut self, source: SocketAddrV4) -> Self {
        self.source = source;
        self
    }

    /// As it looks after a hop from one link address to another.
    #[must_use]
    pub fn hop(mut self, source: [u8; 6], destination: [u8; 6]) -> Self {
        self.link_source = source;
        self.link_destination = destination;
        self.ttl -= 1;
        self
    }

    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend(self.link_destination);
        frame.extend(self.link_source);
        frame.extend(self.tags.iter().flatten());
        let segment = self.segment();
        match &self.v6 {
            None => {
                frame.extend([0x08, 0x00]);
                frame.extend(self.ip_header(segment.len()));
            }
            Some(extensions) => {
                frame.extend([0x86, 0xdd]);
                frame.extend(self.v6_headers(extensions, segment.len()));
            }
        }
        frame.extend(segment);
        frame
    }

    /// The same in IPv6, with these extension headers.
    #[must_use]
    pub fn in_v6(mut self, extensions: &[Extension]) -> Self {
        self.v6 = Some(extensions.to_vec());
        self
    }

    /// The same with VLAN tags.
    #[must_use]
    pub fn tagged(mut self, tags: &[[u8; 4]]) -> Self {
        self.tags = tags.to_vec();
        self
    }

    /// The frame as a virtual peer or GRO hands it on: the L4 checksum is the pseudo-header's sum alone,
    /// and whoever puts it on a wire completes it.
    pub fn unfinished(&self) -> Vec<u8> {
        let mut frame = self.bytes();
        let length = self.segment().len();
        let l4 = frame.len() - length;
        let sum = pseudo_sum(&self.addresses(), self.protocol(), &vec![0; length]);
        let at = l4 + if self.protocol() == TCP { 16 } else { 6 };
        frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    /// With a payload that makes the whole checksum look like an unfinished one.
    #[must_use]
    pub fn seeming_unfinished(mut self) -> Self {
        for word in 0..=u16::MAX {
            self.payload = word.to_be_bytes().to_vec();
            if self.bytes() == self.unfinished() {
                return self;
            }
        }
        unreachable!("one word gives the checksum any value");
    }

    fn protocol(&self) -> u8 {
        match self.transport {
            Transport::Tcp { .. } => TCP,
            Transport::Udp { .. } => UDP,
        }
    }

    fn ip_header(&self, segment: usize) -> Vec<u8> {
        let words = 5 + self.options.len();
        let total = words * 4 + segment;
        let mut header = vec![0x40 | words as u8, self.tos];
        header.extend((total as u16).to_be_bytes());
        header.extend(0x1234_u16.to_be_bytes());
        header.extend(self.fragment.to_be_bytes());
        header.extend([self.ttl, self.protocol(), 0, 0]);
        header.extend(self.source.ip().octets());
        header.extend(self.destination.ip().octets());
        header.extend(self.options.iter().flatten());
        let check = !sum(&header);
        header[10..12].copy_from_slice(&check.to_be_bytes());
        header
    }

    fn v6_headers(&self, extensions: &[Extension], segment: usize) -> Vec<u8> {
        let next = |place: usize| {
            let following = extensions.get(place).map(|(kind, _)| *kind);
            following.unwrap_or_else(|| self.protocol())
        };
        let length: usize = extensions.iter().map(|(_, rest)| 1 + rest.len()).sum();
        let mut headers = Vec::new();
        headers.extend((0x6000_0000 | u32::from(self.tos) << 20 | FLOW_LABEL).to_be_bytes());
        headers.extend(((length + segment) as u16).to_be_bytes());
        headers.extend([next(0), self.ttl]);
        headers.extend(self.addresses());
        for (place, (_, rest)) in extensions.iter().enumerate() {
            headers.push(next(place + 1));
            headers.extend(rest);
        }
        headers
    }

    /// Source and destination as they stand in the header.
    fn addresses(&self) -> Vec<u8> {
        let both = [*self.source.ip(), *self.destination.ip()];
        match self.v6 {
            None => both.iter().flat_map(Ipv4Addr::octets).collect(),
            Some(_) => both.iter().flat_map(|it| six(*it).octets()).collect(),
        }
    }

    fn segment(&self) -> Vec<u8> {
        let mut segment = Vec::new();
        segment.extend(self.source.port().to_be_bytes());
        segment.extend(self.destination.port().to_be_bytes());
        match self.transport {
            Transport::Tcp {
                flags,
                sequence,
                acknowledges,
            } => {
                segment.extend(sequence.to_be_bytes());
                segment.extend(acknowledges.to_be_bytes());
                segment.extend([0x50, flags, 0x20, 0x00, 0, 0, 0, 0]);
            }
            Transport::Udp { .. } => {
                let length = 8 + self.payload.len() as u16;
                segment.extend(length.to_be_bytes());
                segment.extend([0, 0]);
            }
        }
        segment.extend(&self.payload);
        let check = pseudo_sum(&self.addresses(), self.protocol(), &segment);
        let (at, check) = match self.transport {
            Transport::Tcp { .. } => (16, !check),
            Transport::Udp { checked: false } => (6, 0),
            Transport::Udp { checked: true } if check == 0xffff => (6, 0xffff),
            Transport::Udp { checked: true } => (6, !check),
        };
        segment[at..at + 2].copy_from_slice(&check.to_be_bytes());
        segment
    }
}

/// Whether all checksums of a frame hold, computed from scratch; no if it is cut off.
pub fn sound(frame: &[u8]) -> bool {
    checks_hold(frame).unwrap_or(false)
}

fn checks_hold(frame: &[u8]) -> Option<bool> {
    let mut at = 12;
    while matches!(frame.get(at..at + 2)?, [0x81, 0x00] | [0x88, 0xa8]) {
        at += 4;
    }
    packet_holds(frame.get(at + 2..)?)
}

fn packet_holds(packet: &[u8]) -> Option<bool> {
    if packet.first()? >> 4 == 6 {
        let (mut kind, mut l4) = (*packet.get(6)?, 40);
        while let Some(length) = extension_length(kind, packet.get(l4..l4 + 2)?) {
            kind = packet[l4];
            l4 += length;
        }
        return segment_holds(packet.get(8..40)?, kind, packet.get(l4..)?);
    }
    let (header, segment) = packet.split_at_checked(usize::from(packet.first()? & 15) * 4)?;
    let holds = segment_holds(header.get(12..20)?, header[9], segment)?;
    Some(holds && sum(header) == 0xffff)
}

/// The bytes of an extension header, if this is one.
fn extension_length(kind: u8, header: &[u8]) -> Option<usize> {
    match kind {
        0 | 43 | 60 => Some((usize::from(header[1]) + 1) * 8),
        44 => Some(8),
        51 => Some((usize::from(header[1]) + 2) * 4),
        _ => None,
    }
}

/// A packet inside another one.
const IPV4_INSIDE: u8 = 4;
const IPV6_INSIDE: u8 = 41;

fn segment_holds(addresses: &[u8], protocol: u8, segment: &[u8]) -> Option<bool> {
    let unchecked = protocol == UDP && segment.get(6..8)? == [0, 0];
    if matches!(protocol, IPV4_INSIDE | IPV6_INSIDE) {
        return packet_holds(segment);
    }
    if protocol == ICMP {
        return Some(sum(segment) == 0xffff);
    }
    Some(unchecked || pseudo_sum(addresses, protocol, segment) == 0xffff)
}

/// With the pseudo header of RFC 9293, 3.1, RFC 768 and RFC 8200, 8.1, whose zeros make no difference.
fn pseudo_sum(addresses: &[u8], protocol: u8, segment: &[u8]) -> u16 {
    let mut bytes = addresses.to_vec();
    bytes.extend([0, protocol]);
    bytes.extend((segment.len() as u16).to_be_bytes());
    bytes.extend(segment);
    sum(&bytes)
}

/// The one's complement sum of RFC 1071, straight from its definition.
pub fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for word in bytes.chunks(2) {
        let low = word.get(1).copied().unwrap_or_default();
        sum += u32::from(u16::from_be_bytes([word[0], low]));
        if sum > 0xffff {
            sum -= 0xffff;
        }
    }
    sum as u16
}
