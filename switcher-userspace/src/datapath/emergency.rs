//! Switching with nothing but the pinned maps, agent or no agent.

use std::path::Path;
use std::time::Instant;

use switcher_common::abi::{DEFAULT_FLOWS, service_flags};

use super::pinned::Pinned;
use super::pins::Pins;
use super::{GroupIndex, Have, HaveGroup, Slot};
use crate::exit::{Exit, Failure};

/// What `emergency` did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Emergency {
    /// The group.
    pub group: String,
    /// Live before.
    pub from: String,
    /// Live now. The same as before: nothing was stored.
    pub to: String,
    /// From the store until no CPU could act on the old word, in microseconds.
    pub store_to_settled_us: u64,
}

/// Stores a group's word directly. The agent records it when it is back, and closes the window.
///
/// # Errors
/// When nothing is pinned, there is no such group or colour, or the colour has no complete table.
pub fn emergency(bpffs: &Path, group: &str, colour: &str) -> Result<Emergency, Failure> {
    let tried = format!("switch {group} to {colour} in the kernel");
    if !Pins::new(bpffs).exist() {
        let why = format!("nothing is pinned below {}", bpffs.display());
        return Err(Failure::new(Exit::NotFound, tried, why)
            .advise("name the agent's bpffs with --bpffs, and run this as root"));
    }
    let pinned = Pinned::open(bpffs)?;
    let have = pinned.have()?;
    let (index, found) = find_group(&have, group, &tried)?;
    let slot = find_slot(&have, index, found, colour, &tried)?;
    let now = HaveGroup {
        word: pinned.word_now(index),
        ..found.clone()
    };
    let named = |colour| found.colours.get(&colour);
    let from = now.live().and_then(named);
    let mut done = Emergency {
        group: group.into(),
        from: from.map_or("?", String::as_str).into(),
        to: colour.into(),
        store_to_settled_us: 0,
    };
    // A timed word counts as another one, and may change any moment: what is stored is neither.
    let word = pinned.word_now(index);
    if word.current() == u32::from(slot) && word == pinned.word(index) {
        return Ok(done);
    }
    let mut staging = word.current();
    if let Some(canary) = now.current().and_then(|mix| mix.canary) {
        // What a canary was a part of stays to be previewed, without it.
        let alone = now.live().and_then(|live| now.slot_of(live));
        staging = alone.map_or(staging, u32::from);
        if done.from == done.to {
            staging = word.staging();
            done.from = named(canary.colour).map_or("?", String::as_str).into();
        }
    }
    if needs_tags(&have, index) {
        pinned.open_window(index, DEFAULT_FLOWS)?;
    }
    let stored = Instant::now();
    pinned.store(index, word.switch_to(slot.into()).with_staging(staging));
    pinned.settle()?;
    done.store_to_settled_us = u64::try_from(stored.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ok(done)
}

fn find_group<'a>(
    have: &'a Have,
    name: &str,
    tried: &str,
) -> Result<(GroupIndex, &'a HaveGroup), Failure> {
    let found = have.groups.iter().find(|(_, group)| group.name == name);
    let Some((index, group)) = found else {
        let known: Vec<&str> = have.groups.values().map(|group| &*group.name).collect();
        return Err(
            Failure::new(Exit::NotFound, tried, format!("there is no group {name}"))
                .advise(format!("the kernel knows: {}", listed(&known))),
        );
    };
    Ok((*index, group))
}

fn find_slot(
    have: &Have,
    index: GroupIndex,
    group: &HaveGroup,
    colour: &str,
    tried: &str,
) -> Result<Slot, Failure> {
    let slot = group
        .colour(colour)
        .and_then(|number| group.slot_of(number));
    if let Some(slot) = slot.filter(|slot| is_filled(have, index, *slot)) {
        return Ok(slot);
    }
    let ready = |number: &u8| {
        group
            .slot_of(*number)
            .is_some_and(|s| is_filled(have, index, s))
    };
    let known = group.colours.iter().filter(|(number, _)| ready(number));
    let known: Vec<&str> = known.map(|(_, name)| &**name).collect();
    let why = format!("group {} has no table for a colour {colour}", group.name);
    Err(Failure::new(Exit::NotFound, tried, why)
        .advise(format!("ready to be switched to: {}", listed(&known))))
}

/// Whether every service of the group has its table in the slot.
fn is_filled(have: &Have, index: GroupIndex, slot: Slot) -> bool {
    let mut services = have
        .services
        .values()
        .filter(|found| found.service.group == index);
    services.all(|found| found.service.tables[usize::from(slot)].exists())
}

/// The socket table speaks for TCP of this host, and UDP has flow maps at all times.
fn needs_tags(have: &Have, index: GroupIndex) -> bool {
    have.services.values().any(|found| {
        let service = &found.service;
        service.group == index && service.has_connections() && !service.has(service_flags::SOCKETS)
    })
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => "nothing".into(),
        names => names.join(", "),
    }
}
