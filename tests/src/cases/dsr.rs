//! Services whose endpoints have the VIP themselves: only link addresses change.

mod odd;

use switcher_common::verdict::{Reason, Verdict};

use super::{Case, open, steady};
use crate::frame::{Build, flag};
use crate::town::{
    BELL, CLIENT, DOOR, Interface, NARROW, OUTSIDE, State, endpoint, flow_tag, id, link_of,
};

/// Those that no builder makes.
pub(super) fn odd() -> Vec<Case> {
    odd::cases()
}

pub(super) fn cases() -> Vec<Case> {
    let ack = Build::tcp(CLIENT, DOOR, flag::ACK);
    let datagram = Build::udp(CLIENT, BELL);
    let large = Build {
        payload: vec![7; 700],
        ..ack.clone()
    };
    let seeming = ack.clone().seeming_unfinished();
    let on_green = steady().with_current(1);
    vec![
        Case::incoming(
            "to a neighbour that has the VIP, too",
            State::new(steady()),
            &ack,
            Verdict::Transmit,
            &relayed(&ack, 0, OUTSIDE),
        ),
        Case::incoming(
            "to a neighbour that has the VIP, by another interface",
            State::new(on_green),
            &ack,
            Verdict::Redirect(NARROW.index),
            &relayed(&ack, 1, NARROW),
        )
        .only_v4(),
        Case::incoming(
            "a datagram to a neighbour that has the VIP, too",
            State::new(steady()),
            &datagram,
            Verdict::Transmit,
            &relayed(&datagram, 0, OUTSIDE),
        ),
        Case::incoming(
            "in a window, to the neighbour of the tag",
            State::new(open()).tag(CLIENT, DOOR, flow_tag(id(DOOR, 0))),
            &ack,
            Verdict::Transmit,
            &relayed(&ack, 0, OUTSIDE),
        )
        .remembers(CLIENT, DOOR, id(DOOR, 0)),
        Case::incoming(
            "with a VLAN tag, to a neighbour that has the VIP, too",
            State::new(steady()),
            &tagged(&ack),
            Verdict::Transmit,
            &relayed(&tagged(&ack), 0, OUTSIDE),
        ),
        dropped(
            "with a VLAN tag, to a neighbour behind another interface",
            &tagged(&ack),
            1,
            Reason::NoNeighbour,
        ),
        dropped(
            "a neighbour whose link address nobody knows",
            &ack,
            2,
            Reason::NoNeighbour,
        ),
        dropped(
            "too large for the way to a neighbour",
            &large,
            1,
            Reason::TooBig,
        )
        .only_v4(),
        dropped(
            "no hop is left to the neighbour",
            &Build {
                ttl: 1,
                ..ack.clone()
            },
            0,
            Reason::Expired,
        ),
        Case::bytes(
            "to a neighbour, with a checksum that the sender left to its card",
            State::new(steady()),
            ack.unfinished(),
            Verdict::Transmit,
            relayed(&ack, 0, OUTSIDE).bytes(),
        ),
        finished(1),
        finished(31),
        finished(32),
        finished(1459),
        Case::incoming(
            "a whole checksum that looks unfinished is whole for the neighbour, too",
            State::new(steady()),
            &seeming,
            Verdict::Transmit,
            &relayed(&seeming, 0, OUTSIDE),
        ),
        Case::untouched(
            "an answer of an endpoint that answers for itself",
            State::new(steady()),
            &Build::tcp(endpoint(DOOR, 0), CLIENT, flag::ACK),
            Verdict::Pass(Reason::NotOurs),
        ),
    ]
}

fn tagged(frame: &Build) -> Build {
    frame.clone().tagged(&[[0x81, 0x00, 0x20, 0x0a]])
}

/// A datagram of this many bytes, whose sum ends in the middle of whatever is added up at once.
fn finished(length: usize) -> Case {
    let datagram = Build {
        payload: (0..length).map(|number| number as u8 ^ 0xa5).collect(),
        ..Build::udp(CLIENT, BELL)
    };
    let mut case = Case::bytes(
        "",
        State::new(steady()),
        datagram.unfinished(),
        Verdict::Transmit,
        relayed(&datagram, 0, OUTSIDE).bytes(),
    );
    case.sentence = match length {
        1 => "the checksum of one byte completed",
        31 => "the checksum of an odd number of bytes completed",
        32 => "the checksum of an even number of bytes completed",
        _ => "the checksum of a full datagram completed",
    };
    case
}

fn dropped(sentence: &'static str, frame: &Build, colour: u16, reason: Reason) -> Case {
    let word = steady().with_current(u32::from(colour));
    Case::untouched(sentence, State::new(word), frame, Verdict::Drop(reason))
}

/// As it leaves by `interface` for the endpoint of this colour.
fn relayed(frame: &Build, colour: u16, interface: Interface) -> Build {
    let neighbour = link_of(*endpoint(frame.destination, colour).ip());
    frame.clone().hop(interface.link, neighbour)
}
