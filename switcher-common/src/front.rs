//! The front of the pipeline: what is frequent, decided in few instructions.
//!
//! That is TCP over plain IPv4, to an endpoint on this host or one whose next hop is known, while nothing is being
//! switched, or within a connection whose tag is there, or that needs none; and whatever is nobody's business. Where
//! things are in such a packet is known beforehand, so that little is left of the very functions that the whole
//! pipeline consists of. What it decides, [`pipeline::ingress`](crate::pipeline::ingress) would decide alike;
//! everything else it leaves to that, untouched and uncounted.

use crate::abi::trace::how;
use crate::abi::{Service, TCP, UDP, endpoint_flags, service_flags};
use crate::classify;
use crate::forward;
use crate::frame::Frame;
use crate::layers::Layers;
use crate::parse::{self, Packet};
use crate::rewrite::Edit;
use crate::select;
use crate::tables::{Count, Stack, Tables};
use crate::verdict::{Reason, Stage, Verdict};
use crate::word::Phase;

/// A packet comes in by one of our interfaces.
#[inline(always)]
pub fn ingress<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Verdict {
    decided(frame, tables, stack).unwrap_or(Verdict::Continue(Stage::Whole))
}

#[inline(always)]
fn decided<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Option<Verdict> {
    let packet = plain(frame)?;
    if !classify::concerns(&packet, tables) {
        return Some(Verdict::Pass(Reason::NotOurs));
    }
    if packet.protocol != TCP {
        return None;
    }
    let (index, service) =
        classify::front_at(packet.destination, packet.destination_port, TCP, tables)?;
    if !is_simple(service) {
        return Some(Verdict::Continue(stage(service)));
    }
    let word = tables.word(service.group);
    if !word.is_lasting() {
        return None;
    }
    let begins = parse::flags(frame, &packet).opens();
    if begins && word.phase() != Phase::Steady {
        return None;
    }
    let steered = select::within(&packet, index, service, word, tables, stack)?;
    let id = steered.endpoint;
    let endpoint = tables.endpoint(id)?;
    if begins && endpoint.noted != 0 {
        return None;
    }
    let edit = Edit::to(&packet, endpoint.address, endpoint.port);
    let (edit, verdict) = match endpoint.flags {
        HERE => (edit, Verdict::Deliver),
        ELSEWHERE => forward::at_once(frame, &packet, edit, id, tables, stack)?,
        _ => return None,
    };
    let bytes = frame.length();
    frame.edit(&edit)?;
    stack.met(index, 0, how::REQUEST);
    stack.read(word);
    stack.met(index, id, steered.how as u32);
    tables.count(endpoint.counter, Count::Packet { bytes, begins });
    Some(verdict)
}

/// A packet without VLAN tags, options and fragments, over IPv4.
#[inline(always)]
fn plain<F: Frame + ?Sized>(frame: &F) -> Option<Packet> {
    let protocol = Layers::plain(frame)?;
    // Each with its own constants.
    match protocol {
        TCP => parse::packet(frame, &Layers::of_plain(TCP)).ok(),
        UDP => parse::packet(frame, &Layers::of_plain(UDP)).ok(),
        _ => None,
    }
}

/// Whether nothing is asked of a service but to choose among its endpoints.
#[inline(always)]
const fn is_simple(service: &Service) -> bool {
    use service_flags::{BY_SOURCE, PRESENT, SOCKETS};
    service.flags & !(SOCKETS | BY_SOURCE) == PRESENT
}

/// Whose a packet to a service is that asks for more: where the whole pipeline would hand it on at once, that is left out.
#[inline(always)]
const fn stage(service: &Service) -> Stage {
    if service.has(service_flags::KEEPS_VIP) {
        Stage::Tunnel
    } else if service.has(service_flags::MASQUERADE) {
        Stage::Nat
    } else {
        Stage::Whole
    }
}

/// Flags of an endpoint on this host, at an address that is not the VIP,
const HERE: u8 = endpoint_flags::PRESENT;
/// and of one behind it.
const ELSEWHERE: u8 = HERE | endpoint_flags::ROUTED;
