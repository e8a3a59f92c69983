//! The flow hash spreads, and a word keeps what is put into it.

use proptest::prelude::*;
use switcher_common::abi::{Address, Port, TableRef};
use switcher_common::steer::hash;
use switcher_common::word::{Phase, Word};

/// Buckets of a table.
const BUCKETS: usize = 256;

/// Clients as they come: ports of one client (all of them once met in one bucket), neighbours with one
/// port, and both.
#[test]
fn every_bucket_gets_its_share() {
    let ports = (1024..u16::MAX).map(|port| (Address::v4([10, 0, 0, 1]), port));
    let hosts = (0..u16::MAX).map(|n| {
        let [high, low] = n.to_be_bytes();
        (Address::v4([10, 7, high, low]), 40_000)
    });
    let both = (0..u16::MAX).map(|n| {
        let [high, low] = n.to_be_bytes();
        (Address::v4([10, 7, 0, low]), 40_000 + u16::from(high))
    });
    for seed in (0..20).map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
        spreads(seed, ports.clone());
        spreads(seed, hosts.clone());
        spreads(seed, both.clone());
    }
}

/// Another seed is another distribution: who knows one installation cannot aim at another's buckets.
#[test]
fn seeds_matter() {
    let client = Address::v4([10, 0, 0, 1]);
    let bucket = |seed, port: u16| hash(seed, client, port.to_be()) % BUCKETS as u32;
    let same = (0..u16::MAX).filter(|port| bucket(1, *port) == bucket(2, *port));
    let expected = usize::from(u16::MAX) / BUCKETS;
    assert!(same.count() < 2 * expected);
}

fn spreads(seed: u64, flows: impl Iterator<Item = (Address, u16)>) {
    let table = TableRef::new(0, 8);
    let mut buckets = [0_f64; BUCKETS];
    let mut total = 0.0;
    for (client, port) in flows {
        buckets[table.bucket(hash(seed, client, Port::new(port).0)) as usize] += 1.0;
        total += 1.0;
    }
    let expected = total / BUCKETS as f64;
    let chi_square: f64 = buckets
        .iter()
        .map(|n| (n - expected).powi(2) / expected)
        .sum();
    // 255 degrees of freedom: mean 255, standard deviation 22.6; five of them. Evener is only better.
    assert!(chi_square < 368.0, "seed {seed}: {chi_square}");
}

proptest! {
    #[test]
    fn a_word_keeps_what_is_put_into_it(
        word: u64,
        current in 0..8_u32,
        previous in 0..8_u32,
        staging in 0..8_u32,
        phase in 0..4_u64,
        in_use in 0..256_u32,
        epoch: u32,
    ) {
        let before = Word(word);
        let phase = Phase::from_bits(phase);
        let after = before
            .with_current(current)
            .with_previous(previous)
            .with_staging(staging)
            .with_phase(phase)
            .with_in_use(in_use)
            .with_epoch(epoch);
        prop_assert_eq!(after.current(), current);
        prop_assert_eq!(after.previous(), previous);
        prop_assert_eq!(after.staging(), staging);
        prop_assert_eq!(after.phase(), phase);
        prop_assert_eq!(after.in_use(), in_use);
        prop_assert_eq!(after.epoch(), epoch);
        prop_assert_eq!(after.flags(), before.flags());
    }

    #[test]
    fn a_new_current_slot_is_in_use(word: u64, slot in 0..8_u32) {
        let before = Word(word);
        let after = before.with_current(slot);
        prop_assert_eq!(after.in_use(), before.in_use() | 1 << slot);
    }

    #[test]
    fn a_table_says_where_it_lies(unit in 0..4096_u32, bits in 8..21_u32, hash: u32) {
        let table = TableRef::new(unit * TableRef::UNIT, bits);
        prop_assert!(table.exists());
        prop_assert_eq!((table.first(), table.bits()), (unit * TableRef::UNIT, bits));
        let bucket = table.bucket(hash);
        prop_assert!(bucket >= table.first() && bucket < table.first() + (1 << bits));
    }
}
