//! Reading what the kernel counts.

use std::collections::HashMap;
use std::time::Instant;

use jiff::Timestamp;
use switcher_common::abi::{Counters, TCP, endpoint_flags};
use tracing::warn;

use super::Runner;
use super::group::Group;
use crate::datapath::{Colour, GroupIndex};

/// A group's colour, by their numbers.
type Place = (GroupIndex, Colour);

/// What a colour's cells say together: all of it, and TCP alone where answers are seen.
type Sums = (Counters, Counters);

impl Runner {
    /// Reads counters, and notices where packets have come.
    pub(super) fn sample(&mut self) {
        self.sample_of(None);
    }

    /// The same of one group alone.
    pub(super) fn sample_of(&mut self, only: Option<&str>) {
        if self.have.endpoints.is_empty() {
            // The kernel is being read: nothing is known of its cells.
            return;
        }
        let index = only.and_then(|name| Some(self.groups.get(name)?.index));
        let sums = match self.sums(index) {
            Ok(sums) => sums,
            Err(error) => return warn!("counters can't be read: {error:#}"),
        };
        let wanted = |group: &&Group| only.is_none_or(|only| only == group.name);
        let mut activity = Vec::new();
        for group in self.groups.values().filter(wanted) {
            let Some(config) = self.config.groups.get(&group.name) else {
                continue;
            };
            for colour in &config.colours {
                let place = self.place(group, colour);
                let sums = place.and_then(|place| sums.get(&place)).copied();
                activity.push((group.name.clone(), colour.clone(), sums.unwrap_or_default()));
            }
        }
        let (now, read) = (Timestamp::now(), Instant::now());
        for (name, colour, (counters, tcp)) in activity {
            let Some(group) = self.groups.get_mut(&name) else {
                continue;
            };
            group.sampled = Some(read);
            let first = !group.activity.contains_key(&colour);
            let known = group.activity.entry(colour).or_default();
            if !first && counters.packets > known.counters.packets {
                known.last_packet = Some(now);
            }
            known.counters = counters;
            known.count_tcp(tcp);
        }
    }

    /// What is counted for the colours of one group or all. Cells are read together: there may be thousands.
    fn sums(&self, only: Option<GroupIndex>) -> anyhow::Result<HashMap<Place, Sums>> {
        let mut cells = Vec::new();
        // Endpoints of a service follow each other, mostly.
        let (mut known, mut group) = (None, None);
        for endpoint in self.have.endpoints.values() {
            if known != Some(endpoint.service) {
                known = Some(endpoint.service);
                let service = self.have.services.get(&endpoint.service);
                group = service.map(|it| it.service.group);
            }
            let Some(group) = group else { continue };
            if only.is_none_or(|only| only == group) {
                let answers = endpoint.protocol == TCP && !endpoint.has(endpoint_flags::DSR);
                cells.push((endpoint.counter, (group, endpoint.colour), answers));
            }
        }
        cells.sort_unstable_by_key(|(cell, ..)| *cell);
        cells.dedup_by_key(|(cell, ..)| *cell);
        let numbers: Vec<u32> = cells.iter().map(|(cell, ..)| *cell).collect();
        let counters = self.datapath.counters(&numbers)?;
        let mut sums = HashMap::<Place, Sums>::new();
        for ((_, place, answers), counters) in cells.into_iter().zip(counters) {
            let (all, tcp) = sums.entry(place).or_default();
            *all = *all + counters;
            if answers {
                *tcp = *tcp + counters;
            }
        }
        Ok(sums)
    }

    /// Where an endpoint in the kernel belongs.
    pub(super) fn place_of(&self, endpoint: u16) -> Option<Place> {
        let endpoint = self.have.endpoints.get(&endpoint)?;
        let service = self.have.services.get(&endpoint.service)?;
        Some((service.service.group, endpoint.colour))
    }

    /// Where a group's colour is, if the kernel has it.
    pub(super) fn place(&self, group: &Group, colour: &str) -> Option<Place> {
        let have = self.have.groups.get(&group.index)?;
        Some((group.index, have.colour(colour)?))
    }
}
