//! Incremental update of the Internet checksum (RFC 1624, equation 3).
//!
//! The one's complement sum does not depend on byte order (RFC 1071, 2B): words are taken as they stand
//! in the packet. 2^16 is 1 modulo 65,535, so words of 16 and 32 bits may be added up alike.

use crate::abi::Address;

/// The change that replacing one value by another makes to a sum. Add changes up freely: 64 bits hold
/// four thousand million of them.
#[inline(always)]
pub const fn change(from: u32, to: u32) -> u64 {
    !from as u64 + to as u64
}

/// As [`change`], for 16-bit words.
#[inline(always)]
pub const fn change16(from: u16, to: u16) -> u64 {
    !from as u64 + to as u64
}

/// As [`change`], for whole addresses.
#[inline(always)]
pub const fn change_address(from: Address, to: Address) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (from.words(), to.words());
    change(a, e) + change(b, f) + change(c, g) + change(d, h)
}

/// A change in 32 bits, as the kernel's helpers take it.
#[inline(always)]
pub const fn narrow(change: u64) -> u32 {
    let sum = (change & 0xffff_ffff) + (change >> 32);
    ((sum & 0xffff_ffff) + (sum >> 32)) as u32
}

/// The checksum field after `change`.
#[inline(always)]
pub const fn update(check: u16, change: u64) -> u16 {
    !fold(!check as u64 + change)
}

/// As [`update`], for UDP: zero means "no checksum" and stays (over IPv6 only where both ends agreed on it:
/// RFC 6935), and a computed zero is sent as all ones (RFC 768).
#[inline(always)]
pub const fn update_udp(check: u16, change: u64) -> u16 {
    if check == 0 {
        return 0;
    }
    match update(check, change) {
        0 => 0xffff,
        updated => updated,
    }
}

/// The sum itself, not its complement, after `change`: what stands in the field while the checksum is
/// left to be completed by whoever sends the packet on.
#[inline(always)]
pub const fn update_sum(sum: u16, change: u64) -> u16 {
    fold(sum as u64 + change)
}

/// The sum of a TCP or UDP pseudo-header (RFC 9293, 3.1; RFC 8200, 8.1): `length` from the transport header
/// on. The prefix of IPv4-mapped addresses is 0 modulo 65,535.
#[inline(always)]
pub const fn pseudo_header(
    source: Address,
    destination: Address,
    protocol: u8,
    length: u16,
) -> u16 {
    let words = (protocol as u16).to_be() as u64 + length.to_be() as u64;
    fold(words + sum(source) + sum(destination))
}

#[inline(always)]
const fn sum(address: Address) -> u64 {
    let [a, b, c, d] = address.words();
    a as u64 + b as u64 + c as u64 + d as u64
}

/// A sum in 16 bits: carries are added in again.
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}
