//! Adding: endpoints, tables, services, a grace period, names and word, the address that clients use.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use switcher_common::abi::{
    AddressKey, COLOURS, Endpoint, SLOTS, Service, TableRef, service_flags,
};
use switcher_common::word::Word;

use super::number::{endpoint_key, service_key, split};
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
    want: WantService,
    preview: Option<(u16, SocketAddr)>,
    /// By colour: the table's size and what it should hold.
    tables: BTreeMap<Colour, (u32, Vec<u16>)>,
    /// Keys of its endpoints.
    keys: BTreeMap<AddressKey, u16>,
}

impl Planner {
    /// Brings up a group, new or not.
    pub(super) fn bring_up(&mut self, name: &str, want: &WantGroup) -> Result<(), Refusal> {
        let mut draft = self.draft(name, want)?;
        self.refuse_removal(&draft)?;
        loop {
            let missing = self.choose_targets(&mut draft);
            let before = self.changes.len();
            self.install(&mut draft)?;
            if !self.busy.contains(&draft.index) {
                self.tidy(&draft);
            }
            let Some(colour) = missing else { break };
            if self.changes.len() == before {
                let (group, colour) = (draft.name, draft.colours[&colour].clone());
                return Err(Refusal::Slots { group, colour });
            }
        }
        self.publish(&draft);
        self.switch(&draft);
        Ok(())
    }

    fn draft(&mut self, name: &str, want: &WantGroup) -> Result<Draft, Refusal> {
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
        for want in wanted {
            let id = self.number_endpoint(service.index, colour, want.address)?;
            let known = self.have().endpoints.get(&id).copied();
            let (address, port) = split(want.address);
            let endpoint = Endpoint {
                address,
                port,
                protocol: service.want.protocol,
                flags: want.flags,
                service: service.index,
                colour,
                reserved: 0,
                counter: u32::from(service.index) * COLOURS as u32 + u32::from(colour),
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

    fn refuse_removal(&self, draft: &Draft) -> Result<(), Refusal> {
        let Some(have) = self.have().groups.get(&draft.index) else {
            return Ok(());
        };
        let gone = |number: &Colour| !draft.colours.contains_key(number);
        if self.busy.contains(&draft.index) && have.colours.keys().any(gone) {
            return Err(self.refuse_window(draft.index));
        }
        match have.live().filter(gone) {
            Some(live) => Err(Refusal::LiveColour {
                group: have.name.clone(),
                colour: have.colours.get(&live).cloned().unwrap_or_default(),
            }),
            None => Ok(()),
        }
    }

    /// Decides on a slot for each colour: its own if what lies there is right, else a free one. Returns a
    /// colour that there is no slot for until something is tidied away.
    fn choose_targets(&self, draft: &mut Draft) -> Option<Colour> {
        let mut missing = None;
        for colour in draft.colours.keys().copied().collect::<Vec<_>>() {
            let own = self.have().groups.get(&draft.index).and_then(|have| {
                let newest = have.slot_of(colour).into_iter();
                let mut own = newest.chain(have.slots.keys().copied());
                own.find(|slot| {
                    have.slots.get(slot) == Some(&colour) && self.fits(draft, colour, *slot)
                })
            });
            match own.or_else(|| self.free_slot(draft, colour)) {
                Some(slot) => {
                    draft.targets.insert(colour, slot);
                }
                None => missing = Some(colour),
            }
        }
        missing
    }

    /// Whether a slot needs no change for a colour but tables that are missing altogether.
    fn fits(&self, draft: &Draft, colour: Colour, slot: Slot) -> bool {
        draft.services.iter().all(|service| {
            let have = self.have().services.get(&service.index);
            let table = have.map_or(TableRef::default(), |have| {
                have.service.tables[slot as usize]
            });
            !table.exists() || self.holds(table, &service.tables[&colour].1)
        })
    }

    fn holds(&self, table: TableRef, buckets: &[u16]) -> bool {
        self.have()
            .tables
            .get(&table.0)
            .is_some_and(|have| have == buckets)
    }

    /// A slot that nothing refers to: the one with the colour's own number, if it can be had.
    fn free_slot(&self, draft: &Draft, colour: Colour) -> Option<Slot> {
        let have = self.have();
        let group = have.groups.get(&draft.index);
        let free = |slot: &Slot| {
            let named = group.is_some_and(|group| {
                let word = group.word;
                let roles = [word.current(), word.previous(), word.staging()];
                group.slots.contains_key(slot)
                    || word.in_use() & 1 << *slot != 0
                    || roles.contains(&u32::from(*slot))
            });
            let mut services = have.services.values();
            let filled = services.any(|have| {
                have.service.group == draft.index && have.service.tables[*slot as usize].exists()
            });
            !named && !filled && !draft.targets.values().any(|target| target == slot)
        };
        std::iter::once(colour).chain(0..SLOTS as Slot).find(free)
    }

    /// Fills tables, then lets services point at them, then lets the word and people know.
    fn install(&mut self, draft: &mut Draft) -> Result<(), Refusal> {
        let mut written = false;
        for service in &draft.services {
            let tables = self.fill(draft, service)?;
            for (index, address, flags) in service.faces() {
                written |= self.set_service(draft, service, index, address, flags, tables);
            }
        }
        if written {
            self.emit(Change::Settle);
        }
        self.set_word(draft);
        self.name(draft);
        Ok(())
    }

    fn fill(
        &mut self,
        draft: &Draft,
        service: &DraftService,
    ) -> Result<[TableRef; SLOTS], Refusal> {
        let have = self.have().services.get(&service.index);
        let known = have.is_some();
        let old = have.map_or([TableRef::default(); SLOTS], |have| have.service.tables);
        let mut tables = old;
        for (colour, slot) in &draft.targets {
            let (bits, buckets) = &service.tables[colour];
            let same = old
                .iter()
                .find(|table| self.holds(**table, buckets))
                .copied();
            let slot = &mut tables[*slot as usize];
            if buckets.is_empty() || slot.exists() {
                continue;
            }
            *slot = match same {
                Some(table) => table,
                None => {
                    let table = self.space.take(*bits).map_err(|left| Refusal::Space {
                        service: format!("{}/{}", draft.name, service.name),
                        colour: draft.colours[colour].clone(),
                        needed: 1 << bits,
                        largest: left.largest,
                        free: left.free,
                    })?;
                    if known {
                        let (group, colour) = (&draft.name, &draft.colours[colour]);
                        self.say(format!(
                            "service {group}/{}: new table for {colour}",
                            service.name
                        ));
                    }
                    let buckets = buckets.clone();
                    self.emit(Change::FillTable { table, buckets });
                    table
                }
            };
        }
        self.fill_current(draft, &mut tables);
        Ok(tables)
    }

    /// A service that is new in a group whose live colour is about to move needs a table where the word
    /// points until then.
    fn fill_current(&self, draft: &Draft, tables: &mut [TableRef; SLOTS]) {
        let have = self.have().groups.get(&draft.index);
        let Some((word, live)) = have.and_then(|have| Some((have.word, have.live()?))) else {
            return;
        };
        let current = word.current() as usize;
        if let Some(target) = draft.targets.get(&live)
            && !tables[current].exists()
        {
            tables[current] = tables[*target as usize];
        }
    }

    fn set_service(
        &mut self,
        draft: &Draft,
        wanted: &DraftService,
        index: u16,
        address: SocketAddr,
        flags: u8,
        tables: [TableRef; SLOTS],
    ) -> bool {
        let ((address, port), name) = (split(address), wanted.name.clone());
        let service = Service {
            address,
            port,
            protocol: wanted.want.protocol,
            flags,
            group: draft.index,
            parent: wanted.index,
            tables,
            reserved: [0; 2],
        };
        let have = self.have().services.get(&index);
        if have.is_some_and(|have| have.service == service && have.name == name) {
            return false;
        }
        self.emit(Change::SetService {
            index,
            name,
            service,
        });
        true
    }

    /// The word of a new group, or of one whose live table has no colour, which only damage explains.
    fn set_word(&mut self, draft: &Draft) {
        let have = self.have().groups.get(&draft.index);
        if have.is_some_and(|have| have.live().is_some()) {
            return;
        }
        let live = u32::from(draft.targets[&draft.initial]);
        let staging = draft.after(draft.initial).map_or(live, u32::from);
        let word = Word::default()
            .with_current(live)
            .with_in_use(1 << live)
            .with_previous(live)
            .with_staging(staging);
        let group = draft.index;
        self.emit(Change::SetWord { group, word });
    }

    /// Names the targets, besides what is named already.
    fn name(&mut self, draft: &Draft) {
        let have = self.have().groups.get(&draft.index);
        let mut slots = have.map(|have| have.slots.clone()).unwrap_or_default();
        let mut colours = have.map(|have| have.colours.clone()).unwrap_or_default();
        slots.extend(draft.targets.iter().map(|(colour, slot)| (*slot, *colour)));
        colours.extend(draft.colours.clone());
        self.name_group(draft, colours, slots);
    }

    pub(super) fn name_group(
        &mut self,
        draft: &Draft,
        colours: BTreeMap<Colour, String>,
        slots: BTreeMap<Slot, Colour>,
    ) {
        let have = self.have().groups.get(&draft.index);
        if have.is_some_and(|have| have.colours == colours && have.slots == slots) {
            return;
        }
        let (group, name) = (draft.index, draft.name.clone());
        self.emit(Change::NameGroup {
            group,
            name,
            colours,
            slots,
        });
    }

    /// Replies first: the first answer to a client must have the right address.
    fn publish(&mut self, draft: &Draft) {
        for service in &draft.services {
            for (key, id) in &service.keys {
                self.publish_key(*key, *id);
            }
            for (index, address, flags) in service.faces() {
                let key = service_key(address, service.want.protocol);
                if self.publish_key(key, index) {
                    let preview = flags & service_flags::PREVIEW != 0;
                    let what = if preview {
                        "publish preview"
                    } else {
                        "publish"
                    };
                    self.say(format!(
                        "service {}/{}: {what} {address}",
                        draft.name, service.name
                    ));
                }
            }
        }
    }

    fn publish_key(&mut self, key: AddressKey, index: u16) -> bool {
        if self.have().addresses.get(&key) == Some(&index) {
            return false;
        }
        self.emit(Change::Publish { key, index });
        true
    }

    /// The live colour moves to its new table by a window.
    fn switch(&mut self, draft: &Draft) {
        let Some(have) = self.have().groups.get(&draft.index) else {
            return;
        };
        let (current, live) = (have.word.current() as Slot, have.live());
        let Some(slot) = live.and_then(|live| draft.targets.get(&live)).copied() else {
            return;
        };
        if slot == current {
            return;
        }
        let group = draft.index;
        self.switches.push(Change::Switch { group, slot });
        self.unfinished.push(draft.name.clone());
        let name = &draft.name;
        self.say(format!(
            "group {name}: new endpoints of the live colour, by a window"
        ));
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
    fn faces(&self) -> impl Iterator<Item = (u16, SocketAddr, u8)> + use<> {
        let Self { want, .. } = self;
        let (index, vip, flags) = (self.index, want.vip, want.flags);
        let preview = self.preview;
        let preview = preview.map(|(index, at)| (index, at, flags | service_flags::PREVIEW));
        std::iter::once((index, vip, flags)).chain(preview)
    }
}
