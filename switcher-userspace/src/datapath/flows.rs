//! Which endpoints still have flows.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use switcher_common::abi::{Address, FlowKey, Port, Service, TICK_SHIFT, Tag, service_flags};
use switcher_common::steer;

use super::pinned::Pinned;
use super::sockets::{self, TcpSocket};
use super::{Flows, GroupIndex};
use crate::host::{self, OwnAddresses};

impl Pinned {
    /// See [`super::Datapath::flows`].
    pub(super) fn flows(&self, group: GroupIndex, idle: Duration) -> anyhow::Result<Flows> {
        let mut flows = self.remembered(group, idle)?;
        self.count_sockets(group, &mut flows)?;
        Ok(flows)
    }

    /// Flows at each endpoint that would break if nothing were rewritten any more: what is remembered, and
    /// connections of this namespace's sockets that came by the VIP from outside.
    ///
    /// # Errors
    /// When a map or the socket table can't be read.
    pub(super) fn dependent(&self, group: GroupIndex) -> anyhow::Result<BTreeMap<u16, u64>> {
        let mut flows = self.remembered(group, Duration::MAX)?.by_endpoint;
        for (_, id) in self.steered_connections(&self.socket_endpoints(group))? {
            *flows.entry(id).or_default() += 1;
        }
        Ok(flows)
    }

    /// Flows that have a tag.
    fn remembered(&self, group: GroupIndex, idle: Duration) -> anyhow::Result<Flows> {
        let mut flows = Flows::default();
        let placement = Placement::new(self, group);
        let now = ticks();
        let mut count = |key: &FlowKey, tag: &Tag, since: u32, idle: u32| {
            let valid = tag.epoch.wrapping_sub(since).cast_signed() >= 0;
            // A packet may have come after `now` was read.
            let age = now.wrapping_sub(tag.seen).cast_signed();
            if valid && age <= idle.cast_signed() {
                *flows.by_endpoint.entry(tag.endpoint).or_default() += 1;
                if placement.is_astray(key.id, key.client, key.port, tag.endpoint) {
                    *flows.astray.entry(tag.endpoint).or_default() += 1;
                }
            }
        };
        let epoch = self.word(group).epoch();
        // Ticks are compared by their distance, of which half the numbers are left.
        let silence = (idle.as_nanos() >> TICK_SHIFT).min(i32::MAX as u128 - 1) as u32 + 1;
        self.maps
            .windows
            .each(group, |key, tag| count(key, tag, epoch, silence))?;
        let floor = self.maps.groups.get(group.into()).udp_floor;
        let silence = self.maps.settings.get(0).udp_idle;
        self.maps
            .udp_flows
            .each(group, |key, tag| count(key, tag, floor, silence))?;
        let masqueraded = self.masqueraded_flows(group)?;
        let live = match masqueraded.is_empty() {
            true => BTreeSet::new(),
            false => self.current_endpoints(group)?,
        };
        for (id, alive) in masqueraded {
            *flows.by_endpoint.entry(id).or_default() += alive.all;
            if !live.contains(&id) {
                *flows.astray.entry(id).or_default() += alive.steered;
            }
        }
        Ok(flows)
    }

    /// See [`super::Datapath::end_connections`].
    pub(super) fn end_connections(&self, group: GroupIndex) -> anyhow::Result<u64> {
        let mut stale = self.socket_endpoints(group);
        if stale.is_empty() {
            return Ok(0);
        }
        let live = self.current_endpoints(group)?;
        stale.retain(|_, id| !live.contains(id));
        if stale.is_empty() {
            return Ok(0);
        }
        let mut ended = 0;
        for (socket, _) in self.steered_connections(&stale)? {
            ended += u64::from(socket.destroy()?);
        }
        Ok(ended)
    }

    /// Connections to these endpoints whose packets are steered: those that came by the VIP, and not from
    /// this host itself.
    fn steered_connections(
        &self,
        endpoints: &BTreeMap<SocketAddr, u16>,
    ) -> anyhow::Result<Vec<(TcpSocket, u16)>> {
        if endpoints.is_empty() {
            return Ok(Vec::new());
        }
        let notes = self.maps.notes()?;
        let own = OwnAddresses::read()?;
        let steered = |socket: TcpSocket| {
            let id = *endpoints.get(&socket.local)?;
            let (client, port) = (socket.remote.ip().into(), Port::new(socket.remote.port()));
            let past_the_vip = notes.contains_key(&FlowKey::reply(client, port, id));
            (!past_the_vip && !own.contains(socket.remote.ip())).then_some((socket, id))
        };
        Ok(sockets::connections()?
            .into_iter()
            .filter_map(steered)
            .collect())
    }

    /// Endpoints that the current tables of a group choose.
    pub(super) fn current_endpoints(&self, group: GroupIndex) -> anyhow::Result<BTreeSet<u16>> {
        let current = self.word(group).current() as usize;
        self.endpoints_chosen(group, |slot| slot == current)
    }

    /// Endpoints that tables of a group in these slots choose.
    pub(super) fn endpoints_chosen(
        &self,
        group: GroupIndex,
        counts: impl Fn(usize) -> bool,
    ) -> anyhow::Result<BTreeSet<u16>> {
        let mut chosen = BTreeSet::new();
        for (_, service) in self.services_of(group) {
            let tables = service.tables.iter().enumerate();
            for (_, table) in tables.filter(|(slot, table)| counts(*slot) && table.exists()) {
                chosen.extend(self.buckets(*table)?.iter());
            }
        }
        Ok(chosen)
    }

    /// Whoever came past the VIP is where it wants to be.
    fn count_sockets(&self, group: GroupIndex, flows: &mut Flows) -> anyhow::Result<()> {
        let endpoints = self.socket_endpoints(group);
        if endpoints.is_empty() {
            return Ok(());
        }
        for socket in sockets::connections()? {
            if let Some(id) = endpoints.get(&socket.local) {
                *flows.by_endpoint.entry(*id).or_default() += 1;
            }
        }
        let placement = Placement::new(self, group);
        for (socket, id) in self.steered_connections(&endpoints)? {
            let (client, port) = (socket.remote.ip().into(), Port::new(socket.remote.port()));
            let service = self.maps.endpoints.get(id.into()).service;
            if placement.is_astray(service, client, port, id) {
                *flows.astray.entry(id).or_default() += 1;
            }
        }
        Ok(())
    }

    /// Endpoints whose flows the socket table knows.
    fn socket_endpoints(&self, group: GroupIndex) -> BTreeMap<SocketAddr, u16> {
        let owned = |service: u16| {
            let service = self.maps.services.get(service.into());
            service.has(service_flags::PRESENT | service_flags::SOCKETS) && service.group == group
        };
        self.endpoints()
            .into_iter()
            .filter(|(_, endpoint)| owned(endpoint.service))
            .map(|(id, endpoint)| {
                let address = IpAddr::from(endpoint.address);
                (SocketAddr::new(address, endpoint.port.number()), id)
            })
            .collect()
    }

    fn services_of(&self, group: GroupIndex) -> impl Iterator<Item = (u16, Service)> {
        (0..self.maps.services.len() as u16)
            .map(|index| (index, self.maps.services.get(index.into())))
            .filter(move |(_, it)| it.has(service_flags::PRESENT) && it.group == group)
    }
}

/// Where the current tables of a group have flows. Tables are looked at where they lie, and only for flows:
/// there may be millions of buckets and hardly a flow.
struct Placement<'a> {
    pinned: &'a Pinned,
    group: GroupIndex,
    slot: usize,
    seed: u64,
    /// The endpoints in tables of UDP services, once somebody has asked.
    placed: RefCell<BTreeMap<u16, BTreeSet<u16>>>,
}

impl<'a> Placement<'a> {
    fn new(pinned: &'a Pinned, group: GroupIndex) -> Self {
        Self {
            pinned,
            group,
            slot: pinned.word(group).current() as usize,
            seed: pinned.maps.settings.get(0).seed,
            placed: RefCell::default(),
        }
    }

    fn is_astray(&self, index: u16, client: Address, port: Port, endpoint: u16) -> bool {
        let service = self.pinned.maps.services.get(index.into());
        let table = service.tables[self.slot];
        let is_ours = service.has(service_flags::PRESENT) && service.group == self.group;
        if !is_ours || !table.exists() {
            return true;
        }
        if !service.has_connections() {
            let mut placed = self.placed.borrow_mut();
            let placed = placed.entry(index).or_insert_with(|| {
                let buckets = self.pinned.buckets(table).unwrap_or_default();
                buckets.iter().copied().collect()
            });
            return !placed.contains(&endpoint);
        }
        let port = if service.has(service_flags::BY_SOURCE) {
            0
        } else {
            port.0
        };
        let hash = steer::hash(self.seed, client, port) as usize;
        self.pinned.bucket(table, hash) != Some(endpoint)
    }
}

/// Now, in the program's ticks.
pub(crate) fn ticks() -> u32 {
    (host::monotonic() >> TICK_SHIFT) as u32
}
