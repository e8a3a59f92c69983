//! What a packet means for the flow that is remembered for its client.

use super::life::{is_closing, silent_for};
use super::{NatTables, present};
use crate::abi::nat::{Activity, NatFlow, activity};
use crate::abi::{Service, TCP, service_flags};
use crate::frame::Frame;
use crate::parse::{self, Packet, TcpFlags};
use crate::select;
use crate::steer::Segment;
use crate::tables::Stack;

/// What a packet says of its flow.
#[derive(Clone, Copy)]
pub(super) struct Sight {
    pub(super) tcp: bool,
    pub(super) flags: TcpFlags,
    /// Its sequence number, if it opens a connection.
    pub(super) segment: Segment,
    pub(super) now: u32,
}

impl Sight {
    #[inline(always)]
    pub(super) fn of<F: Frame + ?Sized>(frame: &F, packet: &Packet, now: u32) -> Self {
        let tcp = packet.protocol == TCP;
        let (flags, segment) = if tcp {
            (parse::flags(frame, packet), parse::segment(frame, packet))
        } else {
            (TcpFlags::NONE, Segment::OTHER)
        };
        Self {
            tcp,
            flags,
            segment,
            now,
        }
    }

    /// What its sender does now, after what it did before. Who sends something after a reset has not
    /// reset anything: somebody else did, in its name.
    #[inline(always)]
    pub(super) const fn after(&self, before: Activity) -> Activity {
        let mut state = before.state() | activity::SPEAKS;
        if self.flags.resets() {
            state |= activity::RESET;
        } else if !self.flags.synchronises() {
            state = state & !activity::RESET | activity::TALKS;
        }
        if self.flags.finishes() {
            state |= activity::FIN;
        }
        Activity::new(self.now, state)
    }

    /// Whether it begins another flow than the one that is remembered.
    ///
    /// A SYN with another sequence number is a connection of its own when the old one is closing or was
    /// never made. Else its server has to say that it knows nothing of it, and the client resets what is
    /// there (RFC 5961, 4): nobody else's SYN ends a connection.
    #[inline(always)]
    pub(super) const fn renews(&self, flow: &NatFlow) -> bool {
        self.segment.opens
            && flow.sequence != self.segment.sequence
            && (is_closing(flow.client, flow.server) || !flow.client.has(activity::TALKS))
    }
}

/// Whether a packet belongs to the flow that is remembered for its client.
#[inline(always)]
pub(super) fn goes_on<T: NatTables, S: Stack>(
    sight: &Sight,
    flow: &NatFlow,
    packet: &Packet,
    service: &Service,
    tables: &T,
    stack: &S,
) -> bool {
    if sight.renews(flow) || present(flow.endpoint, service, tables).is_none() {
        return false;
    }
    if sight.tcp {
        return true;
    }
    if service.has(service_flags::PER_PACKET) {
        let fresh = select::fresh(packet, service, true, tables, stack);
        return fresh.is_ok_and(|(id, _)| id == flow.endpoint);
    }
    let idle = tables.settings().nat_udp_idle;
    if silent_for(flow.client, sight.now) <= idle {
        return true;
    }
    let back = tables.nat_client(&flow.back(), |client| client.server);
    back.exists && silent_for(back.entry.server, sight.now) <= idle
}
