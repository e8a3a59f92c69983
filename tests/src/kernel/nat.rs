//! Masqueraded flows in the kernel's maps.

use std::collections::BTreeMap;
use std::fmt::Debug;

use anyhow::Context as _;
use aya::maps::{HashMap, Map};
use bytemuck::Pod;
use switcher_common::abi::nat::{Activity, NatClient, NatFlow, NatPort};
use switcher_common::abi::{FlowKey, Port, map};
use switcher_common::memory::Memory;

use super::{Kernel, NAT_FLOWS, Plain};

/// The endpoint of entries that only take room.
const NOBODYS: u16 = u16::MAX;

/// Flows and ports, without their times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Masqueraded {
    flows: BTreeMap<FlowKey, NatFlow>,
    ports: BTreeMap<NatPort, NatClient>,
}

impl Masqueraded {
    pub(super) fn of(memory: &Memory) -> Self {
        Self {
            flows: memory.nat.flows.borrow().clone(),
            ports: memory.nat.ports.borrow().clone(),
        }
    }

    pub(super) fn forget_times(&mut self) {
        let timeless = |activity: &mut Activity| *activity = Activity::new(0, activity.state());
        for flow in self.flows.values_mut() {
            timeless(&mut flow.client);
            timeless(&mut flow.server);
        }
        for client in self.ports.values_mut() {
            timeless(&mut client.client);
            timeless(&mut client.server);
        }
    }
}

impl Kernel {
    pub(super) fn fill_nat(&mut self, memory: &Memory) -> anyhow::Result<()> {
        let shift = self.shift();
        let later = |activity: Activity| {
            Activity::new(activity.seen().wrapping_add(shift), activity.state())
        };
        let sources = memory.nat.sources.iter();
        let sources = sources.map(|(id, source)| (u32::from(*id), *source));
        replace(self.data(map::NAT_SOURCES)?, sources)?;
        let flows = memory.nat.flows.borrow();
        let flows = flows.iter().map(|(key, flow)| {
            let (client, server) = (later(flow.client), later(flow.server));
            let flow = NatFlow {
                client,
                server,
                ..*flow
            };
            (*key, flow)
        });
        replace(self.data(map::NAT_FLOWS)?, flows)?;
        let ports = memory.nat.ports.borrow();
        let ports = ports.iter().map(|(key, port)| {
            let (client, server) = (later(port.client), later(port.server));
            let port = NatClient {
                client,
                server,
                ..*port
            };
            (*key, port)
        });
        let taken = ports.len();
        // The ports of nobody's endpoint.
        let free = if memory.nat.full {
            taken..NAT_FLOWS as usize
        } else {
            0..0
        };
        let fillers = free.map(|number| {
            let port = NatPort {
                port: Port::new(number as u16),
                endpoint: NOBODYS,
                ..NatPort::default()
            };
            (port, NatClient::default())
        });
        replace(self.data(map::NAT_PORTS)?, ports.chain(fillers))
    }

    pub(super) fn read_nat(&mut self) -> anyhow::Result<Masqueraded> {
        let mut ports: BTreeMap<NatPort, NatClient> = entries(self.data(map::NAT_PORTS)?)?;
        ports.retain(|port, _| port.endpoint != NOBODYS);
        Ok(Masqueraded {
            flows: entries(self.data(map::NAT_FLOWS)?)?,
            ports,
        })
    }
}

fn replace<K: Pod, V: Pod>(
    map: &mut Map,
    with: impl Iterator<Item = (K, V)>,
) -> anyhow::Result<()> {
    let mut map = HashMap::<_, Plain<K>, Plain<V>>::try_from(map)?;
    let old: Vec<_> = map.keys().collect::<Result<_, _>>()?;
    for key in old {
        map.remove(&key)?;
    }
    for (key, value) in with {
        map.insert(Plain(key), Plain(value), 0)
            .context("a masqueraded flow")?;
    }
    Ok(())
}

fn entries<K: Pod + Ord, V: Pod>(map: &mut Map) -> anyhow::Result<BTreeMap<K, V>> {
    let map = HashMap::<_, Plain<K>, Plain<V>>::try_from(map)?;
    let entries = map.iter().map(|entry| {
        let (Plain(key), Plain(value)) = entry?;
        Ok((key, value))
    });
    entries.collect()
}
