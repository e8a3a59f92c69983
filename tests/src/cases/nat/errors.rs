//! ICMP errors about masqueraded packets: both ends change, in what is quoted and around it.

use std::net::{Ipv4Addr, SocketAddrV4};

use switcher_common::rewrite::Hop;
use switcher_common::verdict::{Reason, Verdict};

use super::at_port;
use crate::cases::{Case, Hook, open, steady};
use crate::frame::{Build, flag};
use crate::pieces::{Family, forwarded};
use crate::town::{
    AWAY, AWAY_PREVIEW, CLIENT, GATEWAY, INSIDE, Interface, MASK, Masked, OUTSIDE, RADIO, State,
    endpoint, id, link_of,
};

/// The least that is quoted of a transport header.
const LEAST: usize = 8;
/// A router somewhere.
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// A client that no route leads to.
const ASTRAY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 18, 7, 7), 40_000);

pub(super) fn cases() -> Vec<Case> {
    [Family::V4, Family::V6]
        .into_iter()
        .flat_map(|family| {
            [
                to_endpoints(family),
                to_clients(family),
                left_to_stack(family),
                nobodys(family),
            ]
            .concat()
        })
        .collect()
}

/// A flow of the client to a service, at an endpoint.
fn known(client: SocketAddrV4, vip: SocketAddrV4, colour: u16) -> State {
    let flow = Masked::at(id(vip, colour), MASK.port());
    State::new(open())
        .masks(MASK.port(), 2)
        .masked(client, vip, flow)
}

/// A packet of a service's protocol.
fn packet(source: SocketAddrV4, destination: SocketAddrV4, vip: SocketAddrV4) -> Build {
    let plain = match vip {
        RADIO => Build::udp(source, destination),
        _ => Build::tcp(source, destination, flag::ACK),
    };
    Build {
        payload: vec![7; 100],
        ..plain
    }
}

/// An error about a reply, as it comes to the VIP, as the stack would forward it, and as the endpoint gets it.
fn about_reply(
    family: Family,
    client: SocketAddrV4,
    vip: SocketAddrV4,
    colour: u16,
    bytes: usize,
) -> [Vec<u8>; 3] {
    let server = endpoint(vip, colour);
    let about =
        |source, destination, from| family.too_big(&packet(source, destination, vip), from, bytes);
    [
        about(vip, client, ROUTER),
        about(server, left(client), ROUTER),
        about(server, MASK, *MASK.ip()),
    ]
}

/// A client's side of a flow that the stack forwards.
const fn left(client: SocketAddrV4) -> SocketAddrV4 {
    SocketAddrV4::new(*client.ip(), MASK.port())
}

/// An error about a request, as it comes to this host, as the stack would forward it, and as the client gets it.
fn about_request(
    family: Family,
    client: SocketAddrV4,
    vip: SocketAddrV4,
    colour: u16,
    from: Ipv4Addr,
    bytes: usize,
) -> [Vec<u8>; 3] {
    let server = endpoint(vip, colour);
    let about =
        |source, destination, from| family.no_port(&packet(source, destination, vip), from, bytes);
    let seems = if from == *server.ip() {
        *vip.ip()
    } else {
        from
    };
    [
        about(MASK, server, from),
        about(left(client), server, from),
        about(client, vip, seems),
    ]
}

fn to_endpoints(family: Family) -> Vec<Case> {
    let goes = |sentence, vip, colour, bytes| {
        let [frame, _, out] = about_reply(family, CLIENT, vip, colour, bytes);
        let out = forwarded(out, hop(INSIDE, *endpoint(vip, colour).ip()));
        let verdict = Verdict::Redirect(INSIDE.index);
        let state = known(CLIENT, vip, colour);
        case(family, sentence, state, frame, verdict, out)
    };
    vec![
        goes(
            "an error about a masqueraded endpoint's reply",
            AWAY,
            0,
            LEAST,
        ),
        goes("masqueraded: one that quotes the checksum", AWAY, 0, 20),
        goes("masqueraded: one that quotes much", AWAY, 0, 120),
        goes(
            "masqueraded: one about a preview's reply",
            AWAY_PREVIEW,
            1,
            LEAST,
        ),
        goes("masqueraded: one about a datagram", RADIO, 0, LEAST),
        goes("masqueraded: one about a whole datagram", RADIO, 0, 200),
    ]
}

fn to_clients(family: Family) -> Vec<Case> {
    let goes = |sentence, vip, colour, from, bytes| {
        let [frame, _, out] = about_request(family, CLIENT, vip, colour, from, bytes);
        let out = forwarded(out, hop(OUTSIDE, GATEWAY));
        let state = known(CLIENT, vip, colour);
        case(family, sentence, state, frame, Verdict::Transmit, out)
    };
    let server = *endpoint(AWAY, 0).ip();
    let radio = *endpoint(RADIO, 0).ip();
    vec![
        goes(
            "a router tells the client about a masqueraded request",
            AWAY,
            0,
            ROUTER,
            LEAST,
        ),
        goes(
            "a masqueraded endpoint tells the client: it is the VIP that speaks",
            AWAY,
            0,
            server,
            20,
        ),
        goes(
            "masqueraded: the client of a preview is told of the preview",
            AWAY_PREVIEW,
            1,
            ROUTER,
            100,
        ),
        goes(
            "a masqueraded endpoint tells the client that nobody listens",
            RADIO,
            0,
            radio,
            200,
        ),
    ]
}

fn left_to_stack(family: Family) -> Vec<Case> {
    let [to_red, half_red, at_red] = about_reply(family, CLIENT, AWAY, 2, LEAST);
    let [astray, half_astray, at_client] = about_request(family, ASTRAY, AWAY, 0, ROUTER, 20);
    let server = *endpoint(AWAY, 0).ip();
    let [_, half_server, from_vip] = about_request(family, CLIENT, AWAY, 0, server, LEAST);
    let [_, half_preview, from_preview] =
        about_request(family, CLIENT, AWAY_PREVIEW, 1, *MASK.ip(), 100);
    let [_, half_call, whole_call] = about_reply(family, CLIENT, RADIO, 0, 200);
    let comes =
        |sentence, state, frame, out| case(family, sentence, state, frame, Verdict::Deliver, out);
    let leaves = |sentence, state, frame, out| Case {
        hook: Hook::Egress,
        ..comes(sentence, state, frame, out)
    };
    vec![
        comes(
            "an error for a masqueraded endpoint without a neighbour: its source follows at egress",
            known(CLIENT, AWAY, 2),
            to_red,
            half_red.clone(),
        ),
        leaves(
            "an error for a masqueraded endpoint leaves",
            known(CLIENT, AWAY, 2),
            half_red,
            at_red,
        ),
        comes(
            "an error for a client that no route leads to: the rest follows at egress",
            known(ASTRAY, AWAY, 0),
            astray,
            half_astray.clone(),
        ),
        leaves(
            "an error for a masqueraded client leaves",
            known(ASTRAY, AWAY, 0),
            half_astray,
            at_client,
        ),
        leaves(
            "a masqueraded endpoint's error leaves: it is the VIP that speaks",
            known(CLIENT, AWAY, 0),
            half_server,
            from_vip,
        ),
        leaves(
            "this host tells a preview's client that its request is too big",
            known(CLIENT, AWAY_PREVIEW, 1),
            half_preview,
            from_preview,
        ),
        leaves(
            "this host tells a masqueraded endpoint that its datagram is too big",
            known(CLIENT, RADIO, 0),
            half_call,
            whole_call,
        ),
    ]
}

fn nobodys(family: Family) -> Vec<Case> {
    let [reply, half, _] = about_reply(family, CLIENT, AWAY, 0, LEAST);
    let [request, ..] = about_request(family, CLIENT, AWAY, 0, ROUTER, LEAST);
    let none = || State::new(steady()).masks(MASK.port(), 2);
    let own = packet(at_port(45_000), endpoint(AWAY, 0), AWAY);
    let own = family.too_big(&own, ROUTER, LEAST);
    let passes = |sentence, state, frame: Vec<u8>| {
        let verdict = Verdict::Pass(Reason::NotOurs);
        case(family, sentence, state, frame.clone(), verdict, frame)
    };
    vec![
        passes(
            "an error about a reply of no known masqueraded flow",
            none(),
            reply,
        ),
        passes(
            "an error about a request of no known masqueraded flow",
            none(),
            request,
        ),
        passes(
            "an error about this host's own packet to a masqueraded endpoint",
            known(CLIENT, AWAY, 0),
            own,
        ),
        Case {
            hook: Hook::Egress,
            ..passes(
                "an error for a masqueraded endpoint, of no known flow, leaves",
                none(),
                half,
            )
        },
    ]
}

fn hop(interface: Interface, neighbour: Ipv4Addr) -> Hop {
    Hop {
        destination: link_of(neighbour),
        source: interface.link,
    }
}

fn case(
    family: Family,
    sentence: &'static str,
    state: State,
    frame: Vec<u8>,
    verdict: Verdict,
    out: Vec<u8>,
) -> Case {
    Case::bytes(
        family.says(sentence),
        family.state(state),
        frame,
        verdict,
        out,
    )
}
