//! Services whose endpoints are other hosts: the program forwards, both ways.

use std::net::SocketAddrV4;

use switcher_common::verdict::{Reason, Verdict};

use super::{Case, steady};
use crate::frame::{Build, flag};
use crate::town::{
    CLIENT, FAR, GATEWAY, INSIDE, Interface, NARROW, NEAR, OUTSIDE, SHOP, State, endpoint, link_of,
};

pub(super) fn cases() -> Vec<Case> {
    let ack = Build::tcp(CLIENT, SHOP, flag::ACK);
    let far = Build::tcp(CLIENT, FAR, flag::ACK);
    let large = Build {
        payload: vec![7; 700],
        ..far.clone()
    };
    let seeming = ack.clone().seeming_unfinished();
    let reply = Build::tcp(endpoint(SHOP, 1), CLIENT, flag::ACK);
    vec![
        Case::incoming(
            "out of another interface",
            State::new(steady()),
            &ack,
            Verdict::Redirect(INSIDE.index),
            &forwarded(&ack, endpoint(SHOP, 0), INSIDE),
        ),
        Case::incoming(
            "out of the interface it came in by",
            State::new(steady().with_current(2)),
            &far,
            Verdict::Transmit,
            &forwarded(&far, endpoint(FAR, 2), OUTSIDE),
        ),
        Case::incoming(
            "no neighbour yet: rewritten, and the stack finds one",
            State::new(steady()),
            &far,
            Verdict::Deliver,
            &far.clone().to(endpoint(FAR, 0)),
        ),
        Case::incoming(
            "larger than the route's MTU: rewritten, and the stack fragments or answers",
            State::new(steady().with_current(1)),
            &large,
            Verdict::Deliver,
            &large.clone().to(endpoint(FAR, 1)),
        ),
        Case::incoming(
            "small enough for the route's MTU",
            State::new(steady().with_current(1)),
            &far,
            Verdict::Redirect(NARROW.index),
            &forwarded(&far, endpoint(FAR, 1), NARROW),
        )
        .only_v4(),
        at_the_end(1),
        at_the_end(0),
        answered(
            CLIENT,
            "a reply gets the VIP's address and goes to the gateway",
        ),
        Case::bytes(
            "put together by GRO: its checksum is still to be completed, and the stack takes it apart",
            State::new(steady().with_current(1)),
            large.unfinished(),
            Verdict::Deliver,
            large.clone().to(endpoint(FAR, 1)).unfinished(),
        ),
        Case::incoming(
            "a whole checksum that looks unfinished stays whole, and the stack forwards",
            State::new(steady()),
            &seeming,
            Verdict::Deliver,
            &seeming.clone().to(endpoint(SHOP, 0)),
        )
        .only_v4(),
        reset(),
        left_to_stack(
            "a reply with an unfinished checksum: egress rewrites it, and the stack completes it",
            reply.unfinished(),
        ),
        left_to_stack(
            "a reply larger than the route's MTU: it would be a martian with the VIP's address",
            Build {
                payload: vec![7; 1500],
                ..reply.clone()
            }
            .bytes(),
        ),
        left_to_stack(
            "a reply at the end of its time to live",
            Build {
                ttl: 1,
                ..reply.clone()
            }
            .bytes(),
        ),
        Case::untouched(
            "a reply to this host itself",
            State::new(steady()),
            &Build::tcp(endpoint(SHOP, 0), NEAR, flag::ACK),
            Verdict::Pass(Reason::OwnReply),
        ),
    ]
}

fn reset() -> Case {
    let reset = Build::tcp(endpoint(SHOP, 1), CLIENT, flag::RST | flag::ACK);
    let out = reset.clone().from(SHOP).hop(OUTSIDE.link, link_of(GATEWAY));
    let sentence = "a routed endpoint's reset is counted, and goes to the gateway";
    let state = State::new(steady());
    Case::incoming(sentence, state, &reset, Verdict::Transmit, &out)
}

fn at_the_end(ttl: u8) -> Case {
    let frame = Build {
        ttl,
        ..Build::tcp(CLIENT, SHOP, flag::ACK)
    };
    Case::incoming(
        "at the end of its time to live: rewritten, and the stack answers",
        State::new(steady()),
        &frame,
        Verdict::Deliver,
        &frame.clone().to(endpoint(SHOP, 0)),
    )
}

/// A reply that comes in and passes as it is.
fn left_to_stack(sentence: &'static str, frame: Vec<u8>) -> Case {
    let verdict = Verdict::Pass(Reason::LeftToStack);
    Case::bytes(
        sentence,
        State::new(steady()),
        frame.clone(),
        verdict,
        frame,
    )
}

fn answered(client: SocketAddrV4, sentence: &'static str) -> Case {
    let reply = Build::tcp(endpoint(SHOP, 1), client, flag::ACK);
    let out = reply.clone().from(SHOP).hop(OUTSIDE.link, link_of(GATEWAY));
    Case::incoming(
        sentence,
        State::new(steady()),
        &reply,
        Verdict::Transmit,
        &out,
    )
}

/// As it leaves by `interface`.
pub(super) fn forwarded(frame: &Build, server: SocketAddrV4, interface: Interface) -> Build {
    let neighbour = link_of(*server.ip());
    frame.clone().to(server).hop(interface.link, neighbour)
}
