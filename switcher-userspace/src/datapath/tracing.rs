//! Programs that tell what they do, in the place of the plain ones while somebody wants to know.
//!
//! Their links are given other programs, so no packet meets none. An agent that dies meanwhile leaves traffic served by
//! these; the next one puts the plain ones back as it starts.

use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use aya::maps::{Map, MapData, PerCpuArray, RingBuf};
use aya::programs::{ProgramFd, SchedClassifier};
use switcher_common::abi::map;
use switcher_common::abi::trace::{Trace, TraceFilter, Tracing, kind};

use super::attach::tc::{self, Side};
use super::attach::{self, pinned_link};
use super::pins::Pins;
use super::programs::{Programs, Turns};
use super::sys;
use super::table::{self, Plain};
use crate::config::Masquerade;
use crate::host::{self, Interface};

/// One trace at a time: there is one filter.
static BUSY: AtomicBool = AtomicBool::new(false);

/// Somebody else's trace is going on.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("somebody traces already; one trace at a time")]
pub struct Busy;

/// A trace that is going on; dropped, it ends.
pub struct Tracer {
    pins: Pins,
    programs: Hooks,
    records: RingBuf<MapData>,
    tracing: PerCpuArray<MapData, Plain<Tracing>>,
    lost_before: u32,
}

impl Tracer {
    /// Loads what is missing, which may take the verifier seconds, and lets packets meet it that come in or go out by
    /// the attached interfaces.
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
        let mut tracer = ready.inspect_err(|_| BUSY.store(false, Ordering::Release))?;
        // From here on dropping it puts everything back.
        tracer.replace(Turns::tracing, Turns::tracing)?;
        Ok(tracer)
    }

    fn ready(
        pins: Pins,
        masquerade: &Masquerade,
        log: PathBuf,
        filter: &TraceFilter,
    ) -> anyhow::Result<Self> {
        let programs = Hooks::load(&pins, &mut Programs::open(&pins, masquerade, log)?)?;
        table::mapped::<TraceFilter>(&pins.map(map::TRACE_FILTER), 1)?.set(0, filter);
        let tracing = table::open(&pins.map(map::TRACING))?;
        let mut tracer = Self {
            records: ring(&pins)?,
            tracing: tracing.try_into().context("map TRACING")?,
            pins,
            programs,
            lost_before: 0,
        };
        tracer.lost_before = tracer.lost_ever();
        // What an earlier trace has left.
        while tracer.records.next().is_some() {}
        Ok(tracer)
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
        let kinds = [kind::XDP, kind::TC].map(|kind| self.tracing.get(&kind, 0));
        let cpus = kinds.iter().flatten().flat_map(|cpus| cpus.iter());
        cpus.fold(0, |sum, cpu| cpu.0.lost.wrapping_add(sum))
    }

    /// Gives every hook one of its programs.
    fn replace(
        &mut self,
        xdp: fn(&mut Turns<ProgramFd>) -> &mut ProgramFd,
        tc: fn(&mut Turns<SchedClassifier>) -> &mut SchedClassifier,
    ) -> anyhow::Result<()> {
        for name in self.pins.interfaces() {
            let Some(interface) = host::interface(&name)? else {
                continue;
            };
            if let Some(turns) = &mut self.programs.xdp {
                replace_xdp(&self.pins, xdp(turns), &interface)?;
            }
            let sides = Side::ALL.into_iter().zip(&mut self.programs.tc);
            for (side, turns) in sides {
                if let Some(turns) = turns {
                    tc::replace(&self.pins, tc(turns), &interface, side)?;
                }
            }
        }
        Ok(())
    }
}

/// The programs of hooks that any interface has a program of ours on.
struct Hooks {
    xdp: Option<Turns<ProgramFd>>,
    /// By [`Side::ALL`].
    tc: [Option<Turns<SchedClassifier>>; 2],
}

impl Hooks {
    fn load(pins: &Pins, programs: &mut Programs) -> anyhow::Result<Self> {
        let mut hooks = Self {
            xdp: None,
            tc: [None, None],
        };
        for name in pins.interfaces() {
            let Some(interface) = host::interface(&name)? else {
                continue;
            };
            if hooks.xdp.is_none() && attach::is_attached(&pins.xdp(&name), &interface) {
                hooks.xdp = Some(programs.xdp_trace()?);
            }
            for (side, turns) in Side::ALL.into_iter().zip(&mut hooks.tc) {
                if turns.is_none() && tc::is_there(pins, &interface, side) {
                    *turns = Some(match side {
                        Side::Ingress => programs.tc_ingress_trace()?,
                        Side::Egress => programs.tc_egress_trace()?,
                    });
                }
            }
        }
        if hooks.xdp.is_none() && hooks.tc.iter().all(Option::is_none) {
            bail!("no interface has a program of Switcher's");
        }
        Ok(hooks)
    }
}

fn replace_xdp(pins: &Pins, program: &ProgramFd, interface: &Interface) -> anyhow::Result<()> {
    let name = &interface.name;
    let Some((link, _)) = pinned_link(&pins.xdp(name))? else {
        return Ok(());
    };
    sys::update_link(link.as_fd(), program.as_fd())
        .with_context(|| format!("{name}: the program can't be replaced"))
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if let Err(error) = self.replace(Turns::plain, Turns::plain) {
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
