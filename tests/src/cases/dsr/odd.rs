//! Fragments and ICMP errors for endpoints that have the VIP: nothing of them changes but link addresses.

use std::net::{Ipv4Addr, SocketAddrV4};

use switcher_common::abi::fragment::{Fragmented, fragmented};
use switcher_common::rewrite::Hop;
use switcher_common::verdict::{Reason, Verdict};

use crate::cases::{Case, Hook, draining, open, steady};
use crate::frame::{Build, flag};
use crate::pieces::{Family, forwarded};
use crate::town::{
    BELL, CLIENT, DOOR, Interface, NARROW, NOW, OUTSIDE, State, endpoint, flow_tag, id, link_of,
};

const ID: u32 = 0xbeef;
/// A router somewhere.
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

pub(super) fn cases() -> Vec<Case> {
    let families = [Family::V4, Family::V6].into_iter();
    let mut cases: Vec<Case> = families
        .flat_map(|family| [fragments(family), errors(family)].concat())
        .collect();
    cases.push(by_another_interface());
    cases
}

fn fragments(family: Family) -> Vec<Case> {
    let [first, second, last] = pieces(family);
    let to = |colour| follows(State::new(open()), colour);
    let relayed =
        |sentence, state, frame: Vec<u8>| sent(family, sentence, state, frame, Verdict::Transmit);
    vec![
        relayed(
            "the first fragment to a neighbour that has the VIP, too",
            State::new(steady()),
            first.clone(),
        ),
        relayed(
            "a later fragment to a neighbour that has the VIP, too",
            to(0),
            second.clone(),
        ),
        relayed(
            "the last fragment to a neighbour that has the VIP, too",
            to(0),
            last,
        ),
        stays(
            family,
            "the first fragment to a neighbour whose link address nobody knows",
            State::new(steady().with_current(2)),
            first,
            Verdict::Drop(Reason::NoNeighbour),
        ),
        stays(
            family,
            "a later fragment to a neighbour whose link address nobody knows",
            to(2),
            second.clone(),
            Verdict::Drop(Reason::NoNeighbour),
        ),
        stays(
            family,
            "a fragment before the first one, for a neighbour that has the VIP, too",
            State::new(steady()),
            second.clone(),
            Verdict::Drop(Reason::FragmentUnseen),
        ),
        Case {
            hook: Hook::Egress,
            ..stays(
                family,
                "a later fragment to a neighbour that has the VIP, too, leaves as it came",
                to(0),
                second,
                Verdict::Pass(Reason::NotOurs),
            )
        },
    ]
}

fn by_another_interface() -> Case {
    let [_, second, _] = pieces(Family::V4);
    let verdict = Verdict::Redirect(NARROW.index);
    let out = forwarded(second.clone(), hop(NARROW, *endpoint(BELL, 1).ip()));
    Case::bytes(
        "a later fragment to a neighbour that has the VIP, by another interface",
        follows(State::new(steady()), 1),
        second,
        verdict,
        out,
    )
}

fn errors(family: Family) -> Vec<Case> {
    let about = |whole: Build, bytes| {
        let payload = vec![7; 100];
        family.too_big(&Build { payload, ..whole }, ROUTER, bytes)
    };
    let segment = |bytes| about(Build::tcp(DOOR, CLIENT, flag::ACK), bytes);
    let tagged = State::new(draining()).tag(CLIENT, DOOR, flow_tag(id(DOOR, 0)));
    let relayed = |sentence, state, frame| sent(family, sentence, state, frame, Verdict::Transmit);
    vec![
        relayed(
            "an error about an answer that did not pass this host",
            State::new(steady()),
            segment(8),
        ),
        relayed(
            "an error that quotes much of an answer",
            State::new(steady()),
            segment(100),
        ),
        relayed(
            "in a window, an error goes to the neighbour of the tag",
            tagged,
            segment(8),
        ),
        relayed(
            "an error about a datagram of a neighbour that has the VIP",
            State::new(steady()),
            about(Build::udp(BELL, CLIENT), 8),
        ),
        stays(
            family,
            "an error for a neighbour whose link address nobody knows",
            State::new(steady().with_current(2)),
            segment(8),
            Verdict::Drop(Reason::NoNeighbour),
        ),
    ]
}

fn pieces(family: Family) -> [Vec<u8>; 3] {
    let whole = Build {
        payload: (0..150).collect(),
        ..Build::udp(CLIENT, BELL)
    };
    family.pieces(&whole, 64, ID)
}

/// After a first fragment that went to this colour's endpoint.
fn follows(state: State, colour: u16) -> State {
    let said = Fragmented {
        kind: fragmented::REQUEST,
        id: id(BELL, colour),
        seen: NOW,
        ..Fragmented::default()
    };
    let (client, bell): (SocketAddrV4, SocketAddrV4) = (CLIENT, BELL);
    state.fragmented(client, bell, ID, false, said)
}

/// To blue.
fn sent(
    family: Family,
    sentence: &'static str,
    state: State,
    frame: Vec<u8>,
    verdict: Verdict,
) -> Case {
    let out = forwarded(frame.clone(), hop(OUTSIDE, *endpoint(DOOR, 0).ip()));
    Case::bytes(
        family.says(sentence),
        family.state(state),
        frame,
        verdict,
        out,
    )
}

fn stays(
    family: Family,
    sentence: &'static str,
    state: State,
    frame: Vec<u8>,
    verdict: Verdict,
) -> Case {
    let (sentence, state) = (family.says(sentence), family.state(state));
    Case::bytes(sentence, state, frame.clone(), verdict, frame)
}

fn hop(interface: Interface, neighbour: Ipv4Addr) -> Hop {
    Hop {
        destination: link_of(neighbour),
        source: interface.link,
    }
}
