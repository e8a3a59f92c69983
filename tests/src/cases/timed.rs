//! Words that change by themselves, on both sides of each instant; and pauses.

mod flows;

use switcher_common::abi::Times;
use switcher_common::steer::Ownership;
use switcher_common::verdict::{Reason, Verdict};
use switcher_common::word::{Word, flags};

use super::{Case, draining, open, steady};
use crate::frame::{Build, SEQUENCE, flag};
use crate::town::{
    CALLS, CELL, CLIENT, CLOCK, NAMES, NEAR, PREVIEW, SECOND, State, WEB, endpoint, flow_tag, id,
    syn_tag,
};

/// Far enough away that the kernel is on the same side when its turn comes.
pub const SOON: u64 = CLOCK + 60 * SECOND;
/// A little while ago.
pub const JUST: u64 = CLOCK - SECOND;

pub(super) fn cases() -> Vec<Case> {
    [
        before(),
        within(),
        after(),
        after_draining(),
        elsewhere(),
        paused(),
        not_held(),
        flows::cases(),
    ]
    .concat()
}

/// From blue to green at an instant to come.
fn before() -> Vec<Case> {
    let quiet = || timed(open(), SOON, SOON, Times::NEVER);
    let armed = || timed(open(), JUST, SOON, Times::NEVER);
    let green = flow_tag(id(CELL, 1));
    vec![
        syn("long before a timed flip, a SYN goes to blue", quiet(), 0).forgets(CLIENT, CELL),
        data("long before a timed flip, data goes to blue", quiet(), 0).forgets(CLIENT, CELL),
        data(
            "before a timed flip, who is known to be elsewhere stays there",
            quiet().tag(CLIENT, CELL, green),
            1,
        ),
        syn(
            "shortly before a timed flip, a SYN is remembered",
            armed(),
            0,
        )
        .remembers(CLIENT, CELL, id(CELL, 0)),
        data("shortly before a timed flip, data is not", armed(), 0).forgets(CLIENT, CELL),
    ]
}

/// Green, until the word reverts.
fn within() -> Vec<Case> {
    let state = || timed(open(), JUST, JUST, SOON);
    let blue = syn_tag(id(CELL, 0), SEQUENCE);
    vec![
        syn("unconfirmed, a SYN goes to green", state(), 1).remembers(CLIENT, CELL, id(CELL, 1)),
        data("unconfirmed, unknown flows are old", state(), 0).remembers(CLIENT, CELL, id(CELL, 0)),
        syn(
            "after a timed flip, the copy of a SYN sent before follows it",
            state().tag(CLIENT, CELL, blue),
            0,
        ),
    ]
}

/// Nobody has confirmed.
fn after() -> Vec<Case> {
    let state = || timed(open(), 0, 0, JUST);
    let green = syn_tag(id(CELL, 1), SEQUENCE);
    vec![
        syn("reverted, a SYN goes to blue", state(), 0).forgets(CLIENT, CELL),
        data("reverted, unknown flows are on blue", state(), 0).forgets(CLIENT, CELL),
        data(
            "reverted, a connection made on green stays there",
            state().tag(CLIENT, CELL, green),
            1,
        ),
        syn(
            "reverted, the copy of a SYN to green follows it",
            state().tag(CLIENT, CELL, green),
            1,
        ),
    ]
}

/// The flow map was nearly full, and the window had to drain before anybody confirmed.
fn after_draining() -> Vec<Case> {
    let state = || timed(draining(), 0, 0, JUST);
    vec![
        syn(
            "reverted while draining, a SYN goes to blue and is remembered",
            state(),
            0,
        )
        .remembers(CLIENT, CELL, id(CELL, 0)),
        data(
            "reverted while draining, unknown flows are on green",
            state(),
            1,
        )
        .remembers(CLIENT, CELL, id(CELL, 1)),
    ]
}

/// What needs no tags, and the preview.
fn elsewhere() -> Vec<Case> {
    let before = || timed(open(), SOON, SOON, Times::NEVER);
    let within = || timed(open(), JUST, JUST, SOON);
    let after = || timed(open(), 0, 0, JUST);
    let owned = Build::tcp(NEAR, WEB, flag::ACK);
    let datagram = |sentence, state, colour| {
        let frame = Build::udp(CLIENT, NAMES);
        let out = frame.clone().to(endpoint(NAMES, colour));
        Case::incoming(sentence, state, &frame, Verdict::Deliver, &out)
    };
    let preview = |sentence, state, colour| {
        let frame = Build::tcp(CLIENT, PREVIEW, flag::SYN);
        let out = frame.clone().to(endpoint(PREVIEW, colour));
        Case::incoming(sentence, state, &frame, Verdict::Deliver, &out)
    };
    vec![
        datagram("before a timed flip, a datagram goes to blue", before(), 0),
        datagram("unconfirmed, a datagram goes to green", within(), 1),
        datagram("reverted, a datagram goes to blue", after(), 0),
        preview("before a timed flip, the preview shows green", before(), 1),
        preview("unconfirmed, the preview shows blue", within(), 0),
        preview("reverted, the preview shows green", after(), 1),
        Case::incoming(
            "reverted, a connection of this host to green stays there",
            after().socket(NEAR, endpoint(WEB, 1), Ownership::Owns),
            &owned,
            Verdict::Deliver,
            &owned.clone().to(endpoint(WEB, 1)),
        ),
        Case::incoming(
            "reverted, a new connection to this host goes to blue",
            after(),
            &Build::tcp(NEAR, WEB, flag::SYN),
            Verdict::Deliver,
            &Build::tcp(NEAR, WEB, flag::SYN).to(endpoint(WEB, 0)),
        ),
    ]
}

fn paused() -> Vec<Case> {
    let copy = syn_tag(id(CELL, 1), SEQUENCE);
    let new = |sentence, state, frame: Build| {
        Case::untouched(sentence, state, &frame, Verdict::Drop(Reason::Paused))
    };
    let cell = || Build::tcp(CLIENT, CELL, flag::SYN);
    vec![
        new("paused, a SYN is dropped", pause(steady(), SOON), cell()).forgets(CLIENT, CELL),
        new(
            "paused in a window, a SYN is dropped and not remembered",
            pause(open(), SOON),
            cell(),
        )
        .forgets(CLIENT, CELL),
        new(
            "paused, the copy of a SYN that was let in is dropped",
            pause(open(), SOON).tag(CLIENT, CELL, copy),
            cell(),
        ),
        new(
            "paused, a new UDP flow is dropped",
            pause(steady(), SOON),
            Build::udp(CLIENT, CALLS),
        )
        .forgets(CLIENT, CALLS),
        new(
            "paused, a datagram on its own is dropped",
            pause(steady(), SOON),
            Build::udp(CLIENT, NAMES),
        ),
        new(
            "paused, an unconfirmed flip lets no SYN in",
            timed(open().with(flags::PAUSED), 0, 0, SOON).times(Times {
                revert_at: SOON,
                paused_until: SOON,
                ..Times::default()
            }),
            cell(),
        ),
    ]
}

/// What a pause lets through.
fn not_held() -> Vec<Case> {
    let flow = Build::udp(CLIENT, CALLS);
    let preview = Build::tcp(CLIENT, PREVIEW, flag::SYN);
    let direct = Build::tcp(CLIENT, endpoint(CELL, 0), flag::SYN);
    vec![
        data(
            "paused, established connections go on",
            pause(steady(), SOON),
            0,
        ),
        syn(
            "when the pause is over, a SYN goes on",
            pause(steady(), JUST),
            0,
        ),
        Case::incoming(
            "paused, a known UDP flow goes on",
            pause(steady(), SOON).udp(CLIENT, CALLS, flow_tag(id(CALLS, 0))),
            &flow,
            Verdict::Deliver,
            &flow.clone().to(endpoint(CALLS, 0)),
        ),
        Case::incoming(
            "paused, the preview is open",
            pause(steady(), SOON),
            &preview,
            Verdict::Deliver,
            &preview.clone().to(endpoint(PREVIEW, 1)),
        ),
        Case::untouched(
            "paused, an endpoint's own address is open",
            pause(steady(), SOON),
            &direct,
            Verdict::Pass(Reason::Direct),
        ),
    ]
}

/// The town with a timed word.
pub fn timed(word: Word, arm_at: u64, activate_at: u64, revert_at: u64) -> State {
    State::new(word.with(flags::TIMED)).times(Times {
        arm_at,
        activate_at,
        revert_at,
        paused_until: 0,
    })
}

/// The town, paused until then.
pub fn pause(word: Word, paused_until: u64) -> State {
    State::new(word.with(flags::PAUSED)).times(Times {
        paused_until,
        ..Times::default()
    })
}

fn syn(sentence: &'static str, state: State, colour: u16) -> Case {
    to_cell(sentence, state, flag::SYN, colour)
}

fn data(sentence: &'static str, state: State, colour: u16) -> Case {
    to_cell(sentence, state, flag::ACK, colour)
}

fn to_cell(sentence: &'static str, state: State, flags: u8, colour: u16) -> Case {
    let frame = Build::tcp(CLIENT, CELL, flags);
    let out = frame.clone().to(endpoint(CELL, colour));
    Case::incoming(sentence, state, &frame, Verdict::Deliver, &out)
}
