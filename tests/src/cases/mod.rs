//! Packet cases as data: a sentence, a state, a frame in, a verdict, a frame out. `packets` runs them
//! through the core on the host, `kernel` through the loaded programs.

mod dsr;
mod elsewhere;
mod errors;
mod exceptions;
mod fragments;
mod hashed;
mod ipip;
mod layers;
mod nat;
mod quic;
mod replies;
mod requests;
mod routed;
mod six;
mod sockets;
mod tags;
pub mod timed;
mod udp;
mod zero;

use std::net::SocketAddrV4;

use switcher_common::verdict::Verdict;
use switcher_common::word::{Phase, Word};

use crate::frame::Build;
use crate::town::{EPOCH, State};

/// One packet and what becomes of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What the case says.
    pub sentence: &'static str,
    /// What it starts from.
    pub state: State,
    /// Which program sees the packet.
    pub hook: Hook,
    /// The packet.
    pub frame: Vec<u8>,
    /// What is decided.
    pub verdict: Verdict,
    /// The packet afterwards.
    pub out: Vec<u8>,
    /// What is remembered of its flow afterwards: the endpoint of its tag.
    pub tag: Remembered,
    /// What the frames were built from, if nothing but a builder made them.
    built: Option<Box<(Build, Build)>>,
}

/// Which program sees a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP: it comes in.
    Ingress,
    /// tc: it goes out.
    Egress,
}

/// What a flow map has afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// Not what the case is about.
    Whatever,
    /// No tag.
    Nothing(SocketAddrV4, SocketAddrV4),
    /// A tag of this client's flow to this service, and its endpoint.
    Endpoint(SocketAddrV4, SocketAddrV4, u16),
    /// A masqueraded flow of this client to this service, its endpoint and port, or that there is none.
    Masqueraded(SocketAddrV4, SocketAddrV4, Option<(u16, u16)>),
}

/// All cases.
pub fn all() -> Vec<Case> {
    let plain = [
        requests::cases(),
        routed::cases(),
        dsr::cases(),
        tags::cases(),
        timed::cases(),
        sockets::cases(),
        udp::cases(),
        exceptions::cases(),
        replies::cases(),
        nat::cases(),
        hashed::cases(),
        quic::cases(),
    ]
    .concat();
    let twins = layers::twins(&plain);
    let odd = [fragments::cases(), errors::cases(), nat::odd()].concat();
    let odd_twins = layers::odd_twins(&odd);
    let six = six::cases();
    let six_twins = layers::odd_twins(&six);
    [
        plain,
        twins,
        elsewhere::cases(),
        layers::cases(),
        zero::cases(),
        odd,
        odd_twins,
        dsr::odd(),
        ipip::cases(),
        // The last, since what they add to the town stays in the kernel's maps.
        six,
        six_twins,
    ]
    .concat()
}

impl Case {
    /// A packet that comes in and leaves as `out`.
    fn incoming(
        sentence: &'static str,
        state: State,
        frame: &Build,
        verdict: Verdict,
        out: &Build,
    ) -> Self {
        Self {
            built: Some(Box::new((frame.clone(), out.clone()))),
            ..Self::bytes(sentence, state, frame.bytes(), verdict, out.bytes())
        }
    }

    /// A packet that comes in and passes untouched.
    fn untouched(sentence: &'static str, state: State, frame: &Build, verdict: Verdict) -> Self {
        Self::incoming(sentence, state, frame, verdict, frame)
    }

    /// As [`Case::incoming`], with frames that no builder makes.
    fn bytes(
        sentence: &'static str,
        state: State,
        frame: Vec<u8>,
        verdict: Verdict,
        out: Vec<u8>,
    ) -> Self {
        Self {
            sentence,
            state,
            hook: Hook::Ingress,
            frame,
            verdict,
            out,
            tag: Remembered::Whatever,
            built: None,
        }
    }

    /// About something that is so in IPv4 only.
    fn only_v4(mut self) -> Self {
        self.built = None;
        self
    }

    fn outgoing(mut self) -> Self {
        self.hook = Hook::Egress;
        self
    }

    fn remembers(mut self, client: SocketAddrV4, vip: SocketAddrV4, endpoint: u16) -> Self {
        self.tag = Remembered::Endpoint(client, vip, endpoint);
        self
    }

    fn masquerades(
        mut self,
        client: SocketAddrV4,
        vip: SocketAddrV4,
        endpoint: u16,
        port: u16,
    ) -> Self {
        self.tag = Remembered::Masqueraded(client, vip, Some((endpoint, port)));
        self
    }

    fn forgets_masquerade(mut self, client: SocketAddrV4, vip: SocketAddrV4) -> Self {
        self.tag = Remembered::Masqueraded(client, vip, None);
        self
    }

    fn forgets(mut self, client: SocketAddrV4, vip: SocketAddrV4) -> Self {
        self.tag = Remembered::Nothing(client, vip);
        self
    }
}

/// Blue is current and nothing is being switched; green is staged.
pub fn steady() -> Word {
    Word::default()
        .with_epoch(EPOCH)
        .with_staging(1)
        .with_in_use(1)
}

/// A flip from blue to green is near.
pub fn arming() -> Word {
    steady().with_epoch(EPOCH - 1).arm()
}

/// Green has just become current.
pub fn open() -> Word {
    arming().switch_to(1)
}

/// Old flows are known.
pub fn draining() -> Word {
    let word = open().drain();
    debug_assert!(matches!(word.phase(), Phase::Draining));
    word
}
