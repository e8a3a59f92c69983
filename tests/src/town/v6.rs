//! The town in IPv6: see [`six`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use switcher_common::abi::fragment::{FragmentKey, Fragmented};
use switcher_common::abi::nat::{NatClient, NatPort};
use switcher_common::abi::{Address, AddressKey, FlowKey};
use switcher_common::memory::{Memory, Nat, Told};
use switcher_common::tables::Route;

use super::{CLIENT, DESK, State, parts};
use crate::cave;
use crate::frame::six;

impl State {
    /// The same town in IPv6: see [`six`].
    #[must_use]
    pub fn in_v6(mut self) -> Self {
        let Memory {
            addresses,
            services,
            endpoints,
            tunnels,
            windows,
            udp_flows,
            notes,
            fragments,
            nat,
            ..
        } = &mut self.memory;
        *addresses = std::mem::take(addresses)
            .into_iter()
            .map(|(key, index)| {
                let address = in_v6(key.address);
                (AddressKey { address, ..key }, index)
            })
            .collect();
        for service in services.values_mut() {
            service.address = in_v6(service.address);
        }
        for endpoint in endpoints.values_mut() {
            endpoint.address = in_v6(endpoint.address);
        }
        *tunnels = std::mem::take(tunnels)
            .into_keys()
            .map(|id| (id, cave::tunnel(true)))
            .collect();
        for maps in [windows, udp_flows] {
            for map in maps.get_mut().values_mut() {
                map.flows = keys_in_v6(std::mem::take(&mut map.flows));
            }
        }
        let notes = notes.get_mut();
        *notes = keys_in_v6(std::mem::take(notes));
        let fragments = fragments.get_mut();
        *fragments = std::mem::take(fragments)
            .into_iter()
            .map(fragments_in_v6)
            .collect();
        nat_in_v6(nat);
        let desk = services.get(&super::service(DESK)).map(|it| it.tables[0]);
        if let Some(table) = desk {
            let client = in_v6(parts(CLIENT).0);
            self.memory.fill(table, &super::desk(client));
        }
        self.told = told_in_v6(self.told);
        self
    }
}

fn in_v6(address: Address) -> Address {
    match IpAddr::from(address) {
        IpAddr::V4(v4) => IpAddr::from(six(v4)).into(),
        IpAddr::V6(_) => address,
    }
}

fn keys_in_v6<T>(map: BTreeMap<FlowKey, T>) -> BTreeMap<FlowKey, T> {
    let key = |key: FlowKey| FlowKey {
        client: in_v6(key.client),
        ..key
    };
    map.into_iter().map(|(old, it)| (key(old), it)).collect()
}

/// As [`State::fragmented`] makes them.
fn fragments_in_v6((key, said): (FragmentKey, Fragmented)) -> (FragmentKey, Fragmented) {
    let identification = u16::from_be(key.identification as u16);
    let key = FragmentKey {
        source: in_v6(key.source),
        destination: in_v6(key.destination),
        identification: u32::from(identification).to_be(),
        protocol: 0,
    };
    let other = match said.other {
        Address([0, 0]) => said.other,
        address => in_v6(address),
    };
    (key, Fragmented { other, ..said })
}

fn nat_in_v6(nat: &mut Nat) {
    for source in nat.sources.values_mut() {
        source.addresses = source.addresses.map(in_v6);
    }
    let flows = nat.flows.get_mut();
    *flows = keys_in_v6(std::mem::take(flows));
    for flow in flows.values_mut() {
        flow.source = in_v6(flow.source);
    }
    let ports = nat.ports.get_mut();
    let six = |(port, client): (NatPort, NatClient)| {
        let source = in_v6(port.source);
        let address = in_v6(client.address);
        (NatPort { source, ..port }, NatClient { address, ..client })
    };
    *ports = std::mem::take(ports).into_iter().map(six).collect();
}

/// An interface with a smaller MTU than IPv6 allows has no routes.
fn told_in_v6(told: Told) -> Told {
    let has_v6 = |route: &Route| match route {
        Route::Neighbour { mtu, .. } => *mtu >= 1280,
        Route::Local | Route::Stack => true,
    };
    let sockets = told.sockets.into_iter();
    Told {
        sockets: sockets
            .map(|((client, port, server, server_port), state)| {
                ((in_v6(client), port, in_v6(server), server_port), state)
            })
            .collect(),
        routes: (told.routes.into_iter())
            .filter(|(_, route)| has_v6(route))
            .map(|(to, route)| (in_v6(to), route))
            .collect(),
        ..told
    }
}
