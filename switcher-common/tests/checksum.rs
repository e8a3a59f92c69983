//! Incremental checksums are those computed from scratch.

use proptest::prelude::*;
use switcher_common::abi::{Address, Port, TCP, UDP};
use switcher_common::checksum::{
    change, change_address, change16, narrow, pseudo_header, update, update_sum, update_udp,
};
use switcher_common::frame::Frame as _;
use switcher_common::rewrite::{Edit, End, Hop};

const L3: usize = 14;
const L4: usize = L3 + 20;

proptest! {
    #[test]
    fn a_changed_word_changes_the_sum(mut bytes in prop::collection::vec(any::<u8>(), 20), new: u32) {
        bytes[0] |= 1; // A real header is never all zeros.
        let before = !sum(&bytes);
        let old = u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        bytes[4..8].copy_from_slice(&new.to_ne_bytes());
        let after = update(before.to_be(), change(old, new));
        prop_assert_eq!(after.to_be(), !sum(&bytes));
    }

    #[test]
    fn changes_add_up(check in 0..0xffff_u16, a: u32, b: u32, c: u16, d: u16) {
        let both = update(check, change(a, b) + change16(c, d));
        prop_assert_eq!(both, update(update(check, change(a, b)), change16(c, d)));
        let back = update(both, change(b, a) + change16(d, c));
        prop_assert_eq!(back, check);
    }

    #[test]
    fn udp_without_a_checksum_keeps_none(a: u32, b: u32) {
        prop_assert_eq!(update_udp(0, change(a, b)), 0);
    }

    #[test]
    fn udp_with_a_checksum_keeps_one(check in 1..=u16::MAX, a: u32, b: u32) {
        let after = update_udp(check, change(a, b));
        prop_assert_ne!(after, 0);
        prop_assert!(after == update(check, change(a, b)) || after == 0xffff);
    }

    #[test]
    fn a_pseudo_header_is_summed(
        source: [u8; 16],
        destination: [u8; 16],
        protocol in 1..=u8::MAX,
        length: u16,
        is_v6: bool,
    ) {
        let used = if is_v6 { 16 } else { 4 };
        let mut bytes = [&source[..used], &destination[..used]].concat();
        bytes.extend([0, protocol]);
        bytes.extend(length.to_be_bytes());
        let address = |bytes: [u8; 16]| match bytes {
            [a, b, c, d, ..] if !is_v6 => Address::v4([a, b, c, d]),
            bytes => Address::v6(bytes),
        };
        let have = pseudo_header(address(source), address(destination), protocol, length);
        prop_assert_eq!(have.to_be(), sum(&bytes));
    }

    #[test]
    fn a_sum_that_is_none_of_a_checksum_changes_with_its_words(
        source in 1..u32::MAX,
        destination: u32,
        new: u32,
    ) {
        let address = |word: u32| Address::v4(word.to_ne_bytes());
        let sum_to = |to| pseudo_header(address(source), address(to), TCP, 20);
        let after = update_sum(sum_to(destination), change(destination, new));
        prop_assert_eq!(after, sum_to(new));
    }

    #[test]
    fn whole_addresses_change_as_their_words_do(check in 0..0xffff_u16, from: [u8; 16], to: [u8; 16]) {
        let (old, new) = (Address::v6(from), Address::v6(to));
        let words = old.words().into_iter().zip(new.words());
        let one_by_one = words.fold(check, |check, (old, new)| update(check, change(old, new)));
        prop_assert_eq!(update(check, change_address(old, new)), one_by_one);
        let narrow = u64::from(narrow(change_address(old, new)));
        prop_assert_eq!(update(check, narrow), one_by_one);
    }

    #[test]
    fn an_edited_frame_is_sound(
        mut frame in frame(),
        end in prop_oneof![Just(End::Source), Just(End::Destination)],
        to_address: u32,
        to_port: u16,
        both: Option<(u32, u16)>,
        hop: Option<([u8; 6], [u8; 6])>,
    ) {
        prop_assert!(sound(&frame));
        let places = |end| match end {
            End::Source => (L3 + 12, L4),
            End::Destination => (L3 + 16, L4 + 2),
        };
        let (address, port) = places(end);
        let (other_address, other_port) = both.unwrap_or_default();
        let untouched = {
            let (address, port) = places(end.other());
            (frame.read::<u32>(address), frame.read::<u16>(port))
        };
        let edit = Edit {
            address: Address::v4(to_address.to_ne_bytes()),
            port: Port(to_port),
            l3: L3 as u16,
            l4: L4 as u16,
            protocol: frame[L3 + 9],
            is_v6: false,
            end,
            hop: hop.map(|(destination, source)| Hop { destination, source }),
            unfinished: false,
            both: both.is_some(),
            other_address: Address::v4(other_address.to_ne_bytes()),
            other_port: Port(other_port),
        };
        prop_assert_eq!(frame.edit(&edit), Some(()));
        prop_assert!(sound(&frame), "{:02x?}", frame);
        prop_assert_eq!(frame.read::<u32>(address), Some(to_address));
        prop_assert_eq!(frame.read::<u16>(port), Some(to_port));
        let (address, port) = places(end.other());
        let other = (frame.read::<u32>(address), frame.read::<u16>(port));
        let wanted = both.map_or(untouched, |(address, port)| (Some(address), Some(port)));
        prop_assert_eq!(other, wanted);
    }
}

/// A frame of TCP, or of UDP with or without a checksum, with sound checksums.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop::collection::vec(any::<u8>(), L4 + 20..L4 + 60);
    let protocol = prop_oneof![Just(TCP), Just(UDP)];
    (bytes, protocol, any::<bool>()).prop_map(|(mut frame, protocol, checked)| {
        let total = (frame.len() - L3) as u16;
        frame[L3] = 0x45;
        frame[L3 + 2..L3 + 4].copy_from_slice(&total.to_be_bytes());
        frame[L3 + 8] |= 2; // A time to live that allows another hop.
        frame[L3 + 9] = protocol;
        set(&mut frame, L3 + 10, 0);
        let check = !sum(&frame[L3..L4]);
        set(&mut frame, L3 + 10, check);
        let at = if protocol == TCP { L4 + 16 } else { L4 + 6 };
        set(&mut frame, at, 0);
        if protocol == TCP || checked {
            let check = !transport_sum(&frame);
            set(
                &mut frame,
                at,
                if check == 0 && protocol == UDP {
                    0xffff
                } else {
                    check
                },
            );
        }
        frame
    })
}

fn sound(frame: &[u8]) -> bool {
    let unchecked = frame[L3 + 9] == UDP && frame[L4 + 6..L4 + 8] == [0, 0];
    sum(&frame[L3..L4]) == 0xffff && (unchecked || transport_sum(frame) == 0xffff)
}

/// With the pseudo header of RFC 9293, 3.1.
fn transport_sum(frame: &[u8]) -> u16 {
    let length = (frame.len() - L4) as u16;
    let pseudo = [
        &frame[L3 + 12..L4],
        &[0, frame[L3 + 9]],
        &length.to_be_bytes(),
    ]
    .concat();
    sum(&[&pseudo, &frame[L4..]].concat())
}

fn set(frame: &mut [u8], at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// The one's complement sum of RFC 1071, straight from its definition.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| {
        let low = word.get(1).copied().unwrap_or_default();
        u32::from(u16::from_be_bytes([word[0], low]))
    });
    words.fold(0, |sum, word| {
        (sum + word) % 0x1_0000 + (sum + word) / 0x1_0000
    }) as u16
}
