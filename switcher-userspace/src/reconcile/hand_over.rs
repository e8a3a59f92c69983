//! What a dead endpoint had: to the others, in place.
//!
//! The one exception from the rule that a table in use is never edited. Its flows are lost anyway, and no
//! other bucket changes. When it comes back, [`super::plan_group`] gives back by a window.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use switcher_common::abi::{Endpoint, service_flags};

use super::mixture::Party;
use super::{Standing, WantGroup};
use crate::datapath::{Change, Colour, Have, HaveGroup, HaveService, Mix};
use crate::maglev::{self, Share};

/// The hand-overs that a group's current tables need. Nothing where no endpoint of the colour would be
/// left: the buckets stay with the dead then.
#[must_use]
pub fn hand_over(have: &Have, name: &str, want: &WantGroup, seed: u64) -> Vec<Change> {
    let found = have.groups.iter().find(|(_, group)| group.name == name);
    let Some((index, group)) = found else {
        return Vec::new();
    };
    let services = have.services.iter().filter(|(_, found)| {
        found.service.group == *index && !found.service.has(service_flags::PREVIEW)
    });
    // Once, and not for each of what may be thousands of services.
    let mut endpoints: HashMap<_, Vec<_>> = HashMap::new();
    for (id, it) in &have.endpoints {
        let of_colour = endpoints.entry((it.service, it.colour)).or_default();
        of_colour.push((id, it));
    }
    let endpoints = &endpoints;
    let changes = services.flat_map(|(service, found)| {
        let colours = group.current().into_iter().flat_map(Mix::colours);
        colours.filter_map(move |colour| {
            let of_colour = endpoints.get(&(*service, colour));
            let of_colour = of_colour.map_or(&[][..], Vec::as_slice);
            let shares = shares(of_colour, group, found, colour, want);
            relieve(have, group, found, &shares, seed)
        })
    });
    changes.collect()
}

fn relieve(
    have: &Have,
    group: &HaveGroup,
    found: &HaveService,
    shares: &[(Share, Standing)],
    seed: u64,
) -> Option<Change> {
    let table = found.service.tables[group.word.current() as usize];
    let buckets = have.tables.get(&table.0)?;
    let party = Party::new(shares, buckets, false);
    let buckets = maglev::hand_over(buckets, &party.dead(), &party.heirs(), seed);
    (!buckets.is_empty()).then_some(Change::HandOver { table, buckets })
}

/// The endpoints of a colour in the kernel, with what the configuration and health checks say of them.
/// Whoever isn't configured any more goes by a window.
fn shares(
    of_colour: &[(&u16, &Endpoint)],
    group: &HaveGroup,
    found: &HaveService,
    colour: Colour,
    want: &WantGroup,
) -> Vec<(Share, Standing)> {
    let wanted = want.services.get(&found.name);
    let named = group.colours.get(&colour);
    let wanted = wanted.and_then(|service| service.endpoints.get(named?));
    let share = |(id, endpoint): &(&u16, &Endpoint)| {
        let address = SocketAddr::new(IpAddr::from(endpoint.address), endpoint.port.number());
        let want = wanted
            .into_iter()
            .flatten()
            .find(|want| want.address == address)?;
        let share = Share {
            id: **id,
            address,
            weight: want.weight,
        };
        Some((share, want.standing))
    };
    of_colour.iter().filter_map(share).collect()
}
