//! QUIC: tags in windows, which Initials leave.

use switcher_common::abi::Tag;
use switcher_common::quic::{V1, V2};
use switcher_common::verdict::Verdict;
use switcher_common::word::Word;

use super::{Case, arming, draining, open, steady};
use crate::frame::Build;
use crate::town::{CLIENT, EPOCH, NOW, STREAM, State, UDP_IDLE, endpoint, flow_tag, id, syn_tag};

pub(super) const INITIAL: u8 = 0xc3;
const INITIAL_V2: u8 = 0xd3;
const EARLY: u8 = 0xd1;
const HANDSHAKE: u8 = 0xe1;
pub(super) const SHORT: u8 = 0x41;

pub(super) fn cases() -> Vec<Case> {
    [quiet(), begun(), known(), unknown()].concat()
}

fn quiet() -> Vec<Case> {
    vec![
        case(
            "steady, an Initial goes to blue and nothing is kept",
            steady(),
            INITIAL,
            V1,
            0,
        )
        .forgets(CLIENT, STREAM),
        case("steady, so does a short header", steady(), SHORT, 0, 0).forgets(CLIENT, STREAM),
    ]
}

fn begun() -> Vec<Case> {
    let tagged = |colour| move |case: Case| case.remembers(CLIENT, STREAM, id(STREAM, colour));
    vec![
        tagged(0)(case(
            "armed, an Initial goes to blue and is remembered",
            arming(),
            INITIAL,
            V1,
            0,
        )),
        tagged(1)(case(
            "open, an Initial goes to green and is remembered",
            open(),
            INITIAL,
            V1,
            1,
        )),
        tagged(1)(case(
            "open, one of version 2 too",
            open(),
            INITIAL_V2,
            V2,
            1,
        )),
        tagged(1)(case(
            "draining, an Initial goes to green and is remembered",
            draining(),
            INITIAL,
            V1,
            1,
        )),
        Case::incoming(
            "open and full, an Initial stays with blue, where its next packet goes",
            State::new(open()).full(),
            &datagram(INITIAL, V1, 1200),
            Verdict::Deliver,
            &datagram(INITIAL, V1, 1200).to(endpoint(STREAM, 0)),
        )
        .forgets(CLIENT, STREAM),
    ]
}

fn known() -> Vec<Case> {
    let blue = syn_tag(id(STREAM, 0), 0);
    let silent = Tag {
        seen: NOW - UDP_IDLE - 2,
        ..blue
    };
    let void = Tag {
        epoch: EPOCH - 1,
        ..blue
    };
    let with = |sentence, word, tag, first, version, colour| {
        let state = State::new(word).tag(CLIENT, STREAM, tag);
        built(sentence, state, &datagram(first, version, 1200), colour)
    };
    vec![
        with(
            "open, another Initial of a handshake that began while armed follows it",
            open(),
            blue,
            INITIAL,
            V1,
            0,
        ),
        with("open, its 0-RTT follows it", open(), blue, EARLY, V1, 0),
        with(
            "open, its Handshake follows it",
            open(),
            blue,
            HANDSHAKE,
            V1,
            0,
        ),
        with(
            "draining, a known flow stays",
            draining(),
            flow_tag(id(STREAM, 0)),
            SHORT,
            0,
            0,
        ),
        with(
            "draining, an Initial of a known flow stays",
            draining(),
            blue,
            INITIAL,
            V1,
            0,
        ),
        with(
            "open, an Initial after a long silence is new",
            open(),
            silent,
            INITIAL,
            V1,
            1,
        )
        .remembers(CLIENT, STREAM, id(STREAM, 1)),
        with(
            "open, a tag of another epoch is void",
            open(),
            void,
            INITIAL,
            V1,
            1,
        )
        .remembers(CLIENT, STREAM, id(STREAM, 1)),
    ]
}

fn unknown() -> Vec<Case> {
    let short = Build {
        payload: vec![INITIAL, 0, 0],
        ..Build::udp(CLIENT, STREAM)
    };
    vec![
        case(
            "open, an unknown short header is old and is remembered",
            open(),
            SHORT,
            0,
            0,
        )
        .remembers(CLIENT, STREAM, id(STREAM, 0)),
        case(
            "open, an unknown Handshake is old and is remembered",
            open(),
            HANDSHAKE,
            V1,
            0,
        )
        .remembers(CLIENT, STREAM, id(STREAM, 0)),
        built(
            "open, a Handshake with a short header behind it in the datagram, likewise",
            State::new(open()),
            &coalesced(datagram(HANDSHAKE, V1, 120)),
            0,
        )
        .remembers(CLIENT, STREAM, id(STREAM, 0)),
        built(
            "open, an Initial that only fills a datagram with what is behind it is new",
            State::new(open()),
            &coalesced(datagram(INITIAL, V1, 1170)),
            1,
        )
        .remembers(CLIENT, STREAM, id(STREAM, 1)),
        case(
            "open, 0-RTT that overtook its Initial is old and leaves nothing",
            open(),
            EARLY,
            V1,
            0,
        )
        .forgets(CLIENT, STREAM),
        case(
            "open, a version to be negotiated is old and leaves nothing",
            open(),
            INITIAL,
            0x1a2a_3a4a,
            0,
        )
        .forgets(CLIENT, STREAM),
        built(
            "open, an Initial that is too small for any server is old and leaves nothing",
            State::new(open()),
            &datagram(INITIAL, V1, 1199),
            0,
        )
        .forgets(CLIENT, STREAM),
        built("open, too short to be QUIC", State::new(open()), &short, 0).forgets(CLIENT, STREAM),
        case("draining, unknown flows are new", draining(), SHORT, 0, 1).forgets(CLIENT, STREAM),
    ]
}

fn case(sentence: &'static str, word: Word, first: u8, version: u32, colour: u16) -> Case {
    built(
        sentence,
        State::new(word),
        &datagram(first, version, 1200),
        colour,
    )
}

fn built(sentence: &'static str, state: State, frame: &Build, colour: u16) -> Case {
    let out = frame.clone().to(endpoint(STREAM, colour));
    Case::incoming(sentence, state, frame, Verdict::Deliver, &out)
}

/// A datagram whose first packet has this first byte and, with a long header, this version.
pub(super) fn datagram(first: u8, version: u32, size: usize) -> Build {
    let mut payload = vec![0x5a; size];
    payload[0] = first;
    if first & 0x80 != 0 {
        payload[1..5].copy_from_slice(&version.to_be_bytes());
    }
    Build {
        payload,
        ..Build::udp(CLIENT, STREAM)
    }
}

/// With another packet of the connection behind, in the same datagram.
fn coalesced(mut first: Build) -> Build {
    first.payload.push(SHORT);
    first.payload.extend([0x5a; 40]);
    first
}
