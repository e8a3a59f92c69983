//! Services whose packets travel inside others; outer headers and answers from scratch.

mod odd;

use std::net::{IpAddr, SocketAddrV4};

use switcher_common::abi::{Times, Tunnel};
use switcher_common::steer;
use switcher_common::verdict::{Reason, Verdict};

use super::timed::{JUST, SOON, timed};
use super::{Case, arming, draining, open, steady};
use crate::cave::{CAVE, Outer, WELL, ipv4, way};
use crate::frame::{Build, Extension, RECEIVER, SENDER, SEQUENCE, flag, six, sum};
use crate::pieces::Family;
use crate::town::{CLIENT, INSIDE, NARROW, SEED, State, flow_tag, id, service, syn_tag};

/// Some class and both congestion bits.
const TOS: u8 = 0xbb;

pub(super) fn cases() -> Vec<Case> {
    [
        wrapping(Family::V4),
        wrapping(Family::V6),
        families(),
        dressed(),
        windows(),
        too_big(),
        odd::cases(),
    ]
    .concat()
}

/// To blue, in its own family.
fn wrapping(family: Family) -> Vec<Case> {
    let ack = segment(family);
    let other = Build {
        source: SocketAddrV4::new(*CLIENT.ip(), 40_001),
        ..ack.clone()
    };
    let datagram = in_family(family, Build::udp(CLIENT, WELL));
    let seeming = ack.clone().seeming_unfinished();
    let last = Build {
        ttl: 1,
        ..ack.clone()
    };
    let says = |sentence| family.says(sentence);
    let state = |state| family.state(state);
    let case =
        |sentence, frame: &Build| goes(says(sentence), state(State::new(steady())), frame, 0);
    vec![
        case("inside another packet", &ack),
        case("another flow, another outer source", &other),
        case("a datagram inside another packet", &datagram),
        case(
            "a whole checksum that looks unfinished is whole inside another packet, too",
            &seeming,
        ),
        Case {
            frame: ack.unfinished(),
            ..case(
                "a checksum that the sender left to its card is completed inside another packet",
                &ack,
            )
        },
        stays(
            says("no hop is left before the tunnel"),
            state(State::new(steady())),
            last.bytes(),
            Verdict::Drop(Reason::Expired),
        ),
        stays(
            says("nobody knows where outer headers come from"),
            unsourced(state(State::new(steady()))),
            ack.bytes(),
            Verdict::Drop(Reason::NoNeighbour),
        ),
    ]
}

/// To red, an IPv6 host.
fn families() -> Vec<Case> {
    let ack = segment(Family::V4);
    let red = || State::new(steady().with_current(2));
    let datagram = Build {
        tos: TOS,
        ..Build::udp(CLIENT, WELL)
    };
    let mut lost = red();
    if let Some(endpoint) = lost.memory.endpoints.get_mut(&id(CAVE, 2)) {
        endpoint.address = IpAddr::from(six([10, 1, 0, 99].into())).into();
    }
    vec![
        goes("IPv4 inside IPv6", red(), &ack, 2),
        goes("a datagram inside IPv6", red(), &datagram, 2),
        goes(
            "IPv4 just small enough for the way inside IPv6",
            red(),
            &sized(&ack, 1460),
            2,
        ),
        told(
            "IPv4 too big for the way inside IPv6",
            red(),
            &sized(&ack, 1461),
            1460,
        ),
        tagless(
            "a tagged frame does not leave by another interface, inside IPv6 or not",
            red(),
            &ack,
        ),
        stays(
            "no neighbour on the way of the outer packet",
            lost,
            ack.bytes(),
            Verdict::Drop(Reason::NoNeighbour),
        ),
    ]
}

/// Options, extension headers and tags.
fn dressed() -> Vec<Case> {
    let (four, six) = (segment(Family::V4), segment(Family::V6));
    let blue = || State::new(steady());
    let optioned = Build {
        options: vec![[7, 7, 4, 0], [0; 4], [1; 4]],
        ..four.clone()
    };
    let fragmentable = Build {
        fragment: 0,
        ..four.clone()
    };
    let extended = six.clone().in_v6(&extensions());
    let in_v6 = || State::new(steady()).in_v6();
    vec![
        goes("options inside another packet", blue(), &optioned, 0),
        goes(
            "may be fragmented, but not outside",
            blue(),
            &fragmentable,
            0,
        ),
        goes(
            "extension headers inside another packet",
            in_v6(),
            &extended,
            0,
        ),
        goes(
            "a tag before another packet",
            blue(),
            &four.clone().tagged(&[CUSTOMER]),
            0,
        ),
        goes(
            "two tags before another packet",
            blue(),
            &four.tagged(&[SERVICE, CUSTOMER]),
            0,
        ),
        goes(
            "IPv6: two tags before another packet",
            in_v6(),
            &six.tagged(&[SERVICE, CUSTOMER]),
            0,
        ),
    ]
}

/// Which endpoint it is follows from the window as everywhere.
fn windows() -> Vec<Case> {
    let ack = segment(Family::V4);
    let datagram = Build::udp(CLIENT, WELL);
    let syn = Build::tcp(CLIENT, CAVE, flag::SYN);
    let (blue, green) = (id(CAVE, 0), id(CAVE, 1));
    let tagged = |word, tag| State::new(word).tag(CLIENT, CAVE, tag);
    let timed = |from, until| timed(open(), JUST, from, until);
    vec![
        goes(
            "armed, a SYN inside another packet",
            State::new(arming()),
            &syn,
            0,
        )
        .remembers(CLIENT, CAVE, blue),
        goes(
            "open, a SYN inside another packet",
            State::new(open()),
            &syn,
            1,
        )
        .remembers(CLIENT, CAVE, green),
        goes(
            "open, an unknown flow inside another packet",
            State::new(open()),
            &ack,
            0,
        )
        .remembers(CLIENT, CAVE, blue),
        goes(
            "open, a flow inside another packet stays with its tag",
            tagged(open(), flow_tag(green)),
            &ack,
            1,
        )
        .remembers(CLIENT, CAVE, green),
        goes(
            "open, the copy of a SYN inside another packet stays with its tag",
            tagged(open(), syn_tag(blue, SEQUENCE)),
            &syn,
            0,
        )
        .remembers(CLIENT, CAVE, blue),
        goes(
            "draining, an unknown flow inside another packet",
            State::new(draining()),
            &ack,
            1,
        )
        .forgets(CLIENT, CAVE),
        goes(
            "draining, a flow inside another packet stays with its tag",
            tagged(draining(), flow_tag(blue)),
            &ack,
            0,
        )
        .remembers(CLIENT, CAVE, blue),
        goes(
            "before a timed flip, a SYN inside another packet",
            timed(SOON, Times::NEVER),
            &syn,
            0,
        )
        .remembers(CLIENT, CAVE, blue),
        goes(
            "after a timed flip, a SYN inside another packet",
            timed(JUST, SOON),
            &syn,
            1,
        )
        .remembers(CLIENT, CAVE, green),
        goes(
            "reverted, a SYN inside another packet",
            timed(0, JUST),
            &syn,
            0,
        ),
        goes(
            "a datagram inside another packet stays with its endpoint",
            State::new(steady().with_current(1)).udp(CLIENT, WELL, flow_tag(id(WELL, 0))),
            &datagram,
            0,
        )
        .remembers(CLIENT, WELL, id(WELL, 0)),
        canary(&ack),
    ]
}

/// A part of the table in use is another colour's.
fn canary(ack: &Build) -> Case {
    let mut state = State::new(steady());
    let table = state.memory.services[&service(CAVE)].tables[0];
    let mut buckets = [id(CAVE, 0); 256];
    let hash = steer::hash(
        SEED,
        IpAddr::from(*CLIENT.ip()).into(),
        CLIENT.port().to_be(),
    );
    buckets[hash as usize % 256] = id(CAVE, 1);
    state.memory.fill(table, &buckets);
    goes("a canary's share inside other packets", state, ack, 1)
}

fn too_big() -> Vec<Case> {
    let ack = segment(Family::V4);
    let green = || State::new(steady().with_current(1));
    let in_v6 = || State::new(steady()).in_v6();
    let optioned = Build {
        options: vec![[1; 4]; 10],
        ..ack.clone()
    };
    let fragmentable = Build {
        fragment: 0,
        ..Build::udp(CLIENT, WELL)
    };
    let ack6 = segment(Family::V6);
    let extended = ack6.clone().in_v6(&extensions());
    vec![
        goes(
            "just small enough for the way with its outer header",
            green(),
            &sized(&ack, 580),
            1,
        ),
        told(
            "too big for the way with its outer header: the sender is told",
            green(),
            &sized(&ack, 581),
            580,
        ),
        told(
            "too big, and may be fragmented: the sender is told, too",
            green(),
            &sized(&fragmentable, 1400),
            580,
        ),
        told(
            "too big, with options in its header",
            green(),
            &sized(&optioned, 800),
            580,
        ),
        goes(
            "IPv6 just small enough for the way with its outer header",
            in_v6(),
            &sized(&ack6, 1460),
            0,
        ),
        told(
            "too big for IPv6: the sender is told",
            in_v6(),
            &sized(&ack6, 1461),
            1460,
        ),
        told(
            "too big for IPv6, with extension headers",
            in_v6(),
            &sized(&extended, 1500),
            1460,
        ),
        told(
            "too big, with a tag",
            State::new(steady()),
            &sized(&ack, 1481).tagged(&[CUSTOMER]),
            1480,
        ),
        told(
            "too big for IPv6, with two tags",
            in_v6(),
            &sized(&ack6, 1461).tagged(&[SERVICE, CUSTOMER]),
            1460,
        ),
    ]
}

/// An 802.1Q customer tag, and a service tag.
const CUSTOMER: [u8; 4] = [0x81, 0x00, 0x00, 0x2a];
const SERVICE: [u8; 4] = [0x88, 0xa8, 0x00, 0x07];

/// Hop-by-hop options and destination options, padding all of them.
fn extensions() -> Vec<Extension> {
    vec![
        (0, vec![0, 1, 4, 0, 0, 0, 0]),
        (60, vec![0, 1, 4, 0, 0, 0, 0]),
    ]
}

fn segment(family: Family) -> Build {
    let ack = Build {
        tos: TOS,
        ..Build::tcp(CLIENT, CAVE, flag::ACK)
    };
    in_family(family, ack)
}

fn in_family(family: Family, frame: Build) -> Build {
    match family {
        Family::V4 => frame,
        Family::V6 => frame.in_v6(&[]),
    }
}

/// Nobody could tell where outer headers come from.
fn unsourced(mut state: State) -> State {
    let tunnels = state.memory.tunnels.values_mut();
    tunnels.for_each(|tunnel| *tunnel = Tunnel::default());
    state
}

/// With a payload that makes the packet this long, the Ethernet header not counted.
fn sized(frame: &Build, length: usize) -> Build {
    let bare = Build {
        payload: Vec::new(),
        ..frame.clone()
    };
    Build {
        payload: vec![7; length + 14 - bare.bytes().len()],
        ..frame.clone()
    }
}

/// Inside another packet to the endpoint of this colour.
fn goes(sentence: &'static str, state: State, frame: &Build, colour: u16) -> Case {
    let (interface, neighbour) = way(frame, colour);
    let inner = frame.clone().hop(interface.link, neighbour).bytes();
    let verdict = match colour {
        0 => Verdict::Transmit,
        1 => Verdict::Redirect(NARROW.index),
        _ => Verdict::Redirect(INSIDE.index),
    };
    let out = Outer::of(frame, colour).around(&inner);
    Case::bytes(sentence, state, frame.bytes(), verdict, out)
}

fn tagless(sentence: &'static str, state: State, frame: &Build) -> Case {
    let tagged = frame.clone().tagged(&[CUSTOMER]).bytes();
    stays(sentence, state, tagged, Verdict::Drop(Reason::NoNeighbour))
}

fn stays(sentence: &'static str, state: State, frame: Vec<u8>, verdict: Verdict) -> Case {
    Case::bytes(sentence, state, frame.clone(), verdict, frame)
}

/// The sender is told, by the VIP, with the first 128 bytes of what came.
fn told(sentence: &'static str, state: State, frame: &Build, mtu: u16) -> Case {
    let bytes = frame.bytes();
    let l3 = 14 + 4 * frame.tags.len();
    let mut answer = [SENDER, RECEIVER].concat();
    answer.extend(&bytes[12..l3]);
    let quote = &bytes[l3..l3 + 128];
    let (vip, client) = (*frame.destination.ip(), *frame.source.ip());
    if frame.v6.is_some() {
        let (vip, client) = (six(vip).octets(), six(client).octets());
        let mut icmp = vec![2, 0, 0, 0, 0, 0];
        icmp.extend(mtu.to_be_bytes());
        icmp.extend(quote);
        let mut pseudo = [vip, client].concat();
        pseudo.extend((icmp.len() as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, 58]);
        let check = !sum(&[pseudo, icmp.clone()].concat());
        icmp[2..4].copy_from_slice(&check.to_be_bytes());
        answer.extend([0x6c, 0, 0, 0]);
        answer.extend((icmp.len() as u16).to_be_bytes());
        answer.extend([58, 64]);
        answer.extend([vip, client].concat());
        answer.extend(icmp);
    } else {
        let mut icmp = vec![3, 4, 0, 0, 0, 0];
        icmp.extend(mtu.to_be_bytes());
        icmp.extend(quote);
        let check = !sum(&icmp);
        icmp[2..4].copy_from_slice(&check.to_be_bytes());
        answer.extend(ipv4(0xc0, icmp.len() as u16, 1, vip, client));
        answer.extend(icmp);
    }
    Case::bytes(sentence, state, bytes, Verdict::Transmit, answer)
}
