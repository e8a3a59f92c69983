//! Endpoints and weights -> buckets: Maglev (Eisenbud et al., NSDI 2016, section 3.4) with weights.
//!
//! Every endpoint has a preference list over all buckets, a permutation that follows from its address
//! alone. Endpoints take turns and each takes the first bucket of its list that is free.
//!
//! Whose turn it is follows Webster's method of apportionment: how many buckets an endpoint gets depends on
//! the weights alone, and taking one endpoint away and dealing out what it had gives everybody else exactly
//! what they would have had without it. So a table that is there can be changed bucket by bucket
//! ([`adapt`], [`hand_over`]) and comes to the same shares as a fresh one, without moving anything that
//! need not move. The paper's way, filling a fresh table, moves 1 to 5 % of what stays at 100 buckets an
//! endpoint, and everything when the size changes.
//!
//! The paper asks for a prime number of buckets so that any skip makes a permutation. Here the number
//! is a power of two and every skip odd, which does the same and makes the look-up a mask.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
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

/// The size of the table that replaces `have`: as it is unless that is too small, or far too large.
#[must_use]
pub fn bits_after(have: &[u16], shares: &[Share]) -> u32 {
    let wanted = bits(shares);
    match size(have) {
        Some(has) if (wanted..wanted + 3).contains(&has) => has,
        _ => wanted,
    }
}

/// The buckets of a fresh table of `1 << bits`, each with the id of an endpoint. Depends on what the
/// shares are and on `seed`, not on their order. Empty without endpoints.
#[must_use]
pub fn buckets(shares: &[Share], bits: u32, seed: u64) -> Vec<u16> {
    let mut table = vec![None; 1 << bits];
    deal(&mut table, shares, seed);
    table.into_iter().flatten().collect()
}

/// How many buckets of a table of `1 << bits` each endpoint has, by id.
#[must_use]
pub fn quotas(shares: &[Share], bits: u32, seed: u64) -> BTreeMap<u16, u64> {
    let mut turns = Turns::new(shares, bits, seed, &BTreeMap::new());
    for _ in 0..1u64 << bits {
        turns.next(|_| ());
    }
    turns.all.iter().map(|turn| (turn.id, turn.has)).collect()
}

/// Whether a table gives each endpoint its share, and nobody else any.
#[must_use]
pub fn fits(table: &[u16], shares: &[Share], seed: u64) -> bool {
    let Some(bits) = size(table) else {
        return false;
    };
    let mut quotas = quotas(shares, bits, seed);
    quotas.retain(|_, quota| *quota > 0);
    count(table) == quotas
}

/// The table for other shares or of another size that moves as little as possible of one that is there.
/// Where it has a choice it comes nearer to a fresh one, so that an endpoint that comes back gets back what
/// it had.
#[must_use]
pub fn adapt(have: &[u16], shares: &[Share], bits: u32, seed: u64) -> Vec<u16> {
    let fresh = buckets(shares, bits, seed);
    if size(have).is_none() || fresh.is_empty() {
        return fresh;
    }
    let quotas = count(&fresh);
    let quota = |id: u16| quotas.get(&id).copied().unwrap_or(0);
    // A table twice as large leads every flow to where it was if it is the smaller one twice.
    let mut table: Vec<Option<u16>> = have
        .iter()
        .cycle()
        .take(fresh.len())
        .copied()
        .map(Some)
        .collect();
    let mut has = BTreeMap::new();
    for place in &mut table {
        *place = place.filter(|id| quota(*id) > 0);
        if let Some(id) = *place {
            *has.entry(id).or_insert(0) += 1;
        }
    }
    let is_over = |has: &BTreeMap<u16, u64>, place: Option<u16>| {
        place.is_none_or(|id| has.get(&id).is_some_and(|has| *has > quota(id)))
    };
    for (place, wished) in table.iter_mut().zip(&fresh) {
        let lacks = has.get(wished).is_none_or(|has| *has < quota(*wished));
        if lacks && is_over(&has, *place) {
            release(place, &mut has);
            *place = Some(*wished);
            *has.entry(*wished).or_insert(0) += 1;
        }
    }
    for strangers_first in [true, false] {
        for (place, wished) in table.iter_mut().zip(&fresh) {
            let stranger = *place != Some(*wished);
            if (stranger || !strangers_first) && is_over(&has, *place) {
                release(place, &mut has);
            }
        }
    }
    deal(&mut table, shares, seed);
    table.into_iter().flatten().collect()
}

/// The buckets of a table that `gone` endpoints have, and to which of the heirs each goes: nothing else
/// moves. Nothing without heirs.
#[must_use]
pub fn hand_over(
    table: &[u16],
    gone: &BTreeSet<u16>,
    heirs: &[Share],
    seed: u64,
) -> Vec<(u32, u16)> {
    if heirs.is_empty() || size(table).is_none() {
        return Vec::new();
    }
    let mut after: Vec<Option<u16>> = table
        .iter()
        .map(|id| Some(*id).filter(|id| !gone.contains(id)))
        .collect();
    deal(&mut after, heirs, seed);
    let places = (0u32..).zip(table.iter().zip(after));
    places
        .filter_map(|(place, (was, is))| Some((place, is.filter(|is| is != was)?)))
        .collect()
}

/// How many buckets each endpoint has.
#[must_use]
pub fn count(table: &[u16]) -> BTreeMap<u16, u64> {
    let mut counted = BTreeMap::new();
    for id in table {
        *counted.entry(*id).or_insert(0) += 1;
    }
    counted
}

/// The base-two logarithm of a table's size; nothing if it is no table.
fn size(table: &[u16]) -> Option<u32> {
    table
        .len()
        .is_power_of_two()
        .then(|| table.len().trailing_zeros())
}

fn release(place: &mut Option<u16>, has: &mut BTreeMap<u16, u64>) {
    if let Some(has) = place.take().and_then(|id| has.get_mut(&id)) {
        *has -= 1;
    }
}

/// Deals free buckets out, to who has the least by weight first.
fn deal(table: &mut [Option<u16>], shares: &[Share], seed: u64) {
    let has = count(&table.iter().flatten().copied().collect::<Vec<_>>());
    let mut turns = Turns::new(shares, table.len().trailing_zeros(), seed, &has);
    for _ in 0..table.iter().filter(|place| place.is_none()).count() {
        turns.next(|turn| {
            let bucket = turn.next_free(table);
            table[bucket] = Some(turn.id);
        });
    }
}

/// Who takes turns, and whose is next.
struct Turns {
    all: Vec<Turn>,
    /// When each is due, and its place in `all`.
    due: BinaryHeap<Reverse<(u64, usize)>>,
}

/// An endpoint's progress while buckets are dealt out.
struct Turn {
    id: u16,
    weight: u64,
    has: u64,
    offset: usize,
    skip: usize,
}

impl Turns {
    fn new(shares: &[Share], bits: u32, seed: u64, has: &BTreeMap<u16, u64>) -> Self {
        let mask = (1usize << bits) - 1;
        let mut hashed: Vec<_> = shares
            .iter()
            .map(|share| (hash(share.address, seed), share))
            .collect();
        // A table smaller than its endpoints are many is only fair to the heavy ones if they come first.
        hashed.sort_by_key(|(hash, share)| (Reverse(share.weight), *hash, share.address));
        let turn = |(hash, share): (u64, &Share)| Turn {
            id: share.id,
            weight: weight(share),
            has: has.get(&share.id).copied().unwrap_or(0),
            offset: (hash >> 32) as usize & mask,
            skip: (hash as usize & mask) | 1,
        };
        let all: Vec<Turn> = hashed.into_iter().map(turn).collect();
        let due = all.iter().enumerate();
        let due = due.map(|(place, turn)| Reverse((turn.due(), place)));
        Self {
            due: due.collect(),
            all,
        }
    }

    fn next(&mut self, take: impl FnOnce(&mut Turn)) {
        let Some(Reverse((_, place))) = self.due.pop() else {
            return;
        };
        let turn = &mut self.all[place];
        take(turn);
        turn.has += 1;
        self.due.push(Reverse((turn.due(), place)));
    }
}

impl Turn {
    /// Webster's divisors 1, 3, 5 … by weight; but at once without any bucket: no endpoint goes without.
    const fn due(&self) -> u64 {
        match self.has {
            0 => 0,
            has => ((2 * has + 1) << 40) / self.weight,
        }
    }

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
pub(crate) const fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
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
    fn an_endpoint_that_comes_back_gets_back_what_it_had() {
        let all = shares(&[3, 1, 2]);
        let before = buckets(&all, 9, SEED);
        let without = adapt(&before, &all[1..], 9, SEED);
        assert_eq!(adapt(&without, &all, 9, SEED), before);
    }

    #[test]
    fn sizes_are_kept_unless_they_are_far_off() {
        let table = vec![1; 1 << 10];
        assert_eq!(bits_after(&table, &shares(&[1])), 10);
        assert_eq!(bits_after(&vec![1; 1 << 11], &shares(&[1])), 8);
        assert_eq!(bits_after(&table, &shares(&[1; 20])), 11);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        /// Within one bucket of what the weights say, or of the one that everybody has.
        #[test]
        fn shares_follow_weights(weights in weights(), seed: u64) {
            let shares = shares(&weights);
            let bits = bits(&shares);
            let table = buckets(&shares, bits, seed);
            prop_assert_eq!(table.len(), 1 << bits);
            prop_assert!(fits(&table, &shares, seed));
            let counted = count(&table);
            let total: f64 = weights.iter().copied().map(f64::from).sum();
            for share in &shares {
                let ideal = f64::from(1 << bits) * f64::from(share.weight) / total;
                let has = counted.get(&share.id).copied().unwrap_or(0) as f64;
                prop_assert!((has - ideal).abs() <= 1.5 + ideal * 0.01, "{:?}: {} of {}", share, has, ideal);
            }
        }

        /// Whatever else is there: a removed endpoint's buckets move, and no other.
        #[test]
        fn a_removed_endpoint_moves_nothing_else(
            weights in weights(), grown in 0u32..3, gone: prop::sample::Index, seed: u64,
        ) {
            let mut shares = shares(&weights);
            let before = buckets(&shares, (bits(&shares) + grown).min(MAX_BITS), seed);
            let gone = shares.remove(gone.index(weights.len()));
            prop_assume!(!shares.is_empty());
            let bits = size(&before).unwrap_or(0);
            let after = adapt(&before, &shares, bits, seed);
            prop_assert_eq!(moved_besides(&before, &after, gone.id), 0);
            prop_assert!(fits(&after, &shares, seed));

            let dead = BTreeSet::from([gone.id]);
            let mut in_place = before.clone();
            for (bucket, heir) in hand_over(&before, &dead, &shares, seed) {
                in_place[bucket as usize] = heir;
            }
            prop_assert_eq!(moved_besides(&before, &in_place, gone.id), 0);
            prop_assert!(fits(&in_place, &shares, seed), "the same shares as by a fresh table");
        }

        /// What moves when one is added moves to it, but for what rounding moves, also to a larger table.
        #[test]
        fn an_added_endpoint_takes_its_share(weights in weights(), seed: u64) {
            let all = shares(&weights);
            prop_assume!(all.len() > 1);
            let (added, rest) = all.split_last().expect("there are two");
            let before = buckets(rest, bits(rest), seed);
            let bits = bits_after(&before, &all);
            let after = adapt(&before, &all, bits, seed);
            prop_assert!(fits(&after, &all, seed));
            let enlarged: Vec<u16> = before.iter().cycle().take(after.len()).copied().collect();
            let elsewhere = enlarged.iter().zip(&after).filter(|(was, is)| was != is && **is != added.id).count();
            let rounding = if enlarged.len() == before.len() { 0 } else { all.len() * enlarged.len() / before.len() };
            prop_assert!(elsewhere <= rounding, "{} of {}", elsewhere, after.len());
        }
    }

    fn weights() -> impl Strategy<Value = Vec<u16>> {
        let few = prop::collection::vec(1u16..=100, 1..16);
        let alike = (1usize..60).prop_map(|number| vec![1; number]);
        prop_oneof![few, alike]
    }

    fn moved_besides(before: &[u16], after: &[u16], gone: u16) -> usize {
        let both = before.iter().zip(after);
        both.filter(|(was, is)| **was != gone && was != is).count()
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
}
