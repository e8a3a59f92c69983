//! Removing programs and pins.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use switcher_common::abi::{Endpoint, endpoint_flags, service_flags};

use super::Have;
use super::kernel::{Maps, Pins, attached_links, remove_clsact};
use crate::exit::{Exit, Failure};

/// What `detach` did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Detached {
    /// Links that were removed, by name.
    pub links: Vec<String>,
    /// Whether maps were removed.
    pub maps: bool,
}

/// Takes the programs off all interfaces and removes every pin.
///
/// # Errors
/// When that would break live traffic, or an agent is running, unless `force`; when a pin can't be removed.
pub fn detach(bpffs: &Path, force: bool) -> Result<Detached, Failure> {
    let pins = Pins::at(bpffs);
    if !pins.root().exists() {
        return Ok(Detached::default());
    }
    if !force {
        refuse_if_running(&pins)?;
        refuse_if_live(&pins)?;
    }
    remove(&pins).map_err(Failure::from)
}

fn refuse_if_running(pins: &Pins) -> Result<(), Failure> {
    match pins.lock() {
        Ok(_free) => Ok(()),
        Err(error) => Err(
            Failure::new(Exit::Precondition, "detaching", format!("{error:#}"))
                .advise("stop the agent first; traffic goes on without it"),
        ),
    }
}

fn refuse_if_live(pins: &Pins) -> Result<(), Failure> {
    let Ok(maps) = Maps::open(pins) else {
        return Ok(());
    };
    let blockers = live(&maps.have().map_err(Failure::from)?);
    if blockers.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Refused, "detaching", "live traffic depends on the programs")
        .blocked_by(blockers)
        .advise("make a colour whose endpoints are the VIPs themselves live first, or accept the loss with --force"))
}

/// Services whose clients would find nobody without the programs.
fn live(have: &Have) -> Vec<String> {
    let needs_us = |service: u16, endpoint: &Endpoint, colour: u8| {
        endpoint.service == service
            && endpoint.colour == colour
            && !endpoint.has(endpoint_flags::UNTOUCHED)
    };
    have.services
        .iter()
        .filter(|(_, found)| found.published && !found.service.has(service_flags::PREVIEW))
        .filter_map(|(index, found)| {
            let group = have.groups.get(&found.service.group)?;
            let live = *group.slots.get(&(group.word.current() as u8))?;
            let depends = have
                .endpoints
                .values()
                .any(|endpoint| needs_us(*index, endpoint, live));
            let colour = group.colours.get(&live).map_or("?", String::as_str);
            depends.then(|| {
                format!(
                    "{}/{}: {colour} is live and reached by rewriting",
                    group.name, found.name
                )
            })
        })
        .collect()
}

fn remove(pins: &Pins) -> anyhow::Result<Detached> {
    remove_clsact();
    let links = attached_links(pins)?;
    let maps = pins.maps().exists();
    fs::remove_dir_all(pins.root())
        .with_context(|| format!("removing {}", pins.root().display()))?;
    Ok(Detached { links, maps })
}
