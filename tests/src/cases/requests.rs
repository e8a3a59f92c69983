//! Requests to services of this host while nothing is being switched.

use switcher_common::verdict::{Reason, Verdict};

use super::{Case, steady};
use crate::frame::{Build, flag};
use crate::town::{ADOPTED, CELL, CLIENT, State, WEB, endpoint, service};

pub(super) fn cases() -> Vec<Case> {
    let syn = Build::tcp(CLIENT, WEB, flag::SYN);
    let data = Build::tcp(CLIENT, WEB, flag::ACK | flag::PSH);
    let green = || State::new(steady().with_current(1));
    vec![
        Case::incoming(
            "a SYN goes to the current table's endpoint",
            State::new(steady()),
            &syn,
            Verdict::Deliver,
            &syn.clone().to(endpoint(WEB, 0)),
        ),
        Case::incoming(
            "data goes to the current table's endpoint",
            State::new(steady()),
            &data,
            Verdict::Deliver,
            &data.clone().to(endpoint(WEB, 0)),
        ),
        Case::incoming(
            "another current slot is another endpoint",
            green(),
            &data,
            Verdict::Deliver,
            &data.clone().to(endpoint(WEB, 1)),
        ),
        Case::incoming(
            "nothing is remembered while nothing is being switched",
            State::new(steady()),
            &syn.clone().to(CELL),
            Verdict::Deliver,
            &syn.clone().to(endpoint(CELL, 0)),
        )
        .forgets(CLIENT, CELL),
        Case::untouched(
            "an endpoint that is the VIP gets its packets untouched",
            State::new(steady()),
            &syn.clone().to(ADOPTED),
            Verdict::Pass(Reason::Untouched),
        ),
        Case::incoming(
            "its successor does not",
            green(),
            &syn.clone().to(ADOPTED),
            Verdict::Deliver,
            &syn.clone().to(endpoint(ADOPTED, 1)),
        ),
        odd_payload(),
        no_table(),
        no_endpoint(),
    ]
}

fn odd_payload() -> Case {
    let frame = Build {
        payload: b"odd".to_vec(),
        ..Build::tcp(CLIENT, WEB, flag::ACK)
    };
    Case::incoming(
        "an odd number of bytes",
        State::new(steady()),
        &frame,
        Verdict::Deliver,
        &frame.clone().to(endpoint(WEB, 0)),
    )
}

fn no_table() -> Case {
    Case::untouched(
        "a slot without a table",
        State::new(steady().with_current(7)),
        &Build::tcp(CLIENT, WEB, flag::SYN),
        Verdict::Pass(Reason::NoTable),
    )
}

fn no_endpoint() -> Case {
    let mut state = State::new(steady());
    if let Some(service) = state.memory.services.get(&service(WEB)) {
        state.memory.fill(service.tables[0], &[0; 256]);
    }
    Case::untouched(
        "a bucket whose endpoint is not there",
        state,
        &Build::tcp(CLIENT, WEB, flag::SYN),
        Verdict::Pass(Reason::NoEndpoint),
    )
}
