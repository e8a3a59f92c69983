//! Which endpoints flows began at: tags of the window, the socket table, UDP flows.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use switcher_common::abi::{FlowKey, TICK_SHIFT, Tag, service_flags};

use super::maps::Maps;
use super::{bpf, sockets};
use crate::datapath::GroupIndex;

/// Flows of a group by endpoint.
pub(super) fn by_endpoint(
    maps: &Maps,
    group: GroupIndex,
    idle: Duration,
) -> anyhow::Result<BTreeMap<u16, u64>> {
    let mut flows = BTreeMap::new();
    let now = now()?;
    let mut count = |tag: &Tag, since: u32, idle: u32| {
        let valid = tag.epoch.wrapping_sub(since).cast_signed() >= 0;
        let silent = now.wrapping_sub(tag.seen).cast_signed();
        if valid && silent <= idle.cast_signed() {
            *flows.entry(tag.endpoint).or_default() += 1;
        }
    };
    if let Some(window) = maps.window(group)? {
        let epoch = maps.word(group).epoch();
        let idle = (idle.as_nanos() >> TICK_SHIFT) as u32 + 1;
        bpf::values(window.fd().as_fd(), |_: &FlowKey, tag: &Tag| {
            count(tag, epoch, idle)
        })?;
    }
    if let Some(udp) = maps.udp_flows(group)? {
        let floor = maps.groups.read(u32::from(group)).udp_floor;
        let idle = maps.settings.read(0).udp_idle;
        bpf::values(udp.fd().as_fd(), |_: &FlowKey, tag: &Tag| {
            count(tag, floor, idle)
        })?;
    }
    add_sockets(maps, group, &mut flows)?;
    Ok(flows)
}

/// How full the window's flow map is, 0 to 1.
pub(super) fn window_used(maps: &Maps, group: GroupIndex) -> anyhow::Result<f64> {
    let Some(window) = maps.window(group)? else {
        return Ok(0.0);
    };
    let capacity = window.info()?.max_entries();
    let mut used = 0_u32;
    bpf::values(window.fd().as_fd(), |_: &FlowKey, _: &Tag| used += 1)?;
    Ok(f64::from(used) / f64::from(capacity.max(1)))
}

fn add_sockets(
    maps: &Maps,
    group: GroupIndex,
    flows: &mut BTreeMap<u16, u64>,
) -> anyhow::Result<()> {
    let by_socket: BTreeSet<u16> = maps
        .present_services()
        .filter(|(_, service)| service.group == group && service.has(service_flags::SOCKETS))
        .map(|(index, _)| index)
        .collect();
    let endpoints = maps
        .present_endpoints()
        .filter(|(_, endpoint)| by_socket.contains(&endpoint.service));
    for (id, endpoint) in endpoints {
        let connections = sockets::connections_at(endpoint.address.into(), endpoint.port.number())?;
        if connections > 0 {
            *flows.entry(id).or_default() += connections;
        }
    }
    Ok(())
}

/// Now, in the ticks of tags.
fn now() -> nix::Result<u32> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    let nanoseconds = now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned();
    Ok((nanoseconds >> TICK_SHIFT) as u32)
}
