//! TCP in a window, where the socket table speaks for flows.

use switcher_common::steer::Ownership;
use switcher_common::verdict::Verdict;
use switcher_common::word::Word;

use super::{Case, arming, draining, open};
use crate::frame::{Build, flag};
use crate::town::{NEAR, State, WEB, endpoint};

pub(super) fn cases() -> Vec<Case> {
    let third = || open().switch_to(2);
    let (owns, remains) = (Ownership::Owns, Ownership::TimeWait);
    vec![
        case(
            "open, data of nobody's goes to green",
            open(),
            &[],
            flag::ACK,
            1,
        ),
        case("open, a SYN goes to green", open(), &[], flag::SYN, 1),
        case(
            "armed, data goes to blue",
            arming(),
            &[(0, owns)],
            flag::ACK,
            0,
        ),
        case(
            "open, blue's connection stays",
            open(),
            &[(0, owns)],
            flag::ACK,
            0,
        ),
        case(
            "draining, blue's connection stays",
            draining(),
            &[(0, owns)],
            flag::ACK,
            0,
        ),
        case(
            "open, a SYN of blue's tuple is blue's",
            open(),
            &[(0, owns)],
            flag::SYN,
            0,
        ),
        case(
            "open, green's connection is green's",
            open(),
            &[(1, owns)],
            flag::ACK,
            1,
        ),
        case(
            "open, late data of a connection that ended at blue",
            open(),
            &[(0, remains)],
            flag::ACK,
            0,
        ),
        case(
            "open, a SYN after a connection ended at blue is new",
            open(),
            &[(0, remains)],
            flag::SYN,
            1,
        ),
        case(
            "open, the tuple ended at blue and lives at green",
            open(),
            &[(0, remains), (1, owns)],
            flag::ACK,
            1,
        ),
        case(
            "red is current, blue's connection stays",
            third(),
            &[(0, owns)],
            flag::ACK,
            0,
        ),
        case(
            "red is current, the tuple ended at blue and lives at green",
            third(),
            &[(0, remains), (1, owns)],
            flag::ACK,
            1,
        ),
    ]
}

fn case(
    sentence: &'static str,
    word: Word,
    sockets: &[(u16, Ownership)],
    flags: u8,
    colour: u16,
) -> Case {
    let mut state = State::new(word);
    for (colour, ownership) in sockets {
        state = state.socket(NEAR, endpoint(WEB, *colour), *ownership);
    }
    let frame = Build::tcp(NEAR, WEB, flags);
    let out = frame.clone().to(endpoint(WEB, colour));
    Case::incoming(sentence, state, &frame, Verdict::Deliver, &out)
}
