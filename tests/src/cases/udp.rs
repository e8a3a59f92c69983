//! Datagrams.

use switcher_common::abi::Tag;
use switcher_common::verdict::Verdict;

use super::{Case, open, steady};
use crate::frame::{Build, Transport};
use crate::town::{CALLS, CLIENT, EPOCH, NAMES, NOW, State, UDP_IDLE, endpoint, flow_tag, id};

pub(super) fn cases() -> Vec<Case> {
    let blue = || flow_tag(id(CALLS, 0));
    let silent = |ticks| Tag {
        seen: NOW - ticks,
        ..blue()
    };
    vec![
        flow("a new flow goes to blue", State::new(steady()), 0),
        flow("a new flow goes to green", State::new(open()), 1),
        flow(
            "a known flow stays",
            State::new(open()).udp(CLIENT, CALLS, blue()),
            0,
        ),
        flow(
            "a known flow stays when the window is over",
            State::new(open().settle()).udp(CLIENT, CALLS, blue()),
            0,
        ),
        flow(
            "a flow that was silent for long stays",
            State::new(open()).udp(CLIENT, CALLS, silent(UDP_IDLE - 1)),
            0,
        ),
        flow(
            "a flow that was silent for too long is new",
            State::new(open()).udp(CLIENT, CALLS, silent(UDP_IDLE + 2)),
            1,
        ),
        flow(
            "a flow from before a hard rollback is new",
            State::new(open())
                .udp(CLIENT, CALLS, blue())
                .floor(EPOCH + 1),
            1,
        ),
        single("a datagram on its own goes to the current endpoint", true),
        single("a datagram without a checksum keeps none", false),
    ]
}

fn flow(sentence: &'static str, state: State, colour: u16) -> Case {
    let frame = Build::udp(CLIENT, CALLS);
    let out = frame.clone().to(endpoint(CALLS, colour));
    Case::incoming(sentence, state, &frame, Verdict::Deliver, &out)
}

fn single(sentence: &'static str, checked: bool) -> Case {
    let frame = Build {
        transport: Transport::Udp { checked },
        ..Build::udp(CLIENT, NAMES)
    };
    let out = frame.clone().to(endpoint(NAMES, 1));
    Case::incoming(sentence, State::new(open()), &frame, Verdict::Deliver, &out)
}
