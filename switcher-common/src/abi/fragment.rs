//! What is remembered of fragmented packets: only the first fragment has ports.

use bytemuck::{Pod, Zeroable};

use super::{Address, AddressKey, Endpoint, Port, Service, address_kind, endpoint_flags};

/// Fragmented packets remembered at once; the oldest makes room.
pub const MAX_FRAGMENTED: u32 = 1 << 14;

/// Ticks for which a first fragment speaks for the others. Receivers give up after 30 s (Linux) to 60 s
/// (RFC 8200, 4.5); an identification may be used again soon after.
pub const FRAGMENTS_LIFE: u32 = 28;

/// A fragmented packet (RFC 791, 3.2; RFC 8200, 4.5), with addresses as they came in.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct FragmentKey {
    /// Its sender.
    pub source: Address,
    /// Its receiver.
    pub destination: Address,
    /// Identification, as in the header.
    pub identification: u32,
    /// IP protocol number of what is fragmented.
    pub protocol: u32,
}
const _: () = assert!(size_of::<FragmentKey>() == 40);

/// Values of [`Fragmented::kind`].
pub mod fragmented {
    /// Nobody's, or not to be changed: fragments pass.
    pub const PASSES: u16 = 1;
    /// A request to endpoint `id`.
    pub const REQUEST: u16 = 2;
    /// A reply of endpoint `id`.
    pub const REPLY: u16 = 3;
}

/// Value of `FRAGMENTS`: what the first fragment of a packet said.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Fragmented {
    /// One of [`fragmented`].
    pub kind: u16,
    /// An endpoint's id.
    pub id: u16,
    /// For a reply the index of the service whose address it gets.
    pub service: u16,
    /// Of what is masqueraded and forwarded by the stack, the port that it leaves with: a request's source, a reply's destination.
    pub port: Port,
    /// Tick of the first fragment.
    pub seen: u32,
    /// Zero.
    pub reserved: u32,
    /// Of what is masqueraded, the new address of the other end; else zero.
    pub other: Address,
}
const _: () = assert!(size_of::<Fragmented>() == 32);

impl AddressKey {
    /// The key by which the program knows that packets of a protocol to an address may have to be
    /// forwarded by what their first fragment said.
    #[inline(always)]
    pub const fn fragments_to(address: Address, protocol: u8) -> Self {
        Self::of_fragments(address, protocol, address_kind::FRAGMENTS_TO)
    }

    /// Likewise for packets from an address, which may need another source.
    #[inline(always)]
    pub const fn fragments_from(address: Address, protocol: u8) -> Self {
        Self::of_fragments(address, protocol, address_kind::FRAGMENTS_FROM)
    }

    #[inline(always)]
    const fn of_fragments(address: Address, protocol: u8, kind: u8) -> Self {
        Self {
            address,
            port: Port(0),
            protocol,
            kind,
            reserved: 0,
        }
    }
}

/// What has to be published so that fragments between clients of `face`, a service or preview, and
/// `endpoint` find their way. Nothing if only ports change on it: fragments without ports can then pass, and
/// in any order. Where the endpoint answers clients directly, nothing for the way back.
pub fn fragment_keys(face: &Service, endpoint: &Endpoint) -> [Option<AddressKey>; 2] {
    const AT_HOME: u8 = endpoint_flags::PRESENT | endpoint_flags::UNTOUCHED;
    if face.address == endpoint.address && endpoint.flags & !AT_HOME == 0 {
        return [None; 2];
    }
    let protocol = face.protocol;
    let from = AddressKey::fragments_from(endpoint.address, protocol);
    [
        Some(AddressKey::fragments_to(face.address, protocol)),
        (endpoint.flags & endpoint_flags::DIRECT == 0).then_some(from),
    ]
}
