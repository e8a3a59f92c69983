//! The maps of masqueraded flows, entry by entry.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, bail};
use aya::maps::{HashMap, MapData};
use switcher_common::abi::nat::{NatClient, NatFlow, NatPort, NatSource};
use switcher_common::abi::{FlowKey, map};

use crate::datapath::pins::Pins;
use crate::datapath::sys::element;
use crate::datapath::table::{self, Plain};

/// The maps of masqueraded flows.
pub(crate) struct NatMaps {
    pub(super) sources: HashMap<MapData, u32, Plain<NatSource>>,
    flows: MapData,
    ports: MapData,
}

impl NatMaps {
    /// Opens them.
    ///
    /// # Errors
    /// When one is missing, of another shape, or may not be opened.
    pub(crate) fn open(pins: &Pins) -> anyhow::Result<Self> {
        let sources = table::open(&pins.map(map::NAT_SOURCES))?;
        Ok(Self {
            sources: sources
                .try_into()
                .with_context(|| format!("map {}", map::NAT_SOURCES))?,
            flows: checked::<FlowKey, NatFlow>(pins, map::NAT_FLOWS)?,
            ports: checked::<NatPort, NatClient>(pins, map::NAT_PORTS)?,
        })
    }

    /// Flows that there is room for.
    pub(super) fn capacity(&self) -> anyhow::Result<u64> {
        Ok(self.flows.info()?.max_entries().into())
    }

    /// Calls `each` for every port in use. Entries that come or go meanwhile may be left out.
    pub(super) fn each_port(&self, each: impl FnMut(&NatPort, &NatClient)) -> anyhow::Result<()> {
        table::entries(&self.ports, each)
    }

    pub(super) fn flow(&self, key: &FlowKey) -> io::Result<Option<NatFlow>> {
        // SAFETY: the sizes were checked when the maps were opened.
        unsafe { element::look_up(fd(&self.flows), key) }
    }

    /// Removes a flow's entry and returns it as it was.
    pub(super) fn take_flow(&self, key: &FlowKey) -> io::Result<Option<NatFlow>> {
        // SAFETY: as above.
        unsafe { element::take(fd(&self.flows), key) }
    }

    /// Removes a port's entry and returns it as it was.
    pub(super) fn take_port(&self, key: &NatPort) -> io::Result<Option<NatClient>> {
        // SAFETY: as above.
        unsafe { element::take(fd(&self.ports), key) }
    }

    /// Puts a flow's entry back, unless another is there.
    pub(super) fn restore_flow(&self, key: &FlowKey, flow: &NatFlow) -> io::Result<()> {
        // SAFETY: as above.
        unsafe { element::insert_new(fd(&self.flows), key, flow) }
    }

    /// Puts a port's entry back, unless another is there.
    pub(super) fn restore_port(&self, key: &NatPort, client: &NatClient) -> io::Result<()> {
        // SAFETY: as above.
        unsafe { element::insert_new(fd(&self.ports), key, client) }
    }
}

fn fd(map: &MapData) -> BorrowedFd<'_> {
    map.fd().as_fd()
}

fn checked<K, V>(pins: &Pins, name: &str) -> anyhow::Result<MapData> {
    let data = table::data(&pins.map(name))?;
    let info = data.info()?;
    let shape = (info.key_size() as usize, info.value_size() as usize);
    if shape != (size_of::<K>(), size_of::<V>()) {
        bail!("map {name} has another shape than this version's");
    }
    Ok(data)
}
