//! TCP in a window, where tags speak for flows.

use switcher_common::abi::Tag;
use switcher_common::verdict::{Reason, Verdict};
use switcher_common::word::Word;

use super::{Case, arming, draining, open};
use crate::frame::{Build, SEQUENCE, flag};
use crate::town::{
    CELL, CLIENT, EPOCH, INSIDE, LONG_SILENT, NOW, SHOP, State, endpoint, flow_tag, id, syn_tag,
};

pub(super) fn cases() -> Vec<Case> {
    [armed(), opened(), repeated(), drained(), refused()].concat()
}

fn armed() -> Vec<Case> {
    vec![
        syn("armed, a SYN goes to blue and is remembered", arming(), 0).remembers(
            CLIENT,
            CELL,
            id(CELL, 0),
        ),
        data(
            "armed, data goes to blue and nothing is remembered",
            arming(),
            0,
        )
        .forgets(CLIENT, CELL),
    ]
}

fn opened() -> Vec<Case> {
    let ack = Build::tcp(CLIENT, SHOP, flag::ACK);
    let forwarded = super::routed::forwarded(&ack, endpoint(SHOP, 0), INSIDE);
    vec![
        syn("open, a SYN goes to green and is remembered", open(), 1).remembers(
            CLIENT,
            CELL,
            id(CELL, 1),
        ),
        data("open, unknown flows are old and are remembered", open(), 0).remembers(
            CLIENT,
            CELL,
            id(CELL, 0),
        ),
        tagged(
            "open, a tag decides",
            open(),
            flow_tag(id(CELL, 1)),
            false,
            1,
        ),
        tagged(
            "open, a tag decides that has not been needed for some time",
            open(),
            Tag {
                seen: NOW - LONG_SILENT.cast_unsigned(),
                ..flow_tag(id(CELL, 1))
            },
            false,
            1,
        ),
        Case::incoming(
            "open, a routed flow stays with its old endpoint",
            State::new(open()),
            &ack,
            Verdict::Redirect(INSIDE.index),
            &forwarded,
        )
        .remembers(CLIENT, SHOP, id(SHOP, 0)),
        tagged(
            "open, a tag of another epoch is void",
            open(),
            Tag {
                epoch: EPOCH - 1,
                ..flow_tag(id(CELL, 1))
            },
            false,
            0,
        )
        .remembers(CLIENT, CELL, id(CELL, 0)),
    ]
}

fn repeated() -> Vec<Case> {
    let blue = syn_tag(id(CELL, 0), SEQUENCE);
    vec![
        tagged(
            "the copy of a SYN sent while armed follows it",
            open(),
            blue,
            true,
            0,
        ),
        tagged(
            "a SYN with another sequence number is a new connection",
            open(),
            syn_tag(id(CELL, 0), SEQUENCE + 1),
            true,
            1,
        )
        .remembers(CLIENT, CELL, id(CELL, 1)),
        tagged(
            "a SYN is no copy of a flow whose SYN nobody saw",
            open(),
            flow_tag(id(CELL, 0)),
            true,
            1,
        ),
    ]
}

fn drained() -> Vec<Case> {
    let blue = syn_tag(id(CELL, 0), SEQUENCE);
    vec![
        data("draining, unknown flows are new", draining(), 1).forgets(CLIENT, CELL),
        tagged(
            "draining, a known old flow stays",
            draining(),
            flow_tag(id(CELL, 0)),
            false,
            0,
        ),
        tagged(
            "draining, the copy of a known SYN follows it",
            draining(),
            blue,
            true,
            0,
        ),
        tagged(
            "draining, a new connection of a known flow's tuple ends its tag",
            draining(),
            flow_tag(id(CELL, 0)),
            true,
            1,
        )
        .forgets(CLIENT, CELL),
        syn(
            "draining, a SYN goes to green and is not remembered",
            draining(),
            1,
        )
        .forgets(CLIENT, CELL),
    ]
}

fn refused() -> Vec<Case> {
    let full = |word| State::new(word).full();
    let syn = Build::tcp(CLIENT, CELL, flag::SYN);
    let ack = Build::tcp(CLIENT, CELL, flag::ACK);
    let reset = Build::tcp(CLIENT, CELL, flag::RST);
    vec![
        Case::incoming(
            "open and full, a SYN stays with blue, where its next packet goes",
            full(open()),
            &syn,
            Verdict::Deliver,
            &syn.clone().to(endpoint(CELL, 0)),
        )
        .forgets(CLIENT, CELL),
        Case::incoming(
            "open and full, unknown flows are old",
            full(open()),
            &ack,
            Verdict::Deliver,
            &ack.clone().to(endpoint(CELL, 0)),
        ),
        Case::incoming(
            "held and full, a SYN has to be repeated",
            full(open().hold()).held_until(NOW + 600),
            &syn,
            Verdict::Drop(Reason::TagWait),
            &syn,
        ),
        Case::incoming(
            "held and full, unknown flows are old",
            full(open().hold()).held_until(NOW + 600),
            &ack,
            Verdict::Deliver,
            &ack.clone().to(endpoint(CELL, 0)),
        ),
        Case::incoming(
            "held for too long, a SYN goes to blue",
            full(open().hold()).held_until(NOW - 1),
            &syn,
            Verdict::Deliver,
            &syn.clone().to(endpoint(CELL, 0)),
        ),
        Case::incoming(
            "open, a reset of an unknown flow is not remembered",
            State::new(open()),
            &reset,
            Verdict::Deliver,
            &reset.clone().to(endpoint(CELL, 0)),
        )
        .forgets(CLIENT, CELL),
        Case::incoming(
            "armed and full, a SYN goes where it would",
            full(arming()),
            &syn,
            Verdict::Deliver,
            &syn.clone().to(endpoint(CELL, 0)),
        ),
    ]
}

fn syn(sentence: &'static str, word: Word, colour: u16) -> Case {
    case(sentence, State::new(word), true, colour)
}

fn data(sentence: &'static str, word: Word, colour: u16) -> Case {
    case(sentence, State::new(word), false, colour)
}

fn tagged(sentence: &'static str, word: Word, tag: Tag, opens: bool, colour: u16) -> Case {
    case(
        sentence,
        State::new(word).tag(CLIENT, CELL, tag),
        opens,
        colour,
    )
}

fn case(sentence: &'static str, state: State, opens: bool, colour: u16) -> Case {
    let flags = if opens { flag::SYN } else { flag::ACK };
    let frame = Build::tcp(CLIENT, CELL, flags);
    let out = frame.clone().to(endpoint(CELL, colour));
    Case::incoming(sentence, state, &frame, Verdict::Deliver, &out)
}
