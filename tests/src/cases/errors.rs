//! ICMP errors about packets of services, both ways.

mod families;

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use switcher_common::abi::{Note, note_kind};
use switcher_common::rewrite::Hop;
use switcher_common::steer::Ownership;
use switcher_common::verdict::{Reason, Verdict};

use super::{Case, draining, open, steady};
use crate::frame::{Build, flag};
use crate::pieces::{IcmpError, forwarded, fragments};
use crate::town::{
    ADOPTED, CALLS, CELL, CLIENT, FAR, GATEWAY, INSIDE, Interface, NEAR, OUTSIDE, PREVIEW, SHOP,
    State, WEB, endpoint, flow_tag, id, link_of,
};

/// Fragmentation needed and DF set.
const TOO_BIG: [u8; 2] = [3, 4];
/// Port unreachable.
const NO_PORT: [u8; 2] = [3, 3];
/// The least that is quoted of a transport header.
const LEAST: usize = 8;
/// A router somewhere.
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

pub(super) fn cases() -> Vec<Case> {
    [
        to_endpoints(),
        in_windows(),
        to_clients(),
        going_out(),
        strangers(),
        families::cases(),
    ]
    .concat()
}

/// About a packet that `source` has sent to `destination`.
fn about(whole: &Build, from: Ipv4Addr, kind: [u8; 2]) -> IcmpError {
    IcmpError {
        source: IpAddr::V4(from),
        destination: IpAddr::V4(*whole.source.ip()),
        kind,
        rest: if kind == TOO_BIG { 1280 } else { 0 },
        quote: Vec::new(),
    }
}

/// The error a client's router sends about a reply, with the reply as the router saw it and as the endpoint
/// has sent it.
fn about_reply(
    vip: SocketAddrV4,
    client: SocketAddrV4,
    server: SocketAddrV4,
    bytes: usize,
) -> [Vec<u8>; 2] {
    [vip, server].map(|source| {
        let reply = Build {
            payload: vec![7; 100],
            ..packet(source, client, vip == CALLS)
        };
        let error = about(&reply, ROUTER, TOO_BIG);
        error.quoting(&reply.bytes(), bytes).bytes()
    })
}

/// The error that `from` sends to the client about a request, with the request as it was rewritten and as the
/// client has sent it. `seems` is where the client sees it come from.
fn about_request(
    vip: SocketAddrV4,
    server: SocketAddrV4,
    from: Ipv4Addr,
    seems: Ipv4Addr,
    bytes: usize,
) -> [Vec<u8>; 2] {
    [(server, from), (vip, seems)].map(|(destination, from)| {
        let request = Build {
            payload: vec![7; 100],
            ..packet(CLIENT, destination, vip == CALLS)
        };
        let error = about(&request, from, if vip == CALLS { NO_PORT } else { TOO_BIG });
        error.quoting(&request.bytes(), bytes).bytes()
    })
}

fn packet(source: SocketAddrV4, destination: SocketAddrV4, udp: bool) -> Build {
    if udp {
        Build::udp(source, destination)
    } else {
        Build::tcp(source, destination, flag::ACK)
    }
}

fn to_endpoints() -> Vec<Case> {
    let steady = || State::new(steady());
    let to = |sentence, vip, colour, bytes| {
        let [frame, out] = about_reply(vip, CLIENT, endpoint(vip, colour), bytes);
        Case::bytes(sentence, steady(), frame, Verdict::Deliver, out)
    };
    let [shop, to_shop] = about_reply(SHOP, CLIENT, endpoint(SHOP, 0), LEAST);
    let [far, to_far] = about_reply(FAR, CLIENT, endpoint(FAR, 0), LEAST);
    let [late, to_late] = about_reply(SHOP, CLIENT, endpoint(SHOP, 0), LEAST).map(|mut frame| {
        // The TTL and, with it, the header's checksum.
        frame[22] = 1;
        frame[24..26].fill(0);
        let sum = !crate::frame::sum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    });
    vec![
        to("an error about a local endpoint's reply", WEB, 0, LEAST),
        to("one that quotes the checksum", WEB, 0, 20),
        to("one that quotes much", WEB, 0, 100),
        to("one about a container's reply", CELL, 0, LEAST),
        to("one about a datagram", CALLS, 0, LEAST),
        to("one about a whole datagram", CALLS, 0, 200),
        Case::bytes(
            "one about a routed endpoint's reply is forwarded",
            steady(),
            shop,
            Verdict::Redirect(INSIDE.index),
            forwarded(to_shop, hop(INSIDE, *endpoint(SHOP, 0).ip())),
        ),
        Case::bytes(
            "one for an endpoint without a known neighbour: translated, and the stack finds it",
            steady(),
            far,
            Verdict::Deliver,
            to_far,
        ),
        Case::bytes(
            "one at the end of its time to live: translated, and the stack drops it",
            steady(),
            late,
            Verdict::Deliver,
            to_late,
        ),
        untouched(
            "one about a reply of an endpoint that is the VIP",
            steady(),
            about_reply(ADOPTED, CLIENT, ADOPTED, LEAST)[0].clone(),
            Reason::Untouched,
        ),
    ]
}

fn in_windows() -> Vec<Case> {
    let to = |sentence, state, vip, client, colour| {
        let [frame, out] = about_reply(vip, client, endpoint(vip, colour), LEAST);
        let hop = (vip == SHOP).then(|| hop(INSIDE, *endpoint(SHOP, colour).ip()));
        let verdict = match hop {
            Some(_) => Verdict::Redirect(INSIDE.index),
            None => Verdict::Deliver,
        };
        let out = hop.map_or(out.clone(), |hop| forwarded(out, hop));
        Case::bytes(sentence, state, frame, verdict, out)
    };
    let tagged = State::new(draining()).tag(CLIENT, SHOP, flow_tag(id(SHOP, 0)));
    let owned = State::new(open()).socket(NEAR, endpoint(WEB, 0), Ownership::Owns);
    let call = State::new(open()).udp(CLIENT, CALLS, flow_tag(id(CALLS, 0)));
    vec![
        to(
            "an error about an unknown flow in an open window is old, and leaves no tag",
            State::new(open()),
            SHOP,
            CLIENT,
            0,
        )
        .forgets(CLIENT, SHOP),
        to(
            "an error about an unknown flow while the window drains is new",
            State::new(draining()),
            SHOP,
            CLIENT,
            1,
        )
        .forgets(CLIENT, SHOP),
        to("an error about a flow with a tag", tagged, SHOP, CLIENT, 0).remembers(
            CLIENT,
            SHOP,
            id(SHOP, 0),
        ),
        to(
            "an error about a connection that the old endpoint owns",
            owned,
            WEB,
            NEAR,
            0,
        ),
        to(
            "an error about a connection that nobody owns",
            State::new(open()),
            WEB,
            NEAR,
            1,
        ),
        to(
            "an error about a datagram of a known flow",
            call,
            CALLS,
            CLIENT,
            0,
        ),
        to(
            "an error about a datagram of an unknown flow leaves no tag",
            State::new(open()),
            CALLS,
            CLIENT,
            1,
        )
        .forgets(CLIENT, CALLS),
        to(
            "an error about a preview's reply",
            State::new(open()).previewed(CLIENT, id(CELL, 1)),
            PREVIEW,
            CLIENT,
            1,
        ),
    ]
}

fn to_clients() -> Vec<Case> {
    let server = endpoint(SHOP, 1);
    let [router, from_router] = about_request(SHOP, server, ROUTER, ROUTER, 20);
    let [host, from_host] = about_request(SHOP, server, *server.ip(), *SHOP.ip(), LEAST);
    let far = endpoint(FAR, 1);
    let [narrow, from_narrow] = about_request(FAR, far, *far.ip(), *FAR.ip(), 100);
    let out = hop(OUTSIDE, GATEWAY);
    let near = Build::tcp(NEAR, server, flag::ACK);
    let near = about(&near, ROUTER, TOO_BIG).quoting(&near.bytes(), LEAST);
    vec![
        Case::bytes(
            "a router behind us tells the client about a request: it quotes the VIP",
            State::new(steady()),
            router,
            Verdict::Transmit,
            forwarded(from_router, out),
        ),
        Case::bytes(
            "a routed endpoint tells the client about a request: it is the VIP that speaks",
            State::new(steady()),
            host,
            Verdict::Transmit,
            forwarded(from_host, out),
        ),
        Case::bytes(
            "a long quote",
            State::new(steady()),
            narrow,
            Verdict::Transmit,
            forwarded(from_narrow, out),
        ),
        untouched(
            "one for a client that is this host itself",
            State::new(steady()),
            near.bytes(),
            Reason::OwnReply,
        ),
    ]
}

fn going_out() -> Vec<Case> {
    let here = *OUTSIDE_ADDRESS;
    let out = |sentence, state: State, [frame, out]: [Vec<u8>; 2]| {
        Case::bytes(sentence, state, frame, Verdict::Deliver, out).outgoing()
    };
    let (cell, web) = (endpoint(CELL, 0), endpoint(WEB, 0));
    let calls = endpoint(CALLS, 0);
    let direct = Note {
        kind: note_kind::DIRECT,
        id: id(CELL, 0),
    };
    let previewed = State::new(open()).previewed(CLIENT, id(CELL, 1));
    let steady = || State::new(steady());
    vec![
        out(
            "this host tells the client that its request is too big for a container",
            steady(),
            about_request(CELL, cell, here, here, 100),
        ),
        out(
            "a container tells the client",
            steady(),
            about_request(CELL, cell, *cell.ip(), *CELL.ip(), LEAST),
        ),
        out(
            "a container tells the client that nobody listens",
            steady(),
            about_request(CALLS, calls, *calls.ip(), *CALLS.ip(), 200),
        ),
        out(
            "this host tells the client about a local endpoint",
            steady(),
            about_request(WEB, web, *web.ip(), *WEB.ip(), 20),
        ),
        out(
            "this host tells the client that its request is too big for a routed endpoint",
            steady(),
            about_request(SHOP, endpoint(SHOP, 0), here, here, 100),
        ),
        out(
            "the client of a preview is told of the preview",
            previewed,
            about_request(PREVIEW, endpoint(CELL, 1), here, here, LEAST),
        ),
        untouched(
            "a client that knows the endpoint's own address",
            steady().note(CLIENT, id(CELL, 0), direct),
            about_request(CELL, cell, here, here, LEAST)[0].clone(),
            Reason::NotOurs,
        )
        .outgoing(),
        untouched(
            "this host tells an endpoint that its reply is too big",
            steady(),
            about_reply(SHOP, CLIENT, endpoint(SHOP, 0), LEAST)[1].clone(),
            Reason::NotOurs,
        )
        .outgoing(),
    ]
}

fn strangers() -> Vec<Case> {
    let steady = || State::new(steady());
    let reply = Build {
        payload: vec![7; 100],
        ..Build::tcp(WEB, CLIENT, flag::ACK)
    };
    let error = about(&reply, ROUTER, TOO_BIG).quoting(&reply.bytes(), LEAST);
    let of_kind = |kind| {
        IcmpError {
            kind,
            ..error.clone()
        }
        .bytes()
    };
    let nobodys = Build {
        source: SocketAddrV4::new([192, 0, 2, 77].into(), 80),
        ..reply.clone()
    };
    let nobodys = about(&nobodys, ROUTER, TOO_BIG).quoting(&nobodys.bytes(), LEAST);
    let elsewhere = IcmpError {
        destination: IpAddr::V4(*CALLS.ip()),
        ..error.clone()
    };
    let later = &fragments(&reply.bytes(), 64, 7)[1];
    let quoted = |quote: Vec<u8>| {
        IcmpError {
            quote,
            ..error.clone()
        }
        .bytes()
    };
    let mut ping = error.quote.clone();
    ping[9] = 1;
    let mut six = error.quote.clone();
    six[0] = 0x65;
    let (short, shorter) = (error.quote[..27].to_vec(), error.quote[..19].to_vec());
    let direct = about_reply(endpoint(CELL, 0), CLIENT, endpoint(CELL, 0), LEAST);
    vec![
        untouched("a ping", steady(), of_kind([8, 0]), Reason::Protocol),
        untouched("a redirect", steady(), of_kind([5, 1]), Reason::Protocol),
        untouched(
            "a ping goes out",
            steady(),
            of_kind([0, 0]),
            Reason::NotOurs,
        )
        .outgoing(),
        untouched(
            "an error about nobody's packet",
            steady(),
            nobodys.bytes(),
            Reason::NotOurs,
        ),
        untouched(
            "an error for another than it quotes",
            steady(),
            elsewhere.bytes(),
            Reason::NotOurs,
        ),
        untouched(
            "an error about a later fragment",
            steady(),
            quoted(later[14..].to_vec()),
            Reason::Fragment,
        ),
        untouched(
            "an error about a ping",
            steady(),
            quoted(ping),
            Reason::Protocol,
        ),
        untouched(
            "an error about another family's packet",
            steady(),
            quoted(six),
            Reason::Malformed,
        ),
        untouched(
            "an error that quotes too little",
            steady(),
            quoted(short),
            Reason::Malformed,
        ),
        untouched(
            "an error that quotes less than a header",
            steady(),
            quoted(shorter),
            Reason::Malformed,
        ),
        untouched(
            "an error about a reply past the VIP",
            steady(),
            direct[0].clone(),
            Reason::NotOurs,
        ),
    ]
}

/// This host's own address on the outside.
const OUTSIDE_ADDRESS: &Ipv4Addr = &Ipv4Addr::new(192, 0, 2, 1);

fn hop(interface: Interface, neighbour: Ipv4Addr) -> Hop {
    Hop {
        destination: link_of(neighbour),
        source: interface.link,
    }
}

fn untouched(sentence: &'static str, state: State, frame: Vec<u8>, reason: Reason) -> Case {
    Case::bytes(sentence, state, frame.clone(), Verdict::Pass(reason), frame)
}
