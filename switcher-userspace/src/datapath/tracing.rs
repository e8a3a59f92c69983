//! Programs that tell what they do, in the place of the plain ones while somebody wants to know.
//!
//! Their links are given other programs, so no packet meets none. An agent that dies meanwhile leaves traffic served by
//! these; the next one puts the plain ones back as it starts.

use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use aya::maps::{Map, MapData, PerCpuArray, RingBuf};
use aya::programs::ProgramFd;
use switcher_common::abi::map;
use switcher_common::abi::trace::{Trace, TraceFilter, Tracing};

use super::attach::pinned_link;
use super::pins::Pins;
use super::programs::Programs;
use super::sys;
use super::table::{self, Plain};
use crate::config::Masquerade;

/// One trace at a time: there is one filter.
static BUSY: AtomicBool = AtomicBool::new(false);

/// Somebody else's trace is going on.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("somebody traces already; one trace at a time")]
pub struct Busy;

/// A trace that is going on; dropped, it ends.
pub struct Tracer {
    pins: Pins,
    plain: ProgramFd,
    records: RingBuf<MapData>,
    tracing: PerCpuArray<MapData, Plain<Tracing>>,
    lost_before: u32,
}

impl Tracer {
    /// Loads what is missing, which may take the verifier seconds, and lets packets that come in by the attached
    /// interfaces meet it.
    ///
    /// # Errors
    /// When somebody traces already, nothing is attached, or the kernel refuses.
    pub fn start(
        pins: Pins,
        masquerade: &Masquerade,
        log: PathBuf,
        filter: &TraceFilter,
    ) -> anyhow::Result<Self> {
        if BUSY.swap(true, Ordering::AcqRel) {
            return Err(Busy.into());
        }
        let ready = Self::ready(pins, masquerade, log, filter);
        let (tracer, entry) = ready.inspect_err(|_| BUSY.store(false, Ordering::Release))?;
        // From here on dropping it puts everything back.
        tracer.replace(&entry)?;
        Ok(tracer)
    }

    fn ready(
        pins: Pins,
        masquerade: &Masquerade,
        log: PathBuf,
        filter: &TraceFilter,
    ) -> anyhow::Result<(Self, ProgramFd)> {
        if !pins.interfaces().iter().any(|it| pins.xdp(it).exists()) {
            bail!("no interface has an XDP program of Switcher's, and nothing else can be traced");
        }
        let (plain, entry) = Programs::open(&pins, masquerade, log)?.trace()?;
        table::mapped::<TraceFilter>(&pins.map(map::TRACE_FILTER), 1)?.set(0, filter);
        let tracing = table::open(&pins.map(map::TRACING))?;
        let mut tracer = Self {
            records: ring(&pins)?,
            tracing: tracing.try_into().context("map TRACING")?,
            pins,
            plain,
            lost_before: 0,
        };
        tracer.lost_before = tracer.lost_ever();
        // What an earlier trace has left.
        while tracer.records.next().is_some() {}
        Ok((tracer, entry))
    }

    /// The next record, if there is one already.
    pub fn record(&mut self) -> Option<Trace> {
        let record = self.records.next()?;
        bytemuck::try_pod_read_unaligned(&record).ok()
    }

    /// Records that were not written since it began: there was no room, or there would have been too many.
    #[must_use]
    pub fn lost(&self) -> u32 {
        self.lost_ever().wrapping_sub(self.lost_before)
    }

    fn lost_ever(&self) -> u32 {
        let cpus = self.tracing.get(&0, 0);
        cpus.map_or(0, |cpus| {
            cpus.iter().fold(0, |sum, cpu| cpu.0.lost.wrapping_add(sum))
        })
    }

    /// Gives every XDP link this program.
    fn replace(&self, program: &ProgramFd) -> anyhow::Result<()> {
        for interface in self.pins.interfaces() {
            let Some((link, _)) = pinned_link(&self.pins.xdp(&interface))? else {
                continue;
            };
            sys::update_link(link.as_fd(), program.as_fd())
                .with_context(|| format!("{interface}: the program can't be replaced"))?;
        }
        Ok(())
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if let Err(error) = self.replace(&self.plain) {
            tracing::warn!("packets still meet the programs that trace: {error:#}");
        }
        BUSY.store(false, Ordering::Release);
    }
}

fn ring(pins: &Pins) -> anyhow::Result<RingBuf<MapData>> {
    let pin = pins.map(map::TRACES);
    let map = MapData::from_pin(&pin).and_then(Map::from_map_data);
    map.and_then(RingBuf::try_from)
        .with_context(|| format!("{}: can't be opened", pin.display()))
}
