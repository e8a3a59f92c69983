//! Endpoints and weights -> buckets: Maglev (Eisenbud et al., NSDI 2016, section 3.4) with weights.
//!
//! Every endpoint has a preference list over all buckets, a permutation that follows from its address
//! alone. Endpoints take turns and each takes the first bucket of its list that is free, heavier ones
//! more often. When one endpoint goes, the others keep nearly all that they had.
//!
//! The paper asks for a prime number of buckets so that any skip makes a permutation. Here the number
//! is a power of two and every skip odd, which does the same and makes the look-up a mask.

use std::net::SocketAddr;

use switcher_common::abi::TableRef;

/// Buckets that an endpoint of average weight has at least, below [`MAX_BITS`]: 1 % steps.
const PER_ENDPOINT: u64 = 100;
/// Buckets that the lightest endpoint has at least, below [`MAX_BITS`].
const PER_LIGHTEST: u64 = 8;
/// The largest table, as a base-two logarithm: a sixteenth of all buckets of a host.
pub const MAX_BITS: u32 = 16;

/// An endpoint that takes part in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// What its buckets will hold.
    pub id: u16,
    /// What its preferences follow from.
    pub address: SocketAddr,
    /// Its share relative to the others; 0 counts as 1.
    pub weight: u16,
}

/// How many buckets, as a base-two logarithm, these endpoints need: a hundred for one of average weight,
/// [`TableRef::UNIT`] at the least, `1 << MAX_BITS` at the most. Beyond about 650 endpoints shares get
/// coarser.
#[must_use]
pub fn bits(shares: &[Share]) -> u32 {
    let total: u64 = shares.iter().map(weight).sum();
    let lightest = shares.iter().map(weight).min().unwrap_or(1);
    let average = PER_ENDPOINT * shares.len() as u64;
    let light = PER_LIGHTEST * total / lightest;
    let wanted = average.max(light).max(u64::from(TableRef::UNIT));
    wanted.next_power_of_two().trailing_zeros().min(MAX_BITS)
}

/// The buckets of a table of `1 << bits`, each with the id of an endpoint. Depends on what the shares
/// are and on `seed`, not on their order. Empty without endpoints.
#[must_use]
pub fn buckets(shares: &[Share], bits: u32, seed: u64) -> Vec<u16> {
    let mut turns = turns(shares, bits, seed);
    let Some(heaviest) = turns.iter().map(|turn| turn.weight).max() else {
        return Vec::new();
    };
    let mut table = vec![None; 1 << bits];
    let mut free = table.len();
    for round in 1.. {
        for turn in &mut turns {
            // Everybody in the first round: no endpoint goes without a bucket.
            if round * turn.weight < turn.due {
                continue;
            }
            turn.due += heaviest;
            let bucket = turn.next_free(&table);
            table[bucket] = Some(turn.id);
            free -= 1;
            if free == 0 {
                return table.into_iter().flatten().collect();
            }
        }
    }
    Vec::new()
}

/// An endpoint's progress while a table is filled.
struct Turn {
    id: u16,
    weight: u64,
    due: u64,
    offset: usize,
    skip: usize,
}

impl Turn {
    /// The first free bucket of the preference list. There is one as long as any bucket is free, since
    /// an odd skip visits all of a power of two.
    fn next_free(&mut self, table: &[Option<u16>]) -> usize {
        let mask = table.len() - 1;
        loop {
            let bucket = self.offset & mask;
            self.offset = self.offset.wrapping_add(self.skip);
            if table[bucket].is_none() {
                return bucket;
            }
        }
    }
}

/// Who takes turns, in an order of their own.
fn turns(shares: &[Share], bits: u32, seed: u64) -> Vec<Turn> {
    let mask = (1usize << bits) - 1;
    let mut hashed: Vec<_> = shares
        .iter()
        .map(|share| (hash(share.address, seed), share))
        .collect();
    // A table smaller than its endpoints are many is only fair to the heavy ones if they come first.
    hashed.sort_by_key(|(hash, share)| (std::cmp::Reverse(share.weight), *hash, share.address));
    hashed
        .into_iter()
        .take(1 << bits)
        .map(|(hash, share)| Turn {
            id: share.id,
            weight: weight(share),
            due: 0,
            offset: (hash >> 32) as usize & mask,
            skip: (hash as usize & mask) | 1,
        })
        .collect()
}

fn weight(share: &Share) -> u64 {
    u64::from(share.weight.max(1))
}

/// A hash of an address that no release changes: two agents must build the same table.
fn hash(address: SocketAddr, seed: u64) -> u64 {
    let words = match address {
        SocketAddr::V4(v4) => [0, u64::from(u32::from(*v4.ip()))],
        SocketAddr::V6(v6) => {
            let bits = u128::from(*v6.ip());
            [(bits >> 64) as u64, bits as u64]
        }
    };
    let port = u64::from(address.port());
    [words[0], words[1], port]
        .into_iter()
        .fold(seed, |state, word| mix(state ^ word))
}

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014) over the next state.
const fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const SEED: u64 = 0x5eed;

    #[test]
    fn one_endpoint_has_every_bucket() {
        let shares = shares(&[1]);
        assert_eq!(bits(&shares), 8);
        assert_eq!(buckets(&shares, 8, SEED), vec![1; 256]);
        assert!(buckets(&[], 8, SEED).is_empty());
    }

    #[test]
    fn sizes_follow_number_and_weights() {
        assert_eq!(bits(&shares(&[1; 2])), 8);
        assert_eq!(bits(&shares(&[1; 3])), 9);
        assert_eq!(bits(&shares(&[1; 20])), 11);
        assert_eq!(bits(&shares(&[1, 1000])), 13);
        assert_eq!(bits(&shares(&[1; 2000])), MAX_BITS);
    }

    #[test]
    fn shares_follow_weights() {
        let shares = shares(&[1, 2, 3, 4]);
        let bits = bits(&shares);
        let counted = count(&buckets(&shares, bits, SEED));
        for share in &shares {
            let ideal = f64::from(1 << bits) * f64::from(share.weight) / 10.0;
            let off = (f64::from(counted[&share.id]) - ideal).abs();
            assert!(off <= 2.0, "{share:?}: {counted:?}, ideal {ideal}");
        }
    }

    #[test]
    fn order_and_ids_do_not_move_anything() {
        let shares = shares(&[3, 1, 2, 1, 5]);
        let table = buckets(&shares, 10, SEED);
        let mut turned: Vec<Share> = shares.clone();
        turned.rotate_left(2);
        assert_eq!(buckets(&turned, 10, SEED), table);
        let renamed: Vec<Share> = shares
            .iter()
            .map(|s| Share {
                id: s.id + 100,
                ..*s
            })
            .collect();
        let shifted: Vec<u16> = table.iter().map(|id| id + 100).collect();
        assert_eq!(buckets(&renamed, 10, SEED), shifted);
    }

    #[test]
    fn seeds_give_different_tables() {
        let shares = shares(&[1, 1]);
        assert_ne!(buckets(&shares, 8, 1), buckets(&shares, 8, 2));
    }

    #[test]
    fn a_removed_endpoint_moves_little_else() {
        let before = shares(&[1; 20]);
        let mut worst = 0.0_f64;
        for gone in 0..before.len() {
            let mut after = before.clone();
            let removed = after.remove(gone);
            let moved = buckets(&before, MAX_BITS, SEED)
                .iter()
                .zip(buckets(&after, MAX_BITS, SEED))
                .filter(|(was, is)| **was != removed.id && *was != is)
                .count();
            worst = worst.max(moved as f64 / f64::from(1 << MAX_BITS));
        }
        assert!(worst <= 0.01, "{worst}");
    }

    proptest! {
        #[test]
        fn everybody_has_a_share(weights in prop::collection::vec(1u16..=1000, 1..40), seed: u64) {
            let shares = shares(&weights);
            let bits = bits(&shares);
            let table = buckets(&shares, bits, seed);
            prop_assert_eq!(table.len(), 1 << bits);
            let counted = count(&table);
            let total: f64 = weights.iter().copied().map(f64::from).sum();
            for share in &shares {
                let ideal = f64::from(1 << bits) * f64::from(share.weight) / total;
                let has = f64::from(counted.get(&share.id).copied().unwrap_or(0));
                prop_assert!((has - ideal).abs() <= 2.0 + ideal * 0.1, "{:?}: {} of {}", share, has, ideal);
            }
        }
    }

    fn shares(weights: &[u16]) -> Vec<Share> {
        (1u16..)
            .zip(weights)
            .map(|(id, weight)| Share {
                id,
                address: SocketAddr::from(([10, 0, (id >> 8) as u8, id as u8], 8000 + id)),
                weight: *weight,
            })
            .collect()
    }

    fn count(table: &[u16]) -> BTreeMap<u16, u32> {
        let mut counted = BTreeMap::new();
        for id in table {
            *counted.entry(*id).or_default() += 1;
        }
        counted
    }
}
