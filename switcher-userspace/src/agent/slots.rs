//! Which of several tables of one colour serves, when neither the word nor memory says so: the one that is made of the
//! endpoints that the configuration names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use switcher_common::abi::service_flags;

use crate::config::GroupConfig;
use crate::datapath::{Colour, GroupIndex, Have, HaveGroup, Slot};

/// A group without tables that a change of the configuration has replaced, as far as there are such that fit better.
pub(super) fn up_to_date(
    have: &Have,
    (index, group): (GroupIndex, &HaveGroup),
    config: &GroupConfig,
) -> HaveGroup {
    let mut group = group.clone();
    let word = group.word;
    let said = |slot: Slot| [word.current(), word.staging()].contains(&u32::from(slot));
    let plain = group.slots.iter().filter(|(_, mix)| mix.canary.is_none());
    let fit = |slot: Slot, colour: Colour| {
        let name = group.colours.get(&colour)?;
        fits(have, index, slot, config, name)
    };
    let fits: BTreeMap<Slot, (Colour, Option<usize>)> = plain
        .map(|(slot, mix)| (*slot, (mix.colour, fit(*slot, mix.colour))))
        .collect();
    let best = |colour: Colour| {
        let ours = fits.values().filter(|(other, _)| *other == colour);
        ours.map(|(_, fit)| *fit).max().flatten()
    };
    let stale = |slot: &Slot| {
        let found = fits.get(slot).filter(|_| !said(*slot));
        found.is_some_and(|(colour, fit)| *fit < best(*colour))
    };
    group.slots.retain(|slot, _| !stale(slot));
    group
}

/// How many endpoints a slot's tables lead to, if the configuration names them all.
fn fits(
    have: &Have,
    index: GroupIndex,
    slot: Slot,
    config: &GroupConfig,
    colour: &str,
) -> Option<usize> {
    let mut all = 0;
    let ours = have
        .services
        .values()
        .filter(|it| it.service.group == index);
    for found in ours.filter(|it| !it.service.has(service_flags::PREVIEW)) {
        let table = found.service.tables.get(usize::from(slot))?;
        let chosen: BTreeSet<u16> = have.tables.get(&table.0)?.iter().copied().collect();
        let named = config.services.get(&found.name)?.endpoints.get(colour)?;
        let named: BTreeSet<SocketAddr> = named.iter().map(|it| it.address).collect();
        for id in &chosen {
            let endpoint = have.endpoints.get(id)?;
            let address = SocketAddr::new(endpoint.address.into(), endpoint.port.number());
            named.contains(&address).then_some(())?;
        }
        all += chosen.len();
    }
    Some(all)
}
