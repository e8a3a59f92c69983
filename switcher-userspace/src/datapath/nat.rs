//! Masqueraded flows: where they come from, how many there are, and the end of those that have ended.

mod collector;
mod given_up;
mod maps;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Instant;

use anyhow::Context;
use switcher_common::abi::nat::{NatClient, NatSource};
use switcher_common::abi::{Address, Endpoint, endpoint_flags, service_flags};
use switcher_common::memory::Nat;
use switcher_common::nat::{Idle, is_closing, may_have_ended};

use super::GroupIndex;
use super::flows::ticks;
use super::pinned::Pinned;
use super::table::Plain;
use crate::config::Masquerade;

pub(super) use collector::Collecting;
pub use collector::{Collector, Swept};
pub use given_up::GivenUp;
pub(super) use maps::NatMaps;
pub(super) use source::source;

/// How masqueraded flows are doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masqueraded {
    /// Flows that are remembered, with those that are closing.
    pub flows: u64,
    /// Flows that there is room for.
    pub capacity: u64,
    /// Ports in use at each endpoint, and ports there are.
    pub ports: BTreeMap<u16, (u64, u64)>,
}

/// What a look at all ports has found.
#[derive(Clone, Debug, Default)]
struct Counted {
    /// Ports in use, by endpoint.
    used: BTreeMap<u16, u64>,
    /// Of these, those whose flow is alive.
    alive: BTreeMap<u16, Alive>,
}

/// Living flows at an endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Alive {
    pub(super) all: u64,
    /// Without those that came by a preview, and are where they want to be.
    pub(super) steered: u64,
}

/// The last look, and when it was.
#[derive(Debug, Default)]
pub(super) struct Counts(Option<(Instant, Counted)>);

impl Counts {
    /// How long a look is good for, unless something is switched.
    const KEEPS: std::time::Duration = std::time::Duration::from_secs(1);

    /// Flows may go elsewhere from now on.
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }
}

impl Pinned {
    /// How masqueraded flows are doing; nothing where no endpoint is masqueraded for.
    ///
    /// # Errors
    /// When a map can't be read.
    pub fn masqueraded(&self) -> anyhow::Result<Option<Masqueraded>> {
        let masked: Vec<u16> = self.masqueraded_endpoints().map(|(id, _)| id).collect();
        if masked.is_empty() {
            return Ok(None);
        }
        let counted = self.count_masqueraded()?;
        let ports = masked.into_iter().map(|id| {
            let used = counted.used.get(&id).copied().unwrap_or_default();
            let source = self.maps.nat.source(id).unwrap_or_default();
            (
                id,
                (used, u64::from(source.count) * u64::from(source.ports)),
            )
        });
        Ok(Some(Masqueraded {
            flows: counted.used.values().sum(),
            capacity: self.maps.nat.capacity()?,
            ports: ports.collect(),
        }))
    }

    /// Living flows of a group at its masqueraded endpoints.
    pub(super) fn masqueraded_flows(
        &self,
        group: GroupIndex,
    ) -> anyhow::Result<BTreeMap<u16, Alive>> {
        let of_group = self.masqueraded_endpoints_of(group);
        if of_group.is_empty() {
            return Ok(BTreeMap::new());
        }
        let counted = self.count_masqueraded()?;
        let alive = of_group
            .into_iter()
            .filter_map(|id| Some((id, *counted.alive.get(&id)?)));
        Ok(alive.collect())
    }

    fn masqueraded_endpoints_of(&self, group: GroupIndex) -> BTreeSet<u16> {
        let of_group =
            |endpoint: &Endpoint| self.maps.services.get(endpoint.service.into()).group == group;
        let all = self.masqueraded_endpoints();
        all.filter(|(_, endpoint)| of_group(endpoint))
            .map(|(id, _)| id)
            .collect()
    }

    /// The next look is a new one.
    pub(super) fn forget_counts(&self) {
        if let Ok(counts) = &mut self.nat_counts.lock() {
            counts.forget();
        }
    }

    fn masqueraded_endpoints(&self) -> impl Iterator<Item = (u16, Endpoint)> {
        let all = self.endpoints().into_iter();
        all.filter(|(_, endpoint)| endpoint.has(endpoint_flags::MASQUERADE))
    }

    /// Exact from the moment on that the last word was stored; else up to a second old.
    fn count_masqueraded(&self) -> anyhow::Result<Counted> {
        let mut counts = self
            .nat_counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((at, counted)) = &counts.0
            && at.elapsed() < Counts::KEEPS
        {
            return Ok(counted.clone());
        }
        let (at, now, idle) = (Instant::now(), ticks(), self.nat_idle);
        let mut counted = Counted::default();
        self.maps.nat.each_port(|port, client| {
            *counted.used.entry(port.endpoint).or_default() += 1;
            let service = self.maps.services.get(client.service.into());
            if is_alive(client, is_udp(&service), now, idle) {
                let alive = counted.alive.entry(port.endpoint).or_default();
                alive.all += 1;
                alive.steered += u64::from(!service.has(service_flags::PREVIEW));
            }
        })?;
        counts.0 = Some((at, counted.clone()));
        Ok(counted)
    }

    /// Says where flows to an endpoint come from, before it gets the first.
    pub(super) fn prepare_source(
        &mut self,
        id: u16,
        endpoint: &Endpoint,
        config: &Masquerade,
    ) -> anyhow::Result<()> {
        if endpoint.has(endpoint_flags::MASQUERADE) {
            let wanted = source(endpoint.address.into(), config);
            return self.maps.nat.set_source(id, &wanted);
        }
        self.maps.nat.remove_source(id)
    }

    /// The flows of clients, or at endpoints, with these addresses; and what new ones to `services` find.
    pub(super) fn snapshot_nat(
        &self,
        addresses: &BTreeSet<Address>,
        services: &BTreeSet<u16>,
    ) -> anyhow::Result<Nat> {
        let mut nat = Nat::default();
        let (mut all, mut keys) = (0, Vec::new());
        self.maps.nat.each_port(|port, entry| {
            all += 1;
            let endpoint = self.maps.endpoints.get(port.endpoint.into());
            let asked = [entry.address, endpoint.address];
            let asked = asked.iter().any(|it| addresses.contains(it));
            keys.extend(asked.then(|| entry.flow()));
            if asked || services.contains(&endpoint.service) {
                nat.ports.get_mut().insert(*port, *entry);
            }
        })?;
        nat.full = all >= self.maps.nat.capacity()?;
        for key in keys {
            if let Some(flow) = self.maps.nat.flow(&key)? {
                nat.flows.get_mut().insert(key, flow);
            }
        }
        nat.sources = self
            .masqueraded_endpoints()
            .filter(|(_, endpoint)| services.contains(&endpoint.service))
            .filter_map(|(id, _)| Some((id, self.maps.nat.source(id)?)))
            .collect();
        Ok(nat)
    }
}

const fn is_alive(client: &NatClient, udp: bool, now: u32, idle: Idle) -> bool {
    !is_closing(client.client, client.server) && !may_have_ended(client, udp, now, idle)
}

const fn is_udp(service: &switcher_common::abi::Service) -> bool {
    service.protocol == switcher_common::abi::UDP
}

/// Durations in ticks.
pub(super) fn idle(config: &Masquerade) -> Idle {
    use super::kernel::ticks_of;
    Idle {
        established: ticks_of(config.established),
        opening: ticks_of(config.opening),
        closing: ticks_of(config.closing),
        udp: ticks_of(config.udp),
    }
}

impl NatMaps {
    /// Where flows to an endpoint come from, as it stands in the map.
    pub(super) fn source(&self, id: u16) -> Option<NatSource> {
        let Plain(source) = self.sources.get(&u32::from(id), 0).ok()?;
        Some(source)
    }

    fn set_source(&mut self, id: u16, source: &NatSource) -> anyhow::Result<()> {
        if self.source(id) == Some(*source) {
            return Ok(());
        }
        let set = self.sources.insert(u32::from(id), Plain(*source), 0);
        set.with_context(|| {
            format!(
                "endpoint {id} can't be masqueraded for: a host has at most {} such endpoints",
                switcher_common::abi::nat::MAX_NAT_SOURCES
            )
        })
    }

    fn remove_source(&mut self, id: u16) -> anyhow::Result<()> {
        if self.source(id).is_some() {
            self.sources.remove(&u32::from(id))?;
        }
        Ok(())
    }
}
