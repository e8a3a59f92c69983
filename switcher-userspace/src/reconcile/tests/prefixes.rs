//! Every prefix of every plan serves, whatever is wanted next and whenever the agent dies.

use proptest::prelude::*;
use switcher_common::abi::{
    AddressKey, COLOURS, SLOTS, Service, TCP, TableRef, address_kind, endpoint_flags, service_flags,
};
use switcher_common::word::Phase;

use std::net::SocketAddr;

use super::super::*;
use super::{SEED, at, close};
use crate::datapath::Slot;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Any sequence of configurations and flips, with an agent that dies in mid-plan: every prefix of every plan serves, and what is left is
    /// what was wanted.
    #[test]
    fn every_prefix_serves(steps in prop::collection::vec((wants(), 0u8..4, 0usize..20), 1..6)) {
        let mut kernel = Memory::default();
        for (want, flip, dies) in steps {
            let mut rounds = 0;
            loop {
                rounds += 1;
                prop_assert!(rounds < 6, "never done");
                let plan = match plan(kernel.state(), &want, SEED) {
                    Ok(plan) => plan,
                    Err(Refusal::LiveColour { .. }) => break,
                    Err(other) => return Err(TestCaseError::fail(other.to_string())),
                };
                if plan.is_empty() {
                    break;
                }
                let live_until = if rounds == 1 { dies } else { usize::MAX };
                for change in plan.changes.iter().take(live_until) {
                    check_step(kernel.state(), change).map_err(TestCaseError::fail)?;
                    kernel.change(change);
                    served(kernel.state()).map_err(|why| TestCaseError::fail(format!("{change}: {why}")))?;
                }
                for group in kernel.state().groups.keys().copied().collect::<Vec<_>>() {
                    close(&mut kernel, group);
                }
            }
            for (index, group) in kernel.state().groups.clone() {
                if let Some(slot) = group.slot_of(flip) {
                    kernel.change(&Change::SetWord { group: index, word: group.word.switch_to(u32::from(slot)) });
                    served(kernel.state()).map_err(TestCaseError::fail)?;
                    let during = plan(kernel.state(), &want, SEED);
                    prop_assert!(!matches!(during, Ok(ref plan) if plan.changes.iter().any(|c| touches(c, index))), "{during:?}");
                    close(&mut kernel, index);
                }
            }
        }
    }
}

/// A small universe, so that things come and go and come again.
fn wants() -> impl Strategy<Value = Want> {
    let endpoints = prop::collection::btree_set(1u16..6, 1..4);
    let service = (prop::collection::vec(endpoints, 4), any::<bool>(), 0u16..2);
    let group = (2usize..5, prop::collection::vec(service, 1..3));
    prop::collection::vec(prop::option::of(group), 2).prop_map(|groups| {
        let mut want = Want::default();
        for (g, group) in (0u16..).zip(groups) {
            let Some((colours, services)) = group else {
                continue;
            };
            let colours: Vec<String> = (0..colours).map(|c| format!("c{c}")).collect();
            let mut wanted = WantGroup {
                initial: "c1".into(),
                colours,
                ..WantGroup::default()
            };
            for (s, (endpoints, preview, moved)) in (0u16..).zip(services) {
                let base = 1000 + g * 4000 + s * 1000;
                let endpoint = |c: u16, port: u16| WantEndpoint {
                    tunnel: Default::default(),
                    address: match port {
                        5 => SocketAddr::from(([10, 0, 0, 2], base + 100 + c * 100)),
                        _ => at(base + 100 + c * 100 + port),
                    },
                    weight: 1 + port,
                    flags: endpoint_flags::PRESENT,
                    standing: Standing::Up,
                };
                let endpoints =
                    (0u16..)
                        .zip(&wanted.colours)
                        .zip(endpoints)
                        .map(|((c, name), ports)| {
                            (
                                name.clone(),
                                ports.into_iter().map(|port| endpoint(c, port)).collect(),
                            )
                        });
                let service = WantService {
                    vip: at(base + moved),
                    protocol: TCP,
                    flags: service_flags::PRESENT,
                    preview: preview.then(|| at(base + 50)),
                    endpoints: endpoints.collect(),
                };
                wanted.services.insert(format!("s{s}"), service);
            }
            want.groups.insert(format!("g{g}"), wanted);
        }
        want
    })
}

/// What has to hold at every moment, from the data path's view and without the planner's code.
fn served(have: &Have) -> Result<(), String> {
    for (key, index) in &have.addresses {
        if !key.has_port() {
            continue;
        }
        if key.kind == address_kind::ENDPOINT {
            let endpoint = have
                .endpoints
                .get(index)
                .ok_or("published without an endpoint")?;
            if (endpoint.address, endpoint.port) != (key.address, key.port) {
                return Err(format!("endpoint {index} is published as {key:?}"));
            }
            continue;
        }
        let service = &have
            .services
            .get(index)
            .ok_or("published without a service")?
            .service;
        let group = have
            .groups
            .get(&service.group)
            .ok_or("published without a group")?;
        if service.has(service_flags::PREVIEW) {
            continue;
        }
        let mut slots = group.word.in_use() | 1 << group.word.current();
        if group.word.phase() != Phase::Steady {
            slots |= 1 << group.word.previous();
        }
        for slot in (0..SLOTS as Slot).filter(|slot| slots & 1 << *slot != 0) {
            filled(have, *index, service, slot)?;
        }
        group.live().ok_or("the live slot has no colour")?;
    }
    Ok(())
}

fn filled(have: &Have, index: u16, service: &Service, slot: Slot) -> Result<(), String> {
    let table = service.tables[slot as usize];
    let buckets = have.tables.get(&table.0);
    let buckets = buckets.ok_or(format!("service {index}: nothing in slot {slot}"))?;
    if buckets.len() != 1 << table.bits() {
        return Err(format!("service {index}: a table of {}", buckets.len()));
    }
    // Once each: a table has hundreds of buckets.
    for id in buckets.iter().collect::<BTreeSet<_>>() {
        let endpoint = have
            .endpoints
            .get(id)
            .ok_or(format!("endpoint {id} is gone"))?;
        if endpoint.service != service.parent {
            return Err(format!("endpoint {id} serves {}", endpoint.service));
        }
        let to = AddressKey::fragments_to(service.address, service.protocol);
        let from = AddressKey::fragments_from(endpoint.address, service.protocol);
        let follows = |key: &AddressKey| have.addresses.contains_key(key);
        if endpoint.address != service.address && !(follows(&to) && follows(&from)) {
            return Err(format!("fragments to endpoint {id} are not followed"));
        }
        if usize::from(endpoint.colour) >= COLOURS {
            return Err(format!("endpoint {id} has colour {}", endpoint.colour));
        }
    }
    Ok(())
}

/// What a step must never do to something in use.
fn check_step(have: &Have, change: &Change) -> Result<(), String> {
    let range = |table: TableRef| table.first()..table.first() + (1 << table.bits());
    match change {
        Change::FillTable { table, .. } => {
            let new = range(*table);
            let overlaps = |old: TableRef| range(old).start < new.end && new.start < range(old).end;
            match have.tables_in_use().any(overlaps) {
                true => Err(format!("{change} overwrites a table in use")),
                false => Ok(()),
            }
        }
        Change::SetService { index, service, .. } => {
            let Some(old) = have.services.get(index).filter(|old| old.published) else {
                return Ok(());
            };
            let group = have.groups.get(&old.service.group).ok_or("no group")?;
            let slot = group.word.current() as usize;
            match old.service.tables[slot] == service.tables[slot] {
                true => Ok(()),
                false => Err(format!("{change} replaces the live table")),
            }
        }
        _ => Ok(()),
    }
}

fn touches(change: &Change, index: GroupIndex) -> bool {
    match change {
        Change::NameGroup { group, .. } | Change::SetWord { group, .. } => *group == index,
        Change::SetService { service, .. } => {
            service.group == index && *service != Service::default()
        }
        _ => false,
    }
}
