//! Fragments: only the first has ports.

use std::net::SocketAddrV4;

use switcher_common::abi::fragment::{FRAGMENTS_LIFE, Fragmented, fragmented};
use switcher_common::rewrite::Hop;
use switcher_common::verdict::{Reason, Verdict};

use super::{Case, open, steady};
use crate::frame::{Build, flag};
use crate::pieces::{forwarded, fragments};
use crate::town::{
    CALLS, CELL, CLIENT, FAR, GATEWAY, INSIDE, Interface, NOW, OUTSIDE, SHOP, State, WEB, endpoint,
    id, link_of, service,
};

/// Bytes of a fragment.
const PIECE: usize = 64;
/// Identification of the datagrams here.
const ID: u32 = 0xbeef;

pub(super) fn cases() -> Vec<Case> {
    let call = Build {
        payload: (0..150).collect(),
        ..Build::udp(CLIENT, CALLS)
    };
    let order = Build {
        payload: (0..150).collect(),
        ..Build::tcp(CLIENT, SHOP, flag::ACK)
    };
    [requests(&call), routed(&order), replies(), strangers(&call)].concat()
}

/// The three fragments of a frame.
fn pieces(whole: &Build) -> [Vec<u8>; 3] {
    let all = fragments(&whole.bytes(), PIECE, ID);
    all.try_into().expect("three fragments")
}

fn requests(call: &Build) -> Vec<Case> {
    let [first, second, last] = pieces(call);
    let [to_blue, then_blue, last_blue] = pieces(&call.clone().to(endpoint(CALLS, 0)));
    let [to_green, ..] = pieces(&call.clone().to(endpoint(CALLS, 1)));
    let blue = |state| following(state, CLIENT, CALLS, request(id(CALLS, 0)));
    let ago = |ticks| Fragmented {
        seen: NOW - ticks,
        ..request(id(CALLS, 0))
    };
    let then = |ticks| following(State::new(steady()), CLIENT, CALLS, ago(ticks));
    let (web, there) = (Build::tcp(CLIENT, WEB, flag::ACK), endpoint(WEB, 0));
    let web = Build {
        payload: vec![7; 150],
        ..web
    };
    let ([web_first, web_second, _], [to_web, ..]) = (pieces(&web), pieces(&web.clone().to(there)));
    let gone = following(State::new(steady()), CLIENT, CALLS, request(999));
    let unseen = Verdict::Drop(Reason::FragmentUnseen);
    vec![
        delivered(
            "the first fragment is steered",
            State::new(steady()),
            first.clone(),
            to_blue,
        ),
        delivered(
            "the first fragment after a switch",
            State::new(open()),
            first,
            to_green,
        ),
        delivered(
            "a later fragment goes where the first one went, whatever is current",
            blue(State::new(open())),
            second.clone(),
            then_blue.clone(),
        ),
        delivered(
            "the last fragment goes where the first one went",
            blue(State::new(steady())),
            last,
            last_blue,
        ),
        delivered(
            "a fragment that comes late",
            then(FRAGMENTS_LIFE - 1),
            second.clone(),
            then_blue,
        ),
        as_it_is(
            "a fragment that comes too late",
            then(FRAGMENTS_LIFE + 2),
            second.clone(),
            unseen,
        ),
        as_it_is(
            "a fragment before the first one",
            State::new(steady()),
            second.clone(),
            unseen,
        ),
        as_it_is(
            "a fragment whose endpoint is gone",
            gone,
            second,
            Verdict::Pass(Reason::NoEndpoint),
        ),
        delivered(
            "only the port changes: the first fragment",
            State::new(steady()),
            web_first,
            to_web,
        ),
        as_it_is(
            "only the port changes: a fragment without ports, first or not",
            State::new(steady()),
            web_second,
            Verdict::Pass(Reason::NotOurs),
        ),
    ]
}

fn routed(order: &Build) -> Vec<Case> {
    let [first, second, _] = pieces(order);
    let [to_blue, then_blue, _] = pieces(&order.clone().to(endpoint(SHOP, 0)));
    let hop = hop(INSIDE, *endpoint(SHOP, 0).ip());
    let redirect = Verdict::Redirect(INSIDE.index);
    let known = following(State::new(steady()), CLIENT, SHOP, request(id(SHOP, 0)));
    let far = Build {
        payload: vec![7; 150],
        ..Build::tcp(CLIENT, FAR, flag::ACK)
    };
    let ([_, far_second, _], [_, then_far, _]) =
        (pieces(&far), pieces(&far.clone().to(endpoint(FAR, 0))));
    let far_known = following(State::new(steady()), CLIENT, FAR, request(id(FAR, 0)));
    vec![
        Case::bytes(
            "the first fragment is forwarded",
            State::new(steady()),
            first,
            redirect,
            forwarded(to_blue, hop),
        ),
        Case::bytes(
            "a later fragment is forwarded",
            known,
            second,
            redirect,
            forwarded(then_blue, hop),
        ),
        delivered(
            "a later fragment without a known neighbour: rewritten, and the stack finds one",
            far_known,
            far_second,
            then_far,
        ),
    ]
}

fn replies() -> Vec<Case> {
    let reply = |from| Build {
        payload: (0..150).collect(),
        ..Build::udp(from, CLIENT)
    };
    let called = reply(endpoint(CALLS, 1));
    let ordered = Build {
        payload: (0..150).collect(),
        ..Build::tcp(endpoint(SHOP, 1), CLIENT, flag::ACK)
    };
    let [first, second, _] = pieces(&called);
    let [from_calls, then_calls, _] = pieces(&called.clone().from(CALLS));
    let [shop_first, shop_second, _] = pieces(&ordered);
    let [from_shop, then_shop, _] = pieces(&ordered.clone().from(SHOP));
    let said = |vip, colour| Fragmented {
        kind: fragmented::REPLY,
        id: id(vip, colour),
        service: service(vip),
        seen: NOW,
        ..Fragmented::default()
    };
    let known = |vip, colour| {
        let server = endpoint(vip, colour);
        following(State::new(steady()), server, CLIENT, said(vip, colour))
    };
    let out = hop(OUTSIDE, GATEWAY);
    let unseen = Verdict::Pass(Reason::FragmentUnseen);
    vec![
        delivered(
            "a reply's first fragment gets the VIP's address",
            State::new(steady()),
            first,
            from_calls,
        )
        .outgoing(),
        delivered(
            "a reply's later fragment gets the VIP's address",
            known(CALLS, 1),
            second.clone(),
            then_calls,
        )
        .outgoing(),
        as_it_is(
            "a later fragment from an endpoint's address, of nothing that is known",
            State::new(steady()),
            second,
            unseen,
        )
        .outgoing(),
        Case::bytes(
            "a routed endpoint's first fragment",
            State::new(steady()),
            shop_first,
            Verdict::Transmit,
            forwarded(from_shop, out),
        ),
        Case::bytes(
            "a routed endpoint's later fragment",
            known(SHOP, 1),
            shop_second.clone(),
            Verdict::Transmit,
            forwarded(then_shop, out),
        ),
        as_it_is(
            "a later fragment of a routed endpoint, of nothing that is known",
            State::new(steady()),
            shop_second,
            unseen,
        ),
    ]
}

fn strangers(call: &Build) -> Vec<Case> {
    let not_ours = Verdict::Pass(Reason::NotOurs);
    let port = |whole: &Build| {
        let destination = SocketAddrV4::new(*whole.destination.ip(), 4500);
        pieces(&whole.clone().to(destination))
    };
    let [first, second, _] = port(call);
    let passes = Fragmented {
        kind: fragmented::PASSES,
        seen: NOW,
        ..Fragmented::default()
    };
    let nobody = SocketAddrV4::new([192, 0, 2, 77].into(), 5060);
    let [nobodys, nobodys_second, _] = pieces(&call.clone().to(nobody));
    let [out_first, out_second, _] = pieces(&call.clone().from(nobody).to(CLIENT));
    let direct = Build {
        payload: (0..150).collect(),
        ..Build::udp(CLIENT, endpoint(CALLS, 0))
    };
    let [direct, ..] = pieces(&direct);
    let ping = |mut frame: Vec<u8>| {
        frame[23] = 1;
        frame
    };
    let other = Build {
        payload: vec![7; 150],
        ..Build::udp(CLIENT, CELL)
    };
    let [_, other, _] = pieces(&other);
    vec![
        as_it_is(
            "the first fragment to a VIP's other port",
            State::new(steady()),
            first,
            not_ours,
        ),
        as_it_is(
            "a later fragment to a VIP's other port",
            following(State::new(steady()), CLIENT, CALLS, passes),
            second.clone(),
            not_ours,
        ),
        as_it_is(
            "the first fragment to nobody",
            State::new(steady()),
            nobodys.clone(),
            not_ours,
        ),
        as_it_is(
            "a later fragment to nobody",
            State::new(steady()),
            nobodys_second,
            not_ours,
        ),
        as_it_is(
            "a later fragment to a VIP of another protocol",
            State::new(steady()),
            other,
            not_ours,
        ),
        as_it_is(
            "the first fragment past the VIP",
            State::new(steady()),
            direct,
            not_ours,
        ),
        as_it_is(
            "a fragment of a ping",
            State::new(steady()),
            ping(second),
            Verdict::Pass(Reason::Protocol),
        ),
        as_it_is(
            "the first fragment of a ping",
            State::new(steady()),
            ping(nobodys),
            Verdict::Pass(Reason::Protocol),
        ),
        as_it_is(
            "somebody's first fragment goes out",
            State::new(steady()),
            out_first,
            not_ours,
        )
        .outgoing(),
        as_it_is(
            "somebody's later fragment goes out",
            State::new(steady()),
            out_second,
            not_ours,
        )
        .outgoing(),
    ]
}

fn request(endpoint: u16) -> Fragmented {
    Fragmented {
        kind: fragmented::REQUEST,
        id: endpoint,
        seen: NOW,
        ..Fragmented::default()
    }
}

/// With what the first fragment of a datagram said.
fn following(
    state: State,
    source: SocketAddrV4,
    destination: SocketAddrV4,
    said: Fragmented,
) -> State {
    let tcp = [SHOP, FAR].contains(&destination) || source == endpoint(SHOP, 1);
    state.fragmented(source, destination, ID, tcp, said)
}

fn hop(interface: Interface, neighbour: std::net::Ipv4Addr) -> Hop {
    Hop {
        destination: link_of(neighbour),
        source: interface.link,
    }
}

fn delivered(sentence: &'static str, state: State, frame: Vec<u8>, out: Vec<u8>) -> Case {
    Case::bytes(sentence, state, frame, Verdict::Deliver, out)
}

fn as_it_is(sentence: &'static str, state: State, frame: Vec<u8>, verdict: Verdict) -> Case {
    Case::bytes(sentence, state, frame.clone(), verdict, frame)
}
