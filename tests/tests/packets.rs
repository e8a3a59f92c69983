//! The packet cases through the core, on the host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;

use switcher_common::abi::nat::NatClient;
use switcher_common::abi::nat::activity::{FIN, SPEAKS, TALKS};
use switcher_common::abi::notice::notice_kind::{EXPIRED, FIRST, FULL, LEAK};
use switcher_common::abi::{Counters, Tag};
use switcher_common::quic::V1;
use switcher_common::rewrite::Hop;
use switcher_common::tables::Route;
use switcher_common::verdict::{Reason, Verdict};
use switcher_common::word::Phase;
use switcher_common::{front, pipeline};
use switcher_tests::cases::{self, Case, Hook, Remembered};
use switcher_tests::cave::{CAVE, WELL};
use switcher_tests::frame::{Build, flag, sound};
use switcher_tests::pieces::{Family, forwarded};
use switcher_tests::skb::Skb;
use switcher_tests::town::{
    ADOPTED, ADOPTED_PREVIEW, AWAY, AWAY_PREVIEW, BELL, CALLS, CELL, CLIENT, DOOR, GATEWAY, GROUP,
    INSIDE, Interface, MASK, Masked, NAMES, NOW, OUTSIDE, PREVIEW, RADIO, SERVICES, SHOP, STREAM,
    State, WEB, endpoint, flow_tag, id, link_of, nat_key, service, udp_key, window_key,
};

#[test]
fn every_case() {
    let wrong: Vec<String> = cases::all()
        .iter()
        .filter_map(|case| run(case).err())
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn sentences_are_unique() {
    let mut seen = BTreeMap::<_, u32>::new();
    for case in cases::all() {
        *seen.entry(case.sentence).or_default() += 1;
    }
    seen.retain(|_, times| *times > 2);
    assert!(seen.is_empty(), "{seen:?}");
}

/// The front itself notes that a flow is alive: flows of less than a packet a tick don't need the whole pipeline.
#[test]
fn the_front_notes_that_a_flow_is_alive() {
    let silent = Tag {
        seen: NOW - 5,
        ..flow_tag(id(CELL, 0))
    };
    let state = State::new(cases::open()).tag(CLIENT, CELL, silent);
    let mut frame = Build::tcp(CLIENT, CELL, flag::ACK).bytes();
    let verdict = front::ingress(&mut frame, &state.memory, &state.told);
    assert_eq!(verdict, Verdict::Deliver);
    let windows = state.memory.windows.borrow();
    let tag = windows[&GROUP].flows[&window_key(CLIENT, CELL)];
    assert_eq!(tag, flow_tag(id(CELL, 0)));
}

/// Whoever inherits a port leaves nothing of the flow that had it, and changes nothing about another.
#[test]
fn what_is_inherited_is_left_to_nobody_else() {
    let port = 40_000;
    let fin = SPEAKS | TALKS | FIN;
    let blue = Masked::at(id(AWAY, 0), port);
    let ended = blue.client(fin).server(fin).silent(2, 2);
    let (old, other) = (CLIENT, SocketAddrV4::new(*CLIENT.ip(), CLIENT.port() + 1));
    let state = State::new(cases::steady()).masks(port, 1);
    let state = state.masked(old, AWAY, ended);
    let mut frame = Build::tcp(other, AWAY, flag::SYN).bytes();
    let verdict = pipeline::run(&mut frame, &state.memory, &state.told);
    assert!(matches!(verdict, Verdict::Redirect(_)), "{verdict:?}");
    let nat = &state.memory.nat;
    let flows: Vec<_> = nat.flows.borrow().keys().copied().collect();
    assert_eq!(flows, [nat_key(other, AWAY)]);
    let ports = nat.ports.borrow();
    let holders: Vec<_> = ports.values().map(NatClient::flow).collect();
    assert_eq!(holders, flows);
}

/// What the first fragment of a packet leaves behind is what the others need.
#[test]
fn fragments_follow_the_first_one() {
    let [radio, red, bell] = [endpoint(RADIO, 0), endpoint(AWAY, 2), endpoint(BELL, 0)];
    let from = |interface: Interface, neighbour| Hop {
        destination: link_of(neighbour),
        source: interface.link,
    };
    let udp = |source, destination| of_150_bytes(Build::udp(source, destination));
    let tcp = |source, destination| of_150_bytes(Build::tcp(source, destination, flag::ACK));
    let inside = Some(from(INSIDE, *radio.ip()));
    let outside = Some(from(OUTSIDE, GATEWAY));
    let beside = Some(from(OUTSIDE, *bell.ip()));
    for family in [Family::V4, Family::V6] {
        for (comes, goes, hop) in [
            (udp(CLIENT, RADIO), udp(MASK, radio), inside),
            (udp(radio, MASK), udp(RADIO, CLIENT), outside),
            // Left to the stack, which sends them on.
            (tcp(CLIENT, AWAY), tcp(MASK, red), None),
            (udp(CLIENT, BELL), udp(CLIENT, BELL), beside),
        ] {
            let flow = |vip, colour| Masked::at(id(vip, colour), MASK.port());
            let state = State::new(cases::open())
                .masks(MASK.port(), 1)
                .masked(CLIENT, RADIO, flow(RADIO, 0))
                .masked(CLIENT, AWAY, flow(AWAY, 2))
                .udp(CLIENT, BELL, flow_tag(id(BELL, 0)));
            let state = family.state(state);
            let [comes, goes] = [comes, goes].map(|whole| family.pieces(&whole, 64, 7));
            for (mut frame, goes) in comes.into_iter().zip(goes) {
                let frame = frame.as_mut_slice();
                if pipeline::run(frame, &state.memory, &state.told) == Verdict::Deliver {
                    let left = pipeline::run_egress(frame, &state.memory, &state.told);
                    assert_eq!(left, Verdict::Deliver);
                }
                let goes = hop.map_or(goes.clone(), |hop| forwarded(goes, hop));
                assert_eq!(frame, goes);
            }
        }
    }
}

/// Nobody may be asked for IPv6 packets of less than 1280 bytes (RFC 8200, 5).
#[test]
fn a_tunnel_that_is_too_narrow_for_ipv6_tells_nobody() {
    let packet = Build {
        payload: vec![7; 1400],
        ..Build::tcp(CLIENT, CAVE, flag::ACK).in_v6(&[])
    };
    let with = |least| {
        let mut state = State::new(cases::steady()).in_v6();
        for route in state.told.routes.values_mut() {
            if let Route::Neighbour { mtu, .. } = route {
                *mtu = least;
            }
        }
        let mut frame = packet.bytes();
        let verdict = pipeline::run(&mut frame, &state.memory, &state.told);
        (verdict, frame)
    };
    let dropped = Verdict::Drop(Reason::TooBig);
    assert_eq!(with(1319), (dropped, packet.bytes()));
    let (verdict, answer) = with(1320);
    assert_eq!(verdict, Verdict::Transmit);
    assert!(sound(&answer), "{answer:02x?}");
}

/// The stack would take them for its own: the VIP is an address of this host.
#[test]
fn checksums_that_are_too_long_to_complete_are_nothing_for_the_stack() {
    for (service, payload, expected) in [
        (DOOR, 4000, Verdict::Transmit),
        (DOOR, 5000, Verdict::Drop(Reason::TooBig)),
        (CAVE, 4000, Verdict::Transmit),
        (CAVE, 5000, Verdict::Drop(Reason::TooBig)),
    ] {
        let packet = Build {
            payload: vec![7; payload],
            ..Build::tcp(CLIENT, service, flag::ACK)
        };
        let mut state = State::new(cases::steady());
        for route in state.told.routes.values_mut() {
            if let Route::Neighbour { mtu, .. } = route {
                *mtu = 9000;
            }
        }
        let mut frame = packet.unfinished();
        let verdict = pipeline::run(&mut frame, &state.memory, &state.told);
        assert_eq!(verdict, expected, "{service}, {payload} bytes");
    }
}

fn of_150_bytes(whole: Build) -> Build {
    Build {
        payload: (0..150).collect(),
        ..whole
    }
}

/// `kernel` shows that the program counts and tells what the core does; so whatever is counted or told is so there, too.
#[test]
fn every_reason_and_notice_has_a_case() {
    let (mut seen, mut told) = (BTreeSet::new(), BTreeSet::new());
    for case in cases::all() {
        assert_eq!(run(&case), Ok(()));
        if case.hook == Hook::Ingress {
            let (mut frame, state) = (case.frame.clone(), &case.state);
            let _verdict = pipeline::run(&mut Skb(&mut frame), &state.memory, &state.told);
        }
        let memory = &case.state.memory;
        seen.extend(memory.reasons.borrow().keys().copied());
        told.extend(memory.notices.borrow().iter().map(|notice| notice.kind));
    }
    let counted: BTreeSet<_> = Reason::ALL.iter().filter(|it| it.counted()).collect();
    assert_eq!(seen.iter().collect::<BTreeSet<_>>(), counted);
    let kinds = [FIRST, FULL, EXPIRED, LEAK];
    assert_eq!(told, BTreeSet::from(kinds));
}

/// What is new is told of once a switch, with the endpoint that it went to, in every mode; what goes on is not.
#[test]
fn the_first_after_a_switch_is_told_of() {
    let other = SocketAddrV4::new(*CLIENT.ip(), CLIENT.port() + 1);
    for vip in SERVICES {
        let preview = matches!(vip, PREVIEW | ADOPTED_PREVIEW | AWAY_PREVIEW);
        let first = |colour| (FIRST, u32::from(GROUP), u32::from(id(vip, colour)));
        for word in [
            cases::steady(),
            cases::arming(),
            cases::open(),
            cases::draining(),
        ] {
            let mut state = State::new(word).masks(MASK.port(), 16);
            let told = |state: &State, frame: &Build| {
                let mut frame = frame.bytes();
                let _verdict = pipeline::run(&mut frame, &state.memory, &state.told);
                let notices = state.memory.notices.take();
                let told = notices.iter().map(|it| (it.kind, it.group, it.id));
                told.collect::<Vec<_>>()
            };
            let switched = word.phase() >= Phase::Open && !preview;
            let news = |colour| Vec::from_iter(switched.then(|| first(colour)));
            // Without connections each datagram is new.
            if vip != NAMES {
                let on = state.clone().udp(CLIENT, vip, flow_tag(id(vip, 1)));
                let on = on.masked(CLIENT, vip, Masked::at(id(vip, 1), MASK.port()));
                assert_eq!(told(&on, &goes_on(CLIENT, vip)), [], "{vip} {word:?}");
            }
            assert_eq!(told(&state, &opens(CLIENT, vip)), news(1), "{vip} {word:?}");
            assert_eq!(told(&state, &opens(other, vip)), [], "{vip} {word:?}");
            if switched {
                state.memory.words.insert(GROUP, word.switch_to(2));
                let third = SocketAddrV4::new(*CLIENT.ip(), CLIENT.port() + 2);
                assert_eq!(told(&state, &opens(third, vip)), news(2), "{vip} {word:?}");
            }
        }
    }
}

/// Of another CPU that meets a packet of the same flow meanwhile.
#[test]
fn a_masqueraded_flow_of_two_cpus_is_one() {
    let syn = Build::tcp(CLIENT, AWAY, flag::SYN);
    let theirs = Masked::at(id(AWAY, 1), MASK.port());
    let state = State::new(cases::steady()).masks(MASK.port(), 2);
    let state = state.masked(CLIENT, AWAY, theirs);
    let nat = &state.memory.nat;
    let ports = nat.ports.borrow().clone();
    let flow = nat.flows.borrow_mut().remove(&nat_key(CLIENT, AWAY));
    nat.rival.set(flow);
    let mut frame = syn.bytes();
    let verdict = pipeline::run(&mut frame, &state.memory, &state.told);
    assert_eq!(verdict, Verdict::Redirect(INSIDE.index));
    let server = endpoint(AWAY, 1);
    let out = syn.from(MASK).to(server);
    let out = out.hop(INSIDE.link, link_of(*server.ip()));
    assert_eq!(frame, out.bytes(), "it goes where the other CPU says");
    assert_eq!(*nat.ports.borrow(), ports, "the port is given back");
    assert_eq!(
        nat.flows.borrow().get(&nat_key(CLIENT, AWAY)),
        flow.as_ref()
    );
}

/// Where flows are tagged.
#[test]
fn a_full_flow_map_is_told_of() {
    for vip in [CELL, SHOP, STREAM] {
        for word in [cases::open(), cases::open().hold()] {
            let state = State::new(word).full().held_until(NOW + 10);
            let mut frame = opens(CLIENT, vip).bytes();
            let verdict = pipeline::run(&mut frame, &state.memory, &state.told);
            assert_eq!(
                verdict == Verdict::Drop(Reason::TagWait),
                word.is_held(),
                "{vip}"
            );
            let notices = state.memory.notices.take();
            let told = notices.iter().map(|it| (it.kind, it.group, it.id));
            let full = (FULL, u32::from(GROUP), u32::from(service(vip)));
            assert_eq!(told.collect::<Vec<_>>(), [full], "{vip}");
        }
    }
}

/// The first packet of a client to a service.
fn opens(client: SocketAddrV4, vip: SocketAddrV4) -> Build {
    match vip {
        STREAM => initial(client),
        NAMES | CALLS | BELL | RADIO | WELL => Build::udp(client, vip),
        _ => Build::tcp(client, vip, flag::SYN),
    }
}

/// A later one.
fn goes_on(client: SocketAddrV4, vip: SocketAddrV4) -> Build {
    match vip {
        NAMES | CALLS | BELL | RADIO | WELL | STREAM => Build::udp(client, vip),
        _ => Build::tcp(client, vip, flag::ACK),
    }
}

/// The first of a QUIC connection.
fn initial(client: SocketAddrV4) -> Build {
    let mut payload = vec![0x5a; 1200];
    payload[0] = 0xc3;
    payload[1..5].copy_from_slice(&V1.to_be_bytes());
    Build {
        payload,
        ..Build::udp(client, STREAM)
    }
}

/// A reset and a SYN-ACK are counted once, for the service and colour of the endpoint that sent it, whatever way it takes.
#[test]
fn resets_and_answers_are_counted_for_their_colour() {
    for (vip, hook) in [
        (WEB, Hook::Egress),
        (CELL, Hook::Egress),
        (SHOP, Hook::Ingress),
        (AWAY, Hook::Ingress),
    ] {
        for colour in 0..2 {
            let state = State::new(cases::open()).masks(MASK.port(), 1).masked(
                CLIENT,
                vip,
                Masked::at(id(vip, colour), MASK.port()),
            );
            let to = if vip == AWAY { MASK } else { CLIENT };
            for (flags, expected) in [
                (flag::RST | flag::ACK, (1, 0)),
                (flag::SYN | flag::ACK, (0, 1)),
                (flag::FIN | flag::ACK, (0, 0)),
            ] {
                let mut frame = Build::tcp(endpoint(vip, colour), to, flags).bytes();
                state.memory.counters.borrow_mut().clear();
                let _verdict = match hook {
                    Hook::Ingress => pipeline::run(&mut frame, &state.memory, &state.told),
                    Hook::Egress => {
                        pipeline::run_egress(frame.as_mut_slice(), &state.memory, &state.told)
                    }
                };
                let counters = state.memory.counters.borrow();
                let cell = state.memory.endpoints[&id(vip, colour)].counter;
                let counted = |it: &Counters| (it.resets, it.answers);
                let of = counters.get(&cell).map_or((0, 0), counted);
                assert_eq!(of, expected, "{vip} {colour}");
                let all = counters.values().map(counted);
                let all = all.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
                assert_eq!(all, expected, "{vip} {colour}");
            }
        }
    }
}

/// A packet is counted once, with the bytes of the frame as it came, for the service and colour that it goes to.
#[test]
fn packets_and_bytes_are_counted_for_their_colour() {
    for family in [Family::V4, Family::V6] {
        for (vip, colour) in SERVICES.into_iter().flat_map(|vip| [(vip, 0), (vip, 1)]) {
            let preview = matches!(vip, PREVIEW | ADOPTED_PREVIEW | AWAY_PREVIEW);
            let word = if preview {
                cases::steady().with_staging(colour)
            } else {
                cases::steady().with_current(colour)
            };
            let state = family.state(State::new(word).masks(MASK.port(), 16));
            let cell = state.memory.endpoints[&id(vip, colour as u16)].counter;
            let mut sum = Counters::default();
            let mut counts = |frame: Vec<u8>, begins: bool| {
                sum.packets += 1;
                sum.bytes += frame.len() as u64;
                sum.connections += u64::from(begins);
                let mut sent = frame;
                let verdict = pipeline::run(&mut sent, &state.memory, &state.told);
                let counters = state.memory.counters.borrow();
                let counted: Vec<_> = counters.iter().map(|(cell, it)| (*cell, *it)).collect();
                let what = format!("{family:?} {vip} {colour} {verdict:?}");
                assert_eq!(counted, [(cell, sum)], "{what}");
            };
            counts(family.whole(&opens(CLIENT, vip)), true);
            counts(family.whole(&goes_on(CLIENT, vip)), vip == NAMES);
            // Where only ports differ a later fragment passes by itself.
            if !matches!(vip, WEB | ADOPTED | ADOPTED_PREVIEW) {
                let whole = of_150_bytes(goes_on(CLIENT, vip));
                let [first, second, _] = family.pieces(&whole, 64, 7);
                counts(first, vip == NAMES);
                counts(second, false);
            }
        }
    }
}

fn run(case: &Case) -> Result<(), String> {
    let Case {
        sentence, state, ..
    } = case;
    let mut frame = case.frame.clone();
    let verdict = match case.hook {
        Hook::Ingress => pipeline::run(&mut frame, &state.memory, &state.told),
        Hook::Egress => pipeline::run_egress(frame.as_mut_slice(), &state.memory, &state.told),
    };
    if verdict != case.verdict {
        return Err(format!("{sentence}: {verdict:?}, not {:?}", case.verdict));
    }
    if frame != case.out {
        return Err(format!("{sentence}:\n{frame:02x?}, not\n{:02x?}", case.out));
    }
    if frame != case.frame && sound(&case.frame) && !sound(&frame) {
        return Err(format!("{sentence}: wrong checksums in {frame:02x?}"));
    }
    remembered(case)
}

fn remembered(case: &Case) -> Result<(), String> {
    let (client, vip, want) = match case.tag {
        Remembered::Whatever => return Ok(()),
        Remembered::Masqueraded(client, vip, want) => {
            let flows = case.state.memory.nat.flows.borrow();
            let flow = flows.get(&nat_key(client, vip));
            let have = flow.map(|flow| (flow.endpoint, flow.port.number()));
            if have == want {
                return Ok(());
            }
            return Err(format!(
                "{}: masqueraded at {have:?}, not {want:?}",
                case.sentence
            ));
        }
        Remembered::Nothing(client, vip) => (client, vip, None),
        Remembered::Endpoint(client, vip, endpoint) => (client, vip, Some(endpoint)),
    };
    let windows = case.state.memory.windows.borrow();
    let udp = case.state.memory.udp_flows.borrow();
    let tag = windows
        .get(&GROUP)
        .and_then(|window| window.flows.get(&window_key(client, vip)))
        .or_else(|| udp.get(&GROUP)?.flows.get(&udp_key(client, vip)));
    let have = tag.map(|tag| tag.endpoint);
    if have != want {
        return Err(format!(
            "{}: remembered {have:?}, not {want:?}",
            case.sentence
        ));
    }
    Ok(())
}
