//! Which endpoints still have flows.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use switcher_common::abi::{TICK_SHIFT, Tag, service_flags};

use super::pinned::Pinned;
use super::{GroupIndex, sockets};

impl Pinned {
    /// See [`super::Datapath::flows`].
    pub(super) fn flows(
        &self,
        group: GroupIndex,
        idle: Duration,
    ) -> anyhow::Result<BTreeMap<u16, u64>> {
        let mut flows = BTreeMap::new();
        let now = ticks();
        let mut count = |tag: &Tag, since: u32, idle: u32| {
            let valid = tag.epoch.wrapping_sub(since).cast_signed() >= 0;
            // A packet may have come after `now` was read.
            let age = now.wrapping_sub(tag.seen).cast_signed();
            if valid && age <= idle.cast_signed() {
                *flows.entry(tag.endpoint).or_default() += 1;
            }
        };
        let epoch = self.word(group).epoch();
        // Ticks are compared by their distance, of which half the numbers are left.
        let silence = (idle.as_nanos() >> TICK_SHIFT).min(i32::MAX as u128 - 1) as u32 + 1;
        self.maps
            .windows
            .each(group, |_, tag| count(tag, epoch, silence))?;
        let floor = self.maps.groups.get(group.into()).udp_floor;
        let silence = self.maps.settings.get(0).udp_idle;
        self.maps
            .udp_flows
            .each(group, |_, tag| count(tag, floor, silence))?;
        self.count_sockets(group, &mut flows)?;
        Ok(flows)
    }

    fn count_sockets(
        &self,
        group: GroupIndex,
        flows: &mut BTreeMap<u16, u64>,
    ) -> anyhow::Result<()> {
        let owned = |service: u16| {
            let service = self.maps.services.get(service.into());
            service.has(service_flags::PRESENT | service_flags::SOCKETS) && service.group == group
        };
        let endpoints: BTreeMap<SocketAddr, u16> = self
            .endpoints()
            .into_iter()
            .filter(|(_, endpoint)| owned(endpoint.service))
            .map(|(id, endpoint)| {
                let address = IpAddr::from(endpoint.address);
                (SocketAddr::new(address, endpoint.port.number()), id)
            })
            .collect();
        if endpoints.is_empty() {
            return Ok(());
        }
        sockets::each_connection(|local| {
            if let Some(id) = endpoints.get(&local) {
                *flows.entry(*id).or_default() += 1;
            }
        })
    }
}

/// Now, in the program's ticks.
pub(crate) fn ticks() -> u32 {
    let now = nix::time::ClockId::CLOCK_MONOTONIC.now();
    let nanoseconds = now.map_or(0, |now| {
        now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned()
    });
    (nanoseconds >> TICK_SHIFT) as u32
}
