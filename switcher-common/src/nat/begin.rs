//! The first packet of a flow, which takes a port of this host for it.

use super::inherit::{inherit, keep};
use super::sight::Sight;
use super::{Found, NatTables, Taken, present};
use crate::abi::nat::{Activity, NatClient, NatFlow, NatPort, NatSource};
use crate::abi::{Address, FlowKey, Port, Service, endpoint_flags};
use crate::parse::Packet;
use crate::select;
use crate::steer;
use crate::tables::{Count, Stack, Tables};
use crate::verdict::Reason;

/// Ports that are tried for a flow before it is refused.
pub const TRIES: u32 = 16;

/// The first packet of a flow.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "inlined; a struct of references costs BPF stack"
)]
pub(super) fn begin<T: NatTables, S: Stack>(
    sight: &Sight,
    packet: &Packet,
    bytes: u32,
    key: &FlowKey,
    service: &Service,
    old: &Found<NatFlow>,
    tables: &T,
    stack: &S,
) -> Result<NatFlow, Reason> {
    let begins = !sight.tcp || sight.segment.opens;
    // Before the choice: a flow of a new epoch never goes where an older word led.
    let epoch = tables.word(service.group).epoch();
    let (id, word) = select::fresh(packet, service, begins, tables, stack)?;
    let endpoint = present(id, service, tables).ok_or(Reason::NoEndpoint)?;
    // The VIP itself: its connections are the stack's to know.
    if endpoint.has(endpoint_flags::UNTOUCHED) {
        if begins && old.exists {
            tables.remove_nat_flow(key);
            give_back(&old.entry.back(), None, key, sight.now, tables);
        }
        if begins {
            select::tell_first(word, service, id, tables);
        }
        tables.count(endpoint.counter, Count::Packet { bytes, begins });
        return Err(Reason::Untouched);
    }
    if !begins {
        return Err(Reason::UnknownFlow);
    }
    let client = NatClient {
        address: packet.source,
        port: packet.source_port,
        service: key.id,
        epoch,
        client: sight.after(Activity::default()),
        server: Activity::new(sight.now, 0),
    };
    let port = take_port(id, &client, old.exists, tables)?;
    let flow = NatFlow {
        source: port.source,
        port: port.port,
        endpoint: id,
        epoch: client.epoch,
        sequence: sight.segment.sequence,
        reserved: 0,
        client: client.client,
        server: client.server,
    };
    match tables.set_nat_flow(key, &flow, old.exists) {
        Taken::Yes => {}
        refused => {
            tables.release_nat_port(&port);
            // Another CPU has just met another packet of this flow, or there is no room.
            let theirs = tables.nat_flow(key, |flow| flow.client);
            if refused == Taken::Full || !theirs.exists {
                return Err(Reason::NatFull);
            }
            return Ok(theirs.entry);
        }
    }
    select::tell_first(word, service, id, tables);
    // Datagrams that the old endpoint has yet to send may still come back; the agent frees their port.
    if old.exists && sight.tcp {
        give_back(&old.entry.back(), Some(&port), key, sight.now, tables);
    }
    Ok(flow)
}

/// Gives a flow's port back, unless it is kept, or another flow has inherited it meanwhile.
#[inline(never)]
fn give_back<T: NatTables>(
    port: &NatPort,
    kept: Option<&NatPort>,
    key: &FlowKey,
    now: u32,
    tables: &T,
) {
    if kept == Some(port) {
        return;
    }
    if tables.claim_nat_port(port, now, |holder| holder.flow() == *key) {
        tables.release_nat_port(port);
    }
}

/// A port of this host for a new flow to an endpoint.
#[inline(always)]
fn take_port<T: NatTables>(
    id: u16,
    client: &NatClient,
    renews: bool,
    tables: &T,
) -> Result<NatPort, Reason> {
    let source = tables.nat_source(id).ok_or(Reason::NatSource)?;
    if source.count == 0 || source.ports == 0 {
        return Err(Reason::NatSource);
    }
    // Always the same for a client's address and port: what its server remembers there is its own.
    let hash = steer::hash(seed(id, tables), client.address, client.port.0);
    let mut taken = NatPort {
        source: Address([0; 2]),
        port: Port(0),
        endpoint: id,
        reserved: 0,
    };
    if renews && keep(&mut taken, client, tables) {
        return Ok(taken);
    }
    let places = Places::of(source, hash);
    let mut refused = Reason::NatExhausted;
    for turn in 0..TRIES {
        taken.port = places.port(turn);
        if !choose_source(&mut taken, source, &client.address, 0, tables) {
            return Err(Reason::NatSource);
        }
        // To a service's port of this very address no reply could be told from a request.
        if !tables.known(taken.port) {
            match tables.take_nat_port(&taken, client) {
                Taken::Yes => return Ok(taken),
                Taken::Already => {}
                Taken::Full => {
                    refused = Reason::NatFull;
                    break;
                }
            }
        }
    }
    if inherit(&mut taken, client, hash, tables) {
        Ok(taken)
    } else {
        Err(refused)
    }
}

/// What flows to an endpoint are hashed with.
#[inline(always)]
fn seed<T: Tables>(endpoint: u16, tables: &T) -> u64 {
    tables.settings().seed ^ u64::from(endpoint)
}

/// Puts in the address that a client's flow with this port of this host has; in further turns, those that it may have had
/// before addresses changed. The client's address and the port alone decide it, so that whoever sees these two can tell. False
/// if there is none.
///
/// A function of its own also in the programs, for its stack.
#[inline(never)]
pub(super) fn choose_source<T: Tables>(
    port: &mut NatPort,
    source: &NatSource,
    client: &Address,
    turn: u32,
    tables: &T,
) -> bool {
    let count = source.count;
    if turn >= count {
        return false;
    }
    let hash = match count {
        1 => 0,
        _ => steer::hash(seed(port.endpoint, tables), *client, port.port.0),
    };
    let place = hash.wrapping_add(turn).checked_rem(count);
    match source.addresses.get(place.unwrap_or_default() as usize) {
        Some(address) => port.source = *address,
        None => return false,
    }
    true
}

/// Ports in the order in which a flow tries them.
#[derive(Clone, Copy)]
pub(super) struct Places {
    first: u16,
    ports: u32,
    stride: u32,
    start: u32,
}

impl Places {
    /// By a flow's hash, and read once: what an endpoint's flows come from is shared with the agent.
    #[inline(always)]
    pub(super) const fn of(source: &NatSource, hash: u32) -> Self {
        let ports = source.ports as u32;
        Self {
            first: source.first,
            ports,
            // Of few ports each is tried. Of many, steps of a flow's own keep it out of queues.
            stride: if ports <= TRIES { 1 } else { hash >> 16 | 1 },
            start: match hash.checked_rem(ports) {
                Some(start) => start,
                None => 0,
            },
        }
    }

    #[inline(always)]
    pub(super) const fn port(&self, turn: u32) -> Port {
        let place = self.start.wrapping_add(turn.wrapping_mul(self.stride));
        let place = match place.checked_rem(self.ports) {
            Some(place) => place,
            None => 0,
        };
        Port::new(self.first.wrapping_add(place as u16))
    }
}
