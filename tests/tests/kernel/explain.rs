//! `explain` against the loaded programs: for every mode, phase and kind of packet it says what they do, and it
//! touches nothing.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};

use anyhow::{Context as _, ensure};
use switcher::cli::MadeUpPacket;
use switcher::config::Protocol;
use switcher::datapath::pinned::Pinned;
use switcher::datapath::pins::Pins;
use switcher::explain::{self, Explanation, View};
use switcher_common::abi::{Note, Times, note_kind, service_flags};
use switcher_common::parse::parse;
use switcher_common::steer::{self, Ownership};
use switcher_common::verdict::Reason;
use switcher_common::word::{Phase, Word, flags};
use switcher_harness::Place;
use switcher_harness::privilege::is_root;
use switcher_tests::cases::timed::{JUST, SOON, pause, timed};
use switcher_tests::cases::{arming, draining, open, steady};
use switcher_tests::cave::{CAVE, WELL};
use switcher_tests::frame::six;
use switcher_tests::kernel::{Entry, Kernel};
use switcher_tests::site::{self, Servers};
use switcher_tests::town::{
    AWAY, AWAY_PREVIEW, BELL, CALLS, CELL, CLIENT, CLOCK, COLOURS, DOOR, EPOCH, FAR, GROUP,
    GROUP_NAME, MASK, Masked, NEAR, NOW, OUTSIDE, PREVIEW, SEED, SERVICES, SHOP, State, WEB,
    endpoint, flow_tag, id, link_of, service, service_name,
};

use super::{XDP_DROP, XDP_PASS};

/// The scene in which no port is left for masqueraded flows.
const NO_PORT: &str = "no port is left";

/// What has to have come up, or the table would prove less than it says.
const COUNTED: [Reason; 10] = [
    Reason::NoTable,
    Reason::NoEndpoint,
    Reason::OwnReply,
    Reason::TagRefused,
    Reason::LeftToStack,
    Reason::TagWait,
    Reason::Paused,
    Reason::NoNeighbour,
    Reason::UnknownFlow,
    Reason::NatExhausted,
];

#[test]
fn explanations_are_what_the_programs_do() -> anyhow::Result<()> {
    if !is_root("kernel::explanations_are_what_the_programs_do") {
        return Ok(());
    }
    let place = Place::new()?;
    site::build()?.inside(|| {
        let servers = Servers::start()?;
        let mut kernel = Kernel::load_at(Pins::new(place.bpffs()))?;
        let pinned = Pinned::open(place.bpffs())?;
        let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
        for (number, scene) in (0..).zip(scenes()) {
            for v6 in [false, true] {
                let scene = scene.peopled(number * 2 + u16::from(v6), v6);
                let name = format!("{}{}", scene.name, if v6 { ", IPv6" } else { "" });
                let told = scene.play(&mut kernel, &pinned, &servers, &mut seen)?;
                wrong.extend(told.into_iter().map(|told| format!("{name}: {told}")));
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        let missing: Vec<_> = COUNTED
            .iter()
            .filter(|reason| !seen.contains(reason.label()))
            .collect();
        ensure!(missing.is_empty(), "no packet of the table: {missing:?}");
        Ok(())
    })?
}

/// A phase of the group, or what else may be the matter.
struct Scene {
    name: &'static str,
    state: State,
    rows: Vec<Row>,
    v6: bool,
}

/// A packet, and what of the answer does not follow from what the program does.
struct Row {
    asked: MadeUpPacket,
    /// The service that it is for, if it is for one.
    vip: Option<SocketAddrV4>,
    /// The endpoint that its flow is remembered with.
    known: Option<u16>,
}

fn scenes() -> Vec<Scene> {
    let held = || State::new(open().hold()).full().held_until(NOW + 600);
    let mut dead = State::new(steady());
    for vip in [WEB, CALLS, DOOR, AWAY, PREVIEW] {
        let tables = dead.memory.services.get(&service(vip)).map(|it| it.tables);
        for table in tables.into_iter().flatten().filter(|it| it.exists()) {
            dead.memory.fill(table, &[999; 256]);
        }
    }
    let before = |arm_at| timed(open(), arm_at, SOON, Times::NEVER);
    let forced = open().force(0);
    [
        ("steady", State::new(steady())),
        ("steady on green", State::new(steady().with_current(1))),
        ("steady on red", State::new(steady().with_current(2))),
        ("arming", State::new(arming())),
        ("open", State::new(open())),
        ("open and full", State::new(open()).full()),
        ("open, full and held", held()),
        ("open on red", State::new(open().switch_to(2))),
        ("draining", State::new(draining())),
        ("settled", State::new(open().settle())),
        ("forced back", State::new(forced).floor(forced.epoch())),
        ("paused", pause(steady(), SOON)),
        ("paused in a window", pause(open(), SOON)),
        ("paused long enough", pause(steady(), JUST)),
        ("long before a timed flip", before(SOON)),
        ("shortly before a timed flip", before(JUST)),
        ("unconfirmed", timed(open(), JUST, JUST, SOON)),
        ("reverted", timed(open(), 0, 0, JUST)),
        (
            "a slot without a table",
            State::new(steady().with_current(7)),
        ),
        ("endpoints that are gone", dead),
        (NO_PORT, State::new(steady())),
    ]
    .map(|(name, state)| Scene {
        name,
        state,
        rows: Vec::new(),
        v6: false,
    })
    .into()
}

impl Scene {
    /// With clients, flows that are known and flows that are not, and packets of them all. `number` keeps the
    /// connections of scenes apart.
    fn peopled(&self, number: u16, v6: bool) -> Self {
        let mut scene = Self {
            name: self.name,
            state: match self.name {
                // The only port is the one that a flow to blue has.
                NO_PORT => self.state.clone().masks(MASK.port() + 12, 1),
                _ => self.state.clone().masks(MASK.port(), 64),
            },
            rows: Vec::new(),
            v6,
        };
        for vip in SERVICES {
            // Nobody's, blue's, green's, and one of another epoch.
            for known in [None, Some(0), Some(1), Some(2)] {
                for syn in [false, true] {
                    scene = scene.meets(vip, known, syn);
                }
            }
        }
        scene.connects(number).others()
    }

    fn meets(mut self, vip: SocketAddrV4, known: Option<u16>, syn: bool) -> Self {
        let service = self.state.memory.services[&service(vip)];
        let protocol = if service.protocol == switcher_common::abi::TCP {
            Protocol::Tcp
        } else {
            Protocol::Udp
        };
        let tagged = service.has_connections();
        if syn && !tagged {
            return self;
        }
        let client = client(known.map_or(0, |known| known + 1) * 2 + u16::from(syn));
        let full = self.is_full();
        let now = self.word();
        let stale = known == Some(2);
        let colour = known.map(|known| known % 2);
        if let Some(colour) = colour {
            let to = id(vip, colour);
            let epoch = if stale { EPOCH - 1 } else { EPOCH };
            let tag = switcher_common::abi::Tag {
                epoch,
                ..flow_tag(to)
            };
            self.state = if service.has(service_flags::MASQUERADE) {
                let port = MASK.port() + service_port(vip) + client.port() % 10;
                let flow = Masked::at(to, port);
                self.state.masked(client, vip, Masked { epoch, ..flow })
            } else if service.has(service_flags::PREVIEW) {
                match vip {
                    PREVIEW => self.state.previewed(client, to),
                    _ => self.state,
                }
            } else if !tagged {
                self.state.udp(client, vip, tag)
            } else if full {
                self.state
            } else {
                self.state.tag(client, vip, tag)
            };
        }
        let floor = self.state.memory.udp_floors.get(&GROUP).copied();
        let floor = floor.unwrap_or_default();
        let counts = if service.has(service_flags::MASQUERADE) {
            true
        } else if service.has(service_flags::PREVIEW) {
            vip == PREVIEW
        } else if !tagged {
            floor <= EPOCH && !service.has(service_flags::PER_PACKET) || floor == 0
        } else {
            now.phase() != Phase::Steady && now.epoch() == EPOCH && !stale && !full
        };
        self.rows.push(Row {
            asked: asked(protocol, client, vip, syn),
            vip: Some(vip),
            known: colour.map(|colour| id(vip, colour)).filter(|_| counts),
        });
        self
    }

    /// Clients on this host, whose connections the socket table knows.
    fn connects(mut self, number: u16) -> Self {
        let states = [
            (0, Ownership::Owns),
            (1, Ownership::Owns),
            (0, Ownership::TimeWait),
        ];
        for (place, (colour, state)) in (0..).zip(states) {
            let port = 42_000 + number * 10 + place;
            let client = SocketAddrV4::new(*NEAR.ip(), port);
            self.state = self.state.socket(client, endpoint(WEB, colour), state);
            for syn in [false, true] {
                self.rows.push(Row {
                    asked: asked(Protocol::Tcp, client, WEB, syn),
                    vip: Some(WEB),
                    known: None,
                });
            }
        }
        self
    }

    /// Replies, packets past the VIP, and nobody's.
    fn others(mut self) -> Self {
        let direct = Note {
            kind: note_kind::DIRECT,
            id: id(SHOP, 1),
        };
        let past = client(30);
        self.state = self.state.note(past, id(SHOP, 1), direct);
        let nobody = SocketAddrV4::new([192, 0, 2, 77].into(), WEB.port());
        let mut packets = vec![
            (endpoint(SHOP, 1), CLIENT),
            (endpoint(SHOP, 1), past),
            (endpoint(SHOP, 0), NEAR),
            (
                endpoint(FAR, 2),
                SocketAddrV4::new([198, 51, 100, 200].into(), 9),
            ),
            (CLIENT, endpoint(CELL, 0)),
            (CLIENT, nobody),
            (endpoint(DOOR, 0), CLIENT),
        ];
        let known = self.state.memory.nat.ports.borrow();
        let ports = known.keys().map(|port| port.port.number());
        let masks = ports
            .chain([45_000])
            .map(|port| SocketAddrV4::new(*MASK.ip(), port));
        packets.extend(masks.map(|mask| (endpoint(AWAY, 0), mask)));
        drop(known);
        for (from, to) in packets {
            let row = Row {
                asked: asked(Protocol::Tcp, from, to, false),
                vip: None,
                known: None,
            };
            // First, before requests make other flows of those that there are.
            self.rows.insert(0, row);
        }
        self
    }

    fn word(&self) -> Word {
        let memory = &self.state.memory;
        let times = memory.times.get(&GROUP).copied().unwrap_or_default();
        memory.words[&GROUP].at(&times, CLOCK)
    }

    fn is_full(&self) -> bool {
        self.name.contains("full")
    }

    fn play(
        mut self,
        kernel: &mut Kernel,
        pinned: &Pinned,
        servers: &Servers,
        seen: &mut BTreeSet<&'static str>,
    ) -> anyhow::Result<Vec<String>> {
        if self.v6 {
            self.state = self.state.in_v6();
            for row in &mut self.rows {
                row.asked.source = in_v6(row.asked.source);
                row.asked.destination = in_v6(row.asked.destination);
            }
        }
        let _sockets = servers.connect(&self.state)?;
        kernel.fill(&self.state.memory)?;
        let packets: Vec<_> = self.rows.iter().map(|row| row.asked).collect();
        let before = kernel.dump()?;
        let view = View::read(pinned, &packets)?;
        let explained: Vec<_> = packets.iter().map(|packet| view.explain(packet)).collect();
        let touched = before.into_iter().zip(kernel.dump()?);
        let touched: Vec<_> = touched.filter(|(was, is)| was != is).collect();
        ensure!(touched.is_empty(), "explain has touched {touched:?}");
        let mut wrong = Vec::new();
        for (row, found) in self.rows.iter().zip(&explained) {
            if let Err(error) = self.agree(kernel, row, found) {
                wrong.push(format!("{}\n{found:?}", error.root_cause()));
            }
            seen.extend(&found.counted);
        }
        Ok(wrong)
    }

    /// Sends the packet that was asked about through the program.
    fn agree(&self, kernel: &mut Kernel, row: &Row, found: &Explanation) -> anyhow::Result<()> {
        let frame = explain::frame(&row.asked);
        let before = kernel.reasons()?;
        let outcome = kernel.run(Entry::Xdp, &frame, OUTSIDE.index)?;
        let counted = kernel.reasons()?;
        let counted = counted
            .iter()
            .filter(|(reason, count)| before[reason] < **count);
        let counted: Vec<_> = counted.map(|(reason, _)| reason.label()).collect();
        ensure!(found.counted == counted, "the program counts {counted:?}");
        let left = counted.contains(&Reason::LeftToStack.label());
        let action = match outcome.action {
            XDP_DROP => "drop",
            XDP_PASS if left => "forward",
            XDP_PASS if outcome.frame == frame => "pass",
            XDP_PASS => "deliver",
            _ => "forward",
        };
        ensure!(found.action == action, "the program does {action}");
        says(found)?;
        self.facts(row, found)?;
        match (found.kind, action) {
            ("request" | "preview", "deliver" | "forward") => {
                arrives(row, found, &frame, &outcome.frame)
            }
            ("reply", "forward") if !left => {
                let packet =
                    parse(outcome.frame.as_slice()).map_err(|it| anyhow::anyhow!("{it:?}"))?;
                let sender = self.state.memory.services.values();
                let mut sender = sender.filter(|it| it.address == packet.source);
                ensure!(
                    sender.any(|it| it.port == packet.source_port),
                    "the reply does not come from a service"
                );
                Ok(())
            }
            _ => {
                ensure!(outcome.frame == frame, "the program rewrites it");
                Ok(())
            }
        }
    }

    /// What is said of the service, its group, its table and the flow.
    fn facts(&self, row: &Row, found: &Explanation) -> anyhow::Result<()> {
        let Some(vip) = row.vip else {
            ensure!(found.bucket.is_none() && found.tag.is_none());
            ensure!(["reply", "direct", "not-ours"].contains(&found.kind));
            return Ok(());
        };
        let (word, index) = (self.word(), service(vip));
        let service = self.state.memory.services[&index];
        let preview = service.has(service_flags::PREVIEW);
        let phase = match word.phase() {
            Phase::Steady => "steady",
            Phase::Arming => "arming",
            Phase::Open => "open",
            Phase::Draining => "draining",
        };
        let slot = if preview {
            word.staging()
        } else {
            word.current()
        };
        let port = if service.has(service_flags::BY_SOURCE) {
            0
        } else {
            row.asked.source.port().to_be()
        };
        let hash = steer::hash(SEED, row.asked.source.ip().into(), port);
        let bucket = (slot < 3).then_some((hash % 256, 256));
        ensure!(found.kind == if preview { "preview" } else { "request" });
        ensure!(found.group.as_deref() == Some(GROUP_NAME));
        ensure!(found.service == Some(service_name(index)));
        ensure!(found.phase == Some(phase), "it is {phase}");
        ensure!(found.bucket == bucket, "it is {bucket:?}");
        ensure!(found.tag == row.known, "the tag is {:?}", row.known);
        let live = COLOURS.get(word.current() as usize).copied();
        ensure!(found.live.as_deref() == live, "{live:?} is live");
        let paused = found.counted.contains(&Reason::Paused.label());
        ensure!(!paused || word.has(flags::PAUSED));
        Ok(())
    }
}

/// The sentence fits what is done, and what is counted.
fn says(found: &Explanation) -> anyhow::Result<()> {
    let reason = found.reason.as_str();
    let does: &[&str] = match found.action {
        "deliver" => &["given to this host's stack"],
        "forward" => &[
            "forwarded",
            "left to this host's stack",
            "a reply: the source",
        ],
        "drop" => &["dropped"],
        _ => &["untouched", "no service", "no flow has this port"],
    };
    ensure!(
        does.iter().any(|it| reason.contains(it)),
        "to {} is not what it says",
        found.action
    );
    for (counted, why) in [
        (Reason::Paused, "paused"),
        (Reason::NoTable, "without a table"),
        (Reason::NoEndpoint, "not there any more"),
        (Reason::OwnReply, "a reply to this host itself"),
        (Reason::TagRefused, "flow map is full"),
        (Reason::TagWait, "waits for its next try"),
        (Reason::LeftToStack, "left to this host's stack"),
        (Reason::NoNeighbour, "no link address"),
        (Reason::UnknownFlow, "no such connection"),
        (Reason::NatExhausted, "no port of this host"),
    ] {
        let is_so = !found.counted.contains(&counted.label()) || reason.contains(why);
        ensure!(is_so, "it says nothing of {}", counted.label());
    }
    Ok(())
}

/// The endpoint that is named is the one that the frame goes to.
fn arrives(row: &Row, found: &Explanation, was: &[u8], is: &[u8]) -> anyhow::Result<()> {
    let chosen = found.endpoint.as_ref().context("no endpoint is named")?;
    if matches!(row.vip, Some(CAVE | WELL)) {
        let outer = match chosen.address.ip() {
            IpAddr::V4(v4) => is[30..34] == v4.octets(),
            IpAddr::V6(v6) => is[38..54] == v6.octets(),
        };
        ensure!(outer, "the outer header says something else");
        return Ok(());
    }
    let packet = parse(is).map_err(|reason| anyhow::anyhow!("{reason:?}"))?;
    let to = SocketAddr::new(packet.destination.into(), packet.destination_port.number());
    if matches!(row.vip, Some(DOOR | BELL)) {
        let IpAddr::V4(v4) = chosen.address.ip() else {
            ensure!(to == row.asked.destination);
            return Ok(());
        };
        ensure!(is[..6] == link_of(v4), "it goes to another link address");
        ensure!(to == row.asked.destination && is != was);
        return Ok(());
    }
    ensure!(to == chosen.address, "it goes to {to}");
    Ok(())
}

fn asked(
    protocol: Protocol,
    source: SocketAddrV4,
    destination: SocketAddrV4,
    syn: bool,
) -> MadeUpPacket {
    MadeUpPacket {
        protocol,
        source: source.into(),
        destination: destination.into(),
        syn,
    }
}

const fn client(number: u16) -> SocketAddrV4 {
    SocketAddrV4::new(*CLIENT.ip(), CLIENT.port() + number)
}

/// Where the ports of a masqueraded service's flows begin.
fn service_port(vip: SocketAddrV4) -> u16 {
    match vip {
        AWAY => 10,
        AWAY_PREVIEW => 20,
        _ => 30,
    }
}

fn in_v6(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddr::new(six(*v4.ip()).into(), v4.port()),
        SocketAddr::V6(_) => address,
    }
}
