//! To an endpoint on the same link that has the VIP, too: `forward = "dsr"`.
//!
//! Addresses and ports stay, so the endpoint takes the packet for its own and answers the client directly.
//! The time to live is decremented although no router is passed: two switches that name each other as
//! endpoints would otherwise hand a packet to and fro for ever.
//!
//! Nothing of this can be left to the stack, for which the VIP is an address of this host: what can't be
//! sent is dropped, and the client sends it again.

use crate::abi::Address;
use crate::finish;
use crate::forward::{Found, Kind};
use crate::frame::Frame;
use crate::parse::{self, Carriage, Packet};
use crate::rewrite;
use crate::tables::{Stack, Tables, Way};
use crate::verdict::Reason;

/// Sends a packet to the endpoint with this id and address: the interface it leaves by. No verdict, of which the
/// compiler might spill a part that was never set. If it is `whole`, a TCP or UDP header may have a checksum that
/// is still to be completed; who sends fragments or ICMP has done so.
///
/// # Errors
/// Why it has to be dropped.
#[inline(always)]
pub(crate) fn relay<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &mut F,
    packet: &Packet,
    id: u16,
    address: Address,
    whole: bool,
    tables: &T,
    stack: &S,
) -> Result<u32, Reason> {
    let carriage = parse::carriage(frame, packet).ok_or(Reason::Malformed)?;
    if carriage.ttl <= 1 {
        return Err(Reason::Expired);
    }
    let way = Way {
        source: packet.source,
        destination: address,
        protocol: packet.protocol,
        // Of any length: the answer is to say how much is too much. Not 0, with which the helper at tc looks at
        // the packet's own.
        carriage: Carriage {
            length: 1,
            ..carriage
        },
    };
    let Found {
        kind,
        interface,
        hop,
        mtu,
    } = way.remembered(id, tables, stack);
    if kind != Kind::Neighbour {
        return Err(Reason::NoNeighbour);
    }
    // A VLAN tag means nothing on another interface, and a VLAN device is none that a program can send to.
    if (packet.is_tagged() || frame.is_tagged()) && interface != stack.interface() {
        return Err(Reason::NoNeighbour);
    }
    if mtu != 0 && u32::from(carriage.length) > mtu {
        return Err(Reason::TooBig);
    }
    if whole && parse::is_unfinished(frame, packet, carriage) {
        finish::finish(frame, packet, carriage).ok_or(Reason::TooBig)?;
    }
    rewrite::hop(frame, packet, hop).ok_or(Reason::Malformed)?;
    Ok(interface)
}
