//! The first packet of a flow, which takes a port of this host for it.

use super::sight::Sight;
use super::{Found, NatTables, Taken, present};
use crate::abi::nat::{Activity, NatClient, NatFlow, NatPort};
use crate::abi::{FlowKey, Port, Service, endpoint_flags};
use crate::parse::Packet;
use crate::select;
use crate::steer;
use crate::tables::{Count, Stack};
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
            tables.release_nat_port(&old.entry.back());
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
    let port = take_port(id, &client, sight.segment.sequence, tables)?;
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
        tables.release_nat_port(&old.entry.back());
    }
    Ok(flow)
}

/// A port of this host for a new flow to an endpoint.
#[inline(always)]
fn take_port<T: NatTables>(
    id: u16,
    client: &NatClient,
    sequence: u32,
    tables: &T,
) -> Result<NatPort, Reason> {
    let source = tables.nat_source(id).ok_or(Reason::NatSource)?;
    // Read once: they are shared with the agent.
    let (count, first, ports) = (source.count, source.first, u32::from(source.ports));
    if count == 0 || ports == 0 {
        return Err(Reason::NatSource);
    }
    let seed = tables.settings().seed ^ (u64::from(sequence) << 32 | u64::from(id));
    let hash = steer::hash(seed, client.address, client.port.0);
    let address = source
        .addresses
        .get((hash >> 8 & 0xff) as usize % count as usize);
    let mut taken = NatPort {
        source: *address.ok_or(Reason::NatSource)?,
        port: Port(0),
        endpoint: id,
        reserved: 0,
    };
    // Of few ports each is tried. Of many, steps of a flow's own keep it out of queues.
    let stride = if ports <= TRIES { 1 } else { hash >> 16 | 1 };
    let mut place = hash % ports;
    for _ in 0..TRIES {
        taken.port = Port::new(first.wrapping_add(place as u16));
        // To a service's port of this very address no reply could be told from a request.
        if !tables.known(taken.port) {
            match tables.take_nat_port(&taken, client) {
                Taken::Yes => return Ok(taken),
                Taken::Already => {}
                Taken::Full => return Err(Reason::NatFull),
            }
        }
        place = place.wrapping_add(stride) % ports;
    }
    Err(Reason::NatExhausted)
}
