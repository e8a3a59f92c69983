//! What the kernel keeps while nothing is being switched.

use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::Context as _;
use aya::maps::{Map, MapData};
use switcher_common::abi::map;
use switcher_tests::cases::steady;
use switcher_tests::kernel::Kernel;
use switcher_tests::town::State;

use crate::report::Report;

pub(crate) const MIB: f64 = 1024.0 * 1024.0;

pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    let mut kernel = Kernel::load()?;
    let state = State::new(steady());
    // No window is open.
    state.memory.windows.take();
    kernel.fill(&state.memory)?;
    let mut all = 0;
    for (_, map) in kernel.ebpf().maps() {
        all += data(map).map_or(Ok(0), memlock)?;
    }
    let tcp = all as f64 / MIB;
    let udp = memlock(&kernel.inner(map::UDP_FLOWS_OF, switcher_tests::town::GROUP)?)? as f64 / MIB;
    report.figure(
        "kernel memory of all maps, one group",
        tcp,
        "MiB",
        Some(16.0),
    );
    report.figure(
        "the same, with a UDP service in flows",
        tcp + udp,
        "MiB",
        Some(16.0),
    );
    Ok(())
}

fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::ArrayOfMaps(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data) => Some(data),
        _ => None,
    }
}

/// What the kernel charges for a map, in bytes.
pub(crate) fn memlock(data: &MapData) -> anyhow::Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", data.fd().as_fd().as_raw_fd());
    let text = std::fs::read_to_string(&path)?;
    let value = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    Ok(value
        .with_context(|| format!("no memlock in {path}"))?
        .trim()
        .parse()?)
}
