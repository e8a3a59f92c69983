//! Where a packet would go, and why: the pipeline itself over a copy of the live maps.
//!
//! Nothing is left behind: what the pipeline would remember is remembered in the copy.

mod live;
mod said;
#[cfg(test)]
mod tests;
mod walk;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use switcher_common::abi::{
    FlowKey, Port, Service, TCP, UDP, flow_space, note_kind, service_flags,
};
use switcher_common::classify::{self, Class};
use switcher_common::memory::Memory;
use switcher_common::nat::{self, NatTables as _, Place};
use switcher_common::parse::Packet;
use switcher_common::select;
use switcher_common::steer::{self, How, Segment};
use switcher_common::tables::{Stack, Tables as _};
use switcher_common::verdict::Reason;
use switcher_common::word::{Phase, Word};
use utoipa::ToSchema;

use crate::cli::MadeUpPacket;
use crate::config::Protocol;
use crate::datapath::Have;
use crate::datapath::pinned::Pinned;
use crate::exit::{Exit, Failure};
use live::Live;
use walk::Walk;

pub use walk::frame;

/// What would become of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
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
    /// What the program would count of it besides, by the names that `status` has.
    pub counted: Vec<&'static str>,
    /// Why, in a sentence.
    pub reason: String,
}

/// The endpoint that a packet goes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Chosen {
    /// Its id.
    pub id: u16,
    /// Where it listens.
    #[schema(value_type = String)]
    pub address: SocketAddr,
    /// Its colour.
    pub colour: String,
}

/// Says what the loaded programs would do with a packet that comes in by an attached interface.
///
/// # Errors
/// When there is no such group, the packet is none that could be, or the maps can't be read.
pub fn explain(
    pinned: &Pinned,
    group: Option<&str>,
    asked: &MadeUpPacket,
) -> Result<Explanation, Failure> {
    let asked = asked.canonical();
    if asked.source.is_ipv4() != asked.destination.is_ipv4() {
        let why = "source and destination are of different families";
        return Err(Failure::new(Exit::Usage, "explain", why.to_owned()));
    }
    let view = View::read(pinned, &[asked])?;
    let mut groups = view.have.groups.values();
    if let Some(name) = group
        && !groups.any(|known| known.name == name)
    {
        let known = view.have.groups.values().map(|known| &*known.name);
        let known: Vec<&str> = known.collect();
        let why = format!("there is no group {name}");
        return Err(Failure::new(Exit::NotFound, "explain", why)
            .advise(format!("the kernel knows: {}", known.join(", "))));
    }
    let mut found = view.explain(&asked);
    if let (Some(name), Some(other)) = (group, &found.group)
        && other != name
    {
        found.reason = format!("not of group {name}, but of {other}: {}", found.reason);
    }
    Ok(found)
}

/// The live maps as they were at one moment, as far as some packets are concerned.
pub struct View {
    have: Have,
    memory: Memory,
}

impl View {
    /// Copies what these packets would meet.
    ///
    /// # Errors
    /// When the maps can't be read.
    pub fn read(pinned: &Pinned, packets: &[MadeUpPacket]) -> anyhow::Result<Self> {
        let mut have = pinned.have()?;
        let memory = pinned.snapshot(&have, packets)?;
        for (&index, group) in &mut have.groups {
            group.word = group.word.at(&memory.times(index), Live.nanoseconds());
        }
        Ok(Self { have, memory })
    }

    /// What would become of one of the packets.
    #[must_use]
    pub fn explain(&self, asked: &MadeUpPacket) -> Explanation {
        over(&self.have, &self.memory, &Live, asked)
    }
}

/// The same over any maps and any stack; neither is changed.
pub fn over(have: &Have, memory: &Memory, stack: &impl Stack, asked: &MadeUpPacket) -> Explanation {
    let protocol = match asked.protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    };
    let end = |end: SocketAddr| (end.ip().into(), Port::new(end.port()));
    let packet = Packet::made_up(end(asked.source), end(asked.destination), protocol);
    let walk = Walk::take(asked, memory, stack);
    let counted = walk.counted.iter().map(|reason| reason.label());
    let shown = Explanation {
        packet: Asked(asked).to_string(),
        kind: "not-ours",
        action: walk.action(),
        counted: counted.collect(),
        ..Explanation::default()
    };
    match classify::incoming(&packet, memory) {
        None => Explanation {
            reason: said::because(Reason::NotOurs).into(),
            ..shown
        },
        Some(Class::Direct(id)) => Explanation {
            kind: "direct",
            reason: said::because(Reason::Direct).into(),
            ..shown.about_endpoint(have, id)
        },
        Some(Class::Reply(id, _)) => {
            let ours = walk.refusal() != Some(Reason::NotOurs);
            Explanation {
                kind: if ours { "reply" } else { "not-ours" },
                reason: said::back(&walk).into(),
                ..shown.about_endpoint(have, id)
            }
        }
        Some(Class::Request(index, service)) => {
            let request = Request {
                have,
                memory,
                packet,
                index,
                service,
                opens: asked.syn,
            };
            request.explain(&walk, stack, shown.about_service(have, index))
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
    fn explain(&self, walk: &Walk, stack: &impl Stack, shown: Explanation) -> Explanation {
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
        let shown = Explanation {
            kind: if preview { "preview" } else { "request" },
            tag: self.tag(word, stack),
            bucket: table
                .exists()
                .then(|| (table.bucket(hash) - table.first(), 1 << table.bits())),
            ..shown
        };
        let chosen = match walk.refusal() {
            Some(Reason::Paused | Reason::TagWait | Reason::NoTable | Reason::UnknownFlow) => None,
            _ => self.choice(word, stack),
        };
        let Some((id, why)) = chosen else {
            let because = walk.refusal().map_or("", said::because);
            return Explanation {
                reason: because.into(),
                ..shown
            };
        };
        let Some(endpoint) = self.have.endpoints.get(&id) else {
            let gone = said::because(Reason::NoEndpoint);
            return Explanation {
                reason: format!("{why} endpoint {id}; {gone}"),
                ..shown
            };
        };
        let what = said::what(walk, endpoint);
        Explanation {
            reason: format!("{why} this endpoint; {what}"),
            ..shown.with_endpoint(self.have, id)
        }
    }

    /// The endpoint, and how it was found.
    fn choice(&self, word: Word, stack: &impl Stack) -> Option<(u16, String)> {
        // What is found may be remembered.
        let memory = self.memory.clone();
        let preview = self.service.has(service_flags::PREVIEW);
        if self.service.has(service_flags::MASQUERADE) {
            return self.masqueraded(&memory, stack, preview);
        }
        let segment = Segment {
            opens: self.opens,
            resets: false,
            sequence: 0,
        };
        let (packet, index, service) = (&self.packet, self.index, self.service);
        let steered = if preview {
            select::preview(packet, index, service, self.opens, &memory, stack)
        } else {
            select::steer(packet, index, service, segment, &memory, stack)
        }?;
        let why = said::why(steered.how, word.phase(), preview);
        Some((steered.endpoint, why.into()))
    }

    /// In `masquerade` every flow is remembered, and the window means nothing.
    fn masqueraded(
        &self,
        memory: &Memory,
        stack: &impl Stack,
        preview: bool,
    ) -> Option<(u16, String)> {
        let (packet, index, service) = (&self.packet, self.index, self.service);
        match nat::place(packet, index, service, self.opens, memory, stack) {
            Place::Known(flow) => {
                let from = SocketAddr::new(flow.source.into(), flow.port.number());
                let why = format!("the flow is remembered, coming from {from}, with");
                Some((flow.endpoint, why))
            }
            Place::Fresh(id) => {
                let why = said::why(How::Current, Phase::Steady, preview);
                Some((id, why.into()))
            }
            Place::Unknown | Place::Refused(_) => None,
        }
    }

    /// The endpoint that the maps remember for this flow, if they do and it counts.
    fn tag(&self, word: Word, stack: &impl Stack) -> Option<u16> {
        let key = |space| FlowKey {
            client: self.packet.source,
            port: self.packet.source_port,
            id: self.index,
            space,
        };
        let (memory, group) = (self.memory, self.service.group);
        if self.service.has(service_flags::MASQUERADE) {
            let flow = memory.nat_flow(&key(flow_space::NAT), |flow| flow.client);
            return flow.exists.then_some(flow.entry.endpoint);
        }
        if self.service.has(service_flags::PREVIEW) {
            let note = memory.note(&key(flow_space::PREVIEW));
            return note
                .filter(|note| note.kind == note_kind::CHOSEN)
                .map(|note| note.id);
        }
        let tag = if self.service.has_connections() {
            let found = memory.tag(group, &key(flow_space::WINDOW));
            found
                .map(|(tag, _)| tag)
                .filter(|tag| word.phase() != Phase::Steady && tag.epoch == word.epoch())
        } else {
            let found = memory.udp_flow(group, &key(flow_space::UDP));
            found.map(|(tag, _)| tag).filter(|tag| {
                let (floor, idle) = (memory.udp_floor(group), memory.settings().udp_idle);
                steer::is_flow(*tag, floor, stack.now(), idle)
            })
        };
        tag.map(|tag| tag.endpoint)
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
        let syn = match asked.protocol {
            Protocol::Tcp if asked.syn => " SYN",
            Protocol::Udp if asked.syn => " Initial",
            Protocol::Tcp | Protocol::Udp => "",
        };
        write!(
            f,
            "{}{syn} {} -> {}",
            asked.protocol, asked.source, asked.destination
        )
    }
}
