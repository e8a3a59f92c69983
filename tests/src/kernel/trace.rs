//! The programs that tell what they do.

use anyhow::Context as _;
use aya::maps::{ProgramArray, RingBuf};
use aya::programs::{Program, ProgramFd};
use switcher_common::abi::map;
use switcher_common::abi::trace::{Trace, TraceFilter, Tracing, kind, place};
use switcher_common::verdict::Stage;

use super::{EGRESS, Entry, INGRESS, Kernel, TC_INGRESS};

impl Kernel {
    /// Sends incoming packets through the programs that tell of those that fit a filter.
    ///
    /// # Errors
    /// When the kernel refuses one.
    pub fn trace(&mut self, filter: TraceFilter) -> anyhow::Result<()> {
        for stage in Stage::ALL {
            self.put(map::TRACE_STAGES, stage as u32, stage.traced())?;
            self.put(map::TC_TRACE_STAGES, stage as u32, stage.tc_traced())?;
        }
        for (array, place, name) in [
            (map::TRACE_STAGES, place::OTHERS, INGRESS),
            (map::TC_TRACE_STAGES, place::OTHERS, TC_INGRESS),
            (map::TC_TRACE_STAGES, place::LEAVES, "traced_egress"),
            (map::TC_TRACE_STAGES, place::LEAVES_OTHERS, EGRESS),
            (
                map::TC_TRACE_STAGES,
                place::LEAVES_ODD,
                Stage::AT_EGRESS_TRACED,
            ),
        ] {
            self.put(array, place, name)?;
        }
        for entry in Entry::ALL {
            self.loaded(entry.program(true))?;
        }
        self.set(map::TRACE_FILTER, 0, filter)?;
        self.traced = true;
        Ok(())
    }

    /// What was told since the last time.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn traces(&mut self) -> anyhow::Result<Vec<Trace>> {
        let mut ring = RingBuf::try_from(self.data(map::TRACES)?)?;
        let mut told = Vec::new();
        while let Some(entry) = ring.next() {
            told.extend(bytemuck::try_pod_read_unaligned::<Trace>(&entry));
        }
        Ok(told)
    }

    /// Records that were not written.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn traces_lost(&mut self) -> anyhow::Result<u32> {
        let add = |a: Tracing, b: Tracing| Tracing {
            lost: a.lost + b.lost,
            ..a
        };
        let mut lost = 0;
        for kind in [kind::XDP, kind::TC] {
            lost += self.sum::<Tracing>(map::TRACING, kind, add)?.lost;
        }
        Ok(lost)
    }

    fn loaded(&mut self, name: &str) -> anyhow::Result<ProgramFd> {
        let program = self.ebpf.program_mut(name).context("no such program")?;
        let loaded = match program {
            Program::Xdp(program) if program.fd().is_err() => program.load(),
            Program::SchedClassifier(program) if program.fd().is_err() => program.load(),
            _ => Ok(()),
        };
        loaded.with_context(|| format!("loading {name}"))?;
        Ok(program.fd()?.try_clone()?)
    }

    fn put(&mut self, array: &str, place: u32, name: &str) -> anyhow::Result<()> {
        let program = self.loaded(name)?;
        let array = self.data(array)?;
        Ok(ProgramArray::try_from(array)?.set(place, &program, 0)?)
    }
}
