//! Removing: the address first, a grace period, then what it led to.

use std::collections::{BTreeMap, BTreeSet};

use switcher_common::abi::{
    AddressKey, Endpoint, MAX_ENDPOINTS, Service, Tunnel, address_kind, endpoint_flags,
};
use switcher_common::word::Word;

use super::{Planner, Refusal, Want};
use crate::datapath::{Change, GroupIndex};

impl Planner {
    /// Removes whatever nobody wants.
    pub(super) fn retire(&mut self, want: &Want) -> Result<(), Refusal> {
        let groups = self.unwanted_groups(want);
        let services = self.unwanted_services();
        self.refuse_busy(&groups, &services)?;
        let endpoints = self.unwanted_endpoints();
        let addresses = self.unwanted_addresses(&endpoints);
        self.announce(&groups, &services);
        for key in &addresses {
            self.emit(Change::Unpublish { key: *key });
        }
        if !addresses.is_empty() || !endpoints.is_empty() {
            self.emit(Change::Settle);
        }
        for index in services {
            self.emit(Change::SetService {
                index,
                name: String::new(),
                service: Service::default(),
            });
        }
        for id in endpoints {
            self.emit(Change::SetEndpoint {
                id,
                endpoint: Endpoint::default(),
            });
            if self.have().tunnels.contains_key(&id) {
                let tunnel = Tunnel::default();
                self.emit(Change::SetTunnel { id, tunnel });
            }
        }
        for group in groups {
            self.free_group(group);
        }
        Ok(())
    }

    fn free_group(&mut self, group: GroupIndex) {
        self.emit(Change::NameGroup {
            group,
            name: String::new(),
            colours: BTreeMap::new(),
            slots: BTreeMap::new(),
        });
        self.emit(Change::SetWord {
            group,
            word: Word::default(),
        });
    }

    fn unwanted_groups(&self, want: &Want) -> Vec<GroupIndex> {
        let groups = self.have().groups.iter();
        groups
            .filter(|(_, group)| !want.groups.contains_key(&group.name))
            .map(|(index, _)| *index)
            .collect()
    }

    fn unwanted_services(&self) -> Vec<u16> {
        let services = self.have().services.keys();
        services
            .filter(|index| !self.services.contains(index))
            .copied()
            .collect()
    }

    fn refuse_busy(&self, groups: &[GroupIndex], services: &[u16]) -> Result<(), Refusal> {
        let of_services = services
            .iter()
            .filter_map(|index| self.have().services.get(index))
            .map(|have| have.service.group);
        let mut all = groups.iter().copied().chain(of_services);
        match all.find(|group| self.busy.contains(group)) {
            Some(group) => Err(self.refuse_window(group)),
            None => Ok(()),
        }
    }

    /// Endpoints that neither the configuration nor a table that stays, nor the window of a busy group
    /// needs.
    fn unwanted_endpoints(&self) -> BTreeSet<u16> {
        let have = self.have();
        let mut needed = vec![false; MAX_ENDPOINTS as usize];
        let mut need = |id: &u16| {
            if let Some(needed) = needed.get_mut(usize::from(*id)) {
                *needed = true;
            }
        };
        self.endpoints.iter().for_each(&mut need);
        let stays = have.services.iter();
        let stays = stays.filter(|(index, _)| self.services.contains(index));
        for table in stays.flat_map(|(_, have)| have.service.tables) {
            if let Some(buckets) = have.tables.get(&table.0) {
                buckets.iter().for_each(&mut need);
            }
        }
        let busy = |endpoint: &Endpoint| {
            let service = have.services.get(&endpoint.service);
            service.is_some_and(|have| self.busy.contains(&have.service.group))
        };
        let endpoints = have.endpoints.iter();
        endpoints
            .filter(|(id, endpoint)| !needed[usize::from(**id)] && !busy(endpoint))
            .map(|(id, _)| *id)
            .collect()
    }

    fn unwanted_addresses(&self, endpoints: &BTreeSet<u16>) -> Vec<AddressKey> {
        let have = self.have();
        let fragments = self.fragments_needed(endpoints);
        let stays = |key: &AddressKey, index: &u16| {
            if !key.has_port() {
                return fragments.contains(key);
            }
            if key.kind == address_kind::ENDPOINT {
                let endpoint = have.endpoints.get(index);
                let direct = |endpoint: &Endpoint| endpoint.flags & endpoint_flags::DIRECT != 0;
                return !endpoints.contains(index) && endpoint.is_some_and(|it| !direct(it));
            }
            let service = have
                .services
                .get(index)
                .filter(|_| self.services.contains(index));
            service.is_some_and(|have| {
                (have.service.address, have.service.port) == (key.address, key.port)
                    && have.service.protocol == key.protocol
            })
        };
        let addresses = have.addresses.iter();
        let mut addresses: Vec<AddressKey> = addresses
            .filter(|(key, index)| !stays(key, index))
            .map(|(key, _)| *key)
            .collect();
        // Services before endpoints: the last replies still get the service's address, and their fragments.
        addresses.sort_by_key(|key| key.kind);
        addresses
    }

    fn announce(&mut self, groups: &[GroupIndex], services: &[u16]) {
        let mut sentences = Vec::new();
        let have = self.have();
        for index in services {
            let Some(service) = have.services.get(index) else {
                continue;
            };
            let (name, service) = (&service.name, &service.service);
            let group = have.groups.get(&service.group).map_or("?", |g| &g.name);
            let address = std::net::IpAddr::from(service.address);
            let address = std::net::SocketAddr::new(address, service.port.number());
            sentences.push(format!("service {group}/{name}: withdraw {address}"));
        }
        for group in groups.iter().filter_map(|index| have.groups.get(index)) {
            sentences.push(format!("group {}: remove", group.name));
        }
        sentences
            .into_iter()
            .for_each(|sentence| self.say(sentence));
    }
}
