//! Where the layers of a frame begin: VLAN tags, IPv4 options and IPv6 extension headers are walked over.

use crate::frame::Frame;
use crate::verdict::Reason;

/// Offset of the network header in a frame without VLAN tags.
pub const LINK: usize = 14;
/// The transport header begins here at the latest, so that the verifier knows where bytes behind it are.
pub const MAX_L4: usize = 511;

/// EtherTypes as they stand in the frame.
const IPV4: u16 = 0x0800_u16.to_be();
const IPV6: u16 = 0x86dd_u16.to_be();
/// IEEE 802.1Q customer and service tags.
const TAGS: [u16; 2] = [0x8100_u16.to_be(), 0x88a8_u16.to_be()];
/// Bytes of a tag.
const TAG: usize = 4;

/// Version 4, five words of header: no options.
const PLAIN_IPV4: u8 = 0x45;
/// Bytes of the fixed IPv4 header.
const IPV4_HEADER: usize = 20;
/// Bytes of an IPv4 header with all the options it can have: more than a fixed IPv6 header.
const IPV4_LONGEST: usize = 60;
/// Bytes of the fixed IPv6 header.
const IPV6_HEADER: usize = 40;
/// "More fragments" and the fragment offset (RFC 791, 3.1).
const IPV4_FRAGMENT: u16 = 0x3fff;
/// Likewise in the fragment header (RFC 8200, 4.5).
const IPV6_FRAGMENT: u16 = 0xfff9;

/// Where the layers of a frame begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layers {
    /// Offset of the IP header.
    pub l3: u16,
    /// Offset of what follows the IP header with its options or extension headers; at most [`MAX_L4`].
    pub l4: u16,
    /// Offset of the header that makes this a fragment: the IPv4 header or the IPv6 fragment header. 0 if
    /// it is a whole datagram.
    pub fragment: u16,
    /// IP protocol number of what is at `l4`. Of a later IPv6 fragment: what the fragment header says.
    pub protocol: u8,
    /// IPv6, else IPv4.
    pub is_v6: bool,
}

/// What a fragment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The datagram it is part of, as in the header; IPv4 has 16 bits of it.
    pub id: u32,
    /// Where it belongs, in units of 8 bytes; 0 is the first, which has the transport header.
    pub offset: u16,
    /// Others follow.
    pub more: bool,
}

impl Layers {
    /// The protocol of a frame that has no VLAN tags, and an IPv4 header without options; nothing if it is a
    /// fragment.
    #[inline(always)]
    pub(crate) fn plain<F: Frame + ?Sized>(frame: &F) -> Option<u8> {
        if frame.read::<u16>(LINK - 2)? != IPV4 || frame.read(LINK) != Some([PLAIN_IPV4]) {
            return None;
        }
        let layers = ipv4(frame, LINK, LINK + IPV4_HEADER).ok()?;
        (layers.fragment == 0).then_some(layers.protocol)
    }

    /// The layers of such a frame.
    #[inline(always)]
    pub(crate) const fn of_plain(protocol: u8) -> Self {
        Self {
            l3: LINK as u16,
            l4: (LINK + IPV4_HEADER) as u16,
            fragment: 0,
            protocol,
            is_v6: false,
        }
    }

    /// Finds the layers of a frame.
    ///
    /// # Errors
    /// When it is not IP, contradicts itself or has more headers than we walk.
    #[inline(always)]
    pub fn find<F: Frame + ?Sized>(frame: &F) -> Result<Self, Reason> {
        let mut kind: u16 = frame.read(LINK - 2).ok_or(Reason::Malformed)?;
        if kind == IPV4 && frame.read(LINK) == Some([PLAIN_IPV4]) {
            return ipv4(frame, LINK, LINK + IPV4_HEADER);
        }
        let mut l3 = LINK;
        if TAGS.contains(&kind) {
            kind = frame.read(LINK + TAG - 2).ok_or(Reason::Malformed)?;
            l3 = LINK + TAG;
            if TAGS.contains(&kind) {
                kind = frame.read(LINK + 2 * TAG - 2).ok_or(Reason::Malformed)?;
                l3 = LINK + 2 * TAG;
            }
        }
        match kind {
            IPV4 => match frame.read::<[u8; 1]>(l3).ok_or(Reason::Malformed)? {
                [first @ 0x45..=0x4f] => ipv4(frame, l3, l3 + usize::from(first & 15) * 4),
                [_] => Err(Reason::Malformed),
            },
            IPV6 => ipv6(frame, l3),
            _ => Err(Reason::NotIp),
        }
    }

    /// Finds the layers of a packet that an ICMP error quotes, from its IP header at `l3` on.
    ///
    /// # Errors
    /// As [`Self::find`]; and when it is not of the error's family.
    #[inline(always)]
    pub fn quoted<F: Frame + ?Sized>(frame: &F, l3: u16, is_v6: bool) -> Result<Self, Reason> {
        let l3 = usize::from(l3);
        if l3 + IPV4_LONGEST > MAX_L4 {
            return Err(Reason::ExtensionHeaders);
        }
        match (is_v6, frame.read::<[u8; 1]>(l3).ok_or(Reason::Malformed)?) {
            (true, _) => ipv6(frame, l3),
            (false, [first @ 0x45..=0x4f]) => ipv4(frame, l3, l3 + usize::from(first & 15) * 4),
            (false, _) => Err(Reason::Malformed),
        }
    }

    /// What the fragment says of itself, if it is one.
    #[inline(always)]
    pub fn fragment<F: Frame + ?Sized>(&self, frame: &F) -> Option<Fragment> {
        let header = usize::from(self.fragment);
        if header == 0 {
            None
        } else if self.is_v6 {
            let field = u16::from_be(frame.read(header + 2)?);
            Some(Fragment {
                id: frame.read(header + 4)?,
                offset: field >> 3,
                more: field & 1 != 0,
            })
        } else {
            let field = u16::from_be(frame.read(header + 6)?);
            Some(Fragment {
                id: u32::from(frame.read::<u16>(header + 4)?),
                offset: field & 0x1fff,
                more: field & 0x2000 != 0,
            })
        }
    }
}

#[inline(always)]
fn ipv4<F: Frame + ?Sized>(frame: &F, l3: usize, l4: usize) -> Result<Layers, Reason> {
    let [protocol]: [u8; 1] = frame.read(l3 + 9).ok_or(Reason::Malformed)?;
    let field: u16 = frame.read(l3 + 6).ok_or(Reason::Malformed)?;
    let part = field & IPV4_FRAGMENT.to_be() != 0;
    Ok(Layers {
        l3: l3 as u16,
        l4: l4 as u16,
        fragment: if part { l3 as u16 } else { 0 },
        protocol,
        is_v6: false,
    })
}

/// Extension headers (RFC 8200, 4; RFC 4302 for the authentication header).
mod extension {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION: u8 = 60;
    /// Headers that we walk at the most: each kind once, and destination options twice.
    pub(super) const MOST: u32 = 6;
}

/// The fixed header and the chain behind it.
#[inline(always)]
fn ipv6<F: Frame + ?Sized>(frame: &F, l3: usize) -> Result<Layers, Reason> {
    let [first]: [u8; 1] = frame.read(l3).ok_or(Reason::Malformed)?;
    if first >> 4 != 6 {
        return Err(Reason::Malformed);
    }
    let [protocol]: [u8; 1] = frame.read(l3 + 6).ok_or(Reason::Malformed)?;
    let mut layers = Layers {
        l3: l3 as u16,
        l4: (l3 + IPV6_HEADER) as u16,
        fragment: 0,
        protocol,
        is_v6: true,
    };
    if is_extension(protocol) {
        chain(frame, &mut layers)?;
    }
    Ok(layers)
}

/// Walks over extension headers. A function of its own also in the programs: they are rare.
#[inline(never)]
fn chain<F: Frame + ?Sized>(frame: &F, layers: &mut Layers) -> Result<(), Reason> {
    let mut walked = 0;
    while is_extension(layers.protocol) {
        if walked == extension::MOST {
            return Err(Reason::ExtensionHeaders);
        }
        walked += 1;
        if walk(frame, layers)? {
            break;
        }
    }
    Ok(())
}

#[inline(always)]
const fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        extension::HOP_BY_HOP
            | extension::ROUTING
            | extension::FRAGMENT
            | extension::AUTHENTICATION
            | extension::DESTINATION
    )
}

/// Walks over one extension header. True if nothing can be known of what is behind it.
#[inline(always)]
fn walk<F: Frame + ?Sized>(frame: &F, layers: &mut Layers) -> Result<bool, Reason> {
    let at = usize::from(layers.l4);
    let [next, length, high, low]: [u8; 4] = frame.read(at).ok_or(Reason::Malformed)?;
    let mut later = false;
    let bytes = match layers.protocol {
        extension::FRAGMENT => {
            let field = u16::from_be_bytes([high, low]);
            // Alone it is a whole datagram (RFC 6946).
            if field & IPV6_FRAGMENT != 0 {
                layers.fragment = layers.l4;
                later = field >> 3 != 0;
            }
            8
        }
        extension::AUTHENTICATION => (usize::from(length) + 2) * 4,
        // The packet is not where it wants to go yet: "segments left".
        extension::ROUTING if low != 0 => return Err(Reason::ExtensionHeaders),
        _ => (usize::from(length) + 1) * 8,
    };
    if at + bytes > MAX_L4 {
        return Err(Reason::ExtensionHeaders);
    }
    layers.l4 = (at + bytes) as u16;
    layers.protocol = next;
    Ok(later)
}
