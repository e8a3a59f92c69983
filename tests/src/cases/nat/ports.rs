//! Which address and port of this host a masqueraded flow gets: what the flow's hash says, and what is left.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use switcher_common::abi::Address;
use switcher_common::abi::nat::NatPort;
use switcher_common::nat::TRIES;
use switcher_common::pipeline;
use switcher_common::verdict::{Reason, Verdict};

use super::masked;
use crate::cases::{Case, steady};
use crate::frame::{Build, flag};
use crate::town::{
    AWAY, CLIENT, GATEWAY, INSIDE, MASK, Masked, OUTSIDE, State, endpoint, id, link_of, nat_key,
};

/// More ports than are tried for a flow.
const PORTS: u16 = 64;
/// This host's other address inside.
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);

/// Other ports are tried in IPv6, whose addresses have other hashes.
pub(super) fn cases() -> Vec<Case> {
    let cases = [tried(), addresses()].concat();
    cases.into_iter().map(Case::only_v4).collect()
}

fn tried() -> Vec<Case> {
    let syn = Build::tcp(CLIENT, AWAY, flag::SYN);
    let with = |ports| {
        let all = State::new(steady()).masks(MASK.port(), ports);
        (1..TRIES as u16).fold(all, taken)
    };
    let (many, few) = (with(PORTS), with(TRIES as u16));
    let goes_on = |sentence, state: State| {
        let mask = taken_next(&state, CLIENT).expect("one of the ports that are tried");
        let verdict = Verdict::Redirect(INSIDE.index);
        Case::incoming(sentence, state, &syn, verdict, &masked(&syn, 0, mask)).masquerades(
            CLIENT,
            AWAY,
            id(AWAY, 0),
            mask.port(),
        )
    };
    let refused = |sentence, state| {
        let verdict = Verdict::Drop(Reason::NatExhausted);
        Case::untouched(sentence, state, &syn, verdict).forgets_masquerade(CLIENT, AWAY)
    };
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

fn addresses() -> Vec<Case> {
    let both = || State::new(steady()).masks(MASK.port(), 1).and_masks(OTHER);
    let from = |address: Ipv4Addr| {
        let mut clients = (0..64).map(client);
        clients.find(|client| taken_next(&both(), *client).is_some_and(|it| *it.ip() == address))
    };
    let goes_on = |sentence, address| {
        let client = from(address).expect("both addresses are used");
        let syn = Build::tcp(client, AWAY, flag::SYN);
        let mask = SocketAddrV4::new(address, MASK.port());
        let verdict = Verdict::Redirect(INSIDE.index);
        Case::incoming(sentence, both(), &syn, verdict, &masked(&syn, 0, mask))
    };
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
