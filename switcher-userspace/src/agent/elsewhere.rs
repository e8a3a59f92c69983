//! Which flows still need the window.

use std::collections::{BTreeMap, BTreeSet};

use switcher_common::abi::{SLOTS, Service, UDP};
use switcher_common::word::Word;

use crate::datapath::{GroupIndex, Have};

/// Flows that would go astray if the window closed now: those at endpoints that the current table doesn't
/// use. Where the current table shares an endpoint with an older one and has others beside it, a flow
/// there may belong elsewhere by its hash; each counts, since to wait is safe and to lose one is not.
pub(super) fn elsewhere(
    have: &Have,
    group: GroupIndex,
    word: Word,
    flows: &BTreeMap<u16, u64>,
) -> u64 {
    let mut placed: BTreeMap<u16, Placed> = BTreeMap::new();
    let count = |(id, flows): (&u16, &u64)| {
        let service = have.endpoints.get(id)?.service;
        let entry = &have.services.get(&service)?.service;
        if entry.group != group {
            return None;
        }
        let placed = placed
            .entry(service)
            .or_insert_with(|| Placed::new(have, entry, word));
        Some(if placed.stays(*id, entry) { 0 } else { *flows })
    };
    flows.iter().filter_map(count).sum()
}

/// The endpoints of a service's tables.
struct Placed {
    current: BTreeSet<u16>,
    older: BTreeSet<u16>,
    same: bool,
}

impl Placed {
    fn new(have: &Have, service: &Service, word: Word) -> Self {
        let table = |slot: usize| have.tables.get(&service.tables[slot].0);
        let used = |slot: &usize| word.in_use() & 1 << slot != 0;
        let current = word.current() as usize;
        let older = (0..SLOTS).filter(used).filter(|slot| *slot != current);
        let older: Vec<_> = older.filter_map(table).collect();
        Self {
            current: table(current).into_iter().flatten().copied().collect(),
            same: older.iter().all(|older| Some(*older) == table(current)),
            older: older.into_iter().flatten().copied().collect(),
        }
    }

    fn stays(&self, endpoint: u16, service: &Service) -> bool {
        if !self.current.contains(&endpoint) {
            return false;
        }
        // A UDP flow's tag outlives the window.
        let kept = self.same || self.current.len() == 1 || service.protocol == UDP;
        kept || !self.older.contains(&endpoint)
    }
}

#[cfg(test)]
mod tests {
    use switcher_common::abi::{Endpoint, TCP, TableRef};

    use super::*;
    use crate::datapath::HaveService;

    #[test]
    fn after_a_flip_flows_of_the_old_colour_count() {
        let have = have(&[&[1, 1], &[2, 2]], TCP);
        assert_eq!(count(&have, &[(1, 7), (2, 9)]), 7);
        assert_eq!(count(&have, &[(2, 9)]), 0);
        assert_eq!(
            elsewhere(&have, 1, word(), &BTreeMap::from([(1, 7)])),
            0,
            "another group"
        );
    }

    #[test]
    fn after_an_update_flows_count_where_they_may_belong_elsewhere() {
        assert_eq!(
            count(&have(&[&[1, 2], &[1, 3]], TCP), &[(1, 5), (2, 7), (3, 9)]),
            12
        );
        assert_eq!(
            count(&have(&[&[1, 2], &[1, 1]], TCP), &[(1, 5), (2, 7)]),
            7,
            "it can only be 1"
        );
        assert_eq!(
            count(&have(&[&[1, 2], &[1, 2]], TCP), &[(1, 5), (2, 7)]),
            0,
            "the same table"
        );
        assert_eq!(
            count(&have(&[&[1, 2], &[1, 3]], UDP), &[(1, 5), (2, 7), (3, 9)]),
            7
        );
    }

    fn count(have: &Have, flows: &[(u16, u64)]) -> u64 {
        elsewhere(have, 0, word(), &flows.iter().copied().collect())
    }

    /// From slot 0 to slot 1.
    fn word() -> Word {
        Word(0).switch_to(1)
    }

    fn have(tables: &[&[u16]], protocol: u8) -> Have {
        let mut have = Have::default();
        let mut service = Service {
            protocol,
            ..Service::default()
        };
        for (slot, buckets) in tables.iter().enumerate() {
            let table = TableRef::new(slot as u32 * TableRef::UNIT, 8);
            service.tables[slot] = table;
            have.tables.insert(table.0, buckets.to_vec());
        }
        let name = "web".to_owned();
        have.services.insert(
            0,
            HaveService {
                name,
                service,
                published: true,
            },
        );
        for id in 1..4 {
            have.endpoints.insert(id, Endpoint::default());
        }
        have
    }
}
