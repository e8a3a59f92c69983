//! Fragments and ICMP errors over IPv6, for a service whose endpoint is in another network namespace.

use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};

use switcher_common::abi::fragment::{FragmentKey, Fragmented, fragment_keys, fragmented};
use switcher_common::abi::{
    Address, AddressKey, Endpoint, Port, Service, TableRef, UDP, address_kind, endpoint_flags,
    service_flags,
};
use switcher_common::verdict::{Reason, Verdict};

use super::{Case, steady};
use crate::pieces::{IcmpError, datagram, fragments};
use crate::town::{GROUP, NOW, State};

const VIP: SocketAddrV6 = at(0x84, 5060);
const SERVER: SocketAddrV6 = at(0x2_0011, 6060);
const CLIENT: SocketAddrV6 = at(0xc_0007, 40_000);
const ROUTER: SocketAddrV6 = at(0xd_0001, 0);
/// Numbers that nothing else in the town has.
const INDEX: u16 = 60;
const ID: u16 = 960;
const IDENTIFICATION: u32 = 0xdead_beef;
/// Packet too big (RFC 4443, 3.2).
const TOO_BIG: [u8; 2] = [2, 0];
/// Port unreachable.
const NO_PORT: [u8; 2] = [1, 4];

const fn at(last: u32, port: u16) -> SocketAddrV6 {
    let [high, low] = [(last >> 16) as u16, last as u16];
    let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, high, low);
    SocketAddrV6::new(address, port, 0, 0)
}

pub(super) fn cases() -> Vec<Case> {
    [in_fragments(), errors()].concat()
}

fn state() -> State {
    let mut state = State::new(steady());
    let memory = &mut state.memory;
    let (address, port) = parts(VIP);
    let table = TableRef::new(200 * TableRef::UNIT, 8);
    let mut service = Service {
        address,
        port,
        protocol: UDP,
        flags: service_flags::PRESENT | service_flags::PER_PACKET,
        group: GROUP,
        parent: INDEX,
        ..Service::default()
    };
    service.tables[0] = table;
    memory.fill(table, &[ID; TableRef::UNIT as usize]);
    let (server, server_port) = parts(SERVER);
    let endpoint = Endpoint {
        address: server,
        port: server_port,
        protocol: UDP,
        flags: endpoint_flags::PRESENT,
        service: INDEX,
        counter: 900,
        ..Endpoint::default()
    };
    let keys = fragment_keys(&service, &endpoint).into_iter().flatten();
    keys.for_each(|key| memory.publish(key, 0));
    let key = |address, port, kind| AddressKey {
        address,
        port,
        protocol: UDP,
        kind,
        reserved: 0,
    };
    memory.services.insert(INDEX, service);
    memory.endpoints.insert(ID, endpoint);
    memory.publish(key(address, port, address_kind::SERVICE), INDEX);
    memory.publish(key(server, server_port, address_kind::ENDPOINT), ID);
    state
}

fn in_fragments() -> Vec<Case> {
    let pieces = |source, destination| -> [Vec<u8>; 3] {
        let whole = datagram(source, destination, &[7; 150]);
        let all = fragments(&whole, 64, IDENTIFICATION);
        all.try_into().expect("three fragments")
    };
    let [first, second, last] = pieces(CLIENT, VIP);
    let [to_server, then_server, last_server] = pieces(CLIENT, SERVER);
    let [reply, then_reply, _] = pieces(SERVER, CLIENT);
    let [from_vip, then_vip, _] = pieces(VIP, CLIENT);
    let request = || followed(CLIENT, VIP, fragmented::REQUEST);
    vec![
        case(
            "IPv6: the first fragment",
            state(),
            first,
            Verdict::Deliver,
            to_server,
        ),
        case(
            "IPv6: a later fragment",
            request(),
            second.clone(),
            Verdict::Deliver,
            then_server,
        ),
        case(
            "IPv6: the last fragment",
            request(),
            last,
            Verdict::Deliver,
            last_server,
        ),
        case(
            "IPv6: a fragment before the first one",
            state(),
            second.clone(),
            Verdict::Drop(Reason::FragmentUnseen),
            second,
        ),
        case(
            "IPv6: a reply's first fragment",
            state(),
            reply,
            Verdict::Deliver,
            from_vip,
        )
        .outgoing(),
        case(
            "IPv6: a reply's later fragment",
            followed(SERVER, CLIENT, fragmented::REPLY),
            then_reply,
            Verdict::Deliver,
            then_vip,
        )
        .outgoing(),
    ]
}

/// With what the first fragment of a datagram said.
fn followed(source: SocketAddrV6, destination: SocketAddrV6, kind: u16) -> State {
    let state = state();
    let key = FragmentKey {
        source: parts(source).0,
        destination: parts(destination).0,
        identification: IDENTIFICATION.to_be(),
        protocol: 0,
    };
    let said = Fragmented {
        kind,
        id: ID,
        service: INDEX,
        seen: NOW,
        ..Fragmented::default()
    };
    state.memory.fragments.borrow_mut().insert(key, said);
    state
}

fn errors() -> Vec<Case> {
    let about = |source: SocketAddrV6, destination, from: SocketAddrV6, kind, bytes| {
        let whole = datagram(source, destination, &[7; 150]);
        let error = IcmpError {
            source: IpAddr::V6(*from.ip()),
            destination: IpAddr::V6(*source.ip()),
            kind,
            rest: 1280,
            quote: Vec::new(),
        };
        error.quoting(&whole, bytes).bytes()
    };
    let reply = |source, bytes| about(source, CLIENT, ROUTER, TOO_BIG, bytes);
    let request = |to, from, kind| about(CLIENT, to, from, kind, 100);
    let ping = about(VIP, CLIENT, ROUTER, [128, 0], 8);
    let advertisement = about(VIP, CLIENT, ROUTER, [136, 0], 8);
    vec![
        case(
            "IPv6: too big, about a reply",
            state(),
            reply(VIP, 8),
            Verdict::Deliver,
            reply(SERVER, 8),
        ),
        case(
            "IPv6: too big, with a long quote",
            state(),
            reply(VIP, 200),
            Verdict::Deliver,
            reply(SERVER, 200),
        ),
        case(
            "IPv6: this host tells the client that its request is too big",
            state(),
            request(SERVER, ROUTER, TOO_BIG),
            Verdict::Deliver,
            request(VIP, ROUTER, TOO_BIG),
        )
        .outgoing(),
        case(
            "IPv6: the endpoint tells the client that nobody listens",
            state(),
            request(SERVER, SERVER, NO_PORT),
            Verdict::Deliver,
            request(VIP, VIP, NO_PORT),
        )
        .outgoing(),
        as_it_is("IPv6: a ping", ping),
        as_it_is("IPv6: a neighbour advertisement", advertisement),
    ]
}

fn parts(whole: SocketAddrV6) -> (Address, Port) {
    (Address::v6(whole.ip().octets()), Port::new(whole.port()))
}

fn as_it_is(sentence: &'static str, frame: Vec<u8>) -> Case {
    let verdict = Verdict::Pass(Reason::Protocol);
    case(sentence, state(), frame.clone(), verdict, frame)
}

fn case(
    sentence: &'static str,
    state: State,
    frame: Vec<u8>,
    verdict: Verdict,
    out: Vec<u8>,
) -> Case {
    Case::bytes(sentence, state, frame, verdict, out)
}
