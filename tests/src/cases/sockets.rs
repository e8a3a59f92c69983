//! TCP in a window, where the socket table speaks for flows.

use std::net::SocketAddrV4;

use switcher_common::steer::Ownership;
use switcher_common::verdict::Verdict;
use switcher_common::word::Word;

use super::{Case, arming, draining, open};
use crate::frame::{Build, flag};
use crate::town::{NEAR, State, WEB, endpoint};

/// What the case says, the word, who has a socket, the packet's flags, and the colour it goes to.
type Line = (&'static str, Word, &'static [(u16, Ownership)], u8, u16);

const BLUES: &[(u16, Ownership)] = &[(0, Ownership::Owns)];
const GREENS: &[(u16, Ownership)] = &[(1, Ownership::Owns)];
const ENDED: &[(u16, Ownership)] = &[(0, Ownership::TimeWait)];
const ENDED_AND_GREENS: &[(u16, Ownership)] = &[(0, Ownership::TimeWait), (1, Ownership::Owns)];

#[rustfmt::skip]
fn lines() -> Vec<Line> {
    let red = open().switch_to(2);
    let (syn, ack) = (flag::SYN, flag::ACK);
    vec![
        ("open, data of nobody's goes to green", open(), &[], ack, 1),
        ("open, a SYN goes to green", open(), &[], syn, 1),
        ("armed, data goes to blue", arming(), BLUES, ack, 0),
        ("open, blue's connection stays", open(), BLUES, ack, 0),
        ("draining, blue's connection stays", draining(), BLUES, ack, 0),
        ("open, a SYN of blue's tuple is blue's", open(), BLUES, syn, 0),
        ("open, green's connection is green's", open(), GREENS, ack, 1),
        ("open, late data of a connection that ended at blue", open(), ENDED, ack, 0),
        ("open, a SYN after a connection ended at blue is new", open(), ENDED, syn, 1),
        ("open, the tuple ended at blue and lives at green", open(), ENDED_AND_GREENS, ack, 1),
        ("red is current, blue's connection stays", red, BLUES, ack, 0),
        ("red is current, the tuple ended at blue and lives at green", red, ENDED_AND_GREENS, ack, 1),
    ]
}

pub(super) fn cases() -> Vec<Case> {
    // Real connections of one case must not meet those of another.
    let ports = NEAR.port()..;
    let clients = ports.map(|port| SocketAddrV4::new(*NEAR.ip(), port));
    clients.zip(lines()).map(case).collect()
}

fn case((client, (sentence, word, sockets, flags, colour)): (SocketAddrV4, Line)) -> Case {
    let mut state = State::new(word);
    for (colour, ownership) in sockets {
        state = state.socket(client, endpoint(WEB, *colour), *ownership);
    }
    let frame = Build::tcp(client, WEB, flags);
    let out = frame.clone().to(endpoint(WEB, colour));
    Case::incoming(sentence, state, &frame, Verdict::Deliver, &out)
}
