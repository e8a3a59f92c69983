//! Fragments of frames, and ICMP errors about them, from scratch: every checksum computed in full, by other
//! means than the code under test.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV6};

use switcher_common::abi::{ICMP, ICMPV6, UDP};
use switcher_common::rewrite::Hop;

use crate::frame::{Build, RECEIVER, SENDER, six, sum};
use crate::town::State;

/// Offset of the IP header: frames here have no VLAN tags.
const L3: usize = 14;
/// IPv6 fragment header.
const FRAGMENT: u8 = 44;

/// A UDP datagram over IPv6.
pub fn datagram(source: SocketAddrV6, destination: SocketAddrV6, payload: &[u8]) -> Vec<u8> {
    let mut frame = [RECEIVER, SENDER].concat();
    let length = (8 + payload.len()) as u16;
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([UDP, 64]);
    frame.extend(source.ip().octets());
    frame.extend(destination.ip().octets());
    let (l4, mut pseudo) = (frame.len(), frame[L3 + 8..].to_vec());
    frame.extend(source.port().to_be_bytes());
    frame.extend(destination.port().to_be_bytes());
    frame.extend(length.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    pseudo.extend([0, UDP]);
    pseudo.extend(length.to_be_bytes());
    let check = !sum(&[&pseudo, &frame[l4..]].concat());
    let check = if check == 0 { 0xffff } else { check };
    frame[l4 + 6..l4 + 8].copy_from_slice(&check.to_be_bytes());
    frame
}

/// The fragments of a whole frame without options or extension headers, cut behind every so many bytes of
/// what follows the IP header (a multiple of 8). Its transport checksum becomes part of the first one.
pub fn fragments(whole: &[u8], bytes: usize, identification: u32) -> Vec<Vec<u8>> {
    let (header, payload) = split(whole);
    let pieces = payload.chunks(bytes);
    let last = pieces.len() - 1;
    let fragment = |(number, piece): (usize, &[u8])| {
        let (offset, more) = (number * bytes, number != last);
        let mut frame = header.to_vec();
        if is_v6(whole) {
            let next = std::mem::replace(&mut frame[L3 + 6], FRAGMENT);
            let field = offset as u16 | u16::from(more);
            frame.extend([next, 0]);
            frame.extend(field.to_be_bytes());
            frame.extend(identification.to_be_bytes());
        } else {
            let field = (offset / 8) as u16 | u16::from(more) << 13;
            frame[L3 + 4..L3 + 6].copy_from_slice(&(identification as u16).to_be_bytes());
            frame[L3 + 6..L3 + 8].copy_from_slice(&field.to_be_bytes());
        }
        frame.extend(piece);
        finish(&mut frame);
        frame
    };
    pieces.enumerate().map(fragment).collect()
}

/// An ICMP error.
#[derive(Clone, Debug)]
pub struct IcmpError {
    /// Who sends it.
    pub source: IpAddr,
    /// Who gets it.
    pub destination: IpAddr,
    /// Its type and code.
    pub kind: [u8; 2],
    /// What follows the checksum: an MTU, or a pointer.
    pub rest: u32,
    /// The packet that it is about, from the IP header on; as much of it as is quoted.
    pub quote: Vec<u8>,
}

impl IcmpError {
    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let Self {
            source,
            destination,
            kind,
            rest,
            quote,
        } = self;
        let mut frame = [RECEIVER, SENDER].concat();
        let length = (8 + quote.len()) as u16;
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([0x08, 0x00, 0x45, 0xc0]);
                frame.extend((length + 20).to_be_bytes());
                frame.extend([0x56, 0x78, 0, 0, 64, ICMP, 0, 0]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend(length.to_be_bytes());
                frame.extend([ICMPV6, 64]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
            }
            _ => unreachable!("an error has one family"),
        }
        frame.extend(kind);
        frame.extend([0, 0]);
        frame.extend(rest.to_be_bytes());
        frame.extend(quote);
        finish(&mut frame);
        frame
    }

    /// With another part of the packet it is about.
    #[must_use]
    pub fn quoting(mut self, whole: &[u8], bytes: usize) -> Self {
        self.quote = quote(whole, bytes);
        self
    }
}

/// The family in which a case happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6, with the addresses of [`six`].
    V6,
}

impl Family {
    /// A case's sentence.
    pub fn says(self, sentence: &'static str) -> &'static str {
        match self {
            Self::V4 => sentence,
            Self::V6 => format!("IPv6: {sentence}").leak(),
        }
    }

    /// What a case starts from.
    pub fn state(self, state: State) -> State {
        match self {
            Self::V4 => state,
            Self::V6 => state.in_v6(),
        }
    }

    /// The three fragments of a packet.
    ///
    /// # Panics
    /// When it has not three.
    pub fn pieces(self, whole: &Build, bytes: usize, identification: u32) -> [Vec<u8>; 3] {
        let all = fragments(&self.whole(whole), bytes, identification);
        all.try_into().expect("three fragments")
    }

    /// A router's word that a packet is too big, for whoever has sent it.
    pub fn too_big(self, whole: &Build, from: Ipv4Addr, bytes: usize) -> Vec<u8> {
        self.error(whole, from, [[3, 4], [2, 0]], 1280, bytes)
    }

    /// Likewise that nobody listens.
    pub fn no_port(self, whole: &Build, from: Ipv4Addr, bytes: usize) -> Vec<u8> {
        self.error(whole, from, [[3, 3], [1, 4]], 0, bytes)
    }

    /// Likewise that it was on its way for too long.
    pub fn expired(self, whole: &Build, from: Ipv4Addr, bytes: usize) -> Vec<u8> {
        self.error(whole, from, [[11, 0], [3, 0]], 0, bytes)
    }

    fn error(
        self,
        whole: &Build,
        from: Ipv4Addr,
        kinds: [[u8; 2]; 2],
        rest: u32,
        bytes: usize,
    ) -> Vec<u8> {
        let error = IcmpError {
            source: self.address(from),
            destination: self.address(*whole.source.ip()),
            kind: kinds[usize::from(self == Self::V6)],
            rest,
            quote: Vec::new(),
        };
        error.quoting(&self.whole(whole), bytes).bytes()
    }

    /// The frame of a packet.
    pub fn whole(self, whole: &Build) -> Vec<u8> {
        match self {
            Self::V6 if whole.v6.is_none() => whole.clone().in_v6(&[]).bytes(),
            Self::V4 | Self::V6 => whole.bytes(),
        }
    }

    fn address(self, address: Ipv4Addr) -> IpAddr {
        match self {
            Self::V4 => address.into(),
            Self::V6 => six(address).into(),
        }
    }
}

/// A frame from its IP header on, with so many bytes of what follows that.
pub fn quote(whole: &[u8], bytes: usize) -> Vec<u8> {
    let (header, payload) = split(whole);
    let quoted = payload.len().min(bytes);
    [&header[L3..], &payload[..quoted]].concat()
}

/// The same frame with a VLAN tag.
#[must_use]
pub fn tagged(frame: &[u8], tag: [u8; 4]) -> Vec<u8> {
    [&frame[..12], &tag, &frame[12..]].concat()
}

/// The same IPv6 frame with hop-by-hop options in front of whatever follows the header.
#[must_use]
pub fn behind_options(frame: &[u8]) -> Vec<u8> {
    let l4 = L3 + 40;
    let next = frame[L3 + 6];
    let mut frame = [&frame[..l4], &[next, 0, 1, 4, 0, 0, 0, 0], &frame[l4..]].concat();
    frame[L3 + 6] = 0;
    let length = u16::from_be_bytes([frame[L3 + 4], frame[L3 + 5]]) + 8;
    frame[L3 + 4..L3 + 6].copy_from_slice(&length.to_be_bytes());
    frame
}

/// As it leaves, one hop further.
#[must_use]
pub fn forwarded(mut frame: Vec<u8>, hop: Hop) -> Vec<u8> {
    frame[..6].copy_from_slice(&hop.destination);
    frame[6..12].copy_from_slice(&hop.source);
    let limit = L3 + if is_v6(&frame) { 7 } else { 8 };
    frame[limit] -= 1;
    finish(&mut frame);
    frame
}

fn is_v6(frame: &[u8]) -> bool {
    frame[L3] >> 4 == 6
}

fn split(whole: &[u8]) -> (&[u8], &[u8]) {
    whole.split_at(L3 + if is_v6(whole) { 40 } else { 20 })
}

/// Length and checksum of the IP header, and the checksum of ICMP.
fn finish(frame: &mut [u8]) {
    let six = is_v6(frame);
    let l4 = L3 + if six { 40 } else { 20 };
    let length = frame.len() - l4;
    let mut pseudo = Vec::new();
    if six {
        frame[L3 + 4..L3 + 6].copy_from_slice(&(length as u16).to_be_bytes());
        pseudo.extend(&frame[L3 + 8..l4]);
        pseudo.extend([0, 0]);
        pseudo.extend((length as u16).to_be_bytes());
        pseudo.extend([0, 0, 0, ICMPV6]);
    } else {
        frame[L3 + 2..L3 + 4].copy_from_slice(&((length + 20) as u16).to_be_bytes());
        check(frame, L3 + 10, |frame| sum(&frame[L3..l4]));
    }
    let protocol = frame[L3 + if six { 6 } else { 9 }];
    let whole = six || frame[L3 + 6] & 0x3f == 0 && frame[L3 + 7] == 0;
    if protocol == (if six { ICMPV6 } else { ICMP }) && whole && length >= 8 {
        check(
            frame,
            l4 + 2,
            |frame| sum(&[&pseudo, &frame[l4..]].concat()),
        );
    }
}

fn check(frame: &mut [u8], place: usize, sum: impl Fn(&[u8]) -> u16) {
    frame[place..place + 2].fill(0);
    let sum = sum(frame);
    frame[place..place + 2].copy_from_slice(&(!sum).to_be_bytes());
}
