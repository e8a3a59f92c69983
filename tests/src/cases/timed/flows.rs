//! What flows do that are remembered by themselves or tagged: masqueraded ones, and QUIC.

use switcher_common::abi::Times;
use switcher_common::quic::V1;
use switcher_common::verdict::{Reason, Verdict};

use super::{JUST, SOON, open, pause, steady, timed};
use crate::cases::quic::{INITIAL, SHORT, datagram};
use crate::cases::{Case, draining};
use crate::frame::{Build, flag};
use crate::town::{
    AWAY, CLIENT, INSIDE, MASK, Masked, RADIO, STREAM, State, UDP_IDLE, endpoint, flow_tag, id,
    link_of, syn_tag,
};

pub(super) fn cases() -> Vec<Case> {
    [masqueraded(), masquerade_paused(), quic(), quic_paused()].concat()
}

/// Blue, green and blue again, whatever is asked.
fn hours() -> [(State, u16); 4] {
    [
        (timed(open(), SOON, SOON, Times::NEVER), 0),
        (timed(open(), JUST, SOON, Times::NEVER), 0),
        (timed(open(), JUST, JUST, SOON), 1),
        (timed(open(), 0, 0, JUST), 0),
    ]
}

fn masqueraded() -> Vec<Case> {
    let [syn, ack] = [flag::SYN, flag::ACK].map(|flags| Build::tcp(CLIENT, AWAY, flags));
    let call = Build::udp(CLIENT, RADIO);
    let begins = |sentence: [&'static str; 4], frame: &Build| {
        let hours = sentence.into_iter().zip(hours());
        let case = |(sentence, (state, colour)): (_, (State, _))| {
            goes(sentence, state.masks(MASK.port(), 1), frame, colour)
        };
        hours.map(case).collect::<Vec<_>>()
    };
    let known = |state: State, vip, colour| {
        let flow = Masked::at(id(vip, colour), MASK.port());
        state.masks(MASK.port(), 2).masked(CLIENT, vip, flow)
    };
    let [_, (armed, _), (within, _), (after, _)] = hours();
    let silent = Masked::at(id(RADIO, 1), MASK.port()).silent(UDP_IDLE + 1, UDP_IDLE + 1);
    [
        begins(
            [
                "long before a timed flip, a masqueraded connection begins on blue",
                "shortly before a timed flip, a masqueraded connection begins on blue",
                "unconfirmed, a masqueraded connection begins on green",
                "reverted, a masqueraded connection begins on blue",
            ],
            &syn,
        ),
        begins(
            [
                "long before a timed flip, a masqueraded datagram goes to blue",
                "shortly before a timed flip, a masqueraded datagram goes to blue",
                "unconfirmed, a masqueraded datagram goes to green",
                "reverted, a masqueraded datagram goes to blue",
            ],
            &call,
        ),
        vec![
            goes(
                "before a timed flip, a masqueraded connection stays",
                known(armed, AWAY, 1),
                &ack,
                1,
            ),
            goes(
                "unconfirmed, a masqueraded connection to blue stays",
                known(within.clone(), AWAY, 0),
                &ack,
                0,
            ),
            goes(
                "unconfirmed, masqueraded datagrams to blue stay",
                known(within, RADIO, 0),
                &call,
                0,
            ),
            goes(
                "reverted, a masqueraded connection made on green stays there",
                known(after.clone(), AWAY, 1),
                &ack,
                1,
            ),
            goes(
                "reverted, masqueraded datagrams that were silent for too long are new",
                (after.masks(MASK.port(), 1)).masked(CLIENT, RADIO, silent),
                &call,
                0,
            ),
        ],
    ]
    .concat()
}

fn masquerade_paused() -> Vec<Case> {
    let [syn, ack] = [flag::SYN, flag::ACK].map(|flags| Build::tcp(CLIENT, AWAY, flags));
    let call = Build::udp(CLIENT, RADIO);
    let paused = |until| pause(open(), until).masks(MASK.port(), 1);
    let blue = |vip| Masked::at(id(vip, 0), MASK.port());
    let dropped = |sentence, state, frame: &Build| {
        let (verdict, vip) = (Verdict::Drop(Reason::Paused), frame.destination);
        Case::untouched(sentence, state, frame, verdict).forgets_masquerade(CLIENT, vip)
    };
    let silent = blue(RADIO).silent(UDP_IDLE + 1, UDP_IDLE + 1);
    let mut cases = vec![
        dropped(
            "paused, no masqueraded connection begins",
            paused(SOON),
            &syn,
        ),
        dropped(
            "paused, no masqueraded datagrams begin",
            paused(SOON),
            &call,
        ),
        goes(
            "paused, a masqueraded connection goes on",
            paused(SOON).masked(CLIENT, AWAY, blue(AWAY)),
            &ack,
            0,
        ),
        goes(
            "paused, masqueraded datagrams go on",
            paused(SOON).masked(CLIENT, RADIO, blue(RADIO)),
            &call,
            0,
        ),
        goes(
            "when the pause is over, a masqueraded connection begins",
            paused(JUST),
            &syn,
            1,
        ),
        goes(
            "when the pause is over, masqueraded datagrams begin",
            paused(JUST),
            &call,
            1,
        ),
    ];
    cases.push(
        Case::untouched(
            "paused, masqueraded datagrams that were silent for too long do not begin again",
            paused(SOON).masked(CLIENT, RADIO, silent),
            &call,
            Verdict::Drop(Reason::Paused),
        )
        .masquerades(CLIENT, RADIO, id(RADIO, 0), MASK.port()),
    );
    cases
}

/// To the masqueraded endpoint of a colour.
fn goes(sentence: &'static str, state: State, frame: &Build, colour: u16) -> Case {
    let vip = frame.destination;
    let server = endpoint(vip, colour);
    let out = frame.clone().from(MASK).to(server);
    let out = out.hop(INSIDE.link, link_of(*server.ip()));
    let verdict = Verdict::Redirect(INSIDE.index);
    Case::incoming(sentence, state, frame, verdict, &out).masquerades(
        CLIENT,
        vip,
        id(vip, colour),
        MASK.port(),
    )
}

fn quic() -> Vec<Case> {
    let (initial, short) = (datagram(INITIAL, V1, 1200), datagram(SHORT, 0, 1200));
    let green = || syn_tag(id(STREAM, 1), 0);
    let [(quiet, _), (armed, _), (within, _), (after, _)] = hours();
    let after_draining = timed(draining(), 0, 0, JUST);
    let remembered = |case: Case, colour| case.remembers(CLIENT, STREAM, id(STREAM, colour));
    vec![
        to_stream(
            "long before a timed flip, an Initial goes to blue",
            quiet.clone(),
            &initial,
            0,
        )
        .remembers(CLIENT, STREAM, id(STREAM, 0)),
        to_stream(
            "before a timed flip, a QUIC flow that is known elsewhere stays there",
            quiet.tag(CLIENT, STREAM, flow_tag(id(STREAM, 1))),
            &short,
            1,
        ),
        remembered(
            to_stream(
                "shortly before a timed flip, an Initial is remembered",
                armed,
                &initial,
                0,
            ),
            0,
        ),
        remembered(
            to_stream(
                "unconfirmed, an Initial goes to green",
                within.clone(),
                &initial,
                1,
            ),
            1,
        ),
        remembered(
            to_stream(
                "unconfirmed, unknown QUIC flows are old",
                within.clone(),
                &short,
                0,
            ),
            0,
        ),
        to_stream(
            "after a timed flip, another Initial of a handshake follows it",
            within.tag(CLIENT, STREAM, syn_tag(id(STREAM, 0), 0)),
            &initial,
            0,
        ),
        to_stream(
            "reverted, an Initial goes to blue",
            after.clone(),
            &initial,
            0,
        )
        .forgets(CLIENT, STREAM),
        to_stream(
            "reverted, unknown QUIC flows are on blue",
            after.clone(),
            &short,
            0,
        )
        .forgets(CLIENT, STREAM),
        to_stream(
            "reverted, a QUIC flow made on green stays there",
            after.tag(CLIENT, STREAM, green()),
            &short,
            1,
        ),
        remembered(
            to_stream(
                "reverted while draining, unknown QUIC flows are on green",
                after_draining,
                &short,
                1,
            ),
            1,
        ),
    ]
}

fn quic_paused() -> Vec<Case> {
    let (initial, short) = (datagram(INITIAL, V1, 1200), datagram(SHORT, 0, 1200));
    let dropped =
        |sentence, state| Case::untouched(sentence, state, &initial, Verdict::Drop(Reason::Paused));
    let blue = syn_tag(id(STREAM, 0), 0);
    vec![
        dropped("paused, no QUIC flow begins", pause(steady(), SOON)).forgets(CLIENT, STREAM),
        dropped(
            "paused in a window, no QUIC flow begins",
            pause(open(), SOON),
        )
        .forgets(CLIENT, STREAM),
        dropped(
            "paused, another Initial of a flow that was let in is dropped",
            pause(open(), SOON).tag(CLIENT, STREAM, blue),
        ),
        to_stream("paused, QUIC flows go on", pause(steady(), SOON), &short, 0),
        to_stream(
            "paused in a window, known QUIC flows stay",
            pause(open(), SOON).tag(CLIENT, STREAM, flow_tag(id(STREAM, 1))),
            &short,
            1,
        ),
        to_stream(
            "when the pause is over, a QUIC flow begins",
            pause(steady(), JUST),
            &initial,
            0,
        ),
    ]
}

fn to_stream(sentence: &'static str, state: State, frame: &Build, colour: u16) -> Case {
    let out = frame.clone().to(endpoint(STREAM, colour));
    Case::incoming(sentence, state, frame, Verdict::Deliver, &out)
}
