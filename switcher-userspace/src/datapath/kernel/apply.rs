//! Changes of the maps while packets flow: each leaves every look-up with an answer.

use std::sync::atomic::Ordering;

use anyhow::bail;
use bytemuck::{Zeroable as _, cast};
use switcher_common::abi::{
    AddressKey, BUCKETS_PER_ELEMENT, GroupName, NAME, Service, ServiceName, TableRef, UDP,
    address_kind, service_flags,
};
use switcher_common::memory::port_entry_code;

use super::maps::{Maps, Plain};
use crate::datapath::Change;

/// Carries out one change.
pub(super) fn apply(maps: &Maps, change: &Change) -> anyhow::Result<()> {
    match change {
        Change::NameGroup {
            group,
            name,
            colours,
            slots,
        } => {
            let mut names = GroupName::zeroed();
            names.name = padded(name)?;
            for (number, colour) in colours {
                names.colours[usize::from(*number)] = padded(colour)?;
            }
            for (slot, colour) in slots {
                names.slots[usize::from(*slot)] = colour + 1;
            }
            maps.group_names.write(u32::from(*group), names);
            Ok(())
        }
        Change::SetEndpoint { id, endpoint } => {
            maps.endpoints.write(u32::from(*id), *endpoint);
            Ok(())
        }
        Change::FillTable { table, buckets } => {
            fill(maps, *table, buckets);
            Ok(())
        }
        Change::SetService {
            index,
            name,
            service,
        } => set_service(maps, *index, name, service),
        Change::SetWord { group, word } => {
            maps.store(*group, *word);
            Ok(())
        }
        Change::Publish { key, index } => publish(maps, key, *index),
        Change::Unpublish { key } => unpublish(maps, key),
        Change::Switch { .. } => bail!("a switch is for the release logic to carry out"),
        Change::Settle => maps.grace_period(),
    }
}

fn fill(maps: &Maps, table: TableRef, buckets: &[u16]) {
    let first = table.first() / BUCKETS_PER_ELEMENT;
    for (element, lanes) in (first..).zip(buckets.chunks_exact(BUCKETS_PER_ELEMENT as usize)) {
        maps.tables
            .write(element, [lanes[0], lanes[1], lanes[2], lanes[3]]);
    }
}

/// Word by word, since programs may be reading: the word with `flags` last when an entry comes to life,
/// first when it goes.
fn set_service(maps: &Maps, index: u16, name: &str, service: &Service) -> anyhow::Result<()> {
    /// Which of the sixteen words holds port, protocol and flags.
    const FLAGS: usize = std::mem::offset_of!(Service, port) / 4;
    let before = maps.services.read(u32::from(index));
    let group = if service.flags == 0 {
        before.group
    } else {
        service.group
    };
    if is_flow_udp(service) {
        maps.keep_udp_flows(group, true)?;
    }
    maps.service_names.write(
        u32::from(index),
        ServiceName {
            name: padded(name)?,
        },
    );
    let words: [u32; 16] = cast(*service);
    let others = (0..words.len()).filter(|word| *word != FLAGS);
    let order: Vec<usize> = if service.flags == 0 {
        std::iter::once(FLAGS).chain(others).collect()
    } else {
        others.chain([FLAGS]).collect()
    };
    for word in order {
        maps.services
            .word32(u32::from(index), word * 4)
            .store(words[word], Ordering::Release);
    }
    if is_flow_udp(&before) && !is_flow_udp(service) {
        let wanted = maps
            .present_services()
            .any(|(_, other)| other.group == group && is_flow_udp(&other));
        maps.keep_udp_flows(group, wanted)?;
    }
    Ok(())
}

const fn is_flow_udp(service: &Service) -> bool {
    service.has(service_flags::PRESENT)
        && service.protocol == UDP
        && service.flags & (service_flags::PER_PACKET | service_flags::PREVIEW) == 0
}

fn publish(maps: &Maps, key: &AddressKey, index: u16) -> anyhow::Result<()> {
    maps.addresses()?.insert(Plain(*key), u32::from(index), 0)?;
    store_port(
        maps,
        key,
        port_entry_code(maps.published()?.into_iter(), key),
    );
    Ok(())
}

fn unpublish(maps: &Maps, key: &AddressKey) -> anyhow::Result<()> {
    let rest = maps
        .published()?
        .into_iter()
        .filter(|(other, _)| other != key);
    store_port(maps, key, port_entry_code(rest, key));
    match maps.addresses()?.remove(&Plain(*key)) {
        Ok(()) | Err(aya::maps::MapError::KeyNotFound) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn store_port(maps: &Maps, key: &AddressKey, code: u16) {
    // The order of fields in `PortEntry`.
    let field = match (key.kind, key.protocol) {
        (address_kind::SERVICE, UDP) => 1,
        (address_kind::SERVICE, _) => 0,
        (_, UDP) => 3,
        (_, _) => 2,
    };
    maps.ports
        .store16(u32::from(key.port.number()), field * 2, code);
}

fn padded(name: &str) -> anyhow::Result<[u8; NAME]> {
    let mut bytes = [0; NAME];
    if name.len() >= NAME {
        bail!("the name {name:?} is longer than {} bytes", NAME - 1);
    }
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    Ok(bytes)
}
