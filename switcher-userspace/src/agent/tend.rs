//! Tables follow the health of endpoints.
//!
//! What a dead endpoint of the live colour had goes to the others at once, in place. What comes back, and
//! what answers but not as it should, takes a window, so that no connection is touched.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use switcher_common::abi::{Endpoint, MAX_ENDPOINTS, service_flags};
use tracing::{error, info, warn};

use super::Runner;
use super::group::Group;
use crate::datapath::{Change, HaveService, Slot};
use crate::health::{Standing, Target};
use crate::journal::Who;
use crate::reconcile::{WantCanary, WantEndpoint, WantGroup, WantService, hand_over, plan_group};
use crate::release::Stage;

/// Endpoints without buckets: service and address.
pub(super) type Relieved<'a> = BTreeSet<(&'a str, SocketAddr)>;

impl Runner {
    /// Brings a group's tables to what its endpoints' health asks for, as far as that can be done now.
    pub(super) fn tend(&mut self, name: &str) {
        let is_idle = |group: &Group| group.state.stage == Stage::Idle && group.pending.is_none();
        let is_idle = self.groups.get(name).is_some_and(is_idle);
        if !is_idle {
            self.untended.insert(name.to_owned());
        }
        // After each switch, too, when hardly ever anybody is dead: that has to be cheap.
        if !is_idle && !self.health.has_dead(name) {
            return;
        }
        let Some(want) = self.want_group(name) else {
            return;
        };
        self.hand_over(name, &want);
        if !is_idle {
            return;
        }
        match plan_group(&self.known(), name, &want, self.seed) {
            Ok(plan) if plan.is_empty() => {}
            Ok(plan) => {
                let who = Who {
                    actor: "agent".to_owned(),
                    reason: Some("the health of endpoints has changed".to_owned()),
                };
                for sentence in &plan.summary {
                    info!(group = name, "{sentence}");
                }
                self.untended.insert(name.to_owned());
                if let Err(error) = self.carry_out_changes(&plan, &who) {
                    error!(group = name, "tables can't follow health: {error:#}");
                }
            }
            Err(refusal) => warn!(group = name, "tables can't follow health: {refusal}"),
        }
    }

    /// Does what had to wait until groups were idle.
    pub(super) fn tend_again(&mut self) {
        for name in std::mem::take(&mut self.untended) {
            self.tend(&name);
        }
    }

    /// What a group's configuration and the health of its endpoints ask for.
    pub(super) fn want_group(&self, name: &str) -> Option<WantGroup> {
        self.groups.get(name)?;
        let mut want = WantGroup::new(self.config.groups.get(name)?, &self.is_own).ok()?;
        self.complete(name, &mut want);
        Some(want)
    }

    /// Adds what the configuration doesn't say: how endpoints are, and which canary there is.
    pub(super) fn complete(&self, name: &str, want: &mut WantGroup) {
        let share = self.groups.get(name).and_then(|group| group.state.canary());
        want.canary = share.map(|share| WantCanary {
            colour: share.colour.clone(),
            percent: share.percent,
        });
        for (service, want) in &mut want.services {
            for (colour, endpoints) in &mut want.endpoints {
                for endpoint in endpoints {
                    endpoint.standing = self.standing(name, service, colour, endpoint.address);
                }
            }
        }
    }

    pub(super) fn standing(
        &self,
        group: &str,
        service: &str,
        colour: &str,
        address: SocketAddr,
    ) -> Standing {
        self.health.standing(&Target {
            group: group.to_owned(),
            service: service.to_owned(),
            colour: colour.to_owned(),
            address,
        })
    }

    /// Endpoints of the current tables' colours that have no buckets there.
    pub(super) fn relieved(&self, group: &Group) -> Relieved<'_> {
        let Some(have) = self.have.groups.get(&group.index) else {
            return BTreeSet::new();
        };
        let slot = group.state.word.current() as Slot;
        let mix = have.slots.get(&slot);
        let ours = |found: &&HaveService| {
            found.service.group == group.index && !found.service.has(service_flags::PREVIEW)
        };
        let mut has = vec![false; MAX_ENDPOINTS as usize];
        for found in self.have.services.values().filter(ours) {
            let table = &found.service.tables[usize::from(slot)].0;
            let buckets = self.have.tables.get(table);
            for id in buckets.into_iter().flat_map(|buckets| buckets.iter()) {
                if let Some(has) = has.get_mut(usize::from(*id)) {
                    *has = true;
                }
            }
        }
        let takes_part = |endpoint: &Endpoint| {
            mix.is_some_and(|mix| mix.colours().any(|it| it == endpoint.colour))
        };
        let endpoints = self.have.endpoints.iter();
        let idle = endpoints.filter(|(id, it)| takes_part(it) && !has[usize::from(**id)]);
        let idle = idle.filter_map(|(_, endpoint)| {
            let service = self.have.services.get(&endpoint.service).filter(ours)?;
            let address = SocketAddr::new(endpoint.address.into(), endpoint.port.number());
            Some((service.name.as_str(), address))
        });
        idle.collect()
    }

    /// What somebody should know of a group's live endpoints.
    pub(super) fn warnings(&self, group: &Group, relieved: &Relieved<'_>) -> Vec<String> {
        let Some(want) = self.want_group(&group.name) else {
            return Vec::new();
        };
        let live = |service: &WantService| service.endpoints.get(&group.state.live).cloned();
        let mut warnings = Vec::new();
        for (name, service) in &want.services {
            let endpoints = live(service).unwrap_or_default();
            let (down, others): (Vec<&WantEndpoint>, Vec<&WantEndpoint>) = endpoints
                .iter()
                .partition(|it| matches!(it.standing, Standing::Dead | Standing::Failing));
            if others.is_empty() {
                // That is said elsewhere.
                continue;
            }
            let gone = down
                .iter()
                .filter(|it| relieved.contains(&(name.as_str(), it.address)));
            warnings.extend(gone.map(|it| {
                let address = it.address;
                format!(
                    "service {name}: {address} is down; the others have its share until it is back"
                )
            }));
        }
        warnings
    }

    fn hand_over(&mut self, name: &str, want: &WantGroup) {
        if !self.health.has_dead(name) {
            return;
        }
        for change in hand_over(&self.known(), name, want, self.seed) {
            let Change::HandOver { table, buckets } = &change else {
                continue;
            };
            if let Err(error) = self.datapath.apply(&change) {
                error!(group = name, "a dead endpoint keeps its buckets: {error:#}");
                continue;
            }
            warn!(group = name, "{change}");
            if let Some(have) = self.have.tables.get_mut(&table.0) {
                let have = Arc::make_mut(have);
                for (bucket, id) in buckets {
                    if let Some(place) = have.get_mut(*bucket as usize) {
                        *place = *id;
                    }
                }
            }
        }
    }
}
