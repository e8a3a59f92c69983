//! The part of the town whose endpoints are reached inside other packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};

use switcher_common::abi::{Address, Tunnel};
use switcher_common::steer;

use crate::frame::{Build, six, sum};
use crate::town::{INSIDE, Interface, NARROW, OUTSIDE, SEED, endpoint, link_of};

/// TCP. Blue is on the interface that packets come in by, green has a small MTU, and red is an IPv6 host.
pub const CAVE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 89), 8089);
/// UDP, likewise.
pub const WELL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 89), 8191);

/// Red's link is that of this address, and its own is the same in IPv6.
pub const RED: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 13);

/// The address of an endpoint of another family than its service.
pub(crate) fn address(vip: SocketAddrV4, colour: u16) -> Option<Address> {
    let is_red = matches!(vip, CAVE | WELL) && colour == 2;
    is_red.then(|| IpAddr::from(six(RED)).into())
}

/// Where outer headers of a family come from.
pub fn tunnel(v6: bool) -> Tunnel {
    if v6 {
        Tunnel::new(
            Ipv6Addr::new(0x2001, 0xdb8, 0x200, 0, 0, 0, 0, 0).into(),
            100,
        )
    } else {
        Tunnel::new([10, 200, 0, 0].into(), 16)
    }
}

/// What takes a packet to an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Outer {
    /// The client's address and port, as they stand in headers.
    pub client: (IpAddr, u16),
    /// Type of service, or traffic class.
    pub class: u8,
    /// The endpoint.
    pub server: IpAddr,
}

impl Outer {
    /// For a packet to the endpoint of this colour.
    pub fn of(frame: &Build, colour: u16) -> Self {
        let (client, v6) = (frame.source, frame.v6.is_some());
        let server = *endpoint(frame.destination, colour).ip();
        let family = |address: Ipv4Addr, v6| match v6 {
            true => IpAddr::from(six(address)),
            false => address.into(),
        };
        Self {
            client: (family(*client.ip(), v6), client.port()),
            class: frame.tos,
            server: family(server, v6 || colour == 2),
        }
    }

    /// Without ports.
    #[must_use]
    pub const fn portless(mut self) -> Self {
        self.client.1 = 0;
        self
    }

    /// Around the packet of a frame, which keeps its link header.
    pub fn around(self, inner: &[u8]) -> Vec<u8> {
        let mut l3 = 14;
        while matches!(inner[l3 - 2..l3], [0x81, 0x00] | [0x88, 0xa8]) {
            l3 += 4;
        }
        let (link, packet) = inner.split_at(l3);
        let protocol = if packet[0] >> 4 == 6 { 41 } else { 4 };
        // Flows are told apart by another hash than the one that picks their bucket.
        let hash = steer::hash(!SEED, self.client.0.into(), self.client.1.to_be());
        let Tunnel { source, varied, .. } = tunnel(self.server.is_ipv6());
        let [a, b, c, d] = source.words();
        let source = IpAddr::from(Address::of_words([a, b, c, d | hash & varied]));
        let mut frame = link[..l3 - 2].to_vec();
        match (source, self.server) {
            (IpAddr::V4(source), IpAddr::V4(server)) => {
                frame.extend([0x08, 0x00]);
                let length = packet.len() as u16;
                frame.extend(ipv4(self.class, length, protocol, source, server));
            }
            (IpAddr::V6(source), IpAddr::V6(server)) => {
                frame.extend([0x86, 0xdd]);
                let first = 6 << 28 | u32::from(self.class) << 20 | hash & 0xf_ffff;
                frame.extend(first.to_be_bytes());
                frame.extend((packet.len() as u16).to_be_bytes());
                frame.extend([protocol, 64]);
                frame.extend(source.octets());
                frame.extend(server.octets());
            }
            _ => unreachable!("an outer header is of one family"),
        }
        frame.extend(packet);
        frame
    }
}

/// The interface by which packets leave for the endpoint of a colour, and its link address.
pub fn way(frame: &Build, colour: u16) -> (Interface, [u8; 6]) {
    let server = *endpoint(frame.destination, colour).ip();
    let interface = [OUTSIDE, NARROW, INSIDE][usize::from(colour)];
    (interface, link_of(server))
}

/// An IPv4 header that allows no fragments.
pub fn ipv4(
    tos: u8,
    payload: u16,
    protocol: u8,
    source: Ipv4Addr,
    destination: Ipv4Addr,
) -> Vec<u8> {
    let mut header = vec![0x45, tos];
    header.extend((20 + payload).to_be_bytes());
    header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    header.extend(source.octets());
    header.extend(destination.octets());
    let check = !sum(&header);
    header[10..12].copy_from_slice(&check.to_be_bytes());
    header
}
