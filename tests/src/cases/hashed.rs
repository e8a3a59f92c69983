//! What the bucket of a new flow follows from.

use std::net::SocketAddrV4;

use switcher_common::verdict::Verdict;

use super::{Case, open, steady};
use crate::frame::{Build, flag};
use crate::town::{CLIENT, DESK, NEAR, State, endpoint};

pub(super) fn cases() -> Vec<Case> {
    let other_port = SocketAddrV4::new(*CLIENT.ip(), 40_001);
    vec![
        desk("by source, a client has its endpoint", CLIENT, 0),
        desk("by source, from whatever port", other_port, 0),
        desk("by source, another client has its own", NEAR, 1),
        Case::incoming(
            "by source, in a window unknown flows are where the old table has their client",
            State::new(open()),
            &Build::tcp(other_port, DESK, flag::ACK),
            Verdict::Deliver,
            &Build::tcp(other_port, DESK, flag::ACK).to(endpoint(DESK, 0)),
        ),
    ]
}

fn desk(sentence: &'static str, client: SocketAddrV4, colour: u16) -> Case {
    let frame = Build::tcp(client, DESK, flag::SYN);
    let out = frame.clone().to(endpoint(DESK, colour));
    Case::incoming(
        sentence,
        State::new(steady()),
        &frame,
        Verdict::Deliver,
        &out,
    )
}
