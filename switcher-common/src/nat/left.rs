//! What this host's stack forwards, and the egress hook finishes.
//!
//! With a source of this host it would come in as a martian, and be dropped; so between the hooks it has its client's
//! address, and this host's port, by which its flow is found.

use super::NatTables;
use super::begin::choose_source;
use crate::abi::nat::{Activity, NAT_ADDRESSES, NatClient, NatPort};
use crate::abi::trace::how;
use crate::abi::{Address, Port};
use crate::parse::Packet;
use crate::reply;
use crate::rewrite::Edit;
use crate::steer::How;
use crate::tables::Stack;
use crate::verdict::Reason;

/// A flow of which the client's address, this host's port and the endpoint are seen.
pub(crate) struct Left {
    client: Address,
    /// This host's side, once it is found.
    pub(crate) back: NatPort,
    /// The client's, once it is found.
    pub(crate) holder: NatClient,
}

impl Left {
    #[inline(always)]
    pub(crate) const fn of(client: Address, port: Port, endpoint: u16) -> Self {
        Self {
            client,
            back: NatPort {
                source: Address([0; 2]),
                port,
                endpoint,
                reserved: 0,
            },
            holder: NatClient {
                address: Address([0; 2]),
                port: Port(0),
                service: 0,
                epoch: 0,
                client: Activity(0),
                server: Activity(0),
            },
        }
    }

    /// Finds it, and says so in a trace.
    ///
    /// # Errors
    /// When there is none: the packet is not ours.
    #[inline(always)]
    pub(crate) fn find<T: NatTables, S: Stack>(
        &mut self,
        how: u32,
        tables: &T,
        stack: &S,
    ) -> Result<(), Reason> {
        if !self.look_up(tables) {
            return Err(Reason::NotOurs);
        }
        stack.met(self.holder.service, self.back.endpoint, how);
        Ok(())
    }

    /// A client's flows with one port have one address; another one only if what leads to the endpoint was changed meanwhile.
    ///
    /// A function of its own also in the programs, for its stack.
    #[inline(never)]
    fn look_up<T: NatTables>(&mut self, tables: &T) -> bool {
        let Some(source) = tables.nat_source(self.back.endpoint) else {
            return false;
        };
        for turn in 0..NAT_ADDRESSES as u32 {
            if !choose_source(&mut self.back, source, &self.client, turn, tables) {
                return false;
            }
            let found = tables.nat_client(&self.back, |holder| holder.server);
            if found.exists && found.entry.address == self.client {
                self.holder = found.entry;
                return true;
            }
        }
        false
    }
}

/// A request on its way out: it gets this host's address.
#[inline(always)]
pub(crate) fn request_leaves<T: NatTables, S: Stack>(
    packet: &Packet,
    id: u16,
    tables: &T,
    stack: &S,
) -> Result<Edit, Reason> {
    let mut left = Left::of(packet.source, packet.source_port, id);
    left.find(How::Tag as u32, tables, stack)?;
    Ok(Edit::from(packet, left.back.source, left.back.port))
}

/// A reply on its way out: it gets the service's address, and its client's port.
#[inline(always)]
pub(crate) fn reply_leaves<T: NatTables, S: Stack>(
    packet: &Packet,
    id: u16,
    tables: &T,
    stack: &S,
) -> Result<Edit, Reason> {
    let mut left = Left::of(packet.destination, packet.destination_port, id);
    left.find(how::REPLY, tables, stack)?;
    let service = reply::face(left.holder.service, tables)?;
    let edit = Edit::from(packet, service.address, service.port);
    Ok(edit.and(packet.destination, left.holder.port))
}
