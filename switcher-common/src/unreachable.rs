//! Answers to senders whose packets are too big for a tunnel: Path MTU discovery (RFC 1191, RFC 8201),
//! [`Stage::Answer`](crate::verdict::Stage::Answer).
//!
//! They are made of the packet itself, which is cut off, gets new headers in front, and goes back the way it
//! came: smaller than what it answers, so nobody's traffic is multiplied. They come from the VIP.

use core::mem::MaybeUninit;

use crate::abi::{Address, ICMP as PROTOCOL_ICMP, ICMPV6 as PROTOCOL_ICMPV6};
use crate::checksum::{fold, pseudo_header};
use crate::frame::{Frame, Inserted};
use crate::parse::Packet;
use crate::rewrite::field;
use crate::tables::Tables;
use crate::tunnel::Parcel;

/// Bytes of the packet that are quoted: its headers, options included, and then some.
const QUOTE: usize = 128;
/// ICMP and ICMPv6 header.
const ICMP: usize = 8;
const IPV4: usize = 20;
const IPV6: usize = 40;
/// What every link has to carry (RFC 791, 3.2; RFC 8200, 5).
const LEAST_IPV4: u16 = 68;
const LEAST_IPV6: u16 = 1280;
const TTL: u32 = 64;

/// Turns the packet that was handed on into the answer that its sender's should be smaller. An IPv4 sender that did
/// not set "don't fragment" gets it, too: this host has no second way to serve it.
///
/// False if no answer may or can be given; then the packet is not to be used any more.
#[inline(always)]
pub(crate) fn too_big<F: Frame + ?Sized, T: Tables>(frame: &mut F, tables: &T) -> bool {
    let mut place = MaybeUninit::uninit();
    match tables.handed_on(&mut place) {
        Some(parcel) => answer(frame, parcel).is_some(),
        None => false,
    }
}

#[inline(always)]
fn answer<F: Frame + ?Sized>(frame: &mut F, parcel: &Parcel) -> Option<()> {
    let Parcel {
        packet,
        room: mtu,
        whole,
        ..
    } = parcel;
    let least = if packet.is_v6 { LEAST_IPV6 } else { LEAST_IPV4 };
    if *mtu < least || !is_one_host(packet.source) {
        return None;
    }
    let l3 = usize::from(packet.l3);
    let mut quote = quoted(frame, l3)?;
    if F::COMPLETED && *whole {
        quote += completed(frame, packet)?;
    }
    let link: [u8; 12] = frame.read(0)?;
    frame.truncate(l3 + QUOTE)?;
    let (there, here) = link.split_at(6);
    let (there, here): ([u8; 6], [u8; 6]) = (there.try_into().ok()?, here.try_into().ok()?);
    if packet.is_v6 {
        frame.insert(packet.l3, IPV6 + ICMP, Inserted::Error)?;
        frame.write(l3, ipv6(packet))?;
        frame.write(l3 + IPV6, icmpv6(packet, *mtu, quote))?;
    } else {
        frame.insert(packet.l3, IPV4 + ICMP, Inserted::Error)?;
        frame.write(l3, ipv4(packet))?;
        frame.write(l3 + IPV4, icmp(*mtu, quote))?;
    }
    frame.write(0, here)?;
    frame.write(6, there)
}

/// The sum over what is quoted.
#[inline(always)]
fn quoted<F: Frame + ?Sized>(frame: &F, l3: usize) -> Option<u64> {
    let mut sum = 0;
    for place in (0..QUOTE).step_by(8) {
        let bytes: [u8; 8] = frame.read(l3 + place)?;
        let word = u64::from_ne_bytes(bytes);
        sum += (word & 0xffff_ffff) + (word >> 32);
    }
    Some(sum)
}

/// What the sum changes by if whoever sends the answer completes the quoted packet's checksum, as it was asked to do
/// when that packet was whole: over what is left of it, in a field that holds the pseudo-header's sum. Then both make
/// that sum's complement.
#[inline(always)]
fn completed<F: Frame + ?Sized>(frame: &F, packet: &Packet) -> Option<u64> {
    let (l3, l4) = (usize::from(packet.l3), usize::from(packet.l4));
    let length: u16 = match packet.is_v6 {
        true => frame.read(l3 + 4)?,
        false => frame.read(l3 + 2)?,
    };
    let header = match packet.is_v6 {
        true => packet.l4.wrapping_sub(packet.l3).wrapping_sub(IPV6 as u16),
        false => packet.l4.wrapping_sub(packet.l3),
    };
    let length = u16::from_be(length).wrapping_sub(header);
    let pseudo = pseudo_header(packet.source, packet.destination, packet.protocol, length);
    let check: u16 = frame.read(field::check(packet.l4, packet.protocol))?;
    if check != pseudo {
        return Some(0);
    }
    let mut sum = 0;
    let mut at = l4;
    for _ in 0..QUOTE / 2 {
        if at + 2 > l3 + QUOTE {
            break;
        }
        sum += u64::from(frame.read::<u16>(at)?);
        at += 2;
    }
    Some(u64::from(!fold(sum)) + u64::from(!pseudo))
}

/// Whether answers can be sent to this address (RFC 1122, 3.2.2; RFC 4443, 2.4).
#[inline(always)]
fn is_one_host(address: Address) -> bool {
    let [first, ..] = address.words();
    if !address.is_v4() {
        let multicast = u32::from_be(first) >> 24 == 0xff;
        // The unspecified address and loopback.
        let own = address.0[0] == 0 && u64::from_be(address.0[1]) <= 1;
        return !multicast && !own;
    }
    let first = u32::from_be(address.v4_word()) >> 24;
    first != 0 && first != 127 && first < 224
}

/// "Fragmentation needed" (RFC 792, RFC 1191).
#[inline(always)]
fn icmp(mtu: u16, quote: u64) -> [u8; ICMP] {
    let (kind, mtu) = (0x0304_0000_u32.to_be(), u32::from(mtu).to_be());
    let check = !fold(u64::from(kind) + u64::from(mtu) + quote);
    with_check([kind, mtu], check)
}

/// "Packet too big" (RFC 4443, 3.2).
#[inline(always)]
fn icmpv6(packet: &Packet, mtu: u16, quote: u64) -> [u8; ICMP] {
    let (kind, mtu) = (0x0200_0000_u32.to_be(), u32::from(mtu).to_be());
    let pseudo = pseudo_header(
        packet.destination,
        packet.source,
        PROTOCOL_ICMPV6,
        (ICMP + QUOTE) as u16,
    );
    let check = !fold(u64::from(kind) + u64::from(mtu) + quote + u64::from(pseudo));
    with_check([kind, mtu], check)
}

/// The checksum is the second half of the first word.
#[inline(always)]
fn with_check([kind, mtu]: [u32; 2], check: u16) -> [u8; ICMP] {
    let kind = kind | u32::from(u16::from_be(check)).to_be();
    bytemuck::cast([kind, mtu])
}

#[inline(always)]
fn ipv4(packet: &Packet) -> [u8; IPV4] {
    // Class CS6, as routers send it (RFC 1812, 4.3.2.5).
    let first = 0x45c0_0000 | (IPV4 + ICMP + QUOTE) as u32;
    let mut words = [
        first.to_be(),
        0x4000_u32.to_be(),
        (TTL << 24 | u32::from(PROTOCOL_ICMP) << 16).to_be(),
        packet.destination.v4_word(),
        packet.source.v4_word(),
    ];
    let mut sum = 0;
    for word in words {
        sum += u64::from(word);
    }
    words[2] |= u32::from(u16::from_be(!fold(sum))).to_be();
    bytemuck::cast(words)
}

#[inline(always)]
fn ipv6(packet: &Packet) -> [u8; IPV6] {
    let [a, b, c, d] = packet.destination.words();
    let [e, f, g, h] = packet.source.words();
    let length = ((ICMP + QUOTE) as u32) << 16;
    let rest = u32::from(PROTOCOL_ICMPV6) << 8 | TTL;
    let first = 0x6c00_0000_u32.to_be();
    bytemuck::cast([first, (length | rest).to_be(), a, b, c, d, e, f, g, h])
}
