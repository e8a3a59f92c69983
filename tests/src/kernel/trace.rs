//! The programs that tell what they do.

use anyhow::Context as _;
use aya::maps::{ProgramArray, RingBuf};
use aya::programs::{ProgramFd, Xdp};
use switcher_common::abi::map;
use switcher_common::abi::trace::{Trace, TraceFilter, Tracing};
use switcher_common::verdict::Stage;

use super::{INGRESS, Kernel, TRACE};

impl Kernel {
    /// Sends incoming packets through the programs that tell of those that fit a filter.
    ///
    /// # Errors
    /// When the kernel refuses one.
    pub fn trace(&mut self, filter: TraceFilter) -> anyhow::Result<()> {
        let stages = Stage::ALL.map(|stage| (stage as u32, stage.traced()));
        let meant = Stage::ALL.len() as u32;
        for (place, name) in stages.into_iter().chain([(meant, "traced_ingress")]) {
            let program = self.loaded(name)?;
            self.put(place, &program)?;
        }
        let plain: &Xdp = self
            .ebpf
            .program(INGRESS)
            .context("no ingress")?
            .try_into()?;
        let plain = plain.fd()?.try_clone()?;
        self.put(meant + 1, &plain)?;
        self.set(map::TRACE_FILTER, 0, filter)?;
        self.loaded(TRACE)?;
        self.hook = TRACE;
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
        Ok(self.sum::<Tracing>(map::TRACING, 0, add)?.lost)
    }

    fn loaded(&mut self, name: &str) -> anyhow::Result<ProgramFd> {
        let program = self.ebpf.program_mut(name).context("no such program")?;
        let program: &mut Xdp = program.try_into()?;
        program.load().with_context(|| format!("loading {name}"))?;
        Ok(program.fd()?.try_clone()?)
    }

    fn put(&mut self, place: u32, program: &ProgramFd) -> anyhow::Result<()> {
        let array = self.data(map::TRACE_STAGES)?;
        Ok(ProgramArray::try_from(array)?.set(place, program, 0)?)
    }
}
