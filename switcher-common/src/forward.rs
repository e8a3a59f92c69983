//! Out of this host by the program itself, or up its stack.

use crate::abi::NextHop;
use crate::frame::Frame;
use crate::parse::{self, Packet};
use crate::rewrite::{Edit, Hop};
use crate::tables::{Route, Stack, Tables, Way};
use crate::verdict::{Reason, Verdict};

/// What is to be done with a packet of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// New addresses.
    pub(crate) edit: Edit,
    /// Who takes it further.
    pub(crate) via: Via,
}

/// Who takes a packet further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// This host's stack.
    Host,
    /// The program, to a routed endpoint, whose next hop is remembered.
    Endpoint(u16),
    /// The program, to a client.
    Client,
}

/// Out of this host, or up its stack.
#[inline(always)]
pub(crate) fn send<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &F,
    packet: &Packet,
    step: Step,
    tables: &T,
    stack: &S,
) -> Result<(Edit, Verdict), Reason> {
    let Step { mut edit, via } = step;
    let (source, destination, endpoint) = match via {
        Via::Host => return Ok((edit, Verdict::Deliver)),
        Via::Endpoint(id) => (packet.source, edit.address, Some(id)),
        Via::Client => (edit.address, packet.destination, None),
    };
    let carriage = parse::carriage(frame, packet).ok_or(Reason::Malformed)?;
    let way = Way {
        source,
        destination,
        protocol: packet.protocol,
        carriage,
    };
    let route = way.find(endpoint, tables, stack);
    let unfinished = parse::is_unfinished(frame, packet, carriage);
    match route {
        // At the end of its time to live the stack answers for us (RFC 1812, 5.2.7.3), and only the stack
        // finishes checksums. A VLAN tag means nothing on another interface, and a VLAN device is none that
        // a program can send to.
        Route::Neighbour { interface, hop, .. }
            if carriage.ttl > 1
                && !unfinished
                && (!packet.is_tagged() || interface == stack.interface()) =>
        {
            edit.hop = Some(hop);
            let same = interface == stack.interface();
            Ok((
                edit,
                if same {
                    Verdict::Transmit
                } else {
                    Verdict::Redirect(interface)
                },
            ))
        }
        Route::Local if endpoint.is_none() => Err(Reason::OwnReply),
        // It gets the service's address on its way out. Here it would make the packet a martian: the
        // stack drops what comes in from an address of its own.
        Route::Neighbour { .. } | Route::Local | Route::Stack if endpoint.is_none() => {
            Err(Reason::LeftToStack)
        }
        Route::Neighbour { .. } | Route::Local | Route::Stack => {
            tables.count_reason(Reason::LeftToStack);
            // A packet over the MTU is one that GRO or a virtual peer made, and is unfinished. One that
            // fits may be finished and look like this by chance.
            edit.unfinished = unfinished && route == Route::Stack;
            Ok((edit, Verdict::Deliver))
        }
    }
}

impl Way {
    /// The FIB's answer; for an endpoint it is remembered for a second or two.
    #[inline(always)]
    fn find<T: Tables, S: Stack>(&self, endpoint: Option<u16>, tables: &T, stack: &S) -> Route {
        let Some(id) = endpoint else {
            return stack.route(self);
        };
        let now = stack.now();
        if let Some(known) = tables.next_hop(id)
            && known.interface != 0
            && known.expires.wrapping_sub(now).cast_signed() >= 0
            && (known.mtu == 0 || self.carriage.length <= known.mtu)
        {
            let NextHop {
                interface,
                destination,
                source,
                mtu,
                ..
            } = known;
            return Route::Neighbour {
                interface,
                hop: Hop {
                    destination,
                    source,
                },
                mtu: mtu.into(),
            };
        }
        let route = stack.route(self);
        if let Route::Neighbour {
            interface,
            hop: Hop {
                destination,
                source,
            },
            mtu,
        } = route
        {
            let expires = now.wrapping_add(1);
            tables.set_next_hop(
                id,
                NextHop {
                    expires,
                    interface,
                    destination,
                    source,
                    // No packet is longer than 65,535 bytes.
                    mtu: mtu.min(u16::MAX.into()) as u16,
                    endpoint: id,
                },
            );
        }
        route
    }
}
