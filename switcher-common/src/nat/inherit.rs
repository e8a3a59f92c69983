//! A connection keeps the port of its client's connection before. Where none is free for another, it inherits that of a flow
//! that is over but for stragglers, and is remembered for their sake alone, or of one that never came to anything.
//!
//! The agent gives ports back some time after their flows have ended. That time is for a network that is not short of ports;
//! and the agent may be dead. Linux does the same, for its own connections (`tcp_tw_reuse`) and for those that it translates
//! (`nf_nat_used_tuple_harder`): a server that still remembers the connection before tells it from a new one by sequence
//! number or timestamp, and where it can't, the client's next SYN finds nothing left of the old one (RFC 9293, 3.6.1).

use super::begin::{Places, choose_source};
use super::life::{is_closing, is_open, silent_for};
use super::{NatTables, Taken};
use crate::abi::nat::{NatClient, NatPort};
use crate::abi::{FlowKey, UDP};

/// Ticks that nobody may have said anything for on a connection that has ended. Linux waits for a second.
const STRAGGLERS: u32 = 1;
/// Ticks that nobody may have said anything for on one whose handshake is not over: more than lie between any two of a
/// client's SYNs (RFC 6298: 1 s, doubled each time; Linux's last one comes after 32 s).
const HALF_OPEN: u32 = 40;
/// Ports that are looked at, of those that are tried: where flows come and go so fast, most of them are of such flows.
pub const HEIRLOOMS: u32 = 8;

/// Keeps the port of the client's connection before, if that has closed, and went to the same endpoint from the same address.
///
/// A server that has closed first remembers it (RFC 9293, TIME-WAIT), and takes another one from there only if it is newer by
/// its sequence number or timestamp, which what the same client does next is. Another client's is so by chance.
#[inline(never)]
pub(super) fn keep<T: NatTables>(taken: &mut NatPort, client: &NatClient, tables: &T) -> bool {
    let before = tables.nat_flow(&client.flow(), |flow| flow.client).entry;
    let back = before.back();
    if back.endpoint != taken.endpoint || !is_closing(before.client, before.server) {
        return false;
    }
    taken.port = back.port;
    let Some(source) = tables.nat_source(taken.endpoint) else {
        return false;
    };
    choose_source(taken, source, &client.address, 0, tables)
        && taken.source == back.source
        && !tables.known(taken.port)
        && tables.keep_nat_port(taken, client)
}

/// Takes the first port that may be inherited; false if there is none, or somebody else has just taken it.
#[inline(always)]
pub(super) fn inherit<T: NatTables>(
    taken: &mut NatPort,
    client: &NatClient,
    hash: u32,
    tables: &T,
) -> bool {
    // Not one in the other: their stacks would not go together.
    find(taken, client, hash, tables) && succeed(taken, client, tables)
}

/// The first port that may be inherited; false if there is none.
#[inline(never)]
fn find<T: NatTables>(taken: &mut NatPort, client: &NatClient, hash: u32, tables: &T) -> bool {
    let Some(source) = tables.nat_source(taken.endpoint) else {
        return false;
    };
    let places = Places::of(source, hash);
    let now = client.server.seen();
    let mut found = false;
    for turn in 0..HEIRLOOMS {
        taken.port = places.port(turn);
        found =
            choose_source(taken, source, &client.address, 0, tables) && is_left(taken, now, tables);
        if found {
            break;
        }
    }
    found
}

/// Whether nothing but stragglers can come of the flow that has a port, which is no service's by now. The verifier walks what
/// is looked at in a loop as often as the loop has turns, so there is no more of it than that.
#[inline(never)]
fn is_left<T: NatTables>(port: &NatPort, now: u32, tables: &T) -> bool {
    if tables.known(port.port) {
        return false;
    }
    let holder = tables.nat_client(port, |holder| holder.server);
    holder.exists && is_over(port, &holder.entry, now, tables)
}

/// Forgets the flow that has a port, and takes that. False if the flow goes on after all, or another CPU was faster.
#[inline(never)]
fn succeed<T: NatTables>(port: &NatPort, client: &NatClient, tables: &T) -> bool {
    let now = client.server.seen();
    let mut key = FlowKey::default();
    let claimed = tables.claim_nat_port(port, now, |holder| {
        key = holder.flow();
        is_over(port, holder, now, tables)
    });
    if claimed {
        // Another flow of this client may have taken its place.
        let flow = tables.nat_flow(&key, |flow| flow.client);
        if flow.exists && flow.entry.back() == *port {
            tables.remove_nat_flow(&key);
        }
        tables.release_nat_port(port);
    }
    claimed && matches!(tables.take_nat_port(port, client), Taken::Yes)
}

#[inline(always)]
fn is_over<T: NatTables>(port: &NatPort, holder: &NatClient, now: u32, tables: &T) -> bool {
    let flow = tables.nat_flow(&holder.flow(), |flow| flow.client);
    // What its client does, only its own entry tells for sure.
    let client = if flow.exists && flow.entry.back() == *port {
        flow.entry.client
    } else {
        holder.client
    };
    let silent = silent_for(client, now).min(silent_for(holder.server, now));
    match tables.service(holder.service) {
        Some(service) if service.protocol == UDP => silent > tables.settings().nat_udp_idle,
        _ if is_closing(client, holder.server) => silent > STRAGGLERS,
        _ => silent > HALF_OPEN && !is_open(client, holder.server),
    }
}
