//! Everything that stands in the maps, whatever their types: to see that nothing was touched.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::Context as _;
use aya::maps::MapData;
use aya::util::nr_cpus;
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use switcher_common::abi::map;

use super::Kernel;

// Numbers of include/uapi/linux/bpf.h.
const LOOKUP: i32 = 1;
const NEXT_KEY: i32 = 4;
const MAPPABLE: u32 = 1 << 10;
const OF_MAPS: u32 = 12;
/// Arrays: of values, of programs, of values for each CPU, and of maps.
const ARRAYS: [u32; 4] = [2, 3, PER_CPU, OF_MAPS];
const PER_CPU: u32 = 6;

/// Maps that can't be read so: sockets have the entries of one, and the others are rings, one of which
/// [`Kernel::read`] empties.
const OTHERWISE: [&str; 3] = [map::SOCKETS, map::NOTICES, map::TRACES];

/// What every map has, by its name: a number that another content would change.
pub type Dump = BTreeMap<&'static str, u64>;

impl Kernel {
    /// Reads all maps; of a map of maps, what is in each.
    ///
    /// # Errors
    /// When one can't be read.
    pub fn dump(&mut self) -> anyhow::Result<Dump> {
        let maps = map::ALL.iter().filter(|name| !OTHERWISE.contains(name));
        let read = |name: &&'static str| {
            let data = MapData::from_pin(self.pins()?.map(name))?;
            let mut hasher = DefaultHasher::new();
            content(&data, &mut hasher).with_context(|| format!("reading {name}"))?;
            Ok((*name, hasher.finish()))
        };
        maps.map(read).collect()
    }
}

fn content(data: &MapData, into: &mut DefaultHasher) -> anyhow::Result<()> {
    let info = data.info()?;
    let (key, mut value) = (info.key_size() as usize, info.value_size() as usize);
    let kind = info.map_type()? as u32;
    if info.map_flags() & MAPPABLE != 0 {
        return Ok(mapped(
            data,
            info.max_entries() as usize * value.next_multiple_of(8),
            into,
        )?);
    }
    if kind == PER_CPU {
        value = value.next_multiple_of(8) * nr_cpus().map_err(|(_, error)| error)?;
    }
    if ARRAYS.contains(&kind) {
        let mut found = vec![0; value];
        for index in 0..info.max_entries() {
            if call(data, LOOKUP, Some(&index.to_ne_bytes()), &mut found)? {
                (index, &found).hash(into);
                if let (OF_MAPS, &[a, b, c, d]) = (kind, &*found) {
                    let id = u32::from_ne_bytes([a, b, c, d]);
                    content(&MapData::from_id(id)?, into)?;
                }
            }
        }
        return Ok(());
    }
    // In order: a hash map's own may change with its size.
    let mut entries = BTreeMap::new();
    let (mut at, mut next) = (None, vec![0; key]);
    while call(data, NEXT_KEY, at.as_deref(), &mut next)? {
        let mut found = vec![0; value];
        if call(data, LOOKUP, Some(&next), &mut found)? {
            entries.insert(next.clone(), found);
        }
        at = Some(next.clone());
    }
    entries.hash(into);
    Ok(())
}

/// An array that can be had as memory.
fn mapped(data: &MapData, bytes: usize, into: &mut DefaultHasher) -> io::Result<()> {
    let length = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
    let (fd, flags) = (data.fd().as_fd(), MapFlags::MAP_SHARED);
    // SAFETY: a new mapping at an address of the kernel's choice, which is read and removed here.
    unsafe {
        let start = mmap(None, length, ProtFlags::PROT_READ, flags, fd, 0)?;
        std::slice::from_raw_parts(start.as_ptr().cast::<u8>(), bytes).hash(into);
        munmap(start, bytes)?;
    }
    Ok(())
}

/// A look-up, or the key that comes after another; whether there is any.
fn call(data: &MapData, command: i32, key: Option<&[u8]>, out: &mut [u8]) -> io::Result<bool> {
    #[repr(C)]
    struct Element {
        map: u64,
        key: u64,
        out: u64,
        flags: u64,
    }
    let element = Element {
        map: data.fd().as_fd().as_raw_fd().cast_unsigned().into(),
        key: key.map_or(0, |key| key.as_ptr() as u64),
        out: out.as_mut_ptr() as u64,
        flags: 0,
    };
    let size = size_of::<Element>();
    // SAFETY: key and room for the answer are of the map's sizes and outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const element, size) };
    match (result, io::Error::last_os_error()) {
        (0, _) => Ok(true),
        (_, error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        (_, error) => Err(error),
    }
}
