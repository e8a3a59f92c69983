//! Masqueraded flows in the real maps: the collector forgets those that have ended, fast enough and no
//! others.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use aya::maps::{HashMap, Map, MapData};
use nix::time::ClockId;
use switcher::config::{Masquerade, XdpMode};
use switcher::datapath::Datapath as _;
use switcher::datapath::nat::{Collector, GivenUp};
use switcher::datapath::pinned::Pinned;
use switcher::reconcile::{Standing, Want, WantEndpoint, WantGroup, WantService, plan};
use switcher_common::abi::nat::activity::{SPEAKS, TALKS};
use switcher_common::abi::nat::{Activity, NatClient, NatFlow, NatPort};
use switcher_common::abi::{FlowKey, Port, TCP, endpoint_flags, map, service_flags};

use crate::lab::Lab;

/// New flows in a second that collection has to keep up with.
const RATE: u32 = 50_000;
/// Flows that have ended.
const ENDED: u32 = 100_000;
/// Where flows are: blue.
const HERE: u16 = 1;
/// And are not: green.
const OTHER: u16 = 2;
/// Flows that live.
const ALIVE: u32 = 10_000;

/// As many flows as come in two seconds have ended: they are forgotten in less than two seconds of one
/// CPU, and those that live stay.
#[test]
fn ended_flows_are_forgotten_faster_than_they_come() {
    let Some(lab) = Lab::new("collect") else {
        return;
    };
    let mut maps = Maps::with_flows(&lab);
    let now = ticks();
    for number in 0..ENDED + ALIVE {
        let silent = if number < ENDED { 1000 } else { 0 };
        maps.add(number, now.wrapping_sub(silent));
    }
    let collector = Collector::open(&lab.bpffs, &Masquerade::default()).expect("it is pinned");
    let before = cpu_time();
    let swept = collector.sweep().expect("maps can be changed");
    let took = cpu_time() - before;
    let all = u64::from(ENDED + ALIVE);
    assert_eq!((swept.flows, swept.ended), (all, ENDED.into()));
    println!("{ENDED} of {all} flows forgotten in {took:?} of one CPU");
    assert!(
        took < Duration::from_secs((ENDED / RATE).into()) * slower(),
        "{took:?}"
    );
    assert_eq!(maps.flows.keys().count(), ALIVE as usize);
    assert_eq!(maps.ports.keys().count(), ALIVE as usize);
    let again = collector.sweep().expect("maps can be changed");
    assert_eq!((again.flows, again.ended), (ALIVE.into(), 0));
}

/// What has lost its flow goes; what only one side keeps alive stays.
#[test]
fn only_what_has_ended_is_forgotten() {
    let Some(lab) = Lab::new("forget") else {
        return;
    };
    let mut maps = Maps::with_flows(&lab);
    let now = ticks();
    // 0: the endpoint says nothing, but the client talks. 1: its flow has another port by now.
    // 2: its handshake came to nothing. 3: both are silent for long.
    for number in 0..4 {
        maps.add(number, now.wrapping_sub(100));
    }
    let (key, mut flow) = maps.flow(0);
    flow.client = Activity::new(now, SPEAKS | TALKS);
    maps.put(key, flow);
    let (key, mut flow) = maps.flow(1);
    flow.port = Port::new(9);
    maps.put(key, flow);
    let (key, mut flow) = maps.flow(3);
    flow.client = Activity::new(now.wrapping_sub(100), SPEAKS | TALKS);
    maps.put(key, flow);
    let collector = Collector::open(&lab.bpffs, &Masquerade::default()).expect("it is pinned");
    let swept = collector.sweep().expect("maps can be changed");
    assert_eq!((swept.flows, swept.ended), (4, 2));
    for (number, port, flow) in [
        (0, true, true),
        (1, false, true),
        (2, false, false),
        (3, true, true),
    ] {
        let (key, _) = entry(number, now);
        assert_eq!(maps.flows.get(&Plain(key), 0).is_ok(), flow, "{number}");
        let port_there = maps.ports.get(&Plain(port_of(number)), 0).is_ok();
        assert_eq!(port_there, port, "{number}");
    }
}

/// What began before an epoch at one of these endpoints is forgotten, however busy; nothing else is. A million
/// take a few seconds of a thread that nobody waits for.
#[test]
fn what_is_given_up_is_forgotten() {
    let Some(lab) = Lab::new("give-up") else {
        return;
    };
    let mut maps = Maps::with_flows(&lab);
    let now = ticks();
    for number in 0..ENDED + ALIVE {
        maps.add(number, now);
        if number < ENDED {
            maps.age(number);
        }
    }
    let collector = Collector::open(&lab.bpffs, &Masquerade::default()).expect("it is pinned");
    let at = |endpoint| GivenUp {
        endpoints: [endpoint].into(),
        epoch: 2,
    };
    let elsewhere = collector.give_up(&at(OTHER)).expect("maps can be read");
    let before = cpu_time();
    let forgotten = collector.give_up(&at(HERE)).expect("maps can be changed");
    let took = cpu_time() - before;
    println!(
        "{forgotten} of {} flows given up in {took:?} of one CPU",
        ENDED + ALIVE
    );
    assert_eq!((elsewhere, forgotten), (0, ENDED.into()));
    assert!(took < Duration::from_secs(1) * slower(), "{took:?}");
    assert_eq!(maps.flows.keys().count(), ALIVE as usize);
    assert_eq!(maps.ports.keys().count(), ALIVE as usize);
}

/// An agent finishes what another was killed in, unless something was switched since.
#[test]
fn the_next_agent_gives_up_what_is_left() {
    let Some(lab) = Lab::new("left") else {
        return;
    };
    let mut maps = Maps::with_flows(&lab);
    for number in 0..3 {
        maps.add(number, ticks());
    }
    maps.age(0);
    maps.age(1);
    let mut datapath = lab.open(XdpMode::Generic);
    datapath.give_up(0, 2);
    assert_eq!(
        maps.flows.keys().count(),
        3,
        "they are where they should be"
    );
    let word = datapath
        .word(0)
        .with_current(1 - datapath.word(0).current());
    datapath.store(0, word);
    drop(datapath);
    drop(lab.open(XdpMode::Generic));
    assert_eq!(maps.flows.keys().count(), 1);
    maps.age(2);
    let pinned = Pinned::open(&lab.bpffs).expect("it is pinned");
    pinned.store(0, word.with_epoch(3));
    drop(lab.open(XdpMode::Generic));
    assert_eq!(maps.flows.keys().count(), 1, "of a window that is over");
}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct Plain<T>(T);

// SAFETY: bytemuck's Pod promises more than aya's.
unsafe impl<T: bytemuck::Pod> aya::Pod for Plain<T> {}

/// The pinned maps of flows, with a masqueraded service.
struct Maps {
    flows: HashMap<MapData, Plain<FlowKey>, Plain<NatFlow>>,
    ports: HashMap<MapData, Plain<NatPort>, Plain<NatClient>>,
}

impl Maps {
    fn with_flows(lab: &Lab) -> Self {
        let mut datapath = lab.open(XdpMode::Generic);
        let have = datapath.have().expect("maps can be read");
        let plan = plan(&have, &want(), datapath.seed()).expect("there is room");
        for change in plan.changes {
            datapath.apply(&change).expect("the kernel takes it");
        }
        // Its own collector ends with it; the maps stay.
        datapath.store(0, datapath.word(0).with_epoch(2));
        drop(datapath);
        let open = |name| {
            let data = MapData::from_pin(lab.pins().map(name)).expect("it is pinned");
            Map::from_map_data(data).expect("a map")
        };
        Self {
            flows: open(map::NAT_FLOWS).try_into().expect("of this shape"),
            ports: open(map::NAT_PORTS).try_into().expect("of this shape"),
        }
    }

    /// A flow whose handshake was never finished.
    fn add(&mut self, number: u32, seen: u32) {
        let (key, flow) = entry(number, seen);
        let client = NatClient {
            address: key.client,
            port: key.port,
            service: key.id,
            epoch: flow.epoch,
            client: flow.client,
            server: flow.server,
        };
        self.put(key, flow);
        let inserted = self.ports.insert(Plain(flow.back()), Plain(client), 0);
        inserted.expect("there is room");
    }

    fn flow(&self, number: u32) -> (FlowKey, NatFlow) {
        let (key, _) = entry(number, 0);
        let Plain(flow) = self.flows.get(&Plain(key), 0).expect("it is there");
        (key, flow)
    }

    fn put(&mut self, key: FlowKey, flow: NatFlow) {
        let inserted = self.flows.insert(Plain(key), Plain(flow), 0);
        inserted.expect("there is room");
    }

    fn age(&mut self, number: u32) {
        let (key, mut flow) = self.flow(number);
        flow.epoch = 1;
        self.put(key, flow);
        let port = Plain(port_of(number));
        let Plain(client) = self.ports.get(&port, 0).expect("it is there");
        let inserted = self
            .ports
            .insert(port, Plain(NatClient { epoch: 1, ..client }), 0);
        inserted.expect("there is room");
    }
}

fn entry(number: u32, seen: u32) -> (FlowKey, NatFlow) {
    let [_, a, b, c] = number.to_be_bytes();
    let client = std::net::IpAddr::from([198, a, b, c]).into();
    let back = port_of(number);
    let flow = NatFlow {
        source: back.source,
        port: back.port,
        endpoint: back.endpoint,
        epoch: 2,
        client: Activity::new(seen, SPEAKS),
        server: Activity::new(seen, SPEAKS),
        ..NatFlow::default()
    };
    (FlowKey::nat(client, Port::new(1000), 0), flow)
}

fn port_of(number: u32) -> NatPort {
    NatPort {
        source: std::net::IpAddr::from([10, 0, 0, 1 + (number >> 15) as u8]).into(),
        port: Port::new((number & 0x7fff) as u16),
        endpoint: HERE,
        reserved: 0,
    }
}

fn want() -> Want {
    let at = |address: [u8; 4], port| SocketAddr::from((address, port));
    let endpoint = |number| WantEndpoint {
        tunnel: Default::default(),
        address: at([10, 0, 0, number], 8000),
        weight: 1,
        flags: endpoint_flags::PRESENT | endpoint_flags::MASQUERADE,
        standing: Standing::Up,
    };
    let web = WantService {
        vip: at([10, 0, 0, 1], 80),
        protocol: TCP,
        flags: service_flags::PRESENT | service_flags::MASQUERADE,
        preview: None,
        endpoints: BTreeMap::from([
            ("blue".into(), vec![endpoint(8)]),
            ("green".into(), vec![endpoint(9)]),
        ]),
    };
    let shop = WantGroup {
        initial: "blue".into(),
        colours: vec!["blue".into(), "green".into()],
        services: [("web".into(), web)].into(),
        canary: None,
    };
    Want {
        groups: [("shop".into(), shop)].into(),
    }
}

/// Now, in the program's ticks.
fn ticks() -> u32 {
    let now = Duration::from(ClockId::CLOCK_MONOTONIC.now().expect("a clock"));
    (now.as_nanos() >> switcher_common::abi::TICK_SHIFT) as u32
}

/// How many times slower this machine may be: one that is emulated is some twenty times.
fn slower() -> u32 {
    match std::env::var_os("SWITCHER_TESTS_GUEST") {
        Some(_) => 20,
        None => 1,
    }
}

/// What this thread has used: others may be busy at the same time.
fn cpu_time() -> Duration {
    ClockId::CLOCK_THREAD_CPUTIME_ID
        .now()
        .expect("a clock")
        .into()
}
