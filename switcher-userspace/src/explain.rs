//! Where a packet would go, and why: the pipeline itself over a copy of the live maps.
//!
//! Nothing is left behind: what the pipeline would remember is remembered in the copy.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use switcher_common::abi::nat::NatPort;
use switcher_common::abi::{
    Address, Endpoint, FlowKey, Port, Service, TCP, UDP, endpoint_flags, flow_space, note_kind,
    service_flags,
};
use switcher_common::classify::{self, Class};
use switcher_common::memory::Memory;
use switcher_common::nat::{self, Place};
use switcher_common::parse::Packet;
use switcher_common::select;
use switcher_common::steer::{How, Ownership, Segment};
use switcher_common::tables::{Route, Stack, Tables, Way};
use switcher_common::verdict::Reason;
use switcher_common::word::Phase;

use crate::cli::MadeUpPacket;
use crate::config::Protocol;
use crate::datapath::flows::ticks;
use crate::datapath::pinned::Pinned;
use crate::datapath::times::boot_nanoseconds;
use crate::datapath::{Have, sockets};
use crate::exit::{Exit, Failure};

/// What would become of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The packet, as asked.
    pub packet: String,
    /// What it is to this host: `request`, `preview`, `direct`, `reply` or `not-ours`.
    pub kind: &'static str,
    /// The group, if it is anybody's.
    pub group: Option<String>,
    /// The service.
    pub service: Option<String>,
    /// The live colour.
    pub live: Option<String>,
    /// The window's phase: `steady`, `arming`, `open` or `draining`.
    pub phase: Option<&'static str>,
    /// The flow's tag: the endpoint that its packets go to.
    pub tag: Option<u16>,
    /// The flow's bucket in the table it would be looked up in, and how many there are.
    pub bucket: Option<(u32, u32)>,
    /// Where it goes.
    pub endpoint: Option<Chosen>,
    /// What is done with it: `pass`, `deliver`, `forward` or `drop`.
    pub action: &'static str,
    /// Why, in a sentence.
    pub reason: String,
}

/// The endpoint that a packet goes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chosen {
    /// Its id.
    pub id: u16,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its colour.
    pub colour: String,
}

/// Says what the loaded programs would do with a packet that comes in by an attached interface.
///
/// # Errors
/// When there is no such group, or the maps can't be read.
pub fn explain(
    pinned: &Pinned,
    group: Option<&str>,
    asked: &MadeUpPacket,
) -> Result<Explanation, Failure> {
    let mut have = pinned.have()?;
    if let Some(name) = group
        && !have.groups.values().any(|known| known.name == name)
    {
        let known: Vec<&str> = have.groups.values().map(|known| &*known.name).collect();
        let why = format!("there is no group {name}");
        return Err(Failure::new(Exit::NotFound, "explain", why)
            .advise(format!("the kernel knows: {}", known.join(", "))));
    }
    let memory = pinned.snapshot(&have, asked.source.ip().into())?;
    for (&index, group) in &mut have.groups {
        group.word = group.word.at(&memory.times(index), Live.nanoseconds());
    }
    let mut found = over(&have, &memory, &Live, asked);
    if let (Some(name), Some(other)) = (group, &found.group)
        && other != name
    {
        found.reason = format!("not of group {name}, but of {other}: {}", found.reason);
    }
    Ok(found)
}

/// The same over any maps and any stack.
pub fn over(have: &Have, memory: &Memory, stack: &impl Stack, asked: &MadeUpPacket) -> Explanation {
    let protocol = match asked.protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    };
    let end = |end: SocketAddr| (end.ip().into(), Port::new(end.port()));
    let packet = Packet::made_up(end(asked.source), end(asked.destination), protocol);
    let shown = Explanation {
        packet: Asked(asked).to_string(),
        kind: "not-ours",
        action: "pass",
        ..Explanation::default()
    };
    match classify::incoming(&packet, memory) {
        None => Explanation {
            reason: "no service, preview or endpoint has this address, port and protocol".into(),
            ..shown
        },
        Some(Class::Direct(id)) => Explanation {
            kind: "direct",
            reason: "to an endpoint's own address, past the VIP: passed untouched".into(),
            ..shown.about_endpoint(have, id)
        },
        Some(Class::Reply(id, endpoint)) if endpoint.has(endpoint_flags::MASQUERADE) => {
            masqueraded_reply(memory, &packet, id, shown.about_endpoint(have, id))
        }
        Some(Class::Reply(id, _)) => Explanation {
            kind: "reply",
            action: "forward",
            reason:
                "a reply of a routed endpoint: the source becomes the service's address, unless \
                     the client came past it"
                    .into(),
            ..shown.about_endpoint(have, id)
        },
        Some(Class::Request(index, service)) => {
            let request = Request {
                have,
                memory,
                packet,
                index,
                service,
                opens: asked.syn,
            };
            request.explain(stack, shown.about_service(have, index))
        }
    }
}

/// A packet to a VIP or preview.
struct Request<'a> {
    have: &'a Have,
    memory: &'a Memory,
    packet: Packet,
    index: u16,
    service: &'a Service,
    opens: bool,
}

impl Request<'_> {
    fn explain(&self, stack: &impl Stack, shown: Explanation) -> Explanation {
        let group = self.service.group;
        let word = self.memory.word(group);
        let word = word.at(&self.memory.times(group), stack.nanoseconds());
        let preview = self.service.has(service_flags::PREVIEW);
        let slot = if preview {
            word.staging()
        } else {
            word.current()
        };
        let table = self.service.tables[slot as usize];
        let hash = select::flow_hash(&self.packet, self.service, self.memory);
        if self.service.has(service_flags::MASQUERADE) {
            let shown = Explanation {
                kind: if preview { "preview" } else { "request" },
                bucket: table
                    .exists()
                    .then(|| (table.bucket(hash) - table.first(), 1 << table.bits())),
                ..shown
            };
            return self.masqueraded(stack, preview, shown);
        }
        let tag = self.tag();
        let shown = Explanation {
            kind: if preview { "preview" } else { "request" },
            tag,
            bucket: table
                .exists()
                .then(|| (table.bucket(hash) - table.first(), 1 << table.bits())),
            ..shown
        };
        let chosen = if preview {
            let fresh = || select::choice(self.service, slot, hash, self.memory);
            let known = tag.filter(|_| !self.opens);
            known
                .map(|id| (id, How::Tag))
                .or_else(|| Some((fresh()?, How::Current)))
        } else {
            let segment = Segment {
                opens: self.opens,
                resets: false,
                // No tag remembers this sequence number but by accident: a new connection.
                sequence: 0,
            };
            let steered = select::steer(
                &self.packet,
                self.index,
                self.service,
                segment,
                self.memory,
                stack,
            );
            steered.map(|steered| (steered.endpoint, steered.how))
        };
        let Some((id, how)) = chosen else {
            let reason =
                format!("the group's word names slot {slot}, which has no table: passed untouched");
            return Explanation { reason, ..shown };
        };
        if how == How::Paused {
            return Explanation {
                action: "drop",
                reason:
                    "the group is paused, and this would be a new flow: dropped, clients try again"
                        .into(),
                ..shown
            };
        }
        let why = why(how, word.phase(), preview);
        let shown = shown.with_endpoint(self.have, id);
        match self.have.endpoints.get(&id) {
            None => Explanation {
                reason: format!(
                    "{why} endpoint {id}, which is not there any more: passed untouched"
                ),
                ..shown
            },
            Some(endpoint) => {
                let (action, what) = action(endpoint, preview);
                let reason = format!("{why} this endpoint; {what}");
                Explanation {
                    action,
                    reason,
                    ..shown
                }
            }
        }
    }

    /// The same in `masquerade`, where every flow is remembered and the window means nothing.
    fn masqueraded(&self, stack: &impl Stack, preview: bool, shown: Explanation) -> Explanation {
        let (packet, memory) = (&self.packet, self.memory);
        let place = nat::place(packet, self.index, self.service, self.opens, memory, stack);
        match place {
            Place::Known(flow) => {
                let from = SocketAddr::new(flow.source.into(), flow.port.number());
                Explanation {
                    tag: Some(flow.endpoint),
                    action: "forward",
                    reason: format!(
                        "the flow is remembered with this endpoint, which sees it come from {from}"
                    ),
                    ..shown.with_endpoint(self.have, flow.endpoint)
                }
            }
            Place::Fresh(id) => {
                let why = why(How::Current, Phase::Steady, preview);
                let untouched = self.have.endpoints.get(&id);
                let untouched = untouched.is_some_and(|it| it.has(endpoint_flags::UNTOUCHED));
                let (action, what) = if untouched {
                    ("pass", "it is the VIP itself: passed untouched")
                } else {
                    (
                        "forward",
                        "a port of this host is taken, source and destination are rewritten and the \
                         packet forwarded",
                    )
                };
                Explanation {
                    action,
                    reason: format!("{why} this endpoint; {what}"),
                    ..shown.with_endpoint(self.have, id)
                }
            }
            Place::Unknown => Explanation {
                reason:
                    "no such connection is remembered: passed untouched, and this host's stack \
                         resets it"
                        .into(),
                ..shown
            },
            Place::Refused(Reason::Paused) => Explanation {
                action: "drop",
                reason: "the group is paused: the client tries again".into(),
                ..shown
            },
            Place::Refused(_) => Explanation {
                reason: "the group's word names a slot without a table: passed untouched".into(),
                ..shown
            },
        }
    }

    /// The endpoint that the maps remember for this flow.
    fn tag(&self) -> Option<u16> {
        let key = |space| FlowKey {
            client: self.packet.source,
            port: self.packet.source_port,
            id: self.index,
            space,
        };
        if self.service.has(service_flags::PREVIEW) {
            let note = self.memory.note(&key(flow_space::PREVIEW));
            return note
                .filter(|note| note.kind == note_kind::CHOSEN)
                .map(|note| note.id);
        }
        let group = self.service.group;
        let tag = match self.packet.protocol {
            TCP => self.memory.tag(group, &key(flow_space::WINDOW)),
            _ => self.memory.udp_flow(group, &key(flow_space::UDP)),
        };
        tag.map(|tag| tag.endpoint)
    }
}

/// A packet of a masqueraded endpoint, to a port that a flow has, or to this host itself.
fn masqueraded_reply(memory: &Memory, packet: &Packet, id: u16, shown: Explanation) -> Explanation {
    let port = NatPort {
        source: packet.destination,
        port: packet.destination_port,
        endpoint: id,
        reserved: 0,
    };
    let client = memory.nat.ports.borrow().get(&port).copied();
    match client {
        Some(client) => {
            let to = SocketAddr::new(client.address.into(), client.port.number());
            Explanation {
                kind: "reply",
                action: "forward",
                reason: format!("a reply to {to}: the source becomes the service's address"),
                ..shown
            }
        }
        None => Explanation {
            reason: "no flow has this port: the packet is for this host itself".into(),
            ..shown
        },
    }
}

const fn why(how: How, phase: Phase, preview: bool) -> &'static str {
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
            "the window's flow map is full and it is about to drain: a SYN waits for its next try, by then it goes to"
        }
        (How::Paused, _) => "paused, without",
        (How::Refused, _) => "the window's flow map is full, so the flow stays at",
    }
}

const fn action(endpoint: &Endpoint, preview: bool) -> (&'static str, &'static str) {
    if endpoint.has(endpoint_flags::UNTOUCHED) && !preview {
        ("pass", "it is the VIP itself: passed untouched")
    } else if endpoint.has(endpoint_flags::ROUTED) {
        (
            "forward",
            "the destination is rewritten and the packet forwarded",
        )
    } else if endpoint.has(endpoint_flags::DSR) {
        (
            "forward",
            "the packet is forwarded as it is to the endpoint's link address; it answers the client \
             directly",
        )
    } else {
        (
            "deliver",
            "the destination is rewritten and the packet given to this host's stack",
        )
    }
}

impl Explanation {
    fn about_service(self, have: &Have, index: u16) -> Self {
        let Some(found) = have.services.get(&index) else {
            return self;
        };
        let group = have.groups.get(&found.service.group);
        let live = group.and_then(|group| group.colours.get(&group.live()?));
        Self {
            group: group.map(|group| group.name.clone()),
            service: Some(found.name.clone()),
            live: live.cloned(),
            phase: group.map(|group| phase(group.word.phase())),
            ..self
        }
    }

    fn about_endpoint(self, have: &Have, id: u16) -> Self {
        let service = have.endpoints.get(&id).map(|endpoint| endpoint.service);
        let shown = match service {
            Some(service) => self.about_service(have, service),
            None => self,
        };
        shown.with_endpoint(have, id)
    }

    fn with_endpoint(self, have: &Have, id: u16) -> Self {
        let chosen = have.endpoints.get(&id).map(|endpoint| {
            let service = have.services.get(&endpoint.service);
            let group = service.and_then(|found| have.groups.get(&found.service.group));
            let colour = group.and_then(|group| group.colours.get(&endpoint.colour));
            let address = IpAddr::from(endpoint.address);
            Chosen {
                id,
                address: SocketAddr::new(address, endpoint.port.number()),
                colour: colour.cloned().unwrap_or_else(|| "?".into()),
            }
        });
        Self {
            endpoint: chosen,
            ..self
        }
    }
}

const fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Steady => "steady",
        Phase::Arming => "arming",
        Phase::Open => "open",
        Phase::Draining => "draining",
    }
}

struct Asked<'a>(&'a MadeUpPacket);

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(asked) = self;
        let syn = if asked.syn { " SYN" } else { "" };
        write!(
            f,
            "{}{syn} {} -> {}",
            asked.protocol, asked.source, asked.destination
        )
    }
}

/// What the kernel's stack would say.
struct Live;

impl Stack for Live {
    fn now(&self) -> u32 {
        ticks()
    }

    fn nanoseconds(&self) -> u64 {
        boot_nanoseconds()
    }

    fn interface(&self) -> u32 {
        0
    }

    /// Whether a segment carries a SYN cookie can't be told from outside.
    fn owner(&self, packet: &Packet, endpoint: &Endpoint, _segment: Segment) -> Ownership {
        let end =
            |address: Address, port: Port| SocketAddr::new(IpAddr::from(address), port.number());
        let local = end(endpoint.address, endpoint.port);
        match sockets::state(local, end(packet.source, packet.source_port)) {
            Ok(Some(sockets::TIME_WAIT)) => Ownership::TimeWait,
            Ok(Some(sockets::LISTEN) | None) | Err(_) => Ownership::None,
            Ok(Some(_)) => Ownership::Owns,
        }
    }

    fn route(&self, _: &Way) -> Route {
        Route::Stack
    }
}
