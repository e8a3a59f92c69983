//! Packets that are nobody's business here, or that cannot be handled.

use std::net::SocketAddrV4;

use switcher_common::verdict::{Reason, Verdict};

use super::{Case, steady};
use crate::frame::{Build, flag};
use crate::town::{CALLS, CLIENT, State, WEB};

pub(super) fn cases() -> Vec<Case> {
    let other_address = SocketAddrV4::new([192, 0, 2, 77].into(), WEB.port());
    let other_port = SocketAddrV4::new(*WEB.ip(), 82);
    let syn = Build::tcp(CLIENT, WEB, flag::SYN);
    vec![
        pass("another port", &syn.clone().to(other_port), Reason::NotOurs),
        pass(
            "another address",
            &syn.clone().to(other_address),
            Reason::NotOurs,
        ),
        pass(
            "another protocol",
            &Build::udp(CLIENT, WEB),
            Reason::NotOurs,
        ),
        pass(
            "TCP to a UDP service",
            &syn.clone().to(CALLS),
            Reason::NotOurs,
        ),
        raw("an Ethernet type that is not IP", Reason::NotIp, |frame| {
            frame[12..14].copy_from_slice(&[0x08, 0x06]);
        }),
        raw("IPv6 that is not", Reason::Malformed, |frame| {
            frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        }),
        raw("a VLAN tag in front of nothing", Reason::NotIp, |frame| {
            frame[12..14].copy_from_slice(&[0x81, 0x00]);
        }),
        raw("ICMP", Reason::Protocol, |frame| {
            frame[23] = 1;
        }),
        raw(
            "a header shorter than a header",
            Reason::Malformed,
            |frame| {
                frame[14] = 0x44;
            },
        ),
        raw("a version that is not 4", Reason::Malformed, |frame| {
            frame[14] = 0x65;
        }),
        raw("cut off in the IPv4 header", Reason::Malformed, |frame| {
            frame.truncate(33);
        }),
        raw("cut off in the TCP header", Reason::Malformed, |frame| {
            frame.truncate(53);
        }),
        raw(
            "nothing but the Ethernet header",
            Reason::Malformed,
            |frame| {
                frame.truncate(14);
            },
        ),
    ]
}

fn pass(sentence: &'static str, frame: &Build, reason: Reason) -> Case {
    Case::untouched(sentence, State::new(steady()), frame, Verdict::Pass(reason))
}

fn raw(sentence: &'static str, reason: Reason, spoil: impl FnOnce(&mut Vec<u8>)) -> Case {
    let mut frame = Build::tcp(CLIENT, WEB, flag::SYN).bytes();
    spoil(&mut frame);
    let out = frame.clone();
    Case::bytes(
        sentence,
        State::new(steady()),
        frame,
        Verdict::Pass(reason),
        out,
    )
}
