//! `forward = "masquerade"`: a client's flow goes on as one of this host's own, so that its endpoint
//! answers to this host wherever it is.
//!
//! A flow is remembered from its first packet, by two entries: see [`crate::abi::nat`]. Where it goes is
//! decided then, by the current table; a switch changes nothing about it. Entries are removed by the
//! agent when the flow has ended ([`has_ended`]), or by the flow that takes their place.

use crate::abi::nat::{Activity, NatClient, NatFlow, NatPort, NatSource, activity};
use crate::abi::trace::how;
use crate::abi::{
    Address, Endpoint, FlowKey, Note, Port, Service, TCP, endpoint_flags, note_kind, service_flags,
};
use crate::forward::{Step, Via};
use crate::frame::Frame;
use crate::parse::{self, Packet, TcpFlags};
use crate::pipeline::{self, count_flags};
use crate::rewrite::Edit;
use crate::select;
use crate::steer::{self, How, Segment};
use crate::tables::{Count, Stack, Tables};
use crate::verdict::Reason;

/// Ports that are tried for a flow before it is refused.
pub const TRIES: u32 = 16;

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
    let floor = tables.udp_floor(service.group);
    let known = tables.nat_flow(&key, |flow| {
        if sight.renews(flow, floor) {
            flow.client
        } else {
            sight.after(flow.client)
        }
    });
    let begins =
        !known.exists || !goes_on(&sight, &known.entry, floor, packet, service, tables, stack);
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
    if begins {
        note_face(packet, index, service, flow.endpoint, endpoint, tables);
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
    if is_void(client.epoch, tables.udp_floor(service.group)) {
        return Err(Reason::UnknownFlow);
    }
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
    service: &Service,
    tables: &T,
) -> Found<NatFlow> {
    let key = FlowKey::nat(packet.source, packet.source_port, index);
    let flow = tables.nat_flow(&key, |flow| flow.client);
    let void = is_void(flow.entry.epoch, tables.udp_floor(service.group));
    Found {
        exists: flow.exists && !void,
        ..flow
    }
}

/// Likewise, whom an endpoint's packet is for.
#[inline(always)]
pub(crate) fn reply_quoted<T: NatTables>(packet: &Packet, id: u16, tables: &T) -> Found<NatClient> {
    tables.nat_client(&port_of(packet, id), |client| client.server)
}

/// A request that the stack forwards, on its way out: it gets this host's address.
#[inline(always)]
pub(crate) fn request_leaves<T: NatTables, S: Stack>(
    packet: &Packet,
    id: u16,
    endpoint: &Endpoint,
    tables: &T,
    stack: &S,
) -> Result<Edit, Reason> {
    let flow = request_left(packet, id, endpoint, tables, stack);
    if !flow.exists {
        return Err(Reason::NotOurs);
    }
    Ok(Edit::from(packet, flow.entry.source, flow.entry.port))
}

/// The flow of a request that the stack forwards.
#[inline(always)]
pub(crate) fn request_left<T: NatTables, S: Stack>(
    packet: &Packet,
    id: u16,
    endpoint: &Endpoint,
    tables: &T,
    stack: &S,
) -> Found<NatFlow> {
    let key = face(packet.source, packet.source_port, id, endpoint, tables);
    let flow = flow_at(&key, id, tables);
    if flow.exists {
        stack.met(key.id, id, How::Tag as u32);
    }
    flow
}

/// A reply that the stack forwards, on its way out: it gets the service's address.
#[inline(always)]
pub(crate) fn reply_leaves<T: NatTables, S: Stack>(
    packet: &Packet,
    id: u16,
    endpoint: &Endpoint,
    tables: &T,
    stack: &S,
) -> Result<Edit, Reason> {
    let service = pipeline::face(leaves_as(packet, id, endpoint, tables, stack)?, tables)?;
    Ok(Edit::from(packet, service.address, service.port))
}

/// The service or preview whose address a reply gets that the stack forwards.
#[inline(always)]
pub(crate) fn leaves_as<T: NatTables, S: Stack>(
    packet: &Packet,
    id: u16,
    endpoint: &Endpoint,
    tables: &T,
    stack: &S,
) -> Result<u16, Reason> {
    let (client, port) = (packet.destination, packet.destination_port);
    let key = face(client, port, id, endpoint, tables);
    if flow_at(&key, id, tables).exists {
        stack.met(key.id, id, how::REPLY);
        Ok(key.id)
    } else {
        Err(Reason::NotOurs)
    }
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
    let floor = tables.udp_floor(service.group);
    let known = tables.nat_flow(&key, |flow| flow.client);
    if known.exists && goes_on(&sight, &known.entry, floor, packet, service, tables, stack) {
        return Place::Known(known.entry);
    }
    let begins = !sight.tcp || opens;
    let id = match select::fresh(packet, service, begins, tables, stack) {
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

/// Whether a flow has ended: closed or silent for as long as its state allows.
#[must_use]
pub const fn has_ended(
    client: Activity,
    server: Activity,
    udp: bool,
    now: u32,
    idle: Idle,
) -> bool {
    let silence = match (silent_for(client, now), silent_for(server, now)) {
        (client, server) if client < server => client,
        (_, server) => server,
    };
    silence > idle.of(client, server, udp)
}

/// Whether a flow may have ended, as far as its endpoint's side tells.
#[must_use]
pub const fn may_have_ended(client: &NatClient, udp: bool, now: u32, idle: Idle) -> bool {
    silent_for(client.server, now) > idle.of(client.client, client.server, udp)
}

/// Ticks of silence after which a flow has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    /// TCP, both sides have spoken.
    pub established: u32,
    /// TCP, the handshake is not over.
    pub opening: u32,
    /// TCP, after a reset or both FINs.
    pub closing: u32,
    /// UDP.
    pub udp: u32,
}

impl Idle {
    const fn of(self, client: Activity, server: Activity, udp: bool) -> u32 {
        if udp {
            self.udp
        } else if is_closing(client, server) {
            self.closing
        } else if server.has(activity::TALKS)
            || client.has(activity::TALKS) && server.has(activity::SPEAKS)
        {
            self.established
        } else {
            self.opening
        }
    }
}

/// Whether a connection is over but for stragglers: a reset, or a FIN from both sides.
#[inline(always)]
#[must_use]
pub const fn is_closing(client: Activity, server: Activity) -> bool {
    (client.state() | server.state()) & activity::RESET != 0
        || client.state() & server.state() & activity::FIN != 0
}

/// Whether a flow of this epoch was given up by a hard rollback.
#[inline(always)]
#[must_use]
pub const fn is_void(epoch: u32, floor: u32) -> bool {
    epoch.wrapping_sub(floor).cast_signed() < 0
}

/// What a packet says of its flow.
#[derive(Clone, Copy)]
struct Sight {
    tcp: bool,
    flags: TcpFlags,
    /// Its sequence number, if it opens a connection.
    segment: Segment,
    now: u32,
}

impl Sight {
    #[inline(always)]
    fn of<F: Frame + ?Sized>(frame: &F, packet: &Packet, now: u32) -> Self {
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
    const fn after(&self, before: Activity) -> Activity {
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
    const fn renews(&self, flow: &NatFlow, floor: u32) -> bool {
        if is_void(flow.epoch, floor) {
            return true;
        }
        self.segment.opens
            && flow.sequence != self.segment.sequence
            && (is_closing(flow.client, flow.server) || !flow.client.has(activity::TALKS))
    }
}

/// Whether a packet belongs to the flow that is remembered for its client.
#[inline(always)]
fn goes_on<T: NatTables, S: Stack>(
    sight: &Sight,
    flow: &NatFlow,
    floor: u32,
    packet: &Packet,
    service: &Service,
    tables: &T,
    stack: &S,
) -> bool {
    if sight.renews(flow, floor) || present(flow.endpoint, service, tables).is_none() {
        return false;
    }
    if sight.tcp {
        return true;
    }
    if service.has(service_flags::PER_PACKET) {
        let fresh = select::fresh(packet, service, true, tables, stack);
        return fresh.is_ok_and(|id| id == flow.endpoint);
    }
    let idle = tables.settings().nat_udp_idle;
    if silent_for(flow.client, sight.now) <= idle {
        return true;
    }
    let back = tables.nat_client(&flow.back(), |client| client.server);
    back.exists && silent_for(back.entry.server, sight.now) <= idle
}

/// The first packet of a flow.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "inlined; a struct of references costs BPF stack"
)]
fn begin<T: NatTables, S: Stack>(
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
    let id = select::fresh(packet, service, begins, tables, stack)?;
    let endpoint = present(id, service, tables).ok_or(Reason::NoEndpoint)?;
    // The VIP itself: its connections are the stack's to know.
    if endpoint.has(endpoint_flags::UNTOUCHED) {
        if begins && old.exists {
            tables.remove_nat_flow(key);
            tables.release_nat_port(&old.entry.back());
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
        epoch: tables.word(service.group).epoch(),
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

/// Where the egress hook finds out by which face of its service a flow came: by a preview it is noted.
#[inline(always)]
fn note_face<T: Tables>(
    packet: &Packet,
    index: u16,
    service: &Service,
    id: u16,
    endpoint: &Endpoint,
    tables: &T,
) {
    let key = FlowKey::reply(packet.source, packet.source_port, id);
    if service.has(service_flags::PREVIEW) {
        let kind = note_kind::PREVIEW;
        tables.set_note(&key, Note { kind, id: index });
        tables.mark_noted(id);
    } else if endpoint.noted != 0 {
        tables.remove_note(&key);
    }
}

#[inline(always)]
fn face<T: Tables>(
    client: Address,
    port: Port,
    id: u16,
    endpoint: &Endpoint,
    tables: &T,
) -> FlowKey {
    let mut service = endpoint.service;
    if endpoint.noted != 0
        && let Some(note) = tables.note(&FlowKey::reply(client, port, id))
        && note.kind == note_kind::PREVIEW
    {
        service = note.id;
    }
    FlowKey::nat(client, port, service)
}

#[inline(always)]
fn flow_at<T: NatTables>(key: &FlowKey, id: u16, tables: &T) -> Found<NatFlow> {
    let flow = tables.nat_flow(key, |flow| flow.client);
    Found {
        exists: flow.exists && flow.entry.endpoint == id,
        ..flow
    }
}

/// The endpoint, if it is still one of this service.
#[inline(always)]
fn present<'a, T: Tables>(id: u16, service: &Service, tables: &'a T) -> Option<&'a Endpoint> {
    tables.endpoint(id).filter(|endpoint| {
        endpoint.has(endpoint_flags::PRESENT) && endpoint.service == service.parent
    })
}

/// Ticks since a side's last packet: none if another CPU, whose clock is ahead, has just seen one.
#[inline(always)]
const fn silent_for(side: Activity, now: u32) -> u32 {
    match now.wrapping_sub(side.seen()).cast_signed() {
        ahead if ahead < 0 => 0,
        silent => silent.cast_unsigned(),
    }
}
