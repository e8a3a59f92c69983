//! Which address and port of this host a masqueraded flow gets: what the flow's hash says, and what is left.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use switcher_common::abi::nat::{Activity, NatPort, activity};
use switcher_common::abi::{Address, Port};
use switcher_common::nat::{HEIRLOOMS, TRIES, is_closing};
use switcher_common::pipeline;
use switcher_common::verdict::{Reason, Verdict};

use super::masked;
use crate::cases::{Case, steady};
use crate::frame::{Build, SEQUENCE, flag};
use crate::town::{
    AWAY, CLIENT, GATEWAY, INSIDE, MASK, Masked, OUTSIDE, State, endpoint, id, link_of, nat_key,
};

/// More ports than are tried for a flow.
const PORTS: u16 = 64;
/// Another one.
const OWN: u16 = 30_000;
/// This host's other address inside.
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);

/// Other ports are tried in IPv6, whose addresses have other hashes.
pub(super) fn cases() -> Vec<Case> {
    let cases = [tried(), inherited(), addresses()].concat();
    cases.into_iter().map(Case::only_v4).collect()
}

fn tried() -> Vec<Case> {
    let with = |ports| {
        let all = State::new(steady()).masks(MASK.port(), ports);
        (1..TRIES as u16).fold(all, taken)
    };
    let (many, few) = (with(PORTS), with(TRIES as u16));
    vec![
        goes_on(
            "of many ports fifteen are taken: the sixteenth is found",
            many.clone(),
        ),
        refused(
            "of many ports sixteen are taken: no other is tried",
            taken(many, TRIES as u16),
        ),
        goes_on("of few ports the last one is found", few.clone()),
        refused("of few ports none is left", taken(few, TRIES as u16)),
    ]
}

/// The client's connection goes on from the port that the core chooses.
fn goes_on(sentence: &'static str, state: State) -> Case {
    let mask = taken_next(&state, CLIENT).expect("a port");
    let syn = Build::tcp(CLIENT, AWAY, flag::SYN);
    let verdict = Verdict::Redirect(INSIDE.index);
    let out = masked(&syn, 0, mask);
    let case = Case::incoming(sentence, state, &syn, verdict, &out);
    case.masquerades(CLIENT, AWAY, id(AWAY, 0), mask.port())
}

/// It goes on from its own port.
fn keeps(sentence: &'static str, state: State) -> Case {
    let mask = taken_next(&state, CLIENT).map(|mask| mask.port());
    assert_eq!(mask, Some(OWN), "{sentence}");
    goes_on(sentence, state)
}

/// No port is left for it.
fn refused(sentence: &'static str, state: State) -> Case {
    let syn = Build::tcp(CLIENT, AWAY, flag::SYN);
    let verdict = Verdict::Drop(Reason::NatExhausted);
    Case::untouched(sentence, state, &syn, verdict).forgets_masquerade(CLIENT, AWAY)
}

/// All ports that are tried are taken, and of one the flow is over, or nearly.
fn inherited() -> Vec<Case> {
    let said = activity::SPEAKS | activity::TALKS;
    let fin = said | activity::FIN;
    let blue = |port| Masked::at(id(AWAY, 0), port);
    let closed = move |port| blue(port).client(fin).server(fin).silent(2, 2);
    let last = HEIRLOOMS as u16;
    // Of a connection whose SYN was another.
    let own = Masked {
        sequence: SEQUENCE + 1,
        ..blue(OWN).client(fin).server(fin)
    };
    let opening = |server, (from_client, from_server)| {
        crowded(3, move |port| {
            let half_open = blue(port).client(activity::SPEAKS).server(server);
            half_open.silent(from_client, from_server)
        })
    };
    let full = || crowded(0, closed);
    vec![
        goes_on(
            "no port is free: one of a connection that has ended is inherited",
            crowded(1, closed),
        ),
        goes_on(
            "or the last that is looked at",
            crowded(last, move |port| {
                blue(port).server(activity::RESET).silent(2, 2)
            }),
        ),
        keeps(
            "a client keeps its own port rather than get another's",
            crowded(1, closed).masked(CLIENT, AWAY, own),
        ),
        refused(
            "but not for another endpoint",
            full().masked(
                CLIENT,
                AWAY,
                Masked {
                    endpoint: id(AWAY, 1),
                    ..own
                },
            ),
        )
        .masquerades(CLIENT, AWAY, id(AWAY, 1), OWN),
        refused(
            "nor if a service has it by now",
            full().masked(
                CLIENT,
                AWAY,
                Masked {
                    port: AWAY.port(),
                    ..own
                },
            ),
        )
        .masquerades(CLIENT, AWAY, id(AWAY, 0), AWAY.port()),
        keeps(
            "a client keeps its own port at once after it has closed",
            full().masked(CLIENT, AWAY, own),
        ),
        goes_on(
            "a port whose client has another by now is inherited alone",
            moved(crowded(3, closed)),
        ),
        refused("none after that", crowded(last + 1, closed)),
        goes_on(
            "that of a SYN that nobody has answered for long is inherited, too",
            opening(0, (41, 41)),
        ),
        goes_on(
            "or that the client has not gone on from",
            opening(activity::SPEAKS, (41, 41)),
        ),
        refused("not while the SYN may come again", opening(0, (40, 41))),
        refused(
            "nor while the answer may",
            opening(activity::SPEAKS, (41, 40)),
        ),
        refused(
            "nor of a connection that is open, however silent",
            crowded(3, move |port| blue(port).silent(900, 900)),
        ),
        refused(
            "not while stragglers may come from the server",
            crowded(3, move |port| closed(port).silent(2, 1)),
        ),
        refused(
            "nor while they may come from the client",
            crowded(3, move |port| closed(port).silent(1, 2)),
        ),
        refused(
            "nor of a connection that is closed on one side",
            crowded(3, move |port| blue(port).client(fin).silent(9, 9)),
        ),
        refused(
            "nor if the client goes on after what looked like its reset",
            reset_by_somebody(crowded(3, move |port| blue(port).silent(9, 9))),
        ),
    ]
}

/// All ports that are tried are taken, the one of this number by a flow as it is said.
fn crowded(number: u16, as_said: impl Fn(u16) -> Masked) -> State {
    let all = State::new(steady()).masks(MASK.port(), PORTS);
    (1..=TRIES as u16).fold(all, |state, each| {
        let port = taken_next(&state, CLIENT).expect("a port is left").port();
        let masked = match each {
            _ if each == number => as_said(port),
            _ => Masked::at(id(AWAY, 0), port),
        };
        state.masked(client(each), AWAY, masked)
    })
}

/// The flow of each client that has ended has another port by now, and the one it had is still remembered.
fn moved(state: State) -> State {
    for flow in state.memory.nat.flows.borrow_mut().values_mut() {
        if is_closing(flow.client, flow.server) {
            flow.port = Port::new(flow.port.number() + 1000);
        }
    }
    state
}

/// Ports say that clients have reset their connections, and flows that they have not.
fn reset_by_somebody(state: State) -> State {
    for port in state.memory.nat.ports.borrow_mut().values_mut() {
        port.client = Activity::new(port.client.seen(), activity::RESET);
    }
    state
}

fn addresses() -> Vec<Case> {
    let both = || State::new(steady()).masks(MASK.port(), 1).and_masks(OTHER);
    let from = |address: Ipv4Addr| {
        let mut clients = (0..64).map(host);
        clients.find(|client| taken_next(&both(), *client).is_some_and(|it| *it.ip() == address))
    };
    let goes_on = |sentence, address| {
        let client = from(address).expect("both addresses are used");
        let syn = Build::tcp(client, AWAY, flag::SYN);
        let mask = SocketAddrV4::new(address, MASK.port());
        let verdict = Verdict::Redirect(INSIDE.index);
        Case::incoming(sentence, both(), &syn, verdict, &masked(&syn, 0, mask))
    };
    let blue = || Masked::at(id(AWAY, 0), MASK.port());
    let second = |client| elsewhere(both().masked(client, AWAY, blue()), OTHER);
    let leaves = |sentence, state: State, client: SocketAddrV4, address| {
        let left = SocketAddrV4::new(*client.ip(), MASK.port());
        let frame = Build::tcp(left, endpoint(AWAY, 0), flag::ACK);
        let out = frame.clone().from(SocketAddrV4::new(address, MASK.port()));
        Case::incoming(sentence, state, &frame, Verdict::Deliver, &out).outgoing()
    };
    let shared = || second(host(1)).masked(CLIENT, AWAY, blue());
    let mut replied = both().masked(CLIENT, AWAY, Masked::at(id(AWAY, 0), MASK.port()));
    replied = elsewhere(replied, OTHER);
    let reply = Build::tcp(
        endpoint(AWAY, 0),
        SocketAddrV4::new(OTHER, MASK.port()),
        flag::ACK,
    );
    let back = reply.clone().from(AWAY).to(CLIENT);
    vec![
        goes_on("of two addresses one flow gets the first", *MASK.ip()),
        goes_on("of two addresses another flow gets the second", OTHER),
        Case::incoming(
            "a reply to the second address goes to its client",
            replied.clone(),
            &reply,
            Verdict::Transmit,
            &back.hop(OUTSIDE.link, link_of(GATEWAY)),
        ),
        leaves(
            "on its way out it gets the first of two addresses if that is its flow's",
            both().masked(CLIENT, AWAY, blue()),
            CLIENT,
            *MASK.ip(),
        ),
        leaves(
            "on its way out it gets the second of two addresses if that is its flow's",
            second(CLIENT),
            CLIENT,
            OTHER,
        ),
        leaves(
            "of two clients with one port at two addresses the first",
            shared(),
            CLIENT,
            *MASK.ip(),
        ),
        leaves(
            "of two clients with one port at two addresses the second",
            shared(),
            host(1),
            OTHER,
        ),
        Case::untouched(
            "a reply to the same port of the first address is not",
            replied,
            &reply.to(MASK),
            Verdict::Pass(Reason::NotOurs),
        ),
    ]
}

/// With the next port that [`CLIENT`]'s flow would get in the hands of another client.
fn taken(state: State, number: u16) -> State {
    let mask = taken_next(&state, CLIENT).expect("a port is left");
    state.masked(client(number), AWAY, Masked::at(id(AWAY, 0), mask.port()))
}

/// Where a client's new connection would come from.
fn taken_next(state: &State, client: SocketAddrV4) -> Option<SocketAddrV4> {
    let state = state.clone();
    let mut frame = Build::tcp(client, AWAY, flag::SYN).bytes();
    let _verdict = pipeline::run(&mut frame, &state.memory, &state.told);
    let flows = state.memory.nat.flows.borrow();
    let flow = flows.get(&nat_key(client, AWAY))?;
    match SocketAddr::new(flow.source.into(), flow.port.number()) {
        SocketAddr::V4(mask) => Some(mask),
        SocketAddr::V6(_) => None,
    }
}

/// With all flows from another address.
fn elsewhere(state: State, address: Ipv4Addr) -> State {
    let nat = &state.memory.nat;
    let source = Address::v4(address.octets());
    for flow in nat.flows.borrow_mut().values_mut() {
        flow.source = source;
    }
    let ports = nat.ports.take().into_iter();
    let ports = ports.map(|(port, client)| (NatPort { source, ..port }, client));
    nat.ports.replace(ports.collect());
    state
}

fn client(number: u16) -> SocketAddrV4 {
    SocketAddrV4::new(*CLIENT.ip(), CLIENT.port() + number)
}

/// A client of its own address.
fn host(number: u16) -> SocketAddrV4 {
    let [a, b, c, d] = CLIENT.ip().octets();
    SocketAddrV4::new(Ipv4Addr::new(a, b, c, d + number as u8), CLIENT.port())
}
