//! Fragments of masqueraded packets: the first makes or finds the flow, the others follow it.

use std::net::SocketAddrV4;

use switcher_common::abi::fragment::{Fragmented, fragmented};
use switcher_common::abi::{Address, Port};
use switcher_common::rewrite::Hop;
use switcher_common::verdict::{Reason, Verdict};

use super::at_port;
use crate::cases::{Case, Hook, open, steady};
use crate::frame::{Build, flag};
use crate::pieces::{Family, forwarded};
use crate::town::{
    AWAY, CLIENT, GATEWAY, INSIDE, Interface, MASK, Masked, NOW, OUTSIDE, RADIO, State, endpoint,
    id, link_of, service,
};

/// Bytes of a fragment.
const PIECE: usize = 64;
/// Identification of the packets here.
const ID: u32 = 0xbeef;

pub(super) fn cases() -> Vec<Case> {
    [Family::V4, Family::V6]
        .into_iter()
        .flat_map(|family| {
            let there = Pieces(family);
            [
                there.requests(),
                there.replies(),
                there.left_to_stack(),
                there.refused(),
            ]
            .concat()
        })
        .collect()
}

struct Pieces(Family);

impl Pieces {
    fn requests(&self) -> Vec<Case> {
        let [first, second, last] = self.radio(CLIENT, RADIO);
        let [to_blue, then_blue, last_blue] = self.radio(MASK, endpoint(RADIO, 0));
        let [to_green, ..] = self.radio(MASK, endpoint(RADIO, 1));
        let one = |word| State::new(word).masks(MASK.port(), 1);
        let blue = Masked::at(id(RADIO, 0), MASK.port());
        let follows = || self.following(CLIENT, RADIO, request(id(RADIO, 0), Port(0), MASK));
        let goes = |sentence, state, frame, out, colour| {
            let hop = hop(INSIDE, *endpoint(RADIO, colour).ip());
            let verdict = Verdict::Redirect(INSIDE.index);
            self.case(sentence, state, frame, verdict, forwarded(out, hop))
        };
        vec![
            goes(
                "a datagram's first fragment begins a masqueraded flow",
                one(open()),
                first.clone(),
                to_green,
                1,
            ),
            goes(
                "a datagram's first fragment goes where its masqueraded flow goes",
                one(open()).masked(CLIENT, RADIO, blue),
                first,
                to_blue,
                0,
            ),
            goes(
                "a later fragment is masqueraded like the first",
                follows(),
                second,
                then_blue,
                0,
            ),
            goes(
                "the last fragment is masqueraded like the first",
                follows(),
                last,
                last_blue,
                0,
            ),
        ]
    }

    fn replies(&self) -> Vec<Case> {
        let [first, second, _] = self.radio(endpoint(RADIO, 0), MASK);
        let [from_vip, then_vip, _] = self.radio(RADIO, CLIENT);
        let blue = Masked::at(id(RADIO, 0), MASK.port());
        let state = State::new(open())
            .masks(MASK.port(), 1)
            .masked(CLIENT, RADIO, blue);
        let follows = self.following(endpoint(RADIO, 0), MASK, reply(id(RADIO, 0), RADIO, CLIENT));
        let out = hop(OUTSIDE, GATEWAY);
        vec![
            self.case(
                "a masqueraded reply's first fragment goes to its client",
                state,
                first,
                Verdict::Transmit,
                forwarded(from_vip, out),
            ),
            self.case(
                "a masqueraded reply's later fragment goes to its client",
                follows,
                second,
                Verdict::Transmit,
                forwarded(then_vip, out),
            ),
        ]
    }

    /// Whose neighbour is unknown, or client far away: this host's address follows at egress.
    fn left_to_stack(&self) -> Vec<Case> {
        let red = endpoint(AWAY, 2);
        let [first, second, _] = self.away(CLIENT, AWAY);
        let left = SocketAddrV4::new(*CLIENT.ip(), MASK.port());
        let [half, then_half, _] = self.away(left, red);
        let [whole, then_whole, _] = self.away(MASK, red);
        let flow = Masked::at(id(AWAY, 2), MASK.port());
        let known = || {
            State::new(steady().with_current(2))
                .masks(MASK.port(), 1)
                .masked(CLIENT, AWAY, flow)
        };
        let [answer, then_answer, _] = self.away(red, left);
        let [from_vip, then_vip, _] = self.away(AWAY, CLIENT);
        let said = |port| request(id(AWAY, 2), port, MASK);
        let answered = Fragmented {
            port: Port::new(CLIENT.port()),
            ..reply(id(AWAY, 2), AWAY, CLIENT)
        };
        let comes =
            |sentence, state, frame, out| self.case(sentence, state, frame, Verdict::Deliver, out);
        let leaves = |sentence, state, frame, out| Case {
            hook: Hook::Egress,
            ..comes(sentence, state, frame, out)
        };
        vec![
            comes(
                "a masqueraded first fragment without a neighbour: this host's address is still to come",
                known(),
                first,
                half.clone(),
            ),
            comes(
                "a masqueraded later fragment without a neighbour: this host's address is still to come",
                self.following(CLIENT, AWAY, said(Port(0))),
                second,
                then_half.clone(),
            ),
            leaves(
                "on its way out a first fragment gets this host's address",
                known(),
                half,
                whole,
            ),
            leaves(
                "on its way out a later fragment gets this host's address",
                self.following(CLIENT, red, said(Port::new(MASK.port()))),
                then_half,
                then_whole,
            ),
            leaves(
                "a masqueraded reply's first fragment leaves with the VIP's address",
                known(),
                answer,
                from_vip,
            ),
            leaves(
                "a masqueraded reply's later fragment leaves with the VIP's address",
                self.following(red, CLIENT, answered),
                then_answer,
                then_vip,
            ),
        ]
    }

    fn refused(&self) -> Vec<Case> {
        let [first, second, _] = self.radio(CLIENT, RADIO);
        let [reply, then_reply, _] = self.radio(endpoint(RADIO, 0), MASK);
        let [own, then_own, _] = self.radio(endpoint(RADIO, 0), at_port(45_000));
        let [strange, ..] = self.away(CLIENT, AWAY);
        let none = || State::new(steady()).masks(MASK.port(), 1);
        let other = SocketAddrV4::new(*CLIENT.ip(), 40_001);
        let taken = none().masked(other, RADIO, Masked::at(id(RADIO, 0), MASK.port()));
        let passes = Fragmented {
            kind: fragmented::PASSES,
            seen: NOW,
            ..Fragmented::default()
        };
        let stays = |sentence, state, frame: Vec<u8>, verdict| {
            self.case(sentence, state, frame.clone(), verdict, frame)
        };
        let not_ours = Verdict::Pass(Reason::NotOurs);
        vec![
            stays(
                "no port is left for a first fragment's flow",
                taken,
                first,
                Verdict::Drop(Reason::NatExhausted),
            ),
            stays(
                "a masqueraded fragment before the first one",
                none(),
                second,
                Verdict::Drop(Reason::FragmentUnseen),
            ),
            stays(
                "the first fragment of a segment of no known connection",
                none(),
                strange,
                Verdict::Pass(Reason::UnknownFlow),
            ),
            stays(
                "a first fragment to a port that no flow has",
                none(),
                reply,
                not_ours,
            ),
            stays(
                "a later fragment of a reply that nobody has seen begin",
                none(),
                then_reply,
                Verdict::Pass(Reason::FragmentUnseen),
            ),
            stays(
                "the first fragment of an endpoint's answer to this host itself",
                none(),
                own,
                not_ours,
            ),
            stays(
                "a later fragment of an endpoint's answer to this host itself",
                self.following(endpoint(RADIO, 0), MASK, passes),
                then_own,
                not_ours,
            ),
        ]
    }

    /// The three fragments of a datagram.
    fn radio(&self, source: SocketAddrV4, destination: SocketAddrV4) -> [Vec<u8>; 3] {
        self.0
            .pieces(&of_150_bytes(Build::udp(source, destination)), PIECE, ID)
    }

    /// The three fragments of a segment.
    fn away(&self, source: SocketAddrV4, destination: SocketAddrV4) -> [Vec<u8>; 3] {
        let whole = Build::tcp(source, destination, flag::ACK);
        self.0.pieces(&of_150_bytes(whole), PIECE, ID)
    }

    /// With what the first fragment of a packet said.
    fn following(
        &self,
        source: SocketAddrV4,
        destination: SocketAddrV4,
        said: Fragmented,
    ) -> State {
        let red = endpoint(AWAY, 2);
        let tcp = destination == AWAY || destination == red || source == red;
        State::new(steady()).fragmented(source, destination, ID, tcp, said)
    }

    fn case(
        &self,
        sentence: &'static str,
        state: State,
        frame: Vec<u8>,
        verdict: Verdict,
        out: Vec<u8>,
    ) -> Case {
        let (sentence, state) = (self.0.says(sentence), self.0.state(state));
        Case::bytes(sentence, state, frame, verdict, out)
    }
}

fn of_150_bytes(plain: Build) -> Build {
    Build {
        payload: (0..150).collect(),
        ..plain
    }
}

fn request(endpoint: u16, port: Port, mask: SocketAddrV4) -> Fragmented {
    Fragmented {
        kind: fragmented::REQUEST,
        id: endpoint,
        port,
        other: Address::v4(mask.ip().octets()),
        seen: NOW,
        ..Fragmented::default()
    }
}

fn reply(endpoint: u16, vip: SocketAddrV4, client: SocketAddrV4) -> Fragmented {
    Fragmented {
        kind: fragmented::REPLY,
        id: endpoint,
        service: service(vip),
        other: Address::v4(client.ip().octets()),
        seen: NOW,
        ..Fragmented::default()
    }
}

fn hop(interface: Interface, neighbour: std::net::Ipv4Addr) -> Hop {
    Hop {
        destination: link_of(neighbour),
        source: interface.link,
    }
}
