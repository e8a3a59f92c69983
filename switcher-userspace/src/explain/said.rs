//! What is said of a packet, in sentences.

use switcher_common::abi::{Endpoint, endpoint_flags};
use switcher_common::steer::How;
use switcher_common::verdict::Reason;
use switcher_common::word::Phase;

use super::walk::Walk;

/// How the endpoint was found: goes before "this endpoint".
pub(super) const fn why(how: How, phase: Phase, preview: bool) -> &'static str {
    match (how, phase) {
        (How::Current, _) if preview => "the staging colour's table has",
        (How::Current, Phase::Steady) => "the live colour's table has",
        (How::Current, _) => "new flows use the live colour's table, which has",
        (How::Unknown, _) => {
            "the window is open and the flow unknown, so it is old: the table before has"
        }
        (How::Tag, _) => "the flow is remembered with",
        (How::Socket, _) => "the socket table has this connection at",
        (How::Held, _) => {
            "the window's flow map is full and it is about to drain: until then the flow would stay at"
        }
        (How::Paused, _) => "paused, without",
        (How::Refused, _) => "the window's flow map is full, so the flow stays at",
    }
}

/// What is done with a packet that goes to this endpoint.
pub(super) fn what(walk: &Walk, endpoint: &Endpoint) -> &'static str {
    if let Some(reason) = walk.refusal() {
        return because(reason);
    }
    let masqueraded = endpoint.has(endpoint_flags::MASQUERADE);
    match walk.action() {
        "deliver" => "the destination is rewritten and the packet given to this host's stack",
        _ if walk.is_left() && masqueraded => {
            "the destination is rewritten and the packet left to this host's stack, which finds the way; \
             the source becomes an address of this host on its way out"
        }
        _ if walk.is_left() => {
            "the destination is rewritten and the packet left to this host's stack, which finds the way"
        }
        _ if masqueraded => {
            "it goes on from a port of this host: source and destination are rewritten and the packet \
             forwarded"
        }
        _ if endpoint.has(endpoint_flags::DSR) => {
            "the packet is forwarded as it is to the endpoint's link address; it answers the client \
             directly"
        }
        _ if endpoint.has(endpoint_flags::TUNNEL) => {
            "the packet is forwarded inside another one to the endpoint; it answers the client directly"
        }
        _ => "the destination is rewritten and the packet forwarded",
    }
}

/// What is done with a packet from a routed or masqueraded endpoint.
pub(super) fn back(walk: &Walk) -> &'static str {
    match walk.refusal() {
        Some(Reason::LeftToStack) => {
            "a reply: left to this host's stack, and the source becomes the service's address on its way \
             out"
        }
        Some(Reason::Direct) => "a reply to a client that came past the VIP: passed untouched",
        Some(Reason::Untouched) => {
            "a reply of an endpoint that is the VIP itself: passed untouched"
        }
        Some(Reason::NotOurs) => "no flow has this port: the packet is for this host itself",
        Some(reason) => because(reason),
        None => "a reply: the source becomes the service's address",
    }
}

/// Why a packet is not rewritten.
pub(super) const fn because(reason: Reason) -> &'static str {
    match reason {
        Reason::NotOurs => "no service, preview or endpoint has this address, port and protocol",
        Reason::Direct => "to an endpoint's own address, past the VIP: passed untouched",
        Reason::Untouched => "it is the VIP itself: passed untouched",
        Reason::NoTable => {
            "the group's word names a slot without a table for this service: passed untouched"
        }
        Reason::NoEndpoint => "it is not there any more: passed untouched",
        Reason::Paused => {
            "the group is paused, and this would be a new flow: dropped, clients try again"
        }
        Reason::TagWait => {
            "the window can't remember one more flow and is about to drain: a flow's first packet is \
             dropped and waits for its next try"
        }
        Reason::NoNeighbour => {
            "no link address is known on the way to it: dropped, clients try again"
        }
        Reason::OwnReply => "a reply to this host itself: passed untouched",
        Reason::LeftToStack => "left to this host's stack",
        Reason::Leak => "its service has gone: passed untouched, and the client sees its address",
        Reason::UnknownFlow => {
            "no such connection is remembered: passed untouched, and this host's stack resets it"
        }
        Reason::NatSource => {
            "no address of this host leads to it: passed untouched, and this host's stack answers"
        }
        Reason::NatExhausted => "no port of this host is left for a flow to it: dropped",
        Reason::NatFull => "no room is left for more masqueraded flows: dropped",
        // No packet that can be asked about is any of these.
        Reason::Malformed
        | Reason::NotIp
        | Reason::ExtensionHeaders
        | Reason::Fragment
        | Reason::Protocol
        | Reason::TagRefused
        | Reason::IcmpError
        | Reason::FragmentUnseen
        | Reason::TooBig
        | Reason::NoRoom
        | Reason::Expired => reason.label(),
    }
}
