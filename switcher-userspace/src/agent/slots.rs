//! Which of several tables of one colour serves, when neither the word nor memory says so: the one that is as the
//! configuration says.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use switcher_common::abi::service_flags;

use crate::config::{GroupConfig, ServiceConfig};
use crate::datapath::{Buckets, Colour, GroupIndex, Have, HaveGroup, Slot};
use crate::maglev;

/// Of a table, what may differ from its endpoints' weights: dealing out is not exact, and who is down has nothing.
const SLACK: u64 = 32;

/// How far a slot's tables are from the configuration.
#[derive(Clone, Copy, Debug, Default)]
struct Distance {
    /// Buckets that other endpoints had by the weights.
    buckets: u64,
    /// Of so many.
    of: u64,
}

/// A group without tables that a change of the configuration has replaced, as far as there are such that fit better.
pub(super) fn up_to_date(
    have: &Have,
    (index, group): (GroupIndex, &HaveGroup),
    config: &GroupConfig,
) -> HaveGroup {
    let mut of_colour = BTreeMap::<Colour, Vec<Slot>>::new();
    for (slot, mix) in group.slots.iter().filter(|(_, mix)| mix.canary.is_none()) {
        of_colour.entry(mix.colour).or_default().push(*slot);
    }
    let mut group = group.clone();
    let said = [group.word.current(), group.word.staging()];
    // Mostly there is one, and tables may be many.
    for (colour, slots) in of_colour.into_iter().filter(|(_, slots)| slots.len() > 1) {
        let Some(name) = group.colours.get(&colour) else {
            continue;
        };
        let found = slots
            .iter()
            .map(|slot| (*slot, distance(have, index, *slot, config, name)));
        let found: Vec<(Slot, Option<Distance>)> = found.collect();
        let best = found
            .iter()
            .filter_map(|(_, it)| Some((*it)?.buckets))
            .min();
        let Some(best) = best else { continue };
        for (slot, distance) in found {
            let fits = distance.is_some_and(|it| it.buckets <= best + it.of / SLACK);
            if !fits && !said.contains(&u32::from(slot)) {
                group.slots.remove(&slot);
            }
        }
    }
    group
}

/// Nothing if a table leads to an endpoint that the configuration doesn't name, or is not there.
fn distance(
    have: &Have,
    index: GroupIndex,
    slot: Slot,
    config: &GroupConfig,
    colour: &str,
) -> Option<Distance> {
    let mut all = Distance::default();
    let services = have.services.values();
    let ours = services.filter(|it| it.service.group == index);
    for found in ours.filter(|it| !it.service.has(service_flags::PREVIEW)) {
        let table = found.service.tables.get(usize::from(slot))?;
        let buckets = have.tables.get(&table.0)?;
        all.buckets += misdealt(have, buckets, config.services.get(&found.name)?, colour)?;
        all.of += buckets.len() as u64;
    }
    Some(all)
}

/// Buckets that endpoints have beyond what their weights give them.
fn misdealt(have: &Have, buckets: &Buckets, config: &ServiceConfig, colour: &str) -> Option<u64> {
    let named = config.endpoints.get(colour)?;
    let weights = named.iter().map(|it| (it.address, u64::from(it.weight)));
    let weights: BTreeMap<SocketAddr, u64> = weights.collect();
    let total = weights.values().sum::<u64>().max(1);
    let mut beyond = 0;
    for (id, count) in maglev::count(buckets) {
        let endpoint = have.endpoints.get(&id)?;
        let address = SocketAddr::new(endpoint.address.into(), endpoint.port.number());
        let share = weights.get(&address)? * buckets.len() as u64 / total;
        beyond += count.saturating_sub(share);
    }
    Some(beyond)
}
