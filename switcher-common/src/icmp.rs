//! ICMP errors about packets of a service: what they quote, and how they are translated.
//!
//! An error quotes the beginning of the packet it is about, addresses and ports included: 8 bytes of the
//! transport header at the least (RFC 792), and whoever gets it looks for its flow by them. So it has to quote
//! what its receiver has sent, and not what became of that on the way.

use crate::abi::{Address, ICMP, ICMPV6, Port, TCP, UDP};
use crate::checksum::{change16, update, update_udp};
use crate::frame::Frame;
use crate::layers::Layers;
use crate::parse::{self, Packet};
use crate::rewrite::{self, Edit, End, Hop, Places, field};
use crate::verdict::Reason;

/// Bytes of an ICMP header: the quote begins behind it.
const HEADER: u16 = 8;
/// Bytes of the transport header that every quote has: ports, and UDP's checksum or TCP's sequence number.
const QUOTED: usize = 8;
/// Offset of the checksum in an ICMP header.
const CHECK: usize = 2;

/// Whether this is ICMP of its family.
#[inline(always)]
pub const fn is_icmp(protocol: u8, is_v6: bool) -> bool {
    protocol == if is_v6 { ICMPV6 } else { ICMP }
}

/// Destination unreachable (fragmentation needed among them), time exceeded and parameter problem (RFC 792);
/// the errors of RFC 4443, packet too big among them. Source quench is obsolete (RFC 6633), a redirect is
/// for hosts on one link, and everything else is no error.
const fn is_error(kind: u8, is_v6: bool) -> bool {
    if is_v6 {
        matches!(kind, 1..=4)
    } else {
        matches!(kind, 3 | 11 | 12)
    }
}

/// An ICMP error.
#[derive(Clone, Copy)]
pub struct IcmpError {
    /// The error itself; it has no ports.
    pub outer: Packet,
    /// The packet that it quotes, turned round, as if its receiver had answered: what goes to a client comes from
    /// an endpoint. Offsets are those of the quote.
    pub packet: Packet,
}

/// What becomes of one end of an error: as with [`Edit`], but at both ends of the quote's flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The new address in the quote.
    pub address: Address,
    /// The new address of the error itself.
    pub outer: Address,
    /// The new port in the quote.
    pub port: Port,
    /// Which address of the error is replaced; in the quote it is the other one.
    pub end: End,
}

impl IcmpError {
    /// None yet.
    pub const NONE: Self = Self {
        outer: Packet::NONE,
        packet: Packet::NONE,
    };

    /// Reads the error in a frame. A function of its own also in the programs, for its stack.
    ///
    /// # Errors
    /// When it is no error, or quotes nothing that has ports.
    #[inline(never)]
    pub fn read<F: Frame + ?Sized>(&mut self, frame: &F) -> Result<(), Reason> {
        let layers = frame.layers(Layers::find(frame)?);
        if layers.fragment != 0 {
            return Err(Reason::Protocol);
        }
        self.packet = quoted(frame, &layers)?;
        self.outer = parse::bare(frame, &layers)?;
        // An error goes to whoever has sent what it quotes.
        if self.outer.destination == self.packet.destination {
            Ok(())
        } else {
            Err(Reason::NotOurs)
        }
    }

    /// To the endpoint that has sent what is quoted.
    #[inline(always)]
    pub const fn to(&self, address: Address, port: Port) -> Turn {
        Turn::new(End::Destination, address, port, address)
    }

    /// To the client that has sent what is quoted, which knows the service only. What an endpoint says itself
    /// seems to come from the service, too.
    #[inline(always)]
    pub fn from(&self, address: Address, port: Port) -> Turn {
        let is_endpoint = self.outer.source == self.packet.source;
        let outer = if is_endpoint {
            address
        } else {
            self.outer.source
        };
        Turn::new(End::Source, address, port, outer)
    }
}

impl Turn {
    /// None yet.
    pub const NONE: Self = Self::new(End::Source, Address([0; 2]), Port(0), Address([0; 2]));

    /// At this end of the error.
    #[inline(always)]
    pub const fn new(end: End, address: Address, port: Port, outer: Address) -> Self {
        Self {
            address,
            outer,
            port,
            end,
        }
    }
}

/// The packet that an ICMP message in these layers quotes, turned round.
#[inline(always)]
fn quoted<F: Frame + ?Sized>(frame: &F, layers: &Layers) -> Result<Packet, Reason> {
    let [kind]: [u8; 1] = frame.read(layers.l4.into()).ok_or(Reason::Malformed)?;
    if !is_error(kind, layers.is_v6) {
        return Err(Reason::Protocol);
    }
    let quote = frame.layers(Layers::quoted(frame, layers.l4 + HEADER, layers.is_v6)?);
    if !matches!(quote.protocol, TCP | UDP) {
        return Err(Reason::Protocol);
    }
    if quote.fragment(frame).is_some_and(|part| part.offset != 0) {
        return Err(Reason::Fragment);
    }
    let [source, destination] = parse::addresses(frame, &quote).ok_or(Reason::Malformed)?;
    let [s0, s1, d0, d1, ..]: [u8; QUOTED] =
        frame.read(quote.l4.into()).ok_or(Reason::Malformed)?;
    Ok(Packet {
        source: destination,
        destination: source,
        source_port: Port::from_wire([d0, d1]),
        destination_port: Port::from_wire([s0, s1]),
        l3: quote.l3,
        l4: quote.l4,
        protocol: quote.protocol,
        is_v6: quote.is_v6,
    })
}

/// Translates one end of an error, and makes it go one hop further, if that is given. All checksums are updated by
/// difference: the quote's, where they are quoted, are part of what the error's own covers. False if the frame is
/// too short.
///
/// A function of its own also in the programs, for its stack.
#[inline(never)]
pub fn translate<F: Frame + ?Sized>(
    frame: &mut F,
    error: &IcmpError,
    turn: &Turn,
    hop: Option<&Hop>,
) -> bool {
    let (mut outer, quote) = match turn.end {
        End::Source => (
            Edit::from(&error.outer, turn.outer, Port(0)),
            Edit::from(&error.packet, turn.address, turn.port),
        ),
        End::Destination => (
            Edit::to(&error.outer, turn.outer, Port(0)),
            Edit::to(&error.packet, turn.address, turn.port),
        ),
    };
    outer.hop = hop.copied();
    // The quoted packet goes where the one that was turned round comes from.
    translate_both(frame, &outer, &quote.turned()).is_some()
}

#[inline(always)]
fn translate_both<F: Frame + ?Sized>(frame: &mut F, outer: &Edit, quote: &Edit) -> Option<()> {
    let place = usize::from(outer.l4) + CHECK;
    let sum: u16 = frame.read(place)?;
    let mut change = translate_quote(frame, quote, end(frame, outer)?)?;
    let header_change = rewrite::replace_address(frame, outer)?;
    if outer.is_v6 {
        // The pseudo-header (RFC 4443, 2.3).
        change += header_change;
    }
    frame.write(place, update(sum, change))?;
    rewrite::finish_header(frame, outer, header_change)
}

/// Where the message ends, by what its IP header says.
#[inline(always)]
fn end<F: Frame + ?Sized>(frame: &F, outer: &Edit) -> Option<usize> {
    let l3 = usize::from(outer.l3);
    let (place, header) = if outer.is_v6 { (4, 40) } else { (2, 0) };
    let length: [u8; 2] = frame.read(l3 + place)?;
    Some(l3 + header + usize::from(u16::from_be_bytes(length)))
}

/// The change of the sum over the quote.
#[inline(always)]
fn translate_quote<F: Frame + ?Sized>(frame: &mut F, quote: &Edit, end: usize) -> Option<u64> {
    let Places { port, check, .. } = quote.places();
    let address_change = rewrite::replace_address(frame, quote)?;
    let from: u16 = frame.read(port)?;
    frame.write(port, quote.port.0)?;
    let l4_change = address_change + change16(from, quote.port.0);
    let mut change = l4_change;
    if check + 2 <= end
        && let Some(sum) = frame.read::<u16>(check)
    {
        let updated = match quote.protocol {
            TCP => update(sum, l4_change),
            _ => update_udp(sum, l4_change),
        };
        frame.write(check, updated)?;
        change += change16(sum, updated);
    }
    if !quote.is_v6 {
        let place = usize::from(quote.l3) + field::v4::CHECK;
        let sum: u16 = frame.read(place)?;
        let updated = update(sum, address_change);
        frame.write(place, updated)?;
        change += change16(sum, updated);
    }
    Some(change)
}
