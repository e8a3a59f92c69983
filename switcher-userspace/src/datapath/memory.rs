//! The kernel's maps as ordinary memory: what plans are tried on, and what the agent's tests run with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use switcher_common::abi::notice::Notice;
use switcher_common::abi::{
    AddressKey, Counters, Endpoint, Service, TableRef, Times, Tunnel, address_kind,
};
use switcher_common::verdict::Reason;
use switcher_common::word::Word;

use super::clients::{Bypass, LocalClients, LocalClientsState};
use super::nat::Masqueraded;
use super::{
    Attachment, Buckets, Change, Datapath, Flows, Grace, GroupIndex, Have, HaveGroup, HaveService,
    Hold,
};

/// A data path without a kernel. Fields that the kernel's side would change are public.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    have: Have,
    words: BTreeMap<GroupIndex, Word>,
    /// Addresses by which a service is reached.
    published: BTreeMap<u16, usize>,
    /// Instants at which words change their meaning.
    pub times: BTreeMap<GroupIndex, Times>,
    /// Groups with a flow map, and its capacity.
    pub windows: BTreeMap<GroupIndex, u32>,
    /// What [`Datapath::flows`] answers, by endpoint.
    pub flows: BTreeMap<GroupIndex, BTreeMap<u16, u64>>,
    /// What [`Datapath::flow_map_used`] answers.
    pub flow_map_used: BTreeMap<GroupIndex, f64>,
    /// What [`Datapath::masqueraded`] answers.
    pub masqueraded: Option<Masqueraded>,
    /// What [`Datapath::counters`] answers.
    pub counters: BTreeMap<u32, Counters>,
    /// Epochs given to [`Datapath::give_up`].
    pub udp_floors: BTreeMap<GroupIndex, u32>,
    /// What [`Datapath::notices`] will give.
    pub notices: Vec<Notice>,
    /// What [`Datapath::hold_until`] was given.
    pub held: BTreeMap<GroupIndex, Duration>,
    /// What [`Datapath::set_arming`] was given.
    pub arming: Duration,
    /// What [`Datapath::attachments`] answers.
    pub attachments: Vec<Attachment>,
    /// What [`Datapath::is_pinned`] answers, denied.
    pub unpinned: bool,
    /// What [`Datapath::local_clients`] answers.
    pub local_clients: LocalClients,
    /// Grace periods waited for.
    pub settled: u32,
}

impl From<Have> for Memory {
    fn from(have: Have) -> Self {
        let words = have.groups.iter().map(|(&i, g)| (i, g.word)).collect();
        let mut published = BTreeMap::new();
        for (_, index) in have.addresses.iter().filter(|(key, _)| is_service(key)) {
            *published.entry(*index).or_default() += 1;
        }
        Self {
            published,
            have,
            words,
            ..Self::default()
        }
    }
}

impl Memory {
    /// What is there, without a copy.
    #[must_use]
    pub const fn state(&self) -> &Have {
        &self.have
    }

    /// Carries out a change. A [`Change::Switch`] is one store here.
    pub fn change(&mut self, change: &Change) {
        match change {
            Change::NameGroup { group, name, .. } if name.is_empty() => {
                self.have.groups.remove(group);
            }
            Change::NameGroup {
                group,
                name,
                colours,
                slots,
            } => {
                let named = HaveGroup {
                    name: name.clone(),
                    colours: colours.clone(),
                    slots: slots.clone(),
                    word: self.word(*group),
                };
                self.have.groups.insert(*group, named);
            }
            Change::SetEndpoint { id, endpoint } if *endpoint == Endpoint::default() => {
                self.have.endpoints.remove(id);
            }
            Change::SetEndpoint { id, endpoint } => {
                if self.have.endpoints.insert(*id, *endpoint).is_none() {
                    self.have.last_endpoint = *id;
                }
            }
            Change::SetTunnel { id, tunnel } if *tunnel == Tunnel::default() => {
                self.have.tunnels.remove(id);
            }
            Change::SetTunnel { id, tunnel } => {
                self.have.tunnels.insert(*id, *tunnel);
            }
            Change::FillTable { table, buckets } => self.fill(*table, buckets),
            Change::HandOver { table, buckets } => {
                if let Some(have) = self.have.tables.get_mut(&table.0) {
                    let have = Arc::make_mut(have);
                    for (bucket, id) in buckets {
                        have[*bucket as usize] = *id;
                    }
                }
            }
            Change::SetService {
                index,
                name,
                service,
            } => self.set_service(*index, name, service),
            Change::SetWord { group, word } => self.set_word(*group, *word),
            Change::Publish { key, index } => {
                let old = self.have.addresses.insert(*key, *index);
                if is_service(key) {
                    *self.published.entry(*index).or_default() += 1;
                    self.mark_published(*index);
                    old.into_iter().for_each(|old| self.withdraw(old));
                }
            }
            Change::Unpublish { key } => {
                let old = self.have.addresses.remove(key);
                let old = old.filter(|_| is_service(key));
                old.into_iter().for_each(|old| self.withdraw(old));
            }
            Change::Switch { group, slot } => {
                let word = self.word(*group);
                self.set_word(*group, super::refilled(word, *slot));
            }
            Change::Settle => self.settled += 1,
        }
    }

    fn set_word(&mut self, group: GroupIndex, word: Word) {
        self.words.insert(group, word);
        if let Some(named) = self.have.groups.get_mut(&group) {
            named.word = word;
        }
    }

    fn set_service(&mut self, index: u16, name: &str, service: &Service) {
        if *service == Service::default() {
            self.have.services.remove(&index);
            return;
        }
        let published = self.published.contains_key(&index);
        let entry = HaveService {
            name: name.into(),
            service: *service,
            published,
        };
        self.have.services.insert(index, entry);
    }

    /// What lay there before is gone, as in the kernel's one array.
    fn fill(&mut self, table: TableRef, buckets: &Buckets) {
        let range = |table: TableRef| table.first()..table.first() + (1 << table.bits());
        let new = range(table);
        // Tables are in the order of where they begin, and none overlaps another.
        let number = |bucket: u32| (bucket / TableRef::UNIT) << 5;
        let tables = &mut self.have.tables;
        let (before, behind) = (number(new.start), number(new.end));
        let before = tables.range(..before).next_back().map(|(other, _)| *other);
        let before = before.filter(|other| range(TableRef(*other)).end > new.start);
        let within = tables
            .range(number(new.start)..behind)
            .map(|(other, _)| *other);
        for gone in within.chain(before).collect::<Vec<_>>() {
            tables.remove(&gone);
        }
        tables.insert(table.0, Arc::clone(buckets));
    }

    fn withdraw(&mut self, index: u16) {
        if let Some(addresses) = self.published.get_mut(&index) {
            *addresses -= 1;
            if *addresses == 0 {
                self.published.remove(&index);
            }
        }
        self.mark_published(index);
    }

    fn mark_published(&mut self, index: u16) {
        if let Some(service) = self.have.services.get_mut(&index) {
            service.published = self.published.contains_key(&index);
        }
    }
}

fn is_service(key: &AddressKey) -> bool {
    key.kind == address_kind::SERVICE
}

impl Datapath for Memory {
    fn have(&self) -> anyhow::Result<Have> {
        let mut have = self.have.clone();
        let used: BTreeSet<u32> = have.tables_in_use().map(|table| table.0).collect();
        have.tables.retain(|table, _| used.contains(table));
        Ok(have)
    }

    fn apply(&mut self, change: &Change) -> anyhow::Result<()> {
        if matches!(change, Change::Switch { .. }) {
            bail!("a switch is the release logic's to carry out");
        }
        self.change(change);
        Ok(())
    }

    fn set_arming(&mut self, longest: Duration) {
        self.arming = longest;
    }

    fn word(&self, group: GroupIndex) -> Word {
        self.words.get(&group).copied().unwrap_or_default()
    }

    fn store(&mut self, group: GroupIndex, word: Word) {
        self.set_word(group, word);
    }

    fn times(&self, group: GroupIndex) -> Times {
        self.times.get(&group).copied().unwrap_or_default()
    }

    fn set_times(&mut self, group: GroupIndex, times: Times) {
        self.times.insert(group, times);
    }

    fn settle(&mut self) -> anyhow::Result<Duration> {
        self.settled += 1;
        Ok(Duration::ZERO)
    }

    fn grace(&self) -> Option<Arc<dyn Grace>> {
        None
    }

    fn forget_counts(&self) {}

    fn open_window(&mut self, group: GroupIndex, flows: u32) -> anyhow::Result<()> {
        self.windows.entry(group).or_insert(flows);
        Ok(())
    }

    fn close_window(&mut self, group: GroupIndex) -> anyhow::Result<()> {
        self.windows.remove(&group);
        Ok(())
    }

    fn give_up(&mut self, group: GroupIndex, epoch: u32) {
        self.udp_floors.insert(group, epoch);
    }

    fn notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    fn hold_until(&mut self, group: GroupIndex, at_most: Duration) {
        self.held.insert(group, at_most);
    }

    fn end_connections(&mut self, _group: GroupIndex) -> anyhow::Result<u64> {
        Ok(0)
    }

    /// Flows at endpoints that the current tables have are where these have them.
    fn flows(&self, group: GroupIndex, _idle: Duration) -> anyhow::Result<Flows> {
        let by_endpoint = self.flows.get(&group).cloned().unwrap_or_default();
        let slot = self.word(group).current() as usize;
        let services = self.have.services.values();
        let tables = services
            .filter(|found| found.service.group == group)
            .filter_map(|found| self.have.tables.get(&found.service.tables[slot].0));
        let placed: BTreeSet<u16> = tables.flat_map(|it| it.iter()).copied().collect();
        let astray = by_endpoint.iter().filter(|(id, _)| !placed.contains(id));
        Ok(Flows {
            astray: astray.map(|(id, flows)| (*id, *flows)).collect(),
            by_endpoint,
        })
    }

    fn masqueraded(&self) -> anyhow::Result<Option<Masqueraded>> {
        Ok(self.masqueraded.clone())
    }

    fn flow_map_used(&self, group: GroupIndex) -> anyhow::Result<f64> {
        Ok(self.flow_map_used.get(&group).copied().unwrap_or_default())
    }

    fn counters(&self, cells: &[u32]) -> anyhow::Result<Vec<Counters>> {
        let counters = cells.iter().map(|cell| self.counters.get(cell));
        Ok(counters.map(|it| it.copied().unwrap_or_default()).collect())
    }

    fn reasons(&self) -> anyhow::Result<Vec<(Reason, u64)>> {
        Ok(Reason::ALL.iter().map(|reason| (*reason, 0)).collect())
    }

    fn attachments(&self) -> Vec<Attachment> {
        self.attachments.clone()
    }

    fn attach_again(&mut self, interface: &str) -> anyhow::Result<()> {
        let mut all = self.attachments.iter_mut();
        let found = all.find(|it| it.interface == interface);
        found.context("no such interface")?.hold = Hold::Attached;
        Ok(())
    }

    fn is_pinned(&self) -> bool {
        !self.unpinned
    }

    fn local_clients(&self) -> LocalClients {
        self.local_clients.clone()
    }

    fn steer_clients_again(&mut self) -> anyhow::Result<()> {
        self.local_clients.state = LocalClientsState::On;
        Ok(())
    }

    fn bypass(&self) -> Bypass {
        Bypass::default()
    }
}
