//! Replies that leave by the host's own stack.

use switcher_common::verdict::{Reason, Verdict};

use super::{Case, open, steady};
use crate::frame::{Build, Transport, flag};
use crate::town::{ADOPTED, CELL, CLIENT, NAMES, State, WEB, endpoint};

pub(super) fn cases() -> Vec<Case> {
    vec![
        reply(
            "a local endpoint's reply gets the VIP's address",
            0,
            flag::ACK,
        ),
        reply("also the other colour's, whatever is current", 1, flag::ACK),
        reply("also a reset", 1, flag::RST | flag::ACK),
        Case::untouched(
            "a reply whose service has gone: the client sees the endpoint",
            State::new(steady()).without(WEB),
            &Build::tcp(endpoint(WEB, 0), CLIENT, flag::ACK),
            Verdict::Pass(Reason::Leak),
        )
        .outgoing(),
        container(),
        datagram(true, "a datagram's reply"),
        datagram(false, "a datagram's reply without a checksum"),
        Case::untouched(
            "the reply of an endpoint that is the VIP",
            State::new(open()),
            &Build::tcp(ADOPTED, CLIENT, flag::ACK),
            Verdict::Pass(Reason::Untouched),
        )
        .outgoing(),
        Case::untouched(
            "what leaves from a port that no endpoint has",
            State::new(steady()),
            &Build::tcp(CELL, CLIENT, flag::ACK),
            Verdict::Pass(Reason::NotOurs),
        )
        .outgoing(),
    ]
}

fn reply(sentence: &'static str, colour: u16, flags: u8) -> Case {
    let frame = Build::tcp(endpoint(WEB, colour), CLIENT, flags);
    let out = frame.clone().from(WEB);
    Case::incoming(
        sentence,
        State::new(steady()),
        &frame,
        Verdict::Deliver,
        &out,
    )
    .outgoing()
}

fn container() -> Case {
    let frame = Build::tcp(endpoint(CELL, 1), CLIENT, flag::ACK);
    let out = frame.clone().from(CELL);
    let sentence = "a container's reply gets the VIP's address";
    Case::incoming(sentence, State::new(open()), &frame, Verdict::Deliver, &out).outgoing()
}

fn datagram(checked: bool, sentence: &'static str) -> Case {
    let frame = Build {
        transport: Transport::Udp { checked },
        ..Build::udp(endpoint(NAMES, 0), CLIENT)
    };
    let out = frame.clone().from(NAMES);
    Case::incoming(
        sentence,
        State::new(steady()),
        &frame,
        Verdict::Deliver,
        &out,
    )
    .outgoing()
}
