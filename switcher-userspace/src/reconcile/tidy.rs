//! Dropping tables that nothing needs any more, from a group without a window.

use std::collections::{BTreeMap, BTreeSet};

use switcher_common::abi::{SLOTS, TableRef};

use super::Planner;
use super::draft::Draft;
use crate::datapath::{Change, Mix, Slot};

impl Planner {
    /// Moves previews to where their colour is now, and drops every slot but those of the colours and
    /// the current one.
    pub(super) fn tidy(&mut self, draft: &Draft) {
        let moved = self.move_staging(draft);
        let Some(have) = self.have().groups.get(&draft.index) else {
            return;
        };
        let current = have.word.current() as Slot;
        let mut keep: BTreeSet<Slot> = draft.targets.values().copied().collect();
        keep.insert(current);
        let waiting = draft
            .colours
            .keys()
            .filter(|colour| !draft.targets.contains_key(&Mix::pure(**colour)));
        keep.extend(waiting.filter_map(|colour| have.slot_of(*colour)));
        let mut slots = have.slots.clone();
        slots.retain(|slot, _| keep.contains(slot));
        let gone: Vec<String> = have
            .colours
            .values()
            .filter(|colour| !draft.colours.values().any(|wanted| wanted == *colour))
            .map(|colour| format!("group {}: remove colour {colour}", draft.name))
            .collect();
        gone.into_iter().for_each(|sentence| self.say(sentence));
        self.name_group(draft, draft.colours.clone(), slots);
        self.drop_tables(draft, &keep, moved);
    }

    /// Whether the word was changed.
    fn move_staging(&mut self, draft: &Draft) -> bool {
        let Some(have) = self.have().groups.get(&draft.index) else {
            return false;
        };
        let word = have.word;
        let live = have.live();
        let staged = have.slots.get(&(word.staging() as Slot));
        let staged = staged.map(|mix| mix.colour);
        let staged = staged.filter(|colour| Some(*colour) != live);
        let own = staged
            .and_then(|colour| draft.targets.get(&Mix::pure(colour)))
            .copied();
        let next = || live.and_then(|live| draft.after(live));
        let staging = own.or_else(next).map_or(word.current(), u32::from);
        if staging == word.staging() {
            return false;
        }
        self.emit(Change::SetWord {
            group: draft.index,
            word: word.with_staging(staging),
        });
        true
    }

    fn drop_tables(&mut self, draft: &Draft, keep: &BTreeSet<Slot>, moved: bool) {
        let dropped: BTreeMap<u16, _> = self
            .have()
            .services
            .iter()
            .filter(|(index, have)| {
                have.service.group == draft.index && self.services.contains(index)
            })
            .filter_map(|(index, have)| {
                let mut without = have.clone();
                for slot in (0..SLOTS as Slot).filter(|slot| !keep.contains(slot)) {
                    without.service.tables[slot as usize] = TableRef::default();
                }
                (without.service != have.service).then_some((*index, without))
            })
            .collect();
        if moved && !dropped.is_empty() {
            self.emit(Change::Settle);
        }
        for (index, have) in dropped {
            let (name, service) = (have.name, have.service);
            self.emit(Change::SetService {
                index,
                name,
                service,
            });
        }
    }
}
