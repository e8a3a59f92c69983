//! Connections past the VIP: to an endpoint's own address, and by the preview.

use switcher_common::abi::{Note, note_kind};
use switcher_common::verdict::{Reason, Verdict};

use super::{Case, open, steady};
use crate::frame::{Build, flag};
use crate::town::{ADOPTED, ADOPTED_PREVIEW, CELL, CLIENT, PREVIEW, State, WEB, endpoint, id};

pub(super) fn cases() -> Vec<Case> {
    let cell = id(CELL, 0);
    let direct = Note {
        kind: note_kind::DIRECT,
        id: cell,
    };
    let to_cell = Build::tcp(CLIENT, endpoint(CELL, 0), flag::SYN);
    let reply = Build::tcp(endpoint(CELL, 0), CLIENT, flag::ACK);
    let preview = Build::tcp(CLIENT, PREVIEW, flag::SYN);
    let data = Build::tcp(CLIENT, PREVIEW, flag::ACK);
    let staged_reply = Build::tcp(endpoint(CELL, 1), CLIENT, flag::ACK);
    let to_adopted = Build::tcp(CLIENT, ADOPTED_PREVIEW, flag::SYN);
    vec![
        Case::incoming(
            "the preview reaches an adopted endpoint, which is the VIP",
            State::new(steady().with_current(1).with_staging(0)),
            &to_adopted,
            Verdict::Deliver,
            &to_adopted.clone().to(ADOPTED),
        ),
        Case::untouched(
            "to an endpoint's own address",
            State::new(steady()),
            &to_cell,
            Verdict::Pass(Reason::Direct),
        ),
        Case::untouched(
            "to a local endpoint's own port",
            State::new(steady()),
            &Build::tcp(CLIENT, endpoint(WEB, 1), flag::SYN),
            Verdict::Pass(Reason::Direct),
        ),
        Case::untouched(
            "a reset of what never began past the VIP: its sender has seen the endpoint's address",
            State::new(steady()),
            &Build::tcp(CLIENT, endpoint(CELL, 0), flag::RST),
            Verdict::Pass(Reason::Leak),
        ),
        Case::untouched(
            "the reply to a direct connection is left alone",
            State::new(steady()).note(CLIENT, cell, direct),
            &reply,
            Verdict::Pass(Reason::Direct),
        )
        .outgoing(),
        Case::incoming(
            "the preview reaches the staged endpoint",
            State::new(steady()),
            &preview,
            Verdict::Deliver,
            &preview.clone().to(endpoint(CELL, 1)),
        ),
        Case::incoming(
            "a preview flow stays with its endpoint",
            State::new(open()).previewed(CLIENT, id(CELL, 1)),
            &data,
            Verdict::Deliver,
            &data.clone().to(endpoint(CELL, 1)),
        ),
        Case::incoming(
            "a new preview connection is not bound by the tuple's last",
            State::new(open()).previewed(CLIENT, id(CELL, 1)),
            &preview,
            Verdict::Deliver,
            &preview.clone().to(endpoint(CELL, 0)),
        ),
        Case::incoming(
            "the reply to a preview connection gets the preview's address",
            State::new(steady()).previewed(CLIENT, id(CELL, 1)),
            &staged_reply,
            Verdict::Deliver,
            &staged_reply.clone().from(PREVIEW),
        )
        .outgoing(),
    ]
}
