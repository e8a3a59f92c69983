//! Sockets of this host: where they are steered to, and what they are shown.
#![cfg(feature = "std")]

use std::collections::BTreeMap;

use switcher_common::abi::client::{Exception, SocketNote};
use switcher_common::abi::notice::notice_kind;
use switcher_common::abi::{
    Address, AddressKey, Endpoint, Port, Service, TCP, TableRef, Times, UDP, address_kind,
    endpoint_flags, service_flags,
};
use switcher_common::client::{Ask, Clock, Way, connect, direct, send};
use switcher_common::memory::{FlowMap, Memory};
use switcher_common::tables::Tables as _;
use switcher_common::verdict::Reason;
use switcher_common::word::{Word, flags};

const VIP: Address = Address::v4([10, 0, 0, 1]);
const PORT: Port = Port::new(80);
const PREVIEW: Port = Port::new(9080);

#[test]
fn each_socket_is_a_client_of_its_own() {
    let memory = memory(TCP, 0);
    let mut seen = BTreeMap::new();
    for cookie in 0..10_000 {
        let way = connect(&ask(TCP, cookie), &memory, never).expect("a way");
        *seen.entry(way.id).or_insert(0) += 1;
        assert_eq!(
            connect(&ask(TCP, cookie), &memory, never),
            Some(way),
            "the same again"
        );
    }
    // Blue has a table of three quarters and a quarter.
    assert!((7200..7800).contains(&seen[&1]), "{seen:?}");
    assert!((2200..2800).contains(&seen[&2]), "{seen:?}");
    let counted = memory.counters.borrow()[&0];
    assert_eq!((counted.connections, counted.packets), (20_000, 0));
}

#[test]
fn the_word_decides_and_previews_take_the_other() {
    let mut memory = memory(TCP, 0);
    let preview = Ask {
        port: PREVIEW,
        ..ask(TCP, 7)
    };
    let ports = |memory: &Memory| {
        let way = |ask| connect(ask, memory, never).expect("a way").port.number();
        (way(&ask(TCP, 7)) / 100, way(&preview) / 100)
    };
    assert_eq!(ports(&memory), (81, 82));
    memory.words.insert(0, memory.word(0).switch_to(1));
    assert_eq!(ports(&memory), (82, 81));
}

#[test]
fn by_source_this_host_is_one_client() {
    let memory = memory(TCP, service_flags::BY_SOURCE);
    let way = |cookie| {
        connect(&ask(TCP, cookie), &memory, never)
            .expect("a way")
            .id
    };
    assert!((1..100).all(|cookie| way(cookie) == way(0)));
}

#[test]
fn what_is_no_vip_or_reached_by_other_means_is_left_alone() {
    let mut memory = memory(TCP, 0);
    let elsewhere = Ask {
        address: Address::v4([10, 0, 0, 2]),
        ..ask(TCP, 1)
    };
    assert_eq!(connect(&elsewhere, &memory, never), None);
    assert_eq!(connect(&ask(UDP, 1), &memory, never), None);
    for endpoint in memory.endpoints.values_mut() {
        endpoint.flags |= endpoint_flags::ROUTED;
    }
    assert_eq!(connect(&ask(TCP, 1), &memory, never), None);
    assert_eq!(direct(&to_endpoint(TCP), &memory), None);
    assert!(memory.counters.borrow().is_empty());
}

#[test]
fn a_flow_stays_and_a_datagram_does_not() {
    for (flags, stays) in [(0, true), (service_flags::PER_PACKET, false)] {
        let mut memory = memory(UDP, flags);
        let port = |memory: &Memory, now| {
            let way = send(&ask(UDP, 7), memory, clock(now)).expect("a way");
            way.port.number() / 100
        };
        assert_eq!(port(&memory, 100), 81);
        memory.words.insert(0, memory.word(0).switch_to(1));
        assert_eq!(port(&memory, 110), if stays { 81 } else { 82 });
        assert_eq!(port(&memory, 200), 82, "idle for too long");
    }
}

#[test]
fn a_peer_is_shown_as_what_was_asked_for() {
    let memory = memory(TCP, 0);
    let way = connect(&ask(TCP, 7), &memory, never).expect("a way");
    let mut note = SocketNote::default();
    assert_eq!(note.peer(way.address, way.port), None);
    note.connects(&ask(TCP, 7), &way);
    assert_eq!(note.peer(way.address, way.port), Some((VIP, PORT)));
    assert_eq!(note.peer(way.address, Port::new(1)), None, "connected anew");
}

#[test]
fn a_source_is_shown_as_what_was_spoken_to_last() {
    let memory = memory(UDP, 0);
    let source = |note: &SocketNote, way: &Way| {
        let shown = note.source(way.address, way.port, UDP, &memory);
        shown.map(|(address, port)| (address, port.number()))
    };
    let mut note = SocketNote::default();
    let way = send(&ask(UDP, 7), &memory, clock(1)).expect("a way");
    assert_eq!(
        source(&note, &way),
        None,
        "has had nothing to do with a VIP"
    );
    note.sends(&way);
    assert_eq!(source(&note, &way), Some((VIP, 80)));
    note.sends_directly(way.id);
    assert_eq!(source(&note, &way), None);
    note.sends(&way);
    assert_eq!(source(&note, &way), Some((VIP, 80)));

    let preview = Ask {
        port: PREVIEW,
        ..ask(UDP, 7)
    };
    let staging = send(&preview, &memory, clock(1)).expect("a way");
    note.sends(&staging);
    assert_eq!(source(&note, &staging), Some((VIP, 9080)));
    assert_eq!(source(&note, &way), Some((VIP, 80)));
    // Of many exceptions the oldest goes.
    for id in 100..104 {
        note.sends_directly(id);
    }
    assert_eq!(source(&note, &staging), Some((VIP, 80)));
    assert!(
        note.exceptions
            .iter()
            .all(|it| it.front == Exception::DIRECT)
    );
}

#[test]
fn a_paused_group_lets_in_what_is_known_and_previews() {
    let mut memory = memory(UDP, 0);
    assert!(!send(&ask(UDP, 7), &memory, clock(1)).expect("a way").held);
    memory.words.insert(0, memory.word(0).with(flags::PAUSED));
    memory.times.insert(
        0,
        Times {
            paused_until: 10,
            ..Times::default()
        },
    );
    let at = |nanoseconds: u64| move || nanoseconds;
    let clock = |nanoseconds| Clock {
        ticks: || 1,
        nanoseconds: at(nanoseconds),
    };
    assert!(!send(&ask(UDP, 7), &memory, clock(5)).expect("a way").held);
    assert!(send(&ask(UDP, 8), &memory, clock(5)).expect("a way").held);
    assert!(connect(&ask(UDP, 8), &memory, at(5)).expect("a way").held);
    let preview = Ask {
        port: PREVIEW,
        ..ask(UDP, 8)
    };
    assert!(!connect(&preview, &memory, at(5)).expect("a way").held);
    assert!(!connect(&ask(UDP, 8), &memory, at(10)).expect("a way").held);
    assert_eq!(memory.reasons.borrow()[&Reason::Paused], 2);
    for endpoint in memory.endpoints.values_mut() {
        endpoint.flags |= endpoint_flags::ROUTED;
    }
    assert_eq!(connect(&ask(UDP, 8), &memory, at(5)), None, "not steered");
}

#[test]
fn a_timed_word_decides_by_the_clock() {
    let mut memory = memory(TCP, 0);
    let word = memory.word(0).switch_to(1).with(flags::TIMED);
    memory.words.insert(0, word);
    memory.times.insert(
        0,
        Times {
            arm_at: 10,
            activate_at: 20,
            revert_at: 30,
            paused_until: 0,
        },
    );
    let preview = Ask {
        port: PREVIEW,
        ..ask(TCP, 7)
    };
    for (now, live) in [
        (0, 81),
        (10, 81),
        (19, 81),
        (20, 82),
        (29, 82),
        (30, 81),
        (u64::MAX, 81),
    ] {
        let port = |ask: Ask| {
            let way = connect(&ask, &memory, || now).expect("a way");
            way.port.number() / 100
        };
        assert_eq!(port(ask(TCP, 7)), live, "at {now}");
        assert_eq!(port(preview), 81 + 82 - live, "at {now}");
    }
}

#[test]
fn the_first_after_a_switch_is_told_of() {
    for (protocol, kind) in [(TCP, 0), (UDP, 0), (UDP, service_flags::PER_PACKET)] {
        let mut memory = memory(protocol, kind);
        let begins = |memory: &Memory, port, cookie| {
            let ask = Ask {
                port,
                ..ask(protocol, cookie)
            };
            let way = match protocol {
                TCP => connect(&ask, memory, never),
                _ => send(&ask, memory, clock(1)),
            };
            assert!(way.is_some_and(|way| !way.held));
            let told = memory.notices.take();
            let told = told.iter().map(|it| (it.kind, it.group, it.id));
            told.collect::<Vec<_>>()
        };
        assert_eq!(begins(&memory, PORT, 1), [], "nothing is switched");
        memory.words.insert(0, memory.word(0).switch_to(1));
        assert_eq!(begins(&memory, PREVIEW, 2), [], "by a preview");
        assert_eq!(begins(&memory, PORT, 2), [(notice_kind::FIRST, 0, 3)]);
        assert_eq!(begins(&memory, PORT, 3), [], "told already");
    }
}

/// Only a timed or paused word needs a clock.
fn never() -> u64 {
    panic!("the clock was asked")
}

fn clock(ticks: u32) -> Clock<impl FnOnce() -> u32, impl FnOnce() -> u64> {
    Clock {
        ticks: move || ticks,
        nanoseconds: never,
    }
}

fn ask(protocol: u8, cookie: u64) -> Ask {
    Ask {
        address: VIP,
        port: PORT,
        protocol,
        cookie,
    }
}

fn to_endpoint(protocol: u8) -> Ask {
    Ask {
        port: Port::new(8101),
        ..ask(protocol, 1)
    }
}

/// A service with a preview: blue's two endpoints share three to one, green has one.
fn memory(protocol: u8, flags: u8) -> Memory {
    let mut memory = Memory::default();
    memory.settings.seed = 0x1234_5678_9abc_def1;
    memory.settings.udp_idle = 60;
    let tables = [TableRef::new(256, 8), TableRef::new(512, 8)];
    let blue: Vec<u16> = (0..256).map(|n| if n % 4 == 3 { 2 } else { 1 }).collect();
    memory.fill(tables[0], &blue);
    memory.fill(tables[1], &[3; 256]);
    for (index, port, flag) in [(0, PORT, 0), (1, PREVIEW, service_flags::PREVIEW)] {
        let mut service = Service {
            address: VIP,
            port,
            protocol,
            flags: service_flags::PRESENT | flags | flag,
            ..Service::default()
        };
        service.tables[..2].copy_from_slice(&tables);
        memory.services.insert(index, service);
        memory.publish(key(port, protocol, address_kind::SERVICE), index);
    }
    for (id, port) in [(1, 8101), (2, 8102), (3, 8201)] {
        let port = Port::new(port);
        let endpoint = Endpoint {
            address: VIP,
            port,
            protocol,
            flags: endpoint_flags::PRESENT,
            ..Endpoint::default()
        };
        memory.endpoints.insert(id, endpoint);
        memory.publish(key(port, protocol, address_kind::ENDPOINT), id);
    }
    let flows = FlowMap {
        capacity: 100,
        flows: BTreeMap::new(),
    };
    memory.udp_flows.borrow_mut().insert(0, flows);
    memory.words.insert(0, Word::default().with_staging(1));
    memory
}

const fn key(port: Port, protocol: u8, kind: u8) -> AddressKey {
    AddressKey {
        address: VIP,
        port,
        protocol,
        kind,
        reserved: 0,
    }
}
