//! Switching with nothing but the pinned maps, agent or no agent.

use std::path::Path;
use std::time::{Duration, Instant};

use switcher_common::abi::{DEFAULT_FLOWS, TCP, service_flags};

use super::kernel::{Maps, Pins};
use super::{GroupIndex, Have};
use crate::exit::{Exit, Failure};

/// What `emergency` did.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Emergency {
    /// The group.
    pub group: String,
    /// Live before.
    pub from: String,
    /// Live now.
    pub to: String,
    /// From the store until no CPU could act on the old word, in microseconds.
    pub store_to_settled_us: u64,
}

/// Stores a group's word directly. The agent records it when it is back.
///
/// # Errors
/// When no agent has ever been on this host, or the group or colour is not known.
pub fn emergency(bpffs: &Path, group: &str, colour: &str) -> Result<Emergency, Failure> {
    let pins = Pins::at(bpffs);
    let tried = format!("switching {group} to {colour} in the kernel");
    if !pins.exist() {
        return Err(Failure::new(
            Exit::NotFound,
            tried,
            format!("nothing is pinned at {}", pins.root().display()),
        )
        .advise("name the agent's bpffs with --bpffs; without pins there is nothing to switch"));
    }
    let maps = Maps::open(&pins)?;
    let have = maps.have()?;
    let (index, slot, from) = find(&have, group, colour, &tried)?;
    if needs_tags(&have, index) {
        maps.open_window(index, DEFAULT_FLOWS)?;
    }
    let stored = Instant::now();
    maps.store(index, maps.word(index).switch_to(u32::from(slot)));
    maps.grace_period()?;
    Ok(Emergency {
        group: group.to_owned(),
        from,
        to: colour.to_owned(),
        store_to_settled_us: micros(stored.elapsed()),
    })
}

fn find(
    have: &Have,
    name: &str,
    colour: &str,
    tried: &str,
) -> Result<(GroupIndex, u8, String), Failure> {
    let missing = |what: String, known: Vec<&str>| {
        Failure::new(Exit::NotFound, tried, what).advise(format!("there are: {}", known.join(", ")))
    };
    let (index, group) = have
        .groups
        .iter()
        .find(|(_, group)| group.name == name)
        .ok_or_else(|| {
            missing(
                format!("no group {name}"),
                have.groups
                    .values()
                    .map(|group| group.name.as_str())
                    .collect(),
            )
        })?;
    let named = |number: &u8| group.colours.get(number).map_or("?", String::as_str);
    let slot = group
        .slots
        .iter()
        .find(|(_, number)| named(number) == colour);
    let (slot, _) = slot.ok_or_else(|| {
        let filled = group.slots.values().map(named).collect();
        missing(
            format!("group {name} has no table for a colour {colour}"),
            filled,
        )
    })?;
    let live = group
        .slots
        .get(&(group.word.current() as u8))
        .map_or("?", |number| named(number));
    Ok((*index, *slot, live.to_owned()))
}

fn needs_tags(have: &Have, group: GroupIndex) -> bool {
    have.services.values().any(|found| {
        found.service.group == group
            && found.service.protocol == TCP
            && !found.service.has(service_flags::SOCKETS)
    })
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
