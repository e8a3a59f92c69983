//! Which slot the tables of a colour, or of a mix of two, go to.

use switcher_common::abi::{SLOTS, TableRef};

use super::Planner;
use super::draft::Draft;
use crate::datapath::{Colour, Mix, Slot};

impl Planner {
    /// Decides on a slot for each mix: its own if what lies there is right, else a free one. Returns a
    /// mix that there is no slot for until something is tidied away.
    pub(super) fn choose_targets(&self, draft: &mut Draft) -> Option<Mix> {
        let mut missing = None;
        for mix in draft.mixes.clone() {
            let own = self.have().groups.get(&draft.index).and_then(|have| {
                let newest = [have.word.current() as Slot];
                let newest = newest.into_iter().chain(have.slot_of(mix.colour));
                let mut own = newest.chain(have.slots.keys().copied());
                own.find(|slot| have.slots.get(slot) == Some(&mix) && self.fits(draft, mix, *slot))
            });
            match own.or_else(|| self.free_slot(draft, mix.colour)) {
                Some(slot) => {
                    draft.targets.insert(mix, slot);
                }
                None => missing = Some(mix),
            }
        }
        missing
    }

    /// Whether a slot needs no change for a mix but tables that are missing altogether.
    fn fits(&self, draft: &Draft, mix: Mix, slot: Slot) -> bool {
        draft.services.iter().all(|service| {
            let have = self.have().services.get(&service.index);
            let table = have.map_or(TableRef::default(), |have| {
                have.service.tables[slot as usize]
            });
            !table.exists() || self.holds(table, &service.tables[&mix])
        })
    }

    pub(super) fn holds(&self, table: TableRef, buckets: &[u16]) -> bool {
        self.have()
            .tables
            .get(&table.0)
            .is_some_and(|have| **have == *buckets)
    }

    /// A slot that nothing refers to: the one with the colour's own number, if it can be had.
    fn free_slot(&self, draft: &Draft, colour: Colour) -> Option<Slot> {
        let have = self.have();
        let group = have.groups.get(&draft.index);
        let free = |slot: &Slot| {
            let named = group.is_some_and(|group| {
                let word = group.word;
                let roles = [word.current(), word.previous(), word.staging()];
                group.slots.contains_key(slot)
                    || word.in_use() & 1 << *slot != 0
                    || roles.contains(&u32::from(*slot))
            });
            let mut services = have.services.values();
            let filled = services.any(|have| {
                have.service.group == draft.index && have.service.tables[*slot as usize].exists()
            });
            !named && !filled && !draft.targets.values().any(|target| target == slot)
        };
        std::iter::once(colour).chain(0..SLOTS as Slot).find(free)
    }
}
