//! Where a packet would go, for whoever only asks.

use super::sight::{Sight, goes_on};
use super::{NatTables, present};
use crate::abi::nat::NatFlow;
use crate::abi::{FlowKey, Service, TCP, endpoint_flags};
use crate::parse::{Packet, TcpFlags};
use crate::select;
use crate::steer::Segment;
use crate::tables::Stack;
use crate::verdict::Reason;

/// Where a packet of a client would go, for whoever only asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where its flow goes.
    Known(NatFlow),
    /// To this endpoint, as the first of a flow.
    Fresh(u16),
    /// It belongs to no flow, and begins none.
    Unknown,
    /// No flow may begin, for this reason.
    Refused(Reason),
}

/// Where a packet of a client would go; a SYN counts as one of a new connection.
pub fn place<T: NatTables, S: Stack>(
    packet: &Packet,
    index: u16,
    service: &Service,
    opens: bool,
    tables: &T,
    stack: &S,
) -> Place {
    let sight = Sight {
        tcp: packet.protocol == TCP,
        flags: TcpFlags::NONE,
        segment: Segment {
            opens,
            resets: false,
            sequence: 0,
        },
        now: stack.now(),
    };
    let key = FlowKey::nat(packet.source, packet.source_port, index);
    let known = tables.nat_flow(&key, |flow| flow.client);
    if known.exists && goes_on(&sight, &known.entry, packet, service, tables, stack) {
        return Place::Known(known.entry);
    }
    let begins = !sight.tcp || opens;
    let (id, _) = match select::fresh(packet, service, begins, tables, stack) {
        Ok(id) => id,
        Err(reason) => return Place::Refused(reason),
    };
    let untouched =
        present(id, service, tables).is_some_and(|it| it.has(endpoint_flags::UNTOUCHED));
    if !begins && !untouched {
        return Place::Unknown;
    }
    Place::Fresh(id)
}
