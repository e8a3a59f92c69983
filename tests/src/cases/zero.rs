//! A UDP checksum that is computed as zero is sent as all ones (RFC 768), whatever has changed it.

use std::net::{Ipv4Addr, SocketAddrV4};

use switcher_common::rewrite::Hop;
use switcher_common::verdict::Verdict;

use super::{Case, steady};
use crate::frame::Build;
use crate::pieces::{Family, forwarded};
use crate::town::{
    CALLS, CLIENT, GATEWAY, INSIDE, MASK, Masked, NAMES, OUTSIDE, RADIO, State, endpoint, id,
    link_of,
};

pub(super) fn cases() -> Vec<Case> {
    let families = [Family::V4, Family::V6].into_iter();
    families.flat_map(of).collect()
}

fn of(family: Family) -> Vec<Case> {
    let steady = || State::new(steady());
    let (names, radio) = (endpoint(NAMES, 0), endpoint(RADIO, 0));
    let known = Masked::at(id(RADIO, 0), MASK.port());
    let known = steady().masks(MASK.port(), 1).masked(CLIENT, RADIO, known);
    let case = |sentence, state, verdict, (frame, out): (Build, Build)| {
        let [frame, out] = [frame, out].map(|it| it.bytes());
        Case::bytes(
            family.says(sentence),
            family.state(state),
            frame,
            verdict,
            out,
        )
    };
    let hop = |(frame, out): (Build, Build), link, to| (frame, out.hop(link, link_of(to)));
    vec![
        case(
            "a request's checksum that is computed as zero is sent as all ones",
            steady(),
            Verdict::Deliver,
            zero(family, [CLIENT, NAMES], [CLIENT, names]),
        ),
        case(
            "a reply's checksum that is computed as zero is sent as all ones",
            steady(),
            Verdict::Deliver,
            zero(family, [names, CLIENT], [NAMES, CLIENT]),
        )
        .outgoing(),
        case(
            "a masqueraded request's checksum that is computed as zero is sent as all ones",
            steady().masks(MASK.port(), 1),
            Verdict::Redirect(INSIDE.index),
            hop(
                zero(family, [CLIENT, RADIO], [MASK, radio]),
                INSIDE.link,
                *radio.ip(),
            ),
        ),
        case(
            "a masqueraded reply's checksum that is computed as zero is sent as all ones",
            known,
            Verdict::Transmit,
            hop(
                zero(family, [radio, MASK], [RADIO, CLIENT]),
                OUTSIDE.link,
                GATEWAY,
            ),
        ),
        quoted(family),
        quoted_twice(family),
    ]
}

/// In what an error quotes.
fn quoted(family: Family) -> Case {
    let (frame, out) = zero(family, [CALLS, CLIENT], [endpoint(CALLS, 0), CLIENT]);
    let error = |about: &Build| family.expired(about, ROUTER, 200);
    Case::bytes(
        family.says("a quoted checksum that is computed as zero is quoted as all ones"),
        family.state(State::new(steady())),
        error(&frame),
        Verdict::Deliver,
        error(&out),
    )
}

/// Likewise with both ends changed.
fn quoted_twice(family: Family) -> Case {
    let server = endpoint(RADIO, 0);
    let (frame, out) = zero(family, [RADIO, CLIENT], [server, MASK]);
    let known = Masked::at(id(RADIO, 0), MASK.port());
    let state = State::new(steady()).masks(MASK.port(), 1);
    let hop = Hop {
        destination: link_of(*server.ip()),
        source: INSIDE.link,
    };
    let error = |about: &Build, from| family.expired(about, from, 200);
    Case::bytes(
        family
            .says("a masqueraded quote's checksum that is computed as zero is quoted as all ones"),
        family.state(state.masked(CLIENT, RADIO, known)),
        error(&frame, ROUTER),
        Verdict::Redirect(INSIDE.index),
        forwarded(error(&out, *MASK.ip()), hop),
    )
}

/// A router somewhere.
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// A datagram with these ends, and as it leaves with those. Its payload is chosen so that the latter's checksum is
/// computed as zero.
fn zero(family: Family, comes: [SocketAddrV4; 2], goes: [SocketAddrV4; 2]) -> (Build, Build) {
    let with = |[source, destination]: [SocketAddrV4; 2], payload: [u8; 2]| {
        let datagram = Build {
            payload: payload.to_vec(),
            ..Build::udp(source, destination)
        };
        match family {
            Family::V4 => datagram,
            Family::V6 => datagram.in_v6(&[]),
        }
    };
    let check = |build: &Build| {
        let bytes = build.bytes();
        let at = bytes.len() - 4;
        [bytes[at], bytes[at + 1]]
    };
    let payload = check(&with(goes, [0, 0]));
    let (frame, out) = (with(comes, payload), with(goes, payload));
    debug_assert_eq!(check(&out), [0xff; 2]);
    (frame, out)
}
