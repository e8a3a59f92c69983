//! Changes to the pinned maps, one by one. Their order is [`crate::reconcile`]'s business.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use anyhow::{Context, bail};
use switcher_common::abi::{
    AddressKey, BUCKETS_PER_ELEMENT, COLOURS, CanaryShare, Endpoint, GroupName, GroupState, NAME,
    PortEntry, SLOTS, Service, ServiceName, Settings, TableRef, Tunnel, UDP, endpoint_flags,
    known_port, service_flags,
};
use switcher_common::memory::{port_code, port_entry_code};

use super::{Pinned, Published, extent, udp_flow_map};
use crate::datapath::sys;
use crate::datapath::table::{Plain, UNMAPPED};
use crate::datapath::{Canary, Change, Colour, GroupIndex, Mix, Slot};

impl Pinned {
    /// Carries out a change; see [`Datapath::apply`](crate::datapath::Datapath::apply).
    pub(in crate::datapath) fn apply(&mut self, change: &Change) -> anyhow::Result<()> {
        match change {
            Change::NameGroup {
                group,
                name,
                colours,
                slots,
            } => self.name_group(*group, name, colours, slots),
            Change::SetEndpoint { id, endpoint } => self.set_endpoint(*id, endpoint),
            Change::SetTunnel { id, tunnel } => self.set_tunnel(*id, tunnel),
            Change::FillTable { table, buckets } => self.fill(*table, buckets),
            Change::HandOver { table, buckets } => self.hand_over(*table, buckets),
            Change::SetService {
                index,
                name,
                service,
            } => self.set_service(*index, name, service),
            Change::SetWord { group, word } => {
                self.store(*group, *word);
                Ok(())
            }
            Change::Publish { key, index } => self.publish(*key, *index),
            Change::Unpublish { key } => self.unpublish(*key),
            Change::Switch { .. } => bail!("a switch is the release logic's to carry out"),
            Change::Settle => self.settle().map(drop),
        }
    }

    fn name_group(
        &mut self,
        group: GroupIndex,
        name: &str,
        colours: &BTreeMap<Colour, String>,
        slots: &BTreeMap<Slot, Mix>,
    ) -> anyhow::Result<()> {
        let mut element = GroupName {
            name: padded(name)?,
            colours: [[0; NAME]; COLOURS],
            slots: [0; SLOTS],
            canaries: [CanaryShare::default(); SLOTS],
        };
        for (number, colour) in colours {
            let place = element.colours.get_mut(usize::from(*number));
            *place.context("a colour beyond the last")? = padded(colour)?;
        }
        for (slot, mix) in slots {
            let slot = usize::from(*slot);
            let place = element.slots.get_mut(slot);
            *place.context("a slot beyond the last")? = mix.colour + 1;
            if let Some(Canary { colour, percent }) = mix.canary {
                element.canaries[slot] = CanaryShare {
                    colour: colour + 1,
                    percent,
                };
            }
        }
        if name.is_empty() {
            // What is left of the old group must not concern the next with this index.
            self.close_window(group)?;
            self.maps.groups.set(group.into(), &GroupState::default());
        }
        let names = &mut self.maps.group_names;
        names.set(group.into(), Plain(element), 0)?;
        Ok(())
    }

    /// An endpoint that stays keeps its mark for noted exceptions, which the program may set meanwhile.
    fn set_endpoint(&self, id: u16, endpoint: &Endpoint) -> anyhow::Result<()> {
        if usize::from(id) >= self.maps.endpoints.len() {
            bail!("endpoint {id} is beyond the last");
        }
        let old = self.maps.endpoints.get(id.into());
        let stays = old.has(endpoint_flags::PRESENT) && endpoint.has(endpoint_flags::PRESENT);
        let noted = if stays { old.noted } else { endpoint.noted };
        // `set` writes only words that differ from what is there.
        let endpoint = Endpoint { noted, ..*endpoint };
        self.maps.endpoints.set(id.into(), &endpoint);
        if endpoint.has(endpoint_flags::PRESENT) && !old.has(endpoint_flags::PRESENT) {
            let settings = Settings {
                last_endpoint: id,
                ..self.maps.settings.get(0)
            };
            self.maps.settings.set(0, &settings);
        }
        Ok(())
    }

    fn set_tunnel(&self, id: u16, tunnel: &Tunnel) -> anyhow::Result<()> {
        if usize::from(id) >= self.maps.tunnels.len() {
            bail!("endpoint {id} is beyond the last");
        }
        self.maps.tunnels.set(id.into(), tunnel);
        Ok(())
    }

    fn fill(&self, table: TableRef, buckets: &[u16]) -> anyhow::Result<()> {
        let (first, elements) = extent(table)?;
        let (chunks, rest) = buckets.as_chunks::<{ BUCKETS_PER_ELEMENT as usize }>();
        if chunks.len() != elements || !rest.is_empty() {
            bail!(
                "{} buckets for a table of 2^{}",
                buckets.len(),
                table.bits()
            );
        }
        for (element, chunk) in (first..).zip(chunks) {
            let set = self.maps.tables.set(element, chunk);
            set.context(UNMAPPED)?;
        }
        Ok(())
    }

    fn hand_over(&self, table: TableRef, buckets: &[(u32, u16)]) -> anyhow::Result<()> {
        let (first, elements) = extent(table)?;
        for (bucket, id) in buckets {
            let element = (bucket / BUCKETS_PER_ELEMENT) as usize;
            if element >= elements {
                bail!("bucket {bucket} of a table of 2^{}", table.bits());
            }
            let quarter = (bucket % BUCKETS_PER_ELEMENT) as usize;
            let set = self.maps.tables.set_quarter(first + element, quarter, *id);
            set.context(UNMAPPED)?;
        }
        Ok(())
    }

    fn set_service(&mut self, index: u16, name: &str, service: &Service) -> anyhow::Result<()> {
        if usize::from(index) >= self.maps.services.len() {
            bail!("service {index} is beyond the last");
        }
        let name = ServiceName {
            name: padded(name)?,
        };
        let old = self.maps.services.get(index.into());
        if service.has(service_flags::PRESENT) {
            self.need_udp_flows(service)?;
        }
        let mut remembering = self.remembering();
        for (service, now) in [(&old, false), (service, true)] {
            let count = remembering.entry(service.group).or_default();
            match (remembers_flows(service), now) {
                (true, true) => *count += 1,
                (true, false) => *count -= 1,
                (false, _) => {}
            }
        }
        self.maps.services.set(index.into(), service);
        self.maps.service_names.set(index.into(), Plain(name), 0)?;
        let left = remembering.get(&old.group).copied();
        self.remembering = Some(remembering);
        if remembers_flows(&old) && left == Some(0) {
            self.drop_udp_flows(old.group)?;
        }
        Ok(())
    }

    fn remembering(&mut self) -> BTreeMap<GroupIndex, usize> {
        if let Some(counted) = self.remembering.take() {
            return counted;
        }
        let services = &self.maps.services;
        let all = (0..services.len()).map(|index| services.get(index));
        let mut counted = BTreeMap::new();
        for service in all.filter(remembers_flows) {
            *counted.entry(service.group).or_default() += 1;
        }
        counted
    }

    /// A service with UDP flows needs its group's map before its first packet.
    fn need_udp_flows(&self, service: &Service) -> anyhow::Result<()> {
        let flows = &self.maps.udp_flows;
        if !remembers_flows(service) || flows.exists(service.group)? {
            return Ok(());
        }
        let map = udp_flow_map()
            .with_context(|| format!("no UDP flow map for group {}", service.group))?;
        sys::set_inner(flows.outer(), service.group.into(), map)
            .with_context(|| format!("the UDP flow map of group {}", service.group))
    }

    fn drop_udp_flows(&self, group: GroupIndex) -> anyhow::Result<()> {
        if !self.maps.udp_flows.exists(group)? {
            return Ok(());
        }
        sys::clear_inner(self.maps.udp_flows.outer(), group.into())
            .with_context(|| format!("the UDP flow map of group {group} can't be removed"))
    }

    /// The exact address first: as soon as the port says "many", it is asked for.
    fn publish(&mut self, key: AddressKey, index: u16) -> anyhow::Result<()> {
        let addresses = &mut self.maps.addresses;
        addresses
            .insert(Plain(key), u32::from(index), 0)
            .with_context(|| format!("{key:?} can't be published"))?;
        self.published(&key)?.insert(key, index);
        self.code_port(&key)
    }

    fn unpublish(&mut self, key: AddressKey) -> anyhow::Result<()> {
        match self.maps.addresses.remove(&Plain(key)) {
            Ok(()) => {}
            Err(_) if self.maps.addresses.get(&Plain(key), 0).is_err() => {}
            Err(error) => return Err(error).context("an address can't be withdrawn"),
        }
        self.published(&key)?.remove(&key);
        self.code_port(&key)
    }

    /// What is published beside a key, remembered: there is one writer.
    fn published(&mut self, key: &AddressKey) -> anyhow::Result<&mut BTreeMap<AddressKey, u16>> {
        let class = |key: &AddressKey| (key.port, key.protocol, key.kind);
        if self.published.is_none() {
            let mut all = Published::new();
            for (key, index) in self.addresses()? {
                all.entry(class(&key)).or_default().insert(key, index);
            }
            self.published = Some(all);
        }
        let all = self.published.get_or_insert_default();
        Ok(all.entry(class(key)).or_default())
    }

    fn code_port(&mut self, key: &AddressKey) -> anyhow::Result<()> {
        if !key.has_port() {
            return Ok(());
        }
        let published = self.published(key)?.iter();
        let code = port_entry_code(published.map(|(key, index)| (*key, *index)), key);
        let port = usize::from(key.port.number());
        let mut entry = self.maps.ports.get(port);
        *port_code(&mut entry, key) = code;
        let known = entry != PortEntry::default();
        if !known {
            self.know_port(key.port.number(), false);
        }
        // Two services on one port: the program must never see half of each other's entry.
        if let Some(word) = self.maps.ports.words(port).first() {
            word.store(bytemuck::cast(entry), Ordering::Release);
        }
        if known {
            self.know_port(key.port.number(), true);
        }
        Ok(())
    }

    fn know_port(&self, port: u16, known: bool) {
        let (word, bit) = known_port(port);
        if let Some(ports) = self.maps.known_ports.words(word as usize).first() {
            match known {
                true => ports.fetch_or(bit, Ordering::Release),
                false => ports.fetch_and(!bit, Ordering::Release),
            };
        }
    }
}

const fn remembers_flows(service: &Service) -> bool {
    service.has(service_flags::PRESENT)
        && !service.has(service_flags::MASQUERADE)
        && service.protocol == UDP
        && !service.has(service_flags::PER_PACKET)
        && !service.has(service_flags::PREVIEW)
}

fn padded(name: &str) -> anyhow::Result<[u8; NAME]> {
    let mut padded = [0; NAME];
    let place = padded[..NAME - 1].get_mut(..name.len());
    let place = place.with_context(|| format!("{name:?} is longer than {} bytes", NAME - 1))?;
    place.copy_from_slice(name.as_bytes());
    Ok(padded)
}
