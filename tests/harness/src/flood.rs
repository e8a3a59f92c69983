//! Many connections that nobody means.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

use crate::chance::Chance;
use crate::{Namespace, Topology};

/// Where a flood comes from: 198.18.0.0/15 is for measurements (RFC 2544).
const SOURCES: &str = "198.18.0.0/15";
/// Bytes of an IPv4 and a TCP header.
const SIZE: usize = 40;
/// SYNs a second: what the machine bears beside connections. More, and queues overflow, in which packets of
/// everybody are lost.
const RATE: u32 = 60_000;
/// So many at once: fewer than a virtual cable's queue holds.
const BURST: u32 = 100;

/// Lets the client's host own all the addresses of a flood: it will reset what it never asked for, as the
/// victims of spoofing do.
///
/// # Errors
/// When `ip` fails.
pub fn prepare(topology: &Topology) -> Result<()> {
    topology
        .client
        .ip(&format!("route add local {SOURCES} dev lo"))?;
    route_back(topology)
}

/// The switch's way back to where the flood comes from; it goes when its link is down.
///
/// # Errors
/// When `ip` fails.
pub fn route_back(topology: &Topology) -> Result<()> {
    topology
        .switch
        .ip(&format!("route replace {SOURCES} via 10.77.0.2"))
        .map(drop)
}

/// Sends `count` SYNs to an address, each from another random address and port.
///
/// # Errors
/// When raw sockets are not to be had or refuse.
pub fn syns(client: &Namespace, to: SocketAddrV4, count: u32, chance: &mut Chance) -> Result<()> {
    client.inside(|| send(to, count, chance))?
}

fn send(to: SocketAddrV4, count: u32, chance: &mut Chance) -> Result<()> {
    let raw = socket(
        AddressFamily::Inet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Raw,
    )
    .context("making a raw socket")?;
    let address = SockaddrIn::from(to);
    let begun = Instant::now();
    for number in 0..count {
        if number % BURST == 0 {
            let due = begun + Duration::from_secs(1) * number / RATE;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let packet = syn(to, chance.below(u64::MAX));
        loop {
            match sendto(raw.as_raw_fd(), &packet, &address, MsgFlags::empty()) {
                Ok(_) => break,
                // The queue is full: that is what floods do.
                Err(nix::errno::Errno::ENOBUFS) => std::thread::yield_now(),
                Err(error) => return Err(error).context("sending a SYN"),
            }
        }
    }
    Ok(())
}

/// A SYN whose source, port and sequence number are made of `chance`. The kernel completes the IPv4 header
/// (raw(7): checksum and length).
fn syn(to: SocketAddrV4, chance: u64) -> [u8; SIZE] {
    let [a, b, c, d, e, f, g, h] = chance.to_le_bytes();
    let source = Ipv4Addr::new(198, 18 | a & 1, b, c);
    let mut packet = [0; SIZE];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(SIZE as u16).to_be_bytes());
    packet[8] = 64;
    packet[9] = 6;
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&to.ip().octets());
    packet[20..22].copy_from_slice(&[d | 0x80, e]);
    packet[22..24].copy_from_slice(&to.port().to_be_bytes());
    packet[24..28].copy_from_slice(&[f, g, h, a]);
    packet[32] = 5 << 4;
    packet[33] = 2;
    packet[34..36].copy_from_slice(&[0xff, 0xff]);
    let check = checksum(&packet[12..]);
    packet[36..38].copy_from_slice(&check.to_be_bytes());
    packet
}

/// Of addresses and TCP header, and the rest of the pseudo-header (RFC 9293, 3.1).
fn checksum(addresses_and_tcp: &[u8]) -> u16 {
    let words = addresses_and_tcp.chunks(2);
    let sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
        .sum();
    let mut sum = sum + 6 + 20;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
