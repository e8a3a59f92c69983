//! What the switch itself takes: one 64-bit store through the mapping of the steering words.

use std::num::NonZeroUsize;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use aya::maps::Map;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use switcher_common::abi::map;
use switcher_tests::cases::steady;
use switcher_tests::kernel::Kernel;

use crate::packets::median;
use crate::report::Report;

const SAMPLES: usize = 1001;

pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    let mut kernel = Kernel::load()?;
    let Some(Map::Array(words)) = kernel.ebpf().map(map::STEERING) else {
        anyhow::bail!("no array of steering words");
    };
    let length = NonZeroUsize::new(4096).context("a page")?;
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let (fd, shared) = (words.fd().as_fd(), MapFlags::MAP_SHARED);
    // SAFETY: a new mapping at an address of the kernel's choice.
    let page = unsafe { mmap(None, length, protection, shared, fd, 0) }?;
    // SAFETY: the page begins with the first group's word, aligned, and lives until it is unmapped below.
    let word = unsafe { page.cast::<AtomicU64>().as_ref() };
    word.store(steady().0, Ordering::Release);
    let mut samples: Vec<f64> = (0..SAMPLES).map(|_| one(word)).collect();
    report.figure(
        "flip, the store itself",
        median(&mut samples),
        "ns",
        Some(1000.0),
    );
    // SAFETY: mapped above, and not used any more.
    Ok(unsafe { munmap(page, length.get()) }?)
}

fn one(word: &AtomicU64) -> f64 {
    let start = Instant::now();
    word.store(steady().switch_to(1).0, Ordering::Release);
    start.elapsed().as_nanos() as f64
}
