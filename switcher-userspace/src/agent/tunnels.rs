//! Where outer headers come from, if the configuration leaves that to this host: addresses and routes change, and
//! may not be there yet when a configuration is taken.

use switcher_common::abi::{Endpoint, Tunnel, endpoint_flags};
use tracing::{error, info};

use super::Runner;
use crate::datapath::Change;
use crate::host::route;

impl Runner {
    /// Asks the kernel again, and writes what has changed.
    pub(super) fn renew_tunnels(&mut self) {
        let endpoints = self.have.endpoints.iter();
        let open = endpoints.filter(|(_, endpoint)| self.is_open(endpoint));
        let changed = open.filter_map(|(&id, endpoint)| {
            let way = route::way(endpoint.address.into()).ok().flatten()?;
            let tunnel = Tunnel::new(way.source?, u8::MAX);
            (self.have.tunnels.get(&id) != Some(&tunnel)).then_some((id, tunnel))
        });
        for (id, tunnel) in changed.collect::<Vec<_>>() {
            let change = Change::SetTunnel { id, tunnel };
            match self.datapath.apply(&change) {
                Ok(()) => {
                    info!("{change}");
                    self.have.tunnels.insert(id, tunnel);
                }
                Err(error) => error!("{change}: {error:#}"),
            }
        }
    }

    /// Whether this host's own address on the way is the source of outer headers to an endpoint.
    fn is_open(&self, endpoint: &Endpoint) -> bool {
        if !endpoint.has(endpoint_flags::TUNNEL) {
            return false;
        }
        let Some(found) = self.have.services.get(&endpoint.service) else {
            return false;
        };
        let group = self.have.groups.get(&found.service.group);
        let group = group.and_then(|group| self.config.groups.get(&group.name));
        let service = group.and_then(|group| group.services.get(&found.name));
        service.is_some_and(|service| service.tunnel_source.is_none())
    }
}
