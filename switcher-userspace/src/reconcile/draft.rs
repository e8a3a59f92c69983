//! Names become numbers, and endpoints what a table should hold.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use switcher_common::abi::{AddressKey, Endpoint, service_flags};

use super::number::{endpoint_key, split};
use super::{Planner, Refusal, WantEndpoint, WantGroup, WantService};
use crate::datapath::{Change, Colour, GroupIndex, Slot};
use crate::maglev::{self, Share};

/// A group whose names all have numbers.
pub(super) struct Draft {
    pub(super) index: GroupIndex,
    pub(super) name: String,
    pub(super) initial: Colour,
    pub(super) colours: BTreeMap<Colour, String>,
    pub(super) services: Vec<DraftService>,
    /// Where each colour's table is or will be.
    pub(super) targets: BTreeMap<Colour, Slot>,
}

/// A service whose endpoints all have ids.
pub(super) struct DraftService {
    pub(super) index: u16,
    pub(super) name: String,
    pub(super) want: WantService,
    pub(super) preview: Option<(u16, SocketAddr)>,
    /// By colour: the table's size and what it should hold.
    pub(super) tables: BTreeMap<Colour, (u32, Vec<u16>)>,
    /// Keys of its endpoints.
    pub(super) keys: BTreeMap<AddressKey, u16>,
}

impl Planner {
    /// Numbers everything of a group, and writes its endpoints.
    pub(super) fn draft(&mut self, name: &str, want: &WantGroup) -> Result<Draft, Refusal> {
        let found = self.find_group(name);
        let colours = self.number_colours(found, want)?;
        let mut initial = colours.iter().filter(|(_, n)| **n == want.initial);
        let initial = initial.next().map(|(number, _)| *number);
        let initial = initial.ok_or_else(|| Refusal::Initial {
            group: name.into(),
            colour: want.initial.clone(),
        })?;
        let index = match found {
            Some(index) => index,
            None => {
                self.say(format!("group {name}: add, with {} live", want.initial));
                self.new_group()?
            }
        };
        let mut services = Vec::new();
        for (service, want) in &want.services {
            services.push(self.draft_service(index, name, service, want, &colours)?);
        }
        Ok(Draft {
            index,
            name: name.into(),
            initial,
            colours,
            services,
            targets: BTreeMap::new(),
        })
    }

    fn draft_service(
        &mut self,
        group: GroupIndex,
        group_name: &str,
        name: &str,
        want: &WantService,
        colours: &BTreeMap<Colour, String>,
    ) -> Result<DraftService, Refusal> {
        let index = self.number_service(group, name, want.vip, want, None)?;
        self.services.insert(index);
        let preview = match want.preview {
            Some(address) => {
                let preview = self.number_service(group, name, address, want, Some(index))?;
                self.services.insert(preview);
                Some((preview, address))
            }
            None => None,
        };
        let mut service = DraftService {
            index,
            name: name.into(),
            want: want.clone(),
            preview,
            tables: BTreeMap::new(),
            keys: BTreeMap::new(),
        };
        for (number, colour) in colours {
            let endpoints = want.endpoints.get(colour).map_or(&[][..], Vec::as_slice);
            let path = format!("{group_name}/{name}");
            let shares = self.endpoints_of(&mut service, *number, (&path, colour), endpoints)?;
            let bits = maglev::bits(&shares);
            let buckets = maglev::buckets(&shares, bits, self.seed);
            service.tables.insert(*number, (bits, buckets));
        }
        Ok(service)
    }

    /// Numbers and writes the endpoints of one colour.
    fn endpoints_of(
        &mut self,
        service: &mut DraftService,
        colour: Colour,
        (path, colour_name): (&str, &str),
        wanted: &[WantEndpoint],
    ) -> Result<Vec<Share>, Refusal> {
        let mut shares = Vec::new();
        let mut counter = None;
        for want in wanted {
            let id = self.number_endpoint(service.index, colour, want.address)?;
            let known = self.have().endpoints.get(&id).copied();
            let (address, port) = split(want.address);
            let cell = match counter {
                Some(cell) => cell,
                None => self.number_counter(service.index, colour)?,
            };
            counter = Some(cell);
            let endpoint = Endpoint {
                address,
                port,
                protocol: service.want.protocol,
                flags: want.flags,
                service: service.index,
                colour,
                reserved: 0,
                counter: cell,
                noted: known.map_or(0, |known| known.noted),
            };
            if known != Some(endpoint) {
                let verb = if known.is_some() { "change" } else { "add" };
                let address = want.address;
                self.say(format!(
                    "service {path}: {verb} {colour_name} endpoint {address}"
                ));
                self.emit(Change::SetEndpoint { id, endpoint });
            }
            self.endpoints.insert(id);
            let key = endpoint_key(&endpoint);
            let published = self.have().addresses.get(&key) == Some(&id);
            let first = !service.keys.contains_key(&key);
            if published || first {
                service.keys.insert(key, id);
            }
            shares.push(Share {
                id,
                address: want.address,
                weight: want.weight,
            });
        }
        Ok(shares)
    }
}

impl Draft {
    /// The slot of the colour after `colour`, in the order of their numbers and around.
    pub(super) fn after(&self, colour: Colour) -> Option<Slot> {
        let higher = self.targets.range(colour + 1..);
        let mut others = higher.chain(self.targets.range(..colour));
        others.next().map(|(_, slot)| *slot)
    }
}

impl DraftService {
    /// Its entries in `SERVICES`: itself and its preview.
    pub(super) fn faces(&self) -> impl Iterator<Item = (u16, SocketAddr, u8)> + use<> {
        let Self { want, .. } = self;
        let (index, vip, flags) = (self.index, want.vip, want.flags);
        let preview = self.preview;
        let preview = preview.map(|(index, at)| (index, at, flags | service_flags::PREVIEW));
        std::iter::once((index, vip, flags)).chain(preview)
    }
}
