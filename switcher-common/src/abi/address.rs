//! Addresses and ports as they stand in a packet.

use bytemuck::{Pod, Zeroable};

/// An address in network order; IPv4 as an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2).
///
/// Two halves and not four words: the compiler joins words into unaligned halves, which the verifier does not
/// allow on the stack.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct Address(pub [u64; 2]);

impl Address {
    /// The four bytes before the IPv4 address.
    const V4_PREFIX: [u8; 4] = [0, 0, 0xff, 0xff];

    /// From the four bytes of an IPv4 header.
    #[inline(always)]
    pub const fn v4(bytes: [u8; 4]) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (Self::V4_PREFIX, bytes);
        Self([0, u64::from_ne_bytes([a, b, c, d, e, f, g, h])])
    }

    /// From the sixteen bytes of an IPv6 header.
    #[inline(always)]
    pub const fn v6(b: [u8; 16]) -> Self {
        Self([
            u64::from_ne_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
            u64::from_ne_bytes([b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]]),
        ])
    }

    /// Whether it stands for an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(self) -> bool {
        self.0[0] == 0 && self.words()[2] == u32::from_ne_bytes(Self::V4_PREFIX)
    }

    /// The IPv4 part as it stands in a packet (network order). Meaningless for an IPv6 address.
    #[inline(always)]
    pub const fn v4_word(self) -> u32 {
        self.words()[3]
    }

    /// From four words, as the kernel's structures have it.
    #[inline(always)]
    pub const fn of_words(words: [u32; 4]) -> Self {
        let [a, b, c, d] = words[0].to_ne_bytes();
        let [e, f, g, h] = words[1].to_ne_bytes();
        let [i, j, k, l] = words[2].to_ne_bytes();
        let [m, n, o, p] = words[3].to_ne_bytes();
        Self::v6([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }

    /// In four words, as the kernel's structures have it.
    #[inline(always)]
    pub const fn words(self) -> [u32; 4] {
        let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) =
            (self.0[0].to_ne_bytes(), self.0[1].to_ne_bytes());
        [
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
            u32::from_ne_bytes([m, n, o, p]),
        ]
    }
}

impl From<core::net::IpAddr> for Address {
    fn from(address: core::net::IpAddr) -> Self {
        match address {
            core::net::IpAddr::V4(v4) => Self::v4(v4.octets()),
            core::net::IpAddr::V6(v6) => Self::v6(v6.octets()),
        }
    }
}

impl From<Address> for core::net::IpAddr {
    fn from(address: Address) -> Self {
        let v6 = core::net::Ipv6Addr::from(bytemuck::cast::<[u64; 2], [u8; 16]>(address.0));
        v6.to_canonical()
    }
}

/// A port in network order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct Port(pub u16);

impl Port {
    /// From the number people write.
    pub const fn new(host_order: u16) -> Self {
        Self(host_order.to_be())
    }

    /// From the two bytes of a header.
    #[inline(always)]
    pub const fn from_wire(bytes: [u8; 2]) -> Self {
        Self(u16::from_ne_bytes(bytes))
    }

    /// The number people write.
    #[inline(always)]
    pub const fn number(self) -> u16 {
        u16::from_be(self.0)
    }
}
