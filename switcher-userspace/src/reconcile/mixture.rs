//! What tables should hold: what is there, if it will do, or what comes nearest to it.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::DraftService;
use super::{Planner, Standing};
use crate::datapath::{Buckets, Canary, Colour, GroupIndex, Mix, Slot};
use crate::maglev::{self, Share};

/// A canary's share is counted in this many parts, whatever the size of its tables: the same clients are
/// its own in every service of the group, and those of a smaller share are part of a larger one.
const PARTS: u32 = 1 << PARTS_BITS;
const PARTS_BITS: u32 = 10;

impl Planner {
    /// Decides what the tables of a service should hold.
    pub(super) fn draft_tables(
        &self,
        group: GroupIndex,
        service: &mut DraftService,
        mixes: &[Mix],
    ) {
        for mix in mixes.iter().filter(|mix| mix.canary.is_none()) {
            let table = self.pure(group, service, mix.colour);
            service.tables.insert(*mix, table);
        }
        for mix in mixes {
            if let Some(canary) = mix.canary {
                let table = self.mixed(group, service, *mix, canary);
                service.tables.insert(*mix, table);
            }
        }
    }

    /// One colour's table.
    fn pure(&self, group: GroupIndex, service: &DraftService, colour: Colour) -> Buckets {
        let named = self.have().groups.get(&group);
        let slot = named.and_then(|named| named.slot_of(colour));
        let known = slot.and_then(|slot| self.buckets(service.index, slot));
        let have = known.map_or(&[][..], |buckets| buckets);
        let is_current = named.is_some_and(|it| it.current() == Some(Mix::pure(colour)));
        let shares = taking_part(
            &service.shares[&colour],
            have,
            is_current,
            self.busy.contains(&group),
        );
        let bits = maglev::bits_after(have, &shares);
        if have.len() == 1 << bits && maglev::fits(have, &shares, self.seed) {
            return known.cloned().unwrap_or_default();
        }
        maglev::adapt(have, &shares, bits, self.seed).into()
    }

    /// A table in which a canary has its share.
    fn mixed(
        &self,
        group: GroupIndex,
        service: &DraftService,
        mix: Mix,
        canary: Canary,
    ) -> Buckets {
        let [most, some] = [mix.colour, canary.colour].map(Mix::pure);
        let wanted = blend(
            &service.tables[&most],
            &service.tables[&some],
            canary.percent,
            self.seed,
        );
        let named = self.have().groups.get(&group);
        let current = named.filter(|named| named.current() == Some(mix));
        let known =
            current.and_then(|named| self.buckets(service.index, named.word.current() as Slot));
        let have = known.map_or(&[][..], |buckets| buckets);
        let parties = mix.colours().map(|colour| &service.shares[&colour]);
        let is_busy = self.busy.contains(&group);
        let parties: Vec<Party> = parties
            .map(|shares| Party::new(shares, have, is_busy))
            .collect();
        if have.len() == wanted.len() && will_do(have, &wanted, &parties) {
            return known.cloned().unwrap_or_default();
        }
        let absent = parties.iter().map(|party| (party.absent(), party.heirs()));
        let table = absent.fold(wanted, |mut table, (gone, heirs)| {
            for (bucket, heir) in maglev::hand_over(&table, &gone, &heirs, self.seed) {
                table[bucket as usize] = heir;
            }
            table
        });
        table.into()
    }

    /// The table of a service in a slot, if there is one.
    fn buckets(&self, service: u16, slot: Slot) -> Option<&Buckets> {
        let have = self.have();
        let table = have.services.get(&service)?.service.tables[usize::from(slot)];
        have.tables.get(&table.0)
    }
}

/// Who is to have buckets. In the current slot those that health checks speak against have none, unless
/// nobody would be left. Who isn't known has some if it had some before. In a window nothing is given
/// back: that takes one of its own.
fn taking_part(
    shares: &[(Share, Standing)],
    have: &[u16],
    is_current: bool,
    is_busy: bool,
) -> Vec<Share> {
    let all = || shares.iter().map(|(share, _)| *share).collect();
    if have.is_empty() || !is_current && !is_busy {
        return all();
    }
    let party = Party::new(shares, have, is_busy);
    let nobody = party.heirs().is_empty();
    let part = party.with(|share, standing| {
        let has = party.has.contains_key(&share.id);
        match standing {
            Standing::Up => has || !is_busy,
            Standing::Failing if is_current && !is_busy && !nobody => false,
            // The dead have what they have until it is handed over, in place.
            Standing::Unknown | Standing::Failing | Standing::Dead => has,
        }
    });
    let part: Vec<Share> = part.collect();
    if part.is_empty() { all() } else { part }
}

/// The endpoints of one colour in a table.
pub(super) struct Party<'a> {
    shares: &'a [(Share, Standing)],
    has: BTreeMap<u16, u64>,
    is_busy: bool,
}

impl<'a> Party<'a> {
    /// With `is_busy`, nobody gets buckets who has none.
    pub(super) fn new(shares: &'a [(Share, Standing)], table: &[u16], is_busy: bool) -> Self {
        Self {
            shares,
            has: maglev::count(table),
            is_busy,
        }
    }

    fn with(&self, wanted: impl Fn(&Share, Standing) -> bool) -> impl Iterator<Item = Share> {
        let all = self.shares.iter();
        all.filter(move |(share, standing)| wanted(share, *standing))
            .map(|(share, _)| *share)
    }

    /// Who can take over buckets.
    pub(super) fn heirs(&self) -> Vec<Share> {
        let has = |share: &Share| self.has.contains_key(&share.id);
        self.with(|share, standing| match standing {
            Standing::Up => has(share) || !self.is_busy,
            Standing::Unknown => has(share),
            Standing::Failing | Standing::Dead => false,
        })
        .collect()
    }

    /// Endpoints where nothing answers.
    pub(super) fn dead(&self) -> BTreeSet<u16> {
        self.with(|_, standing| standing == Standing::Dead)
            .map(|share| share.id)
            .collect()
    }

    /// Who should have no buckets, if there is anybody else.
    fn absent(&self) -> BTreeSet<u16> {
        let heirs: BTreeSet<u16> = self.heirs().iter().map(|share| share.id).collect();
        self.with(|share, _| !heirs.contains(&share.id))
            .map(|share| share.id)
            .collect()
    }
}

/// Whether a table is as wanted but for buckets of endpoints that should have none, which others of their
/// colour have.
fn will_do(have: &[u16], wanted: &[u16], parties: &[Party<'_>]) -> bool {
    let allowed: Vec<(BTreeSet<u16>, BTreeSet<u16>)> = parties
        .iter()
        .filter(|party| !party.heirs().is_empty())
        .map(|party| {
            let heirs = party.heirs().iter().map(|share| share.id).collect();
            (party.absent(), heirs)
        })
        .collect();
    have.iter().zip(wanted).all(|(has, should)| {
        let instead = allowed.iter().find(|(absent, _)| absent.contains(should));
        match instead {
            Some((absent, heirs)) => heirs.contains(has) || absent.contains(has) && has == should,
            None => has == should,
        }
    })
}

/// A table in which `percent` of the buckets are those of `some`, and the rest those of `most`. No flow has
/// another endpoint than one of these tables gives it.
fn blend(most: &[u16], some: &[u16], percent: u8, seed: u64) -> Vec<u16> {
    if most.is_empty() || some.is_empty() {
        return most.to_vec();
    }
    let size = most.len().max(some.len()).max(PARTS as usize);
    let share = (u32::from(percent) * PARTS + 50) / 100;
    let mut order: Vec<u32> = (0..PARTS).collect();
    order.sort_by_key(|part| maglev::mix(seed ^ u64::from(*part)));
    let mut is_canary = vec![false; PARTS as usize];
    for part in order.into_iter().take(share as usize) {
        is_canary[part as usize] = true;
    }
    (0..size)
        .map(|bucket| match is_canary[bucket % PARTS as usize] {
            true => some[bucket % some.len()],
            false => most[bucket % most.len()],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_has_its_share_and_a_larger_one_only_adds_to_it() {
        let (most, some) = (vec![1; 256], vec![2; 512]);
        let mut before = vec![1; 1024];
        for percent in 1..100 {
            let table = blend(&most, &some, percent, 7);
            let has = table.iter().filter(|id| **id == 2).count() as f64;
            let off = (has / table.len() as f64 * 100.0 - f64::from(percent)).abs();
            assert!(off < 0.05, "{percent} %: {has} of {}", table.len());
            let back = before
                .iter()
                .zip(&table)
                .filter(|(was, is)| **was == 2 && **is == 1);
            assert_eq!(back.count(), 0, "{percent} %");
            before = table;
        }
    }

    #[test]
    fn every_endpoint_gives_its_part() {
        let most: Vec<u16> = (0..4096).map(|bucket| bucket % 4 + 1).collect();
        let table = blend(&most, &[9; 256], 20, 7);
        assert_eq!(table.len(), 4096);
        for (id, has) in maglev::count(&table) {
            assert!(id == 9 || has.abs_diff(819) < 80, "{id}: {has}");
        }
    }
}
