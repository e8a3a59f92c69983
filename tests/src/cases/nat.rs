//! Services in `masquerade`: a client's flow goes on as one of this host's own.

mod errors;
mod fragments;
mod ports;

use std::net::SocketAddrV4;

use switcher_common::abi::nat::activity::{FIN, RESET, SPEAKS, TALKS};
use switcher_common::verdict::{Reason, Verdict};

use super::{Case, open, steady};
use crate::frame::{Build, SEQUENCE, Transport, flag};
use crate::town::{
    AWAY, AWAY_PREVIEW, CLIENT, EPOCH, GATEWAY, INSIDE, MASK, Masked, OUTSIDE, RADIO, State,
    UDP_IDLE, WEB, endpoint, id, link_of,
};

/// A client that has a flow already, where it matters.
const OTHER: SocketAddrV4 = SocketAddrV4::new(*CLIENT.ip(), 40_001);

pub(super) fn cases() -> Vec<Case> {
    [
        begun(),
        kept(),
        renewed(),
        refused(),
        replied(),
        left_to_stack(),
        datagrams(),
        ports::cases(),
    ]
    .concat()
}

/// Those that no builder makes.
pub(super) fn odd() -> Vec<Case> {
    [errors::cases(), fragments::cases()].concat()
}

fn begun() -> Vec<Case> {
    let syn = Build::tcp(CLIENT, AWAY, flag::SYN);
    let one = || State::new(steady()).masks(MASK.port(), 1);
    vec![
        Case::incoming(
            "a new connection goes on from this host",
            one(),
            &syn,
            Verdict::Redirect(INSIDE.index),
            &masked(&syn, 0, MASK),
        )
        .masquerades(CLIENT, AWAY, id(AWAY, 0), MASK.port()),
        Case::incoming(
            "after the switch a new connection goes to green at once",
            State::new(open()).masks(MASK.port(), 1),
            &syn,
            Verdict::Redirect(INSIDE.index),
            &masked(&syn, 1, MASK),
        )
        .masquerades(CLIENT, AWAY, id(AWAY, 1), MASK.port()),
        Case::incoming(
            "a port that another flow has at this endpoint is not taken",
            State::new(steady()).masks(MASK.port(), 2).masked(
                OTHER,
                AWAY,
                Masked::at(id(AWAY, 0), MASK.port()),
            ),
            &syn,
            Verdict::Redirect(INSIDE.index),
            &masked(&syn, 0, at_port(MASK.port() + 1)),
        )
        .masquerades(CLIENT, AWAY, id(AWAY, 0), MASK.port() + 1),
        Case::incoming(
            "a port that another flow has at another endpoint is",
            State::new(steady()).masks(MASK.port(), 1).masked(
                OTHER,
                AWAY,
                Masked::at(id(AWAY, 1), MASK.port()),
            ),
            &syn,
            Verdict::Redirect(INSIDE.index),
            &masked(&syn, 0, MASK),
        ),
        Case::incoming(
            "a service's port is not taken: replies could not be told from requests",
            State::new(steady()).masks(WEB.port(), 3),
            &syn,
            Verdict::Redirect(INSIDE.index),
            &masked(&syn, 0, at_port(82)),
        ),
        Case::incoming(
            "a preview reaches staging",
            one(),
            &syn.clone().to(AWAY_PREVIEW),
            Verdict::Redirect(INSIDE.index),
            &masked(&syn, 1, MASK),
        )
        .masquerades(CLIENT, AWAY_PREVIEW, id(AWAY, 1), MASK.port()),
        Case::untouched(
            "to an endpoint's own address",
            one(),
            &syn.clone().to(endpoint(AWAY, 0)),
            Verdict::Pass(Reason::Direct),
        ),
    ]
}

fn kept() -> Vec<Case> {
    let blue = Masked::at(id(AWAY, 0), MASK.port());
    let known = |masked| {
        State::new(open())
            .masks(MASK.port(), 2)
            .masked(CLIENT, AWAY, masked)
    };
    let stays = |sentence, flags, flow| {
        let frame = Build::tcp(CLIENT, AWAY, flags);
        let out = masked(&frame, 0, MASK);
        let verdict = Verdict::Redirect(INSIDE.index);
        Case::incoming(sentence, known(flow), &frame, verdict, &out).masquerades(
            CLIENT,
            AWAY,
            id(AWAY, 0),
            MASK.port(),
        )
    };
    let closing = blue.client(SPEAKS | TALKS | FIN).server(SPEAKS | FIN);
    vec![
        stays("a known connection stays", flag::ACK, blue),
        stays(
            "a FIN goes where its connection is",
            flag::FIN | flag::ACK,
            blue,
        ),
        stays("so does a reset", flag::RST, blue),
        after_a_deadline(),
        stays("and what comes after both FINs", flag::ACK, closing),
        stays(
            "a SYN that is sent again stays",
            flag::SYN,
            blue.client(SPEAKS),
        ),
        stays(
            "a SYN that is sent again late stays",
            flag::SYN,
            closing.server(SPEAKS | TALKS | FIN),
        ),
        stays(
            "another SYN on a live connection is its server's to answer",
            flag::SYN,
            Masked {
                sequence: SEQUENCE - 1,
                ..blue
            },
        ),
    ]
}

/// What was given up, the agent has removed.
fn after_a_deadline() -> Case {
    let older = Masked {
        epoch: EPOCH - 1,
        ..Masked::at(id(AWAY, 0), MASK.port())
    };
    let spared = State::new(steady()).masks(MASK.port(), 2);
    let ack = Build::tcp(CLIENT, AWAY, flag::ACK);
    Case::incoming(
        "a connection that is remembered stays, older than what was given up or not",
        spared.masked(CLIENT, AWAY, older).floor(EPOCH),
        &ack,
        Verdict::Redirect(INSIDE.index),
        &masked(&ack, 0, MASK),
    )
}

fn renewed() -> Vec<Case> {
    let syn = Build::tcp(CLIENT, AWAY, flag::SYN);
    let renews = |sentence, flow| {
        let state = State::new(open())
            .masks(MASK.port(), 2)
            .masked(CLIENT, AWAY, flow);
        let out = masked(&syn, 1, MASK);
        Case::incoming(sentence, state, &syn, Verdict::Redirect(INSIDE.index), &out)
    };
    let old = Masked {
        sequence: SEQUENCE - 1,
        // Of the two ports, the one that is not tried first.
        ..Masked::at(id(AWAY, 0), MASK.port() + 1)
    };
    vec![
        renews(
            "a SYN after both FINs is another connection",
            old.client(SPEAKS | TALKS | FIN)
                .server(SPEAKS | TALKS | FIN),
        ),
        renews(
            "a SYN after the client's reset is another connection",
            old.client(SPEAKS | TALKS | RESET),
        ),
        renews(
            "a SYN after the server's reset is another connection",
            old.server(SPEAKS | RESET),
        ),
        renews(
            "another SYN where the first never came to anything",
            old.client(SPEAKS),
        ),
    ]
}

fn refused() -> Vec<Case> {
    let syn = Build::tcp(CLIENT, AWAY, flag::SYN);
    let ack = Build::tcp(CLIENT, AWAY, flag::ACK);
    let gone = State::new(steady()).masks(MASK.port(), 1).masked(
        OTHER,
        AWAY,
        Masked::at(id(AWAY, 0), MASK.port()),
    );
    vec![
        Case::untouched(
            "every port is taken: dropped, and the client tries again",
            gone,
            &syn,
            Verdict::Drop(Reason::NatExhausted),
        )
        .forgets_masquerade(CLIENT, AWAY),
        Case::untouched(
            "no room for another flow: dropped, and the client tries again",
            State::new(steady()).masks(MASK.port(), 1).crowded(),
            &syn,
            Verdict::Drop(Reason::NatFull),
        )
        .forgets_masquerade(CLIENT, AWAY),
        Case::untouched(
            "no address of this host leads there",
            State::new(steady()).masks(0, 0),
            &syn,
            Verdict::Pass(Reason::NatSource),
        ),
        Case::untouched(
            "a segment of no known connection: the stack resets it",
            State::new(steady()).masks(MASK.port(), 1),
            &ack,
            Verdict::Pass(Reason::UnknownFlow),
        ),
    ]
}

fn replied() -> Vec<Case> {
    let known = |vip, colour| {
        State::new(open()).masks(MASK.port(), 2).masked(
            CLIENT,
            vip,
            Masked::at(id(AWAY, colour), MASK.port()),
        )
    };
    let reply = Build::tcp(endpoint(AWAY, 0), MASK, flag::ACK);
    let back = |vip, reply: &Build| {
        let out = reply.clone().from(vip).to(CLIENT);
        out.hop(OUTSIDE.link, link_of(GATEWAY))
    };
    let closes = |flags, sentence| {
        let reply = Build::tcp(endpoint(AWAY, 0), MASK, flags);
        let out = back(AWAY, &reply);
        Case::incoming(sentence, known(AWAY, 0), &reply, Verdict::Transmit, &out)
    };
    let staged = Build::tcp(endpoint(AWAY, 1), MASK, flag::ACK);
    vec![
        Case::incoming(
            "a reply goes to its client, from the VIP",
            known(AWAY, 0),
            &reply,
            Verdict::Transmit,
            &back(AWAY, &reply),
        ),
        Case::incoming(
            "a reply to a preview's client comes from the preview",
            known(AWAY_PREVIEW, 1),
            &staged,
            Verdict::Transmit,
            &back(AWAY_PREVIEW, &staged),
        ),
        closes(flag::FIN | flag::ACK, "an endpoint's FIN is remembered"),
        closes(
            flag::RST | flag::ACK,
            "an endpoint's reset is counted and remembered",
        ),
        Case::untouched(
            "an endpoint's answer to this host itself",
            known(AWAY, 0),
            &reply.clone().to(at_port(45_000)),
            Verdict::Pass(Reason::NotOurs),
        ),
        Case::untouched(
            "a port that is another endpoint's",
            known(AWAY, 0),
            &staged,
            Verdict::Pass(Reason::NotOurs),
        ),
    ]
}

fn left_to_stack() -> Vec<Case> {
    let red = |vip| {
        State::new(steady().with_current(2))
            .masks(MASK.port(), 1)
            .masked(CLIENT, vip, Masked::at(id(AWAY, 2), MASK.port()))
    };
    let blue = || {
        State::new(steady()).masks(MASK.port(), 1).masked(
            CLIENT,
            AWAY,
            Masked::at(id(AWAY, 0), MASK.port()),
        )
    };
    let ack = Build::tcp(CLIENT, AWAY, flag::ACK);
    let other = SocketAddrV4::new(*CLIENT.ip(), MASK.port() + 1);
    let preview = ack.clone().from(other).to(endpoint(AWAY, 0));
    let answered = Build::tcp(endpoint(AWAY, 0), other, flag::ACK);
    let both = || {
        let second = Masked::at(id(AWAY, 0), MASK.port() + 1);
        blue()
            .masks(MASK.port(), 2)
            .masked(CLIENT, AWAY_PREVIEW, second)
    };
    let left = SocketAddrV4::new(*CLIENT.ip(), MASK.port());
    let half = ack.clone().from(left).to(endpoint(AWAY, 2));
    let reply = Build {
        payload: vec![7; 1500],
        ..Build::tcp(endpoint(AWAY, 0), MASK, flag::ACK)
    };
    let at_the_end = Build {
        ttl: 1,
        ..ack.clone()
    };
    let leaves = |sentence, state, frame: &Build, out: &Build| {
        Case::incoming(sentence, state, frame, Verdict::Deliver, out).outgoing()
    };
    let stays = |sentence, state, frame: &Build| {
        Case::untouched(sentence, state, frame, Verdict::Pass(Reason::NotOurs)).outgoing()
    };
    let answer = reply.clone().to(left);
    vec![
        Case::incoming(
            "no neighbour yet: all but this host's address, or it were a martian",
            red(AWAY),
            &ack,
            Verdict::Deliver,
            &half,
        ),
        Case::incoming(
            "at the end of its time to live: likewise",
            blue(),
            &at_the_end,
            Verdict::Deliver,
            &at_the_end.clone().from(left).to(endpoint(AWAY, 0)),
        ),
        Case::bytes(
            "put together by GRO: likewise, its checksum still to be completed",
            blue(),
            Build {
                payload: vec![7; 1600],
                ..ack.clone()
            }
            .unfinished(),
            Verdict::Deliver,
            Build {
                payload: vec![7; 1600],
                ..ack.clone().from(left).to(endpoint(AWAY, 0))
            }
            .unfinished(),
        ),
        Case::incoming(
            "a reply larger than the route's MTU: all but the VIP's address, and the port that says whose it is",
            blue(),
            &reply,
            Verdict::Deliver,
            &answer,
        ),
        leaves(
            "on its way out it gets this host's address",
            red(AWAY),
            &half,
            &half.clone().from(MASK),
        ),
        leaves(
            "so does a preview's",
            red(AWAY_PREVIEW),
            &half,
            &half.clone().from(MASK),
        ),
        leaves(
            "and the reply gets the VIP's, and its client's port",
            blue(),
            &answer,
            &answer.clone().from(AWAY).to(CLIENT),
        ),
        leaves(
            "of two flows of one client's port, each goes on as its own: a preview's",
            both(),
            &preview,
            &preview.clone().from(at_port(MASK.port() + 1)),
        ),
        leaves(
            "of two flows of one client's port, each goes on as its own: the service's",
            both(),
            &ack.clone().from(left).to(endpoint(AWAY, 0)),
            &ack.clone().from(MASK).to(endpoint(AWAY, 0)),
        ),
        leaves(
            "of two flows of one client's port, each is answered as its own",
            both(),
            &answered,
            &answered.clone().from(AWAY_PREVIEW).to(CLIENT),
        ),
        stays(
            "this host's own packet to an endpoint leaves as it is",
            blue(),
            &Build::tcp(at_port(45_000), endpoint(AWAY, 0), flag::SYN),
        ),
        stays(
            "a client's packet that came past the VIP leaves as it is",
            blue(),
            &Build::tcp(OTHER, endpoint(AWAY, 0), flag::ACK),
        ),
        stays(
            "and so does the answer to it",
            blue(),
            &Build::tcp(endpoint(AWAY, 0), OTHER, flag::ACK),
        ),
    ]
}

fn datagrams() -> Vec<Case> {
    let datagram = Build::udp(CLIENT, RADIO);
    let plain = Build {
        transport: Transport::Udp { checked: false },
        ..datagram.clone()
    };
    let after = |client, server| {
        State::new(open()).masks(MASK.port(), 1).masked(
            CLIENT,
            RADIO,
            Masked::at(id(RADIO, 0), MASK.port()).silent(client, server),
        )
    };
    let sends = |sentence, state, frame: &Build, colour: u16| {
        let out = frame.clone().from(MASK).to(endpoint(RADIO, colour));
        let out = out.hop(INSIDE.link, link_of(*endpoint(RADIO, colour).ip()));
        let verdict = Verdict::Redirect(INSIDE.index);
        Case::incoming(sentence, state, frame, verdict, &out).masquerades(
            CLIENT,
            RADIO,
            id(RADIO, colour),
            MASK.port(),
        )
    };
    let reply = Build::udp(endpoint(RADIO, 0), MASK);
    vec![
        sends(
            "a new flow of datagrams goes on from this host",
            State::new(steady()).masks(MASK.port(), 1),
            &datagram,
            0,
        ),
        sends(
            "without a checksum there is none afterwards",
            State::new(steady()).masks(MASK.port(), 1),
            &plain,
            0,
        ),
        sends("a known one stays", after(0, 0), &datagram, 0),
        sends(
            "one whose endpoint still talks stays",
            after(UDP_IDLE + 1, UDP_IDLE),
            &datagram,
            0,
        ),
        sends(
            "one that was silent for too long is new",
            after(UDP_IDLE + 1, UDP_IDLE + 1),
            &datagram,
            1,
        ),
        Case::incoming(
            "its reply goes to its client, from the VIP",
            after(0, 0),
            &reply,
            Verdict::Transmit,
            &reply
                .clone()
                .from(RADIO)
                .to(CLIENT)
                .hop(OUTSIDE.link, link_of(GATEWAY)),
        ),
    ]
}

/// As it goes on to [`AWAY`]'s endpoint of a colour, from `mask`.
fn masked(frame: &Build, colour: u16, mask: SocketAddrV4) -> Build {
    let server = endpoint(AWAY, colour);
    let out = frame.clone().from(mask).to(server);
    out.hop(INSIDE.link, link_of(*server.ip()))
}

fn at_port(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(*MASK.ip(), port)
}
