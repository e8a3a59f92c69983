//! What the fuzz targets do with their input, and what must hold whatever that is. The crate `fuzz` runs it
//! under libFuzzer, the test target `corpus` on the inputs that are kept in `fuzz/corpus`.

use switcher_common::abi::{Address, ICMP, ICMPV6, Port, TCP, UDP};
use switcher_common::parse::parse;
use switcher_common::pipeline;
use switcher_common::rewrite::{Edit, in_place};
use switcher_common::verdict::{Stage, Verdict};

use crate::cases::{self, Hook};
use crate::frame::sum;
use crate::town::State;

/// Frames of one input.
const FRAMES: usize = 8;
/// The longest frame, with a VLAN tag or two.
const LONGEST: usize = 1522;

thread_local! {
    static STATES: Vec<State> = cases::all().into_iter().map(|case| case.state).collect();
}

/// Sends frames through the whole pipeline, each after the other, from a state of the packet cases.
///
/// # Panics
/// When a promise is broken: see the messages.
pub fn pipeline(data: &[u8]) {
    let mut input = Input(data);
    let Some(state) = input.number() else { return };
    let state = STATES.with(|states| states[usize::from(state) % states.len()].clone());
    for _ in 0..FRAMES {
        let Some((hook, frame)) = input.frame() else {
            return;
        };
        one(&state, hook, frame);
    }
}

/// Edits a frame with any address and port.
///
/// # Panics
/// When a promise is broken: see the messages.
pub fn rewrite(data: &[u8]) {
    let mut input = Input(data);
    let (Some(which), Some(port), Some(address)) = (input.byte(), input.number(), input.address())
    else {
        return;
    };
    let mut frame = input.0.to_vec();
    frame.truncate(LONGEST);
    let Ok(packet) = parse(frame.as_slice()) else {
        return;
    };
    let port = Port::new(port);
    let address = if packet.is_v6 { address } else { v4(address) };
    // No endpoint of an IPv6 service: on the wire, such an address is nobody's.
    if packet.is_v6 && is_v4(address) {
        return;
    }
    let to = which & 1 == 0;
    let edit = match to {
        true => Edit::to(&packet, address, port),
        false => Edit::from(&packet, address, port),
    };
    let before = frame.clone();
    let done = in_place(frame.as_mut_slice(), &edit);
    assert!(done.is_some(), "what was parsed can be edited");
    let again = parse(frame.as_slice()).expect("what was edited can be parsed");
    let (ends, others) = match to {
        true => (
            (again.destination, again.destination_port),
            (again.source, again.source_port) == (packet.source, packet.source_port),
        ),
        false => (
            (again.source, again.source_port),
            (again.destination, again.destination_port)
                == (packet.destination, packet.destination_port),
        ),
    };
    assert_eq!(ends, (address, port), "the edit is what was asked for");
    assert!(others, "the other end stays");
    stays_sound(&before, &frame);
    let back = match to {
        true => Edit::to(&again, packet.destination, packet.destination_port),
        false => Edit::from(&again, packet.source, packet.source_port),
    };
    let undone = in_place(frame.as_mut_slice(), &back);
    assert!(
        undone.is_some() && frame.len() == before.len(),
        "an edit can be undone"
    );
    stays_sound(&before, &frame);
}

/// Inputs to begin with, by target: the packet cases.
pub fn seeds() -> [(&'static str, Vec<Vec<u8>>); 2] {
    let cases = cases::all();
    let pipeline = cases.iter().zip(0_u16..).map(|(case, number)| {
        let hook = u8::from(case.hook == Hook::Egress);
        let length = case.frame.len() as u16;
        [
            &number.to_le_bytes()[..],
            &[hook],
            &length.to_le_bytes(),
            &case.frame,
        ]
        .concat()
    });
    let edits = [[0; 19], [0xff; 19]].into_iter();
    let rewrite = cases.iter().zip(edits.cycle());
    let rewrite = rewrite.map(|(case, edit)| [&edit[..], &case.frame].concat());
    [
        ("pipeline", pipeline.collect()),
        ("rewrite", rewrite.collect()),
    ]
}

fn one(state: &State, hook: Hook, frame: &[u8]) {
    let (twin, before) = (state.clone(), state.clone());
    let (mut ours, mut theirs) = (frame.to_vec(), frame.to_vec());
    let verdict = run(state, hook, &mut ours);
    let again = run(&twin, hook, &mut theirs);
    assert_eq!((verdict, &ours), (again, &theirs), "the same twice");
    if matches!(hook, Hook::Ingress) {
        without_front(&before, state, frame, (verdict, &ours));
    }
    if matches!(verdict, Verdict::Pass(_)) {
        assert_eq!(ours, frame, "what passes is untouched");
    }
    if ours.len() == frame.len() {
        stays_sound(frame, &ours);
    }
}

/// The front decides what the whole pipeline would decide, and leaves behind what that would.
fn without_front(before: &State, after: &State, frame: &[u8], (verdict, ours): (Verdict, &[u8])) {
    let mut frame = frame.to_vec();
    let whole = Verdict::Continue(Stage::Whole);
    let whole = pipeline::run_on(whole, &mut frame, &before.memory, &before.told);
    assert_eq!(
        (verdict, ours),
        (whole, &frame[..]),
        "with the front and without"
    );
    let (ours, theirs) = (&after.memory, &before.memory);
    assert_eq!(ours.counters, theirs.counters, "with the front and without");
    assert_eq!(ours.reasons, theirs.reasons, "with the front and without");
    assert_eq!(ours.notes, theirs.notes, "with the front and without");
    assert_eq!(ours.windows, theirs.windows, "with the front and without");
}

fn run(state: &State, hook: Hook, frame: &mut Vec<u8>) -> Verdict {
    match hook {
        Hook::Ingress => pipeline::run(frame, &state.memory, &state.told),
        Hook::Egress => pipeline::run_egress(frame.as_mut_slice(), &state.memory, &state.told),
    }
}

/// A frame whose checksums held has none that does not hold afterwards.
fn stays_sound(before: &[u8], after: &[u8]) {
    if checksums(before) == Some(true) {
        assert_ne!(
            checksums(after),
            Some(false),
            "checksums: {before:02x?} became {after:02x?}"
        );
    }
}

/// Whether the checksums of a frame hold, if it is a whole packet of TCP, UDP or ICMP that has them.
fn checksums(frame: &[u8]) -> Option<bool> {
    const TAGS: [u16; 2] = [0x8100, 0x88a8];
    let mut l3 = 14;
    for _ in 0..2 {
        if TAGS.contains(&word(frame, l3 - 2)?) {
            l3 += 4;
        }
    }
    let packet = frame.get(l3..)?;
    let (header, addresses, protocol, length) = match word(frame, l3 - 2)? {
        0x0800 => {
            let header = usize::from(packet.first()? & 15) * 4;
            let length = usize::from(word(packet, 2)?);
            if packet.first()? >> 4 != 4 || header < 20 || word(packet, 6)? & 0x3fff != 0 {
                return None;
            }
            if sum(packet.get(..header)?) != 0xffff {
                return Some(false);
            }
            (header, packet.get(12..20)?, *packet.get(9)?, length)
        }
        0x86dd => {
            let (header, protocol) = behind_extensions(packet)?;
            let length = usize::from(word(packet, 4)?) + 40;
            (header, packet.get(8..40)?, protocol, length)
        }
        _ => return None,
    };
    let segment = packet.get(header..length)?;
    let place = match protocol {
        TCP => 16,
        UDP => 6,
        ICMP | ICMPV6 => 2,
        _ => return None,
    };
    // ICMP of the other family is none.
    let is_v6 = addresses.len() == 32;
    if protocol == ICMP {
        return (!is_v6 && segment.len() >= 8).then(|| sum(segment) == 0xffff);
    }
    if protocol == ICMPV6 && !is_v6 {
        return None;
    }
    let (high, low) = ((segment.len() >> 8) as u8, segment.len() as u8);
    let pseudo = [addresses, &[0, protocol, high, low]].concat();
    let field = word(segment, place)?;
    // Without a checksum; or it may be one that the sender's hardware was to finish.
    if field == 0 || field == sum(&pseudo) {
        return None;
    }
    Some(sum(&[&pseudo, segment].concat()) == 0xffff)
}

/// Where the extension headers of an IPv6 packet end, and what follows; nothing if that is not a whole packet.
fn behind_extensions(packet: &[u8]) -> Option<(usize, u8)> {
    let (mut at, mut protocol) = (40, *packet.get(6)?);
    loop {
        let [next, length] = *packet.get(at..)?.first_chunk()?;
        at += match protocol {
            0 | 43 | 60 => (usize::from(length) + 1) * 8,
            44 if word(packet, at + 2)? & 0xfff9 != 0 => return None,
            44 => 8,
            51 => (usize::from(length) + 2) * 4,
            _ => return Some((at, protocol)),
        };
        protocol = next;
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes([pair[0], pair[1]]))
}

fn is_v4(address: Address) -> bool {
    address == v4(address)
}

fn v4(address: Address) -> Address {
    Address::v4(address.v4_word().to_ne_bytes())
}

/// What is left of an input.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2)
            .map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    fn address(&mut self) -> Option<Address> {
        self.take(16)?.try_into().ok().map(Address::v6)
    }

    /// A frame; the last one may be shorter than it says.
    fn frame(&mut self) -> Option<(Hook, &'a [u8])> {
        let hook = match self.byte()? & 1 {
            0 => Hook::Ingress,
            _ => Hook::Egress,
        };
        let length = usize::from(self.number()?).min(LONGEST).min(self.0.len());
        Some((hook, self.take(length)?))
    }
}
