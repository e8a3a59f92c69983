//! A program in the kernel that ends a process at a given one of its calls.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result};
use aya::maps::{Array, MapData};
use aya::programs::RawTracePoint;
use aya::{Ebpf, Pod};
use nix::libc;
use switcher_tests_ebpf::Victim;

const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/killer"));
/// What a commit is made of.
pub(crate) const COMMIT: [i64; 2] = [libc::SYS_fdatasync, libc::SYS_fsync];
/// Every operation on maps, programs and links.
pub(crate) const BPF: i64 = libc::SYS_bpf;

/// Ends a process at a given call.
pub(crate) struct Killer {
    _object: Ebpf,
    victim: Array<MapData, Element>,
}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct Element(Victim);

// SAFETY: numbers without padding.
unsafe impl Pod for Element {}

impl Killer {
    pub(crate) fn new() -> Result<Self> {
        let mut object = Ebpf::load(OBJECT)?;
        let victim = object.take_map("VICTIM").context("not there")?;
        let program = object.program_mut("kill_at").context("not there")?;
        let program: &mut RawTracePoint = program.try_into()?;
        program.load()?;
        program.attach("sys_enter")?;
        Ok(Self {
            _object: object,
            victim: victim.try_into()?,
        })
    }

    /// From now on calls are counted.
    pub(crate) fn aim(&mut self, process: Option<u32>, at: u32, calls: &[i64]) -> Result<()> {
        let namespace = fs::metadata("/proc/self/ns/pid")?;
        let mut numbers = [u32::MAX; 3];
        for (place, call) in numbers.iter_mut().zip(calls) {
            *place = u32::try_from(*call)?;
        }
        let victim = Victim {
            device: namespace.dev(),
            inode: namespace.ino(),
            process: process.unwrap_or(0),
            at,
            count: 0,
            calls: numbers,
        };
        Ok(self.victim.set(0, Element(victim), 0)?)
    }

    pub(crate) fn has_struck(&self) -> Result<bool> {
        let Element(victim) = self.victim.get(&0, 0)?;
        Ok(victim.count >= victim.at)
    }

    /// Calls since it was aimed; at nobody's death if at call 0.
    pub(crate) fn count(&self) -> Result<u32> {
        let Element(victim) = self.victim.get(&0, 0)?;
        Ok(victim.count)
    }
}
