//! Removing programs and pins.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use switcher_common::abi::{Endpoint, endpoint_flags, service_flags};

use super::pinned::Pinned;
use super::pins::{Lock, Pins};
use super::{Colour, Have, HaveGroup, HaveService, clients, kernel};
use crate::exit::{Exit, Failure};

const TRIED: &str = "detach";
/// How long an agent may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// What `detach` did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Detached {
    /// Interfaces that the programs were taken off.
    pub interfaces: Vec<String>,
    /// Whether there were maps, which are gone now.
    pub maps: bool,
    /// Groups whose clients lost their service by that; only with force.
    pub broken: Vec<String>,
}

/// Takes the programs off all interfaces and removes every pin.
///
/// # Errors
/// Without `force` when clients would lose a service, or an agent is running. When a pin can't be removed.
pub fn detach(bpffs: &Path, force: bool) -> Result<Detached, Failure> {
    let pins = Pins::new(bpffs);
    if !pins.root().exists() {
        return Ok(Detached::default());
    }
    let broken = match broken(bpffs, &pins) {
        Err(error) if !force => {
            let why = format!("whether that breaks live traffic can't be told: {error:#}");
            return Err(Failure::new(Exit::Refused, TRIED, why).advise("if it may, use --force"));
        }
        found => found.unwrap_or_default(),
    };
    if !force && !broken.is_empty() {
        let why = "clients would lose their service";
        return Err(Failure::new(Exit::Refused, TRIED, why)
            .blocked_by(broken)
            .advise("make a colour live whose endpoints are the VIPs themselves and wait until the others have no flows, or \
                     use --force"));
    }
    // Held until the end, so that no agent starts meanwhile.
    let _lock = match pins.lock() {
        Ok(lock) => Some(lock),
        Err(_) if force => end_agent(&pins),
        Err(error) => {
            return Err(
                Failure::new(Exit::Precondition, TRIED, format!("{error:#}"))
                    .advise("an agent that runs on would attach again; --force ends it first"),
            );
        }
    };
    let interfaces = pins.interfaces();
    for interface in &interfaces {
        kernel::release(&pins, interface)?;
    }
    clients::release(&pins)?;
    let maps = pins.maps().exists();
    pins.remove().map_err(anyhow::Error::from)?;
    Ok(Detached {
        interfaces,
        maps,
        broken,
    })
}

/// Asks the agent to end, and waits for its lock. One that does not listen keeps it.
fn end_agent(pins: &Pins) -> Option<Lock> {
    let agent = i32::try_from(pins.holder()?).ok()?;
    let _ended_meanwhile = kill(Pid::from_raw(agent), Signal::SIGTERM);
    let tries = (0..100).map(|_| {
        std::thread::sleep(PATIENCE / 100);
        pins.lock()
    });
    tries.flatten().next()
}

/// Services that nobody would answer for any more, each with its reason.
fn broken(bpffs: &Path, pins: &Pins) -> anyhow::Result<Vec<String>> {
    if !pins.exist() || pins.interfaces().is_empty() {
        return Ok(Vec::new());
    }
    let pinned = Pinned::open(bpffs)?;
    let have = pinned.have()?;
    let mut broken = rewritten(&have);
    for (index, group) in &have.groups {
        broken.extend(left_over(&have, group, &pinned.dependent(*index)?));
    }
    Ok(broken)
}

/// Colours that are not live any more, but have flows that only rewriting brings there.
fn left_over(have: &Have, group: &HaveGroup, flows: &BTreeMap<u16, u64>) -> Vec<String> {
    let mut by_service: BTreeMap<(u16, Colour), u64> = BTreeMap::new();
    for (id, flows) in flows {
        let endpoint = have.endpoints.get(id);
        let rewritten = endpoint.filter(|endpoint| !endpoint.has(endpoint_flags::UNTOUCHED));
        if let Some(Endpoint {
            service, colour, ..
        }) = rewritten
            && group.live() != Some(*colour)
        {
            *by_service.entry((*service, *colour)).or_default() += flows;
        }
    }
    let said = by_service.into_iter().map(|((service, colour), flows)| {
        let service = have.services.get(&service).map_or("?", |it| &it.name);
        let colour = group.colours.get(&colour).map_or("?", String::as_str);
        let plural = if flows == 1 { "" } else { "s" };
        format!(
            "{}/{service}: {flows} flow{plural} left on {colour}",
            group.name
        )
    });
    said.collect()
}

/// Published services whose live endpoints are not the VIP itself.
fn rewritten(have: &Have) -> Vec<String> {
    let published = have
        .services
        .values()
        .filter(|found| found.published && !found.service.has(service_flags::PREVIEW));
    published
        .filter_map(|found| {
            let group = have.groups.get(&found.service.group)?;
            needs_rewriting(have, group, found).then(|| {
                let live = group.live().and_then(|live| group.colours.get(&live));
                let live = live.map_or("?", String::as_str);
                format!(
                    "{}/{}: {live} is live and reached by rewriting",
                    group.name, found.name
                )
            })
        })
        .collect()
}

fn needs_rewriting(have: &Have, group: &HaveGroup, found: &HaveService) -> bool {
    let current = found.service.tables.get(group.word.current() as usize);
    let buckets = current.and_then(|table| have.tables.get(&table.0));
    let ids: BTreeSet<&u16> = buckets.into_iter().flat_map(|it| it.iter()).collect();
    ids.into_iter().any(|id| {
        let endpoint = have.endpoints.get(id);
        endpoint.is_some_and(|endpoint| !endpoint.has(endpoint_flags::UNTOUCHED))
    })
}
