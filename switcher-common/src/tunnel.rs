//! To an endpoint anywhere, inside another packet: `forward = "ipip"`, [`Stage::Wrap`].
//!
//! The packet keeps its addresses and ports, as with `dsr`; an outer header takes it to the endpoint,
//! which takes that off and answers the client directly. Its source varies by flow, where the configuration
//! gives a prefix: receivers spread what comes in over their queues by the outer addresses alone. Over IPv6 the
//! flow label varies, too.
//!
//! Nothing of this can be left to the stack, for which the VIP is an address of this host: what can't be
//! sent is dropped. The sender of what is too big is told: [`Stage::Answer`].

use core::mem::MaybeUninit;

use crate::abi::{Address, Tunnel};
use crate::checksum::fold;
use crate::finish;
use crate::forward::{Found, Kind, out};
use crate::frame::{Frame, Inserted};
use crate::parse::{self, Carriage, Packet};
use crate::request;
use crate::rewrite;
use crate::steer;
use crate::tables::{Stack, Tables, Way};
use crate::verdict::{Reason, Stage, Verdict};

/// Bytes of an outer IPv4 header.
const IPV4: usize = 20;
/// Bytes of an outer IPv6 header.
const IPV6: usize = 40;
/// IP protocol numbers of IPv4 (RFC 2003) and IPv6 (RFC 2473) inside another packet.
const IPV4_INSIDE: u8 = 4;
const IPV6_INSIDE: u8 = 41;
/// Time to live of outer headers.
const TTL: u8 = 64;
/// "Don't fragment".
const DF: u16 = 0x4000;
/// EtherTypes as they stand in the frame.
const IPV4_TYPE: [u8; 2] = [0x08, 0x00];
const IPV6_TYPE: [u8; 2] = [0x86, 0xdd];

/// A packet that one stage hands on to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// The packet, perhaps without ports.
    pub packet: Packet,
    /// The endpoint that it goes to.
    pub endpoint: u16,
    /// What there is room for, in bytes, if it is too big.
    pub room: u16,
    /// It has a whole TCP or UDP segment, whose checksum is perhaps still to be completed.
    pub whole: bool,
    /// Its sender may be told that it is too big: not of an error (RFC 1122, 3.2.2), nor of a later fragment.
    pub answered: bool,
}

impl Parcel {
    /// A whole packet.
    #[inline(always)]
    pub(crate) const fn whole(packet: &Packet, endpoint: u16) -> Self {
        Self {
            packet: *packet,
            endpoint,
            room: 0,
            whole: true,
            answered: true,
        }
    }

    /// A fragment, or an ICMP error.
    #[inline(always)]
    pub(crate) const fn part(packet: &Packet, endpoint: u16, answered: bool) -> Self {
        Self {
            packet: *packet,
            endpoint,
            room: 0,
            whole: false,
            answered,
        }
    }
}

/// Sends the packet that was handed on to its endpoint.
///
/// # Errors
/// Why it can't be sent.
#[inline(always)]
pub(crate) fn wrap<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Result<Verdict, Reason> {
    let mut place = MaybeUninit::uninit();
    let parcel = tables.handed_on(&mut place).ok_or(Reason::NotOurs)?;
    let (packet, id) = (&parcel.packet, parcel.endpoint);
    let carriage = parse::carriage(frame, packet).ok_or(Reason::Malformed)?;
    if carriage.ttl <= 1 {
        return Err(Reason::Expired);
    }
    let whole = frame.whole(packet, carriage.length);
    let destination = request::endpoint(id, tables)?.address;
    let outer = Outer::new(packet, (carriage, whole), id, destination, tables);
    if !outer.sourced {
        return Err(Reason::NoNeighbour);
    }
    let Found {
        kind,
        interface,
        hop,
        mtu,
    } = outer.way().remembered(id, tables, stack);
    if kind != Kind::Neighbour {
        return Err(Reason::NoNeighbour);
    }
    // A VLAN tag means nothing on another interface, and a VLAN device is none that a program can send to.
    if (packet.is_tagged() || frame.is_tagged()) && interface != stack.interface() {
        return Err(Reason::NoNeighbour);
    }
    // Without an MTU it has to fit into what a header can say.
    let most = if mtu == 0 { u16::MAX.into() } else { mtu };
    let room = most.saturating_sub(outer.header());
    if u32::from(carriage.length) > room {
        if !parcel.answered {
            return Err(Reason::TooBig);
        }
        parcel.room = room as u16;
        let parcel = *parcel;
        tables.hand_on(&parcel);
        return Ok(Verdict::Continue(Stage::Answer));
    }
    if parcel.whole && parse::is_unfinished(frame, packet, carriage) {
        finish::finish(frame, packet, carriage).ok_or(Reason::TooBig)?;
    }
    rewrite::hop(frame, packet, hop).ok_or(Reason::Malformed)?;
    if !push(frame, packet.l3, &outer) {
        return Err(Reason::NoRoom);
    }
    Ok(out(interface, stack))
}

/// What an outer header says.
#[derive(Clone, Copy)]
struct Outer {
    source: Address,
    destination: Address,
    /// For the flow label.
    hash: u32,
    /// Bytes of the inner packet, of all its segments together: whoever takes them apart says of each how long it is.
    length: u32,
    /// Type of service, or traffic class.
    class: u8,
    /// What is inside.
    protocol: u8,
    /// Whether the source is known.
    sourced: bool,
}

impl Outer {
    /// The header that takes a packet to an endpoint.
    #[inline(always)]
    fn new<T: Tables>(
        packet: &Packet,
        (carriage, whole): (Carriage, u32),
        id: u16,
        destination: Address,
        tables: &T,
    ) -> Self {
        let tunnel = tables.tunnel(id);
        let Tunnel { source, varied, .. } = tunnel;
        // Another seed than that of buckets: all flows of an endpoint would have some bits of the hash in common.
        let seed = tables.settings().seed;
        let hash = steer::hash(!seed, packet.source, packet.source_port.0);
        let [a, b, c, d] = source.words();
        let (class, protocol) = match packet.is_v6 {
            true => ((u32::from_be(carriage.class) >> 20) as u8, IPV6_INSIDE),
            false => (carriage.class as u8, IPV4_INSIDE),
        };
        Self {
            source: Address::of_words([a, b, c, d | hash & varied]),
            destination,
            hash,
            length: whole,
            class,
            protocol,
            sourced: tunnel.is_known(),
        }
    }

    /// Bytes of the header.
    #[inline(always)]
    const fn header(&self) -> u32 {
        match self.destination.is_v4() {
            true => IPV4 as u32,
            false => IPV6 as u32,
        }
    }

    /// The first word of an IPv6 header but for the version: class and flow label (RFC 6438).
    #[inline(always)]
    const fn flow_info(&self) -> u32 {
        (self.class as u32) << 20 | self.hash & 0xf_ffff
    }

    /// To be found for packets of any length: the answer is to say how much is too much. Not 0, with which the
    /// helper at tc looks at the packet's own.
    #[inline(always)]
    const fn way(&self) -> Way {
        Way {
            source: self.source,
            destination: self.destination,
            carriage: Carriage {
                class: if self.destination.is_v4() {
                    self.class as u32
                } else {
                    self.flow_info().to_be()
                },
                length: 1,
                ttl: TTL,
            },
            protocol: self.protocol,
        }
    }

    /// Class and congestion bits are the inner packet's (RFC 6040, 4.1, normal mode). The identification may
    /// be anything where nothing is fragmented (RFC 6864).
    #[inline(always)]
    fn ipv4(&self) -> [u8; IPV4] {
        let first = 0x4500_0000 | u32::from(self.class) << 16;
        let length = said(self.length + IPV4 as u32);
        let mut words = [
            (first | length).to_be(),
            u32::from(DF).to_be(),
            (u32::from(TTL) << 24 | u32::from(self.protocol) << 16).to_be(),
            self.source.v4_word(),
            self.destination.v4_word(),
        ];
        let mut sum = 0;
        for word in words {
            sum += u64::from(word);
        }
        // The lower half of the third word, as it stands in the header.
        words[2] |= u32::from(u16::from_be(!fold(sum))).to_be();
        bytemuck::cast(words)
    }

    #[inline(always)]
    fn ipv6(&self) -> [u8; IPV6] {
        let [a, b, c, d] = self.source.words();
        let [e, f, g, h] = self.destination.words();
        let length = said(self.length) << 16;
        let rest = u32::from(self.protocol) << 8 | u32::from(TTL);
        let first = (0x6000_0000 | self.flow_info()).to_be();
        bytemuck::cast([first, (length | rest).to_be(), a, b, c, d, e, f, g, h])
    }
}

/// A length as a header says it: 0 for what only a packet of many segments has, as Linux does (6.3, `iph_set_totlen`).
#[inline(always)]
const fn said(length: u32) -> u32 {
    if length > u16::MAX as u32 { 0 } else { length }
}

/// Puts the outer header between the link header and the packet. False if there is no room.
#[inline(always)]
fn push<F: Frame + ?Sized>(frame: &mut F, l3: u16, outer: &Outer) -> bool {
    if outer.destination.is_v4() {
        push_ipv4(frame, l3, outer).is_some()
    } else {
        push_ipv6(frame, l3, outer).is_some()
    }
}

#[inline(always)]
fn push_ipv4<F: Frame + ?Sized>(frame: &mut F, l3: u16, outer: &Outer) -> Option<()> {
    frame.insert(l3, IPV4, Inserted::OuterIpv4)?;
    frame.write(usize::from(l3) - 2, IPV4_TYPE)?;
    frame.write(l3.into(), outer.ipv4())
}

#[inline(always)]
fn push_ipv6<F: Frame + ?Sized>(frame: &mut F, l3: u16, outer: &Outer) -> Option<()> {
    frame.insert(l3, IPV6, Inserted::OuterIpv6)?;
    frame.write(usize::from(l3) - 2, IPV6_TYPE)?;
    frame.write(l3.into(), outer.ipv6())
}
