//! Frames that nobody should send, sent as they are.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use switcher_harness::Topology;
use switcher_harness::chance::Chance;
use switcher_harness::topology::{ECHO, INTERFACE, VIP, WEB};
use switcher_tests::frame::{Build, L3};

/// A few at once, so that the queue of a virtual cable is not what loses them.
const BURST: u32 = 50;
/// The smallest that a socket takes, and the largest that a link does.
const SIZES: (usize, usize) = (15, 1514);

/// Sends so many from the clients' host to the switch.
///
/// # Errors
/// When packet sockets are not to be had or refuse.
pub(crate) fn send(topology: &Topology, frames: u32, seed: u64) -> Result<()> {
    let switch = link_address(topology)?;
    let own = topology.client.inside(|| transmit(&switch, frames, seed))?;
    own.context("sending malformed frames")
}

fn transmit(switch: &[u8; 6], frames: u32, seed: u64) -> Result<()> {
    let raw = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let mut chance = Chance::seeded(seed);
    let index = if_nametoindex(INTERFACE)?;
    for number in 0..frames {
        if number % BURST == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
        let frame = frame(switch, &mut chance);
        let mut to = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: 0,
            sll_ifindex: index as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: [0; 8],
        };
        to.sll_addr[..6].copy_from_slice(switch);
        // SAFETY: frame and address are as long as said, and outlive the call.
        let sent = unsafe {
            libc::sendto(
                raw.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                size_of_val(&to) as u32,
            )
        };
        let error = std::io::Error::last_os_error();
        // A link that is down, or a queue that is full.
        let lost = [libc::ENETDOWN, libc::ENOBUFS, libc::ENXIO];
        ensure!(
            sent >= 0 || error.raw_os_error().is_some_and(|it| lost.contains(&it)),
            "{} bytes: {error}",
            frame.len()
        );
    }
    Ok(())
}

/// A good frame, changed behind its link addresses and not where it says whom it is from: nobody's
/// connection is to be hit by chance.
fn frame(switch: &[u8; 6], chance: &mut Chance) -> Vec<u8> {
    let source = Ipv4Addr::from(0xc612_0000 | chance.below(1 << 17) as u32);
    let source = SocketAddrV4::new(source, 1024 + chance.below(60_000) as u16);
    let port = match chance.below(4) {
        0 => chance.below(1 << 16) as u16,
        1 => ECHO,
        _ => WEB,
    };
    let to = SocketAddrV4::new(VIP, port);
    let mut build = match chance.below(3) {
        0 => Build::udp(source, to),
        _ => Build::tcp(source, to, chance.below(256) as u8),
    };
    build.link_destination = *switch;
    if chance.below(4) == 0 {
        build.fragment = chance.below(1 << 16) as u16;
    }
    if chance.below(4) == 0 {
        let options = (0..chance.below(11)).map(|_| word(chance));
        build.options = options.collect();
    }
    if chance.below(8) == 0 {
        let tags = (0..=chance.below(3)).map(|_| {
            let [_, _, c, d] = word(chance);
            [0x81, 0, c, d]
        });
        build.tags = tags.collect();
    }
    if chance.below(6) == 0 {
        let protocols = [0, 43, 44, 51, 60, 6, 17, 58, 255];
        let extensions: Vec<_> = (0..chance.below(10))
            .map(|_| {
                let protocol = protocols[chance.below(9) as usize];
                let bytes = (0..7 + 8 * chance.below(2)).map(|_| chance.below(256) as u8);
                (protocol, bytes.collect())
            })
            .collect();
        build = build.in_v6(&extensions);
    }
    let mut bytes = build.bytes();
    for _ in 0..chance.below(6) {
        let place = 12 + chance.below(bytes.len() as u64 - 12) as usize;
        let source = L3 + 12..L3 + 16;
        if !source.contains(&place) {
            bytes[place] = chance.below(256) as u8;
        }
    }
    if chance.below(3) == 0 {
        let length = SIZES.0 + chance.below((SIZES.1 - SIZES.0) as u64) as usize;
        match chance.below(2) {
            0 => bytes.truncate(length),
            _ => bytes.resize(length, 0xa5),
        }
    }
    bytes.truncate(SIZES.1);
    bytes
}

fn word(chance: &mut Chance) -> [u8; 4] {
    (chance.below(1 << 32) as u32).to_be_bytes()
}

/// Of the switch's interface towards clients.
fn link_address(topology: &Topology) -> Result<[u8; 6]> {
    let shown = topology.switch.ip(&format!("-o link show {INTERFACE}"))?;
    let mut words = shown.split_whitespace();
    words.find(|word| *word == "link/ether");
    let text = words.next().context("no link address")?;
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect::<Result<_, _>>()?;
    bytes.try_into().ok().context("no Ethernet")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_from_nobody() {
        let mut chance = Chance::seeded(1);
        for _ in 0..10_000 {
            let frame = frame(&[2; 6], &mut chance);
            assert!((15..=1514).contains(&frame.len()));
            assert_eq!(frame[..6], [2; 6]);
            let is_plain = frame.len() > L3 + 16 && frame[12..14] == [8, 0];
            if is_plain && frame[14] >> 4 == 4 {
                assert_eq!(frame[L3 + 12], 198, "{frame:02x?}");
            }
        }
    }
}
