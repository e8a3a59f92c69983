//! Fragments and ICMP errors inside other packets, and who is not told that something is too big.

use std::net::{Ipv4Addr, SocketAddrV4};

use switcher_common::abi::fragment::{Fragmented, fragmented};
use switcher_common::rewrite::Hop;
use switcher_common::verdict::{Reason, Verdict};

use super::{in_family, segment, sized, stays};
use crate::cases::{Case, draining, open, steady};
use crate::cave::{CAVE, Outer, WELL};
use crate::frame::{Build, flag};
use crate::pieces::{Family, forwarded};
use crate::town::{CLIENT, NOW, OUTSIDE, State, endpoint, flow_tag, id, link_of};

const ID: u32 = 0xbeef;
/// A router somewhere.
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

pub(super) fn cases() -> Vec<Case> {
    [unanswered(), parts(Family::V4), parts(Family::V6)].concat()
}

/// Too big, and nobody is told.
fn unanswered() -> Vec<Case> {
    let ack = segment(Family::V4);
    let nobody = Build {
        source: SocketAddrV4::new([224, 0, 0, 9].into(), 7),
        ..ack.clone()
    };
    let green = || State::new(steady().with_current(1));
    let large = |whole: Build| Build {
        payload: vec![7; 900],
        ..whole
    };
    let error = Family::V4.too_big(&large(Build::tcp(CAVE, CLIENT, flag::ACK)), ROUTER, 800);
    let [_, later, _] = Family::V4.pieces(
        &Build {
            payload: vec![7; 1500],
            ..Build::udp(CLIENT, WELL)
        },
        640,
        ID,
    );
    let dropped = |sentence, state, frame: Vec<u8>| {
        stays(sentence, state, frame, Verdict::Drop(Reason::TooBig))
    };
    vec![
        dropped(
            "too big, from nobody who could be told",
            green(),
            sized(&nobody, 700).bytes(),
        ),
        dropped("an error that is too big to travel inside", green(), error),
        dropped(
            "a later fragment that is too big to travel inside",
            follows(green(), 1),
            later,
        ),
    ]
}

/// Fragments and ICMP errors, to blue.
fn parts(family: Family) -> Vec<Case> {
    let whole = Build {
        payload: (0..150).collect(),
        ..Build::udp(CLIENT, WELL)
    };
    let [first, second, last] = family.pieces(&whole, 64, ID);
    let outer = Outer::of(&in_family(family, whole), 0);
    let about = |bytes| {
        let answer = Build {
            payload: vec![7; 100],
            ..Build::tcp(CAVE, CLIENT, flag::ACK)
        };
        family.too_big(&answer, ROUTER, bytes)
    };
    let error = || {
        let router = Build::udp(SocketAddrV4::new(ROUTER, 0), CAVE);
        let class = if family == Family::V4 { 0xc0 } else { 0 };
        Outer {
            class,
            ..Outer::of(&in_family(family, router), 0)
        }
    };
    let tagged = State::new(draining()).tag(CLIENT, CAVE, flow_tag(id(CAVE, 0)));
    let case = |sentence, state, frame: Vec<u8>, outer: Outer| {
        let hop = Hop {
            destination: link_of(*endpoint(CAVE, 0).ip()),
            source: OUTSIDE.link,
        };
        let out = outer.around(&forwarded(frame.clone(), hop));
        let (sentence, state) = (family.says(sentence), family.state(state));
        Case::bytes(sentence, state, frame, Verdict::Transmit, out)
    };
    vec![
        case(
            "the first fragment inside another packet",
            State::new(steady()),
            first,
            outer,
        ),
        case(
            "a later fragment inside another packet",
            follows(State::new(open()), 0),
            second.clone(),
            outer.portless(),
        ),
        case(
            "the last fragment inside another packet",
            follows(State::new(open()), 0),
            last,
            outer.portless(),
        ),
        stays(
            family.says("a fragment before the first one, for a tunnel"),
            family.state(State::new(steady())),
            second,
            Verdict::Drop(Reason::FragmentUnseen),
        ),
        case(
            "an error about an answer, inside another packet",
            State::new(steady()),
            about(8),
            error(),
        ),
        case(
            "in a window, an error inside another packet goes to the endpoint of the tag",
            tagged,
            about(100),
            error(),
        ),
    ]
}

/// After a first fragment that went to this colour's endpoint.
fn follows(state: State, colour: u16) -> State {
    let said = Fragmented {
        kind: fragmented::REQUEST,
        id: id(WELL, colour),
        seen: NOW,
        ..Fragmented::default()
    };
    state.fragmented(CLIENT, WELL, ID, false, said)
}
