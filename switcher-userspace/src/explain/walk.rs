//! A made-up packet through the pipeline.

use std::net::{IpAddr, SocketAddr};

use switcher_common::abi::{TCP, UDP};
use switcher_common::checksum;
use switcher_common::memory::Memory;
use switcher_common::pipeline;
use switcher_common::quic::{self, INITIAL_SIZE};
use switcher_common::tables::Stack;
use switcher_common::verdict::{Reason, Verdict};

use crate::cli::MadeUpPacket;
use crate::config::Protocol;

/// Offset of the IP header.
const L3: usize = 14;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// What the pipeline made of a packet.
pub(super) struct Walk {
    pub(super) verdict: Verdict,
    /// What it counted.
    pub(super) counted: Vec<Reason>,
}

impl Walk {
    /// Through a copy of `memory`, which stays as it is.
    pub(super) fn take(asked: &MadeUpPacket, memory: &Memory, stack: &impl Stack) -> Self {
        let memory = memory.clone();
        memory.reasons.borrow_mut().clear();
        let verdict = pipeline::run(&mut frame(asked), &memory, stack);
        let counted = memory.reasons.borrow().keys().copied().collect();
        Self { verdict, counted }
    }

    /// The program doesn't send the packet, and the stack has to.
    pub(super) fn is_left(&self) -> bool {
        self.counted.contains(&Reason::LeftToStack)
    }

    /// In a word.
    pub(super) fn action(&self) -> &'static str {
        match self.verdict {
            Verdict::Transmit | Verdict::Redirect(_) => "forward",
            Verdict::Deliver | Verdict::Pass(Reason::LeftToStack) if self.is_left() => "forward",
            Verdict::Deliver => "deliver",
            Verdict::Drop(_) => "drop",
            Verdict::Pass(_) | Verdict::Continue(_) => "pass",
        }
    }

    /// Why the packet is not rewritten, if it isn't.
    pub(super) const fn refusal(&self) -> Option<Reason> {
        match self.verdict {
            Verdict::Pass(reason) | Verdict::Drop(reason) => Some(reason),
            Verdict::Deliver | Verdict::Transmit | Verdict::Redirect(_) | Verdict::Continue(_) => {
                None
            }
        }
    }
}

/// The packet as it comes in by an interface: a SYN, or else a segment in the middle of a connection, with the
/// sequence number 0. Datagrams are QUIC's.
#[must_use]
pub fn frame(asked: &MadeUpPacket) -> Vec<u8> {
    let (source, destination) = (asked.source, asked.destination);
    let protocol = match asked.protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    };
    let mut segment = segment(asked);
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend((20 + segment.len() as u16).to_be_bytes());
            frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
            frame.extend(from.octets());
            frame.extend(to.octets());
            let check = !sum(&frame[L3..]);
            frame[L3 + 10..L3 + 12].copy_from_slice(&check.to_be_bytes());
        }
        (from, to) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((segment.len() as u16).to_be_bytes());
            frame.extend([protocol, 64]);
            frame.extend(in_v6(from));
            frame.extend(in_v6(to));
        }
    }
    let at = if protocol == TCP { 16 } else { 6 };
    let pseudo = checksum::pseudo_header(
        source.ip().into(),
        destination.ip().into(),
        protocol,
        segment.len() as u16,
    );
    // The sum of the pseudo header stands where the checksum is to be: so both are added up at once.
    segment[at..at + 2].copy_from_slice(&pseudo.to_ne_bytes());
    let check = match !sum(&segment) {
        // Zero would say that there is none (RFC 768).
        0 if protocol == UDP => u16::MAX,
        check => check,
    };
    segment[at..at + 2].copy_from_slice(&check.to_be_bytes());
    frame.extend(segment);
    frame
}

/// The transport header without its checksum, and what is behind it.
fn segment(asked: &MadeUpPacket) -> Vec<u8> {
    let port = |end: SocketAddr| end.port().to_be_bytes();
    let mut segment = [port(asked.source), port(asked.destination)].concat();
    match asked.protocol {
        Protocol::Tcp => {
            let flags = if asked.syn { SYN } else { ACK };
            segment.extend([0; 8]);
            segment.extend([0x50, flags, 0x20, 0, 0, 0, 0, 0]);
        }
        Protocol::Udp => {
            let payload = datagram(asked.syn);
            segment.extend((8 + payload.len() as u16).to_be_bytes());
            segment.extend([0, 0]);
            segment.extend(payload);
        }
    }
    segment
}

/// For who knows QUIC an Initial, or a packet with a short header.
fn datagram(opens: bool) -> Vec<u8> {
    let (first, length) = if opens {
        (0xc0, INITIAL_SIZE)
    } else {
        (0x40, 5)
    };
    let mut payload = vec![0; length as usize];
    payload[0] = first;
    payload[1..5].copy_from_slice(&quic::V1.to_be_bytes());
    payload
}

const fn in_v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The one's complement sum (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| {
        let low = word.get(1).copied().unwrap_or_default();
        u64::from(u16::from_be_bytes([word[0], low]))
    });
    checksum::fold(words.sum())
}
