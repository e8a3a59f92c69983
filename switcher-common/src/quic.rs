//! What the first QUIC packet of a client's datagram says of its flow (RFC 9000, 17; RFC 8999).
//!
//! Only bits that every version's observer may see are looked at: the header form, the version and the type
//! of a long header. A datagram may hold several packets of one connection; the first decides.

use crate::frame::Frame;
use crate::parse::Packet;
use crate::steer::Segment;

/// QUIC version 1 (RFC 9000).
pub const V1: u32 = 0x0000_0001;
/// QUIC version 2 (RFC 9369), which has its packet types rotated.
pub const V2: u32 = 0x6b33_43cf;

/// Bytes that a datagram with a client's Initial has at least (RFC 9000, 14.1); servers discard others.
pub const INITIAL_SIZE: u32 = 1200;

/// Bytes of a UDP header (RFC 768), behind which QUIC begins.
const UDP_HEADER: usize = 8;

const LONG: u8 = 0x80;
const TYPE: u8 = 0x30;

/// Types of long headers in version 1.
mod kind {
    pub(super) const INITIAL: u8 = 0;
    pub(super) const HANDSHAKE: u8 = 2;
    pub(super) const RETRY: u8 = 3;
}

/// What steering needs to know of a datagram.
///
/// An Initial of a known version opens a connection, if nothing else is known of its flow. Handshake packets
/// and short headers belong to a connection that is there: worth remembering. The rest is not: 0-RTT may
/// overtake its Initial, and a version that nobody knows is about to be negotiated; what follows is to decide.
#[inline(always)]
pub fn segment<F: Frame + ?Sized>(frame: &F, packet: &Packet) -> Segment {
    first(frame, usize::from(packet.l4) + UDP_HEADER)
}

/// The same for the packet at `offset`.
#[inline(always)]
fn first<F: Frame + ?Sized>(frame: &F, offset: usize) -> Segment {
    let Some([first, a, b, c, d]) = frame.read::<[u8; 5]>(offset) else {
        return PASSING;
    };
    if first & LONG == 0 {
        return Segment::OTHER;
    }
    let version = u32::from_be_bytes([a, b, c, d]);
    let Some(kind) = long(version, first) else {
        return PASSING;
    };
    let is_whole = frame.length() >= offset as u32 + INITIAL_SIZE;
    match kind {
        kind::INITIAL if is_whole => Segment::syn(0),
        kind::HANDSHAKE => Segment::OTHER,
        _ => PASSING,
    }
}

/// The type of a long header, as version 1 numbers it.
#[inline(always)]
const fn long(version: u32, first: u8) -> Option<u8> {
    let bits = (first & TYPE) >> 4;
    match version {
        V1 => Some(bits),
        // Retry, Initial, 0-RTT, Handshake (RFC 9369, 3.2).
        V2 => Some(bits.wrapping_sub(1) & kind::RETRY),
        _ => None,
    }
}

/// Goes where its flow goes, and leaves nothing behind.
const PASSING: Segment = Segment {
    opens: false,
    resets: true,
    sequence: 0,
};

#[cfg(test)]
mod tests {
    use super::*;

    const V1_INITIAL: u8 = 0xc0;
    const V2_INITIAL: u8 = 0xd0;

    #[test]
    fn an_initial_of_a_known_version_opens() {
        assert!(of(V1_INITIAL, V1, 1200).opens);
        assert!(of(V2_INITIAL, V2, 1200).opens);
        assert!(
            of(0x8f, V1, 1500).opens,
            "whatever the bits that are protected"
        );
    }

    #[test]
    fn others_do_not() {
        let other = [
            (V1_INITIAL, V2, "a Retry of version 2"),
            (V2_INITIAL, V1, "0-RTT"),
            (0xe0, V2, "0-RTT of version 2"),
            (0xf0, V1, "a Retry, which only servers send"),
            (V1_INITIAL, 0, "a negotiation, which only servers send"),
            (V1_INITIAL, 0x0a0a_0a0a, "a version to be negotiated"),
        ];
        for (first, version, what) in other {
            assert_eq!(of(first, version, 1200), PASSING, "{what}");
        }
        assert_eq!(of(V1_INITIAL, V1, 1199), PASSING, "no server takes it");
    }

    #[test]
    fn what_belongs_to_a_connection_is_worth_remembering() {
        assert_eq!(of(0xe0, V1, 100), Segment::OTHER, "Handshake");
        assert_eq!(of(0xf0, V2, 100), Segment::OTHER, "Handshake of version 2");
        assert_eq!(of(0x40, 0x1234_5678, 30), Segment::OTHER, "a short header");
        assert_eq!(first(&[0_u8; 4][..], 0), PASSING, "nothing to read");
    }

    fn of(byte: u8, version: u32, size: usize) -> Segment {
        let mut bytes = [0; 2048];
        bytes[42] = byte;
        bytes[43..47].copy_from_slice(&version.to_be_bytes());
        first(&bytes[..42 + size], 42)
    }
}
