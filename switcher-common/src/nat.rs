//! `forward = "masquerade"`: a client's flow goes on as one of this host's own, so that its endpoint
//! answers to this host wherever it is.
//!
//! A flow is remembered from its first packet, by two entries: see [`crate::abi::nat`]. Where it goes is
//! decided then, by the current table; a switch changes nothing about it. Entries are removed by the
//! agent when the flow has ended ([`has_ended`]) or is given up, or by the flow that takes their place.

mod begin;
mod inherit;
mod left;
mod life;
mod place;
mod sight;

use crate::abi::nat::{Activity, NatClient, NatFlow, NatPort, NatSource};
use crate::abi::{Endpoint, FlowKey, Service, endpoint_flags, service_flags};
use crate::forward::{Step, Via};
use crate::frame::Frame;
use crate::parse::Packet;
use crate::reply::count_flags;
use crate::rewrite::Edit;
use crate::steer::How;
use crate::tables::{Count, Stack, Tables};
use crate::verdict::Reason;

use begin::begin;
use sight::{Sight, goes_on};

pub use begin::TRIES;
pub use inherit::HEIRLOOMS;
pub(crate) use left::{Left, reply_leaves, request_leaves};
pub use life::{Idle, has_ended, is_closing, is_older, may_have_ended};
pub use place::{Place, place};

/// The maps of flows.
pub trait NatTables: Tables {
    /// Where flows to an endpoint come from.
    fn nat_source(&self, endpoint: u16) -> Option<&NatSource>;
    /// A flow as it was before; from now on its client does what `see` makes of that.
    fn nat_flow(&self, key: &FlowKey, see: impl FnOnce(&NatFlow) -> Activity) -> Found<NatFlow>;
    /// Who has a port, as it was before; from now on the endpoint does what `see` makes of that.
    fn nat_client(
        &self,
        key: &NatPort,
        see: impl FnOnce(&NatClient) -> Activity,
    ) -> Found<NatClient>;
    /// Tells a flow's entry that its endpoint closes.
    fn tell_nat_flow(&self, key: &FlowKey, server: Activity);
    /// Tells a port's entry that its client closes.
    fn tell_nat_client(&self, key: &NatPort, client: Activity);
    /// Takes a port that nobody has.
    fn take_nat_port(&self, key: &NatPort, client: &NatClient) -> Taken;
    /// Keeps a port, which its client has already, for another flow of that. False if it has it no more.
    fn keep_nat_port(&self, key: &NatPort, client: &NatClient) -> bool;
    /// Whether a port is the caller's to give back, which `may` says of who has it: of all that want it at this moment it is
    /// one's. It counts as seen at the tick `now`.
    fn claim_nat_port(&self, key: &NatPort, now: u32, may: impl FnOnce(&NatClient) -> bool)
    -> bool;
    /// Gives a port back.
    fn release_nat_port(&self, key: &NatPort);
    /// Remembers a flow; one that is there already only if it is to be replaced.
    fn set_nat_flow(&self, key: &FlowKey, flow: &NatFlow, replace: bool) -> Taken;
    /// Forgets a flow.
    fn remove_nat_flow(&self, key: &FlowKey);
}

/// What a map has under a key.
///
/// A struct and not an `Option`: the verifier objects when the compiler reads a payload early that was
/// never set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found<T> {
    /// Whether there is an entry.
    pub exists: bool,
    /// The entry; zero where there is none.
    pub entry: T,
}

/// What came of making an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is there.
    Yes,
    /// Somebody else's is.
    Already,
    /// There is no room in the map.
    Full,
}

/// A client's packet to a service or preview.
#[inline(always)]
pub(crate) fn request<F: Frame + ?Sized, T: NatTables, S: Stack>(
    frame: &F,
    packet: &Packet,
    index: u16,
    service: &Service,
    tables: &T,
    stack: &S,
) -> Result<Step, Reason> {
    let sight = Sight::of(frame, packet, stack.now());
    let key = FlowKey::nat(packet.source, packet.source_port, index);
    let known = tables.nat_flow(&key, |flow| {
        if sight.renews(flow) {
            flow.client
        } else {
            sight.after(flow.client)
        }
    });
    let begins = !known.exists || !goes_on(&sight, &known.entry, packet, service, tables, stack);
    let flow = if begins {
        let bytes = frame.length();
        begin(&sight, packet, bytes, &key, service, &known, tables, stack)?
    } else {
        known.entry
    };
    let how = if begins { How::Current } else { How::Tag };
    stack.met(index, flow.endpoint, how as u32);
    let endpoint = present(flow.endpoint, service, tables).ok_or(Reason::NoEndpoint)?;
    if !begins && sight.flags.closes() {
        tables.tell_nat_client(&flow.back(), sight.after(flow.client));
    }
    let bytes = frame.length();
    tables.count(endpoint.counter, Count::Packet { bytes, begins });
    let edit = Edit::to(packet, endpoint.address, endpoint.port);
    Ok(Step {
        edit: edit.and(flow.source, flow.port),
        via: Via::Endpoint(flow.endpoint),
    })
}

/// An endpoint's packet, which is a reply if it goes to a port that a flow has; and the index of the service
/// that it seems to come from.
#[inline(always)]
pub(crate) fn reply<F: Frame + ?Sized, T: NatTables, S: Stack>(
    frame: &F,
    packet: &Packet,
    id: u16,
    endpoint: &Endpoint,
    tables: &T,
    stack: &S,
) -> Result<(Step, u16), Reason> {
    let sight = Sight::of(frame, packet, stack.now());
    let found = tables.nat_client(&port_of(packet, id), |client| sight.after(client.server));
    if !found.exists {
        return Err(Reason::NotOurs);
    }
    let client = found.entry;
    let service = tables
        .service(client.service)
        .filter(|service| service.has(service_flags::PRESENT))
        .ok_or(Reason::NotOurs)?;
    if sight.flags.closes() {
        tables.tell_nat_flow(&client.flow(), sight.after(client.server));
    }
    count_flags(sight.flags, endpoint, tables);
    let edit = Edit::from(packet, service.address, service.port);
    let step = Step {
        edit: edit.and(client.address, client.port),
        via: Via::Client,
    };
    Ok((step, client.service))
}

/// The flow of a client's packet that is only quoted: it leaves no trace.
#[inline(always)]
pub(crate) fn request_quoted<T: NatTables>(
    packet: &Packet,
    index: u16,
    tables: &T,
) -> Found<NatFlow> {
    let key = FlowKey::nat(packet.source, packet.source_port, index);
    tables.nat_flow(&key, |flow| flow.client)
}

/// Likewise, whom an endpoint's packet is for.
#[inline(always)]
pub(crate) fn reply_quoted<T: NatTables>(packet: &Packet, id: u16, tables: &T) -> Found<NatClient> {
    tables.nat_client(&port_of(packet, id), |client| client.server)
}

/// The port of this host that an endpoint's packet goes to.
#[inline(always)]
const fn port_of(packet: &Packet, endpoint: u16) -> NatPort {
    NatPort {
        source: packet.destination,
        port: packet.destination_port,
        endpoint,
        reserved: 0,
    }
}

/// The endpoint, if it is still one of this service.
#[inline(always)]
fn present<'a, T: Tables>(id: u16, service: &Service, tables: &'a T) -> Option<&'a Endpoint> {
    tables.endpoint(id).filter(|endpoint| {
        endpoint.has(endpoint_flags::PRESENT) && endpoint.service == service.parent
    })
}
