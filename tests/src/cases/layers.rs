//! Packets in other clothes: the same cases in IPv6, behind extension headers, IPv4 options and VLAN tags; and
//! what is worn by nobody whom we serve.

use switcher_common::verdict::{Reason, Verdict};

use super::{Case, Hook, steady};
use crate::frame::{Build, Extension, flag};
use crate::pieces::{behind_options, tagged as with_tag};
use crate::town::{CLIENT, FAR, OUTSIDE, SHOP, State, WEB, endpoint};

const CUSTOMER: [u8; 4] = [0x81, 0x00, 0x20, 0x0a];
const SERVICE: [u8; 4] = [0x88, 0xa8, 0x00, 0x0b];

/// The cases again, as other frames that have to be treated alike.
pub(super) fn twins(cases: &[Case]) -> Vec<Case> {
    let (one, two) = ([CUSTOMER], [SERVICE, CUSTOMER]);
    let extensions = extensions();
    let mut twins = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        twins.extend(case.twin("IPv6", true, |build| build.in_v6(&[])));
        twins.extend(match number % 4 {
            0 => case.twin("IPv6 with extension headers", true, |build| {
                build.in_v6(&extensions)
            }),
            1 => case.twin("IPv4 with options", false, |mut build| {
                build.options = vec![[7, 7, 4, 0], [0; 4], [1; 4]];
                build
            }),
            // Another interface is out of reach of a tagged frame: see below.
            _ if matches!(case.verdict, Verdict::Redirect(_)) => None,
            2 => case.twin("with a VLAN tag", false, |build| build.tagged(&one)),
            _ => case.twin("IPv6 with two VLAN tags", true, |build| {
                build.in_v6(&[]).tagged(&two)
            }),
        });
    }
    twins
}

/// Likewise those that no builder made: with a VLAN tag, and behind hop-by-hop options.
pub(super) fn odd_twins(cases: &[Case]) -> Vec<Case> {
    let tagged = |case: &Case| {
        let stays = !matches!(case.verdict, Verdict::Redirect(_));
        stays.then(|| case.odd_twin("with a VLAN tag", |frame| with_tag(frame, CUSTOMER)))
    };
    let optional = |case: &Case| {
        let is_v6 = case.frame[12..15].starts_with(&[0x86, 0xdd, 0x60]) && case.frame.len() >= 54;
        is_v6.then(|| case.odd_twin("behind options", behind_options))
    };
    let twins = cases.iter().flat_map(|case| [tagged(case), optional(case)]);
    twins.flatten().collect()
}

impl Case {
    fn odd_twin(&self, name: &str, dress: impl Fn(&[u8]) -> Vec<u8>) -> Self {
        Self {
            sentence: format!("{name}: {}", self.sentence).leak(),
            frame: dress(&self.frame),
            out: dress(&self.out),
            ..self.clone()
        }
    }

    /// The same with its frames changed; nothing if no builder made them or the case is about IPv4.
    fn twin(&self, name: &str, v6: bool, dress: impl Fn(Build) -> Build) -> Option<Self> {
        let (frame, out) = self.built.as_deref()?;
        let state = self.state.clone();
        let twin = Self::incoming(
            format!("{name}: {}", self.sentence).leak(),
            if v6 { state.in_v6() } else { state },
            &dress(frame.clone()),
            self.verdict,
            &dress(out.clone()),
        );
        Some(match self.hook {
            Hook::Ingress => twin,
            Hook::Egress => twin.outgoing(),
        })
    }
}

/// One of each kind, and destination options once more.
pub(super) fn extensions() -> Vec<Extension> {
    let options = vec![0, 1, 4, 0, 0, 0, 0];
    vec![
        (0, options.clone()),
        (60, options.clone()),
        (43, vec![0, 253, 0, 0, 0, 0, 0]),
        // Alone: not a fragment.
        (44, vec![0, 0, 0, 1, 2, 3, 4]),
        (51, [vec![4], vec![0x11; 22]].concat()),
        (60, options),
    ]
}

pub(super) fn cases() -> Vec<Case> {
    let syn = Build::tcp(CLIENT, WEB, flag::SYN).in_v6(&[]);
    let six = || State::new(steady()).in_v6();
    let behind = |extensions: &[Extension]| syn.clone().in_v6(extensions);
    let too_many: Vec<_> = [extensions(), extensions()].concat();
    let mut cases = vec![
        Case::untouched(
            "more extension headers than are walked",
            six(),
            &behind(&too_many),
            Verdict::Pass(Reason::ExtensionHeaders),
        ),
        Case::untouched(
            "extension headers longer than the program reads",
            six(),
            &behind(&[(60, [vec![59], vec![0; 478]].concat())]),
            Verdict::Pass(Reason::ExtensionHeaders),
        ),
        Case::untouched(
            "a routing header with a way still to go",
            six(),
            &behind(&[(43, vec![0, 253, 1, 0, 0, 0, 0])]),
            Verdict::Pass(Reason::ExtensionHeaders),
        ),
        Case::untouched(
            "an extension header that nobody knows",
            six(),
            &behind(&[(139, vec![0; 7])]),
            Verdict::Pass(Reason::Protocol),
        ),
        Case::untouched(
            "three VLAN tags",
            State::new(steady()),
            &Build::tcp(CLIENT, WEB, flag::SYN).tagged(&[CUSTOMER; 3]),
            Verdict::Pass(Reason::NotIp),
        ),
        raw(
            "IPv6: an IPv4-mapped address on the wire",
            &syn,
            Reason::Malformed,
            |frame| {
                frame[22..34].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
            },
        ),
        raw(
            "IPv6: neighbour discovery",
            &syn,
            Reason::Protocol,
            |frame| {
                frame[20] = 58;
                frame[54] = 135;
            },
        ),
        raw(
            "IPv6: a version that is not 6",
            &syn,
            Reason::Malformed,
            |frame| {
                frame[14] = 0x45;
            },
        ),
        raw(
            "IPv6: cut off in the header",
            &syn,
            Reason::Malformed,
            |frame| {
                frame.truncate(53);
            },
        ),
        raw(
            "IPv6: cut off in the TCP header",
            &syn,
            Reason::Malformed,
            |frame| {
                frame.truncate(73);
            },
        ),
        raw(
            "IPv6: cut off in an extension header",
            &behind(&extensions()),
            Reason::Malformed,
            |frame| frame.truncate(81),
        ),
        raw(
            "cut off behind a VLAN tag",
            &syn,
            Reason::Malformed,
            |frame| {
                frame[12..14].copy_from_slice(&[0x81, 0x00]);
                frame.truncate(17);
            },
        ),
    ];
    cases.extend(tagged());
    cases
}

/// Tags say nothing on another interface, where the stack has to replace them.
fn tagged() -> Vec<Case> {
    let request = Build::tcp(CLIENT, SHOP, flag::ACK).tagged(&[CUSTOMER]);
    let back = Build::tcp(CLIENT, FAR, flag::ACK).tagged(&[CUSTOMER]);
    vec![
        Case::incoming(
            "with a VLAN tag, towards another interface: rewritten, and the stack forwards",
            State::new(steady()),
            &request,
            Verdict::Deliver,
            &request.clone().to(endpoint(SHOP, 0)),
        ),
        Case::incoming(
            "with a VLAN tag, out of the interface it came in by",
            State::new(steady().with_current(2)),
            &back,
            Verdict::Transmit,
            &super::routed::forwarded(&back, endpoint(FAR, 2), OUTSIDE),
        ),
    ]
}

fn raw(
    sentence: &'static str,
    frame: &Build,
    reason: Reason,
    spoil: impl FnOnce(&mut Vec<u8>),
) -> Case {
    let mut frame = frame.bytes();
    spoil(&mut frame);
    let state = State::new(steady()).in_v6();
    Case::bytes(sentence, state, frame.clone(), Verdict::Pass(reason), frame)
}
