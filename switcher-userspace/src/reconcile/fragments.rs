//! Addresses whose fragments the program has to follow, because they go elsewhere or change on the way.

use std::collections::{BTreeMap, BTreeSet};

use switcher_common::abi::fragment::fragment_keys;
use switcher_common::abi::{AddressKey, Service};

use super::Planner;
use super::draft::DraftService;

impl Planner {
    /// What a service needs published for fragments.
    pub(super) fn fragments_of(&self, service: &DraftService) -> BTreeSet<AddressKey> {
        let have = self.have();
        let faces = service.faces();
        let faces: Vec<&Service> = faces
            .filter_map(|(index, ..)| Some(&have.services.get(&index)?.service))
            .collect();
        let endpoints = service.keys.values().chain(&service.direct);
        let endpoints = endpoints.filter_map(|id| have.endpoints.get(id));
        endpoints
            .flat_map(|endpoint| faces.iter().map(move |face| (*face, endpoint)))
            .flat_map(|(face, endpoint)| fragment_keys(face, endpoint))
            .flatten()
            .collect()
    }

    /// What all services that stay need for the endpoints that stay.
    pub(super) fn fragments_needed(&self, retired: &BTreeSet<u16>) -> BTreeSet<AddressKey> {
        let have = self.have();
        let mut faces = BTreeMap::<u16, Vec<&Service>>::new();
        let stays = have.services.iter();
        for (_, face) in stays.filter(|(index, _)| self.services.contains(index)) {
            let parent = face.service.parent;
            faces.entry(parent).or_default().push(&face.service);
        }
        let stays = have.endpoints.iter();
        let stays = stays.filter(|(id, _)| !retired.contains(id));
        let keys = stays.flat_map(|(_, endpoint)| {
            let faces = faces.get(&endpoint.service).into_iter().flatten();
            faces.flat_map(move |face| fragment_keys(face, endpoint))
        });
        keys.flatten().collect()
    }
}
