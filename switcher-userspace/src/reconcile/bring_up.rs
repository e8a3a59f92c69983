//! Adding: endpoints, tables, services, a grace period, names and word, the address that clients use.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use switcher_common::abi::{AddressKey, SLOTS, Service, TableRef, service_flags};
use switcher_common::word::Word;

use super::draft::{Draft, DraftService};
use super::number::{service_key, split};
use super::{Planner, Refusal, WantGroup};
use crate::datapath::{Change, Colour, Mix, Slot};

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
            let Some(mix) = missing else { break };
            if self.changes.len() == before {
                let (group, colour) = (draft.name, draft.colours[&mix.colour].clone());
                return Err(Refusal::Slots { group, colour });
            }
        }
        self.publish(&draft);
        self.switch(&draft);
        Ok(())
    }

    fn refuse_removal(&self, draft: &Draft) -> Result<(), Refusal> {
        let Some(have) = self.have().groups.get(&draft.index) else {
            return Ok(());
        };
        let gone = |number: &Colour| !draft.colours.contains_key(number);
        if self.busy.contains(&draft.index) && have.colours.keys().any(gone) {
            return Err(self.refuse_window(draft.index));
        }
        let (group, named) = (have.name.clone(), |colour| {
            have.colours.get(&colour).cloned().unwrap_or_default()
        });
        let current = have.current();
        if let Some(live) = current.map(|mix| mix.colour).filter(gone) {
            let colour = named(live);
            return Err(Refusal::LiveColour { group, colour });
        }
        let canary = current.and_then(|mix| mix.canary);
        match canary.map(|canary| canary.colour).filter(gone) {
            Some(canary) => Err(Refusal::CanaryColour {
                group,
                colour: named(canary),
            }),
            None => Ok(()),
        }
    }

    /// Fills tables, then lets services point at them, then lets the word and people know.
    pub(super) fn install(&mut self, draft: &mut Draft) -> Result<(), Refusal> {
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
        for (mix, slot) in &draft.targets {
            let buckets = &service.tables[mix];
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
                    let bits = buckets.len().trailing_zeros();
                    let table = self.space.take(bits).map_err(|left| Refusal::Space {
                        service: format!("{}/{}", draft.name, service.name),
                        colour: draft.colours[&mix.colour].clone(),
                        needed: 1 << bits,
                        largest: left.largest,
                        free: left.free,
                    })?;
                    if known {
                        let (group, colour) = (&draft.name, draft.said(*mix));
                        self.say(format!(
                            "service {group}/{}: new table for {colour}",
                            service.name
                        ));
                    }
                    let buckets = Arc::clone(buckets);
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
        if let Some(target) = draft.aim(live)
            && !tables[current].exists()
        {
            tables[current] = tables[target as usize];
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
        let live = u32::from(draft.targets[&Mix::pure(draft.initial)]);
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
        slots.extend(draft.targets.iter().map(|(mix, slot)| (*slot, *mix)));
        colours.extend(draft.colours.clone());
        self.name_group(draft, colours, slots);
    }

    pub(super) fn name_group(
        &mut self,
        draft: &Draft,
        colours: BTreeMap<Colour, String>,
        slots: BTreeMap<Slot, Mix>,
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

    /// Replies first: the first answer to a client must have the right address, in all its fragments.
    fn publish(&mut self, draft: &Draft) {
        for service in &draft.services {
            for key in self.fragments_of(service) {
                self.publish_key(key, 0);
            }
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
        let Some(slot) = live.and_then(|live| draft.aim(live)) else {
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
