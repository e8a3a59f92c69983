//! Arrays of the kernel as ordinary memory: `BPF_F_MMAPABLE` maps (Linux 5.5), shared with the programs.
//!
//! Memory that others change may only be touched atomically, so a mapping is seen as a slice of atomic
//! words and nothing else. What a program may read half of is written word by word in an order that the
//! caller chooses; what must be seen whole is one 64-bit word.

use std::cell::RefCell;
use std::io;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use aya::maps::MapData;
use bytemuck::Pod;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// An array map of `T`s in this process's memory.
pub(super) struct Mapped<T> {
    start: NonNull<AtomicU64>,
    bytes: usize,
    elements: usize,
    kind: PhantomData<T>,
}

// SAFETY: the mapping belongs to the process, not to a thread, and is only touched atomically.
unsafe impl<T> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Mapped<T> {}

impl<T: Pod> Mapped<T> {
    /// The kernel aligns elements of an array to eight bytes.
    const WORDS: usize = {
        assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() <= 8);
        size_of::<T>() / 8
    };

    /// Maps an array of `elements`.
    ///
    /// # Errors
    /// When the map is not mappable or smaller than that.
    pub(super) fn new(map: BorrowedFd<'_>, elements: u32) -> io::Result<Self> {
        Self::part(map, 0, elements as usize)
    }

    /// Maps `elements` of an array from the first one on, which has to begin a page.
    fn part(map: BorrowedFd<'_>, first: usize, elements: usize) -> io::Result<Self> {
        let bytes = elements * Self::WORDS * 8;
        let length = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let offset = i64::try_from(first * Self::WORDS * 8).map_err(io::Error::other)?;
        // SAFETY: a new mapping at an address of the kernel's choice; nothing else lies there. The
        // kernel refuses to map beyond the array's end.
        let start = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, map, offset) }?;
        Ok(Self {
            start: start.cast(),
            bytes,
            elements,
            kind: PhantomData,
        })
    }

    /// How many elements there are.
    pub(super) const fn len(&self) -> usize {
        self.elements
    }

    /// An element; zero beyond the end. Each word of it is read once, not all of them at once.
    pub(super) fn get(&self, index: usize) -> T {
        let mut value = T::zeroed();
        let words = bytemuck::bytes_of_mut(&mut value).chunks_exact_mut(4);
        for (to, from) in words.zip(self.halves(index)) {
            to.copy_from_slice(&from.load(Ordering::Acquire).to_ne_bytes());
        }
        value
    }

    /// Writes an element, 32 bits at a time and only those that differ; does nothing beyond the end.
    pub(super) fn set(&self, index: usize, value: &T) {
        let words = bytemuck::bytes_of(value).chunks_exact(4);
        for (to, from) in self.halves(index).iter().zip(words) {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(from);
            let word = u32::from_ne_bytes(bytes);
            if to.load(Ordering::Relaxed) != word {
                to.store(word, Ordering::Release);
            }
        }
    }

    /// Writes one 16-bit word of an element, which no reader sees in part; nothing beyond the end.
    pub(super) fn set_quarter(&self, index: usize, quarter: usize, value: u16) {
        let words = self.words(index);
        // SAFETY: the same memory in quarters, atomic as well, and aligned to eight bytes.
        let quarters = unsafe {
            std::slice::from_raw_parts(words.as_ptr().cast::<AtomicU16>(), words.len() * 4)
        };
        if let Some(place) = quarters.get(quarter) {
            place.store(value, Ordering::Release);
        }
    }

    /// An element's 64-bit words; none beyond the end.
    pub(super) fn words(&self, index: usize) -> &[AtomicU64] {
        let first = index.saturating_mul(Self::WORDS);
        self.all().get(first..first + Self::WORDS).unwrap_or(&[])
    }

    fn halves(&self, index: usize) -> &[AtomicU32] {
        let words = self.words(index);
        // SAFETY: the same memory in halves, atomic as well, and aligned to eight bytes.
        unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len() * 2) }
    }

    const fn all(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page aligned, that long, and lives as long as `self`. Other processes
        // and the programs change it, which atomics allow.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes / 8) }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: made by `new` with this length, and no slice of it outlives `self`.
        let _unmapped = unsafe { munmap(self.start.cast(), self.bytes) };
    }
}

/// An array of which only the part that was last used is in this process's memory: all of it would count as the
/// agent's.
pub(super) struct Parts<T> {
    map: MapData,
    elements: usize,
    used: RefCell<Option<(usize, Mapped<T>)>>,
}

/// Elements of a part: whole pages, whatever an element's size.
const PART: usize = 1 << 15;

impl<T: Pod> Parts<T> {
    /// Of an array of `elements`.
    pub(super) const fn new(map: MapData, elements: u32) -> Self {
        Self {
            map,
            elements: elements as usize,
            used: RefCell::new(None),
        }
    }

    /// See [`Mapped::get`].
    ///
    /// # Errors
    /// When its part can't be mapped.
    pub(super) fn get(&self, index: usize) -> io::Result<T> {
        self.with(index, Mapped::get)
    }

    /// See [`Mapped::set`].
    ///
    /// # Errors
    /// When its part can't be mapped.
    pub(super) fn set(&self, index: usize, value: &T) -> io::Result<()> {
        self.with(index, |part, index| part.set(index, value))
    }

    /// See [`Mapped::set_quarter`].
    ///
    /// # Errors
    /// When its part can't be mapped.
    pub(super) fn set_quarter(&self, index: usize, quarter: usize, value: u16) -> io::Result<()> {
        self.with(index, |part, index| part.set_quarter(index, quarter, value))
    }

    fn with<R>(&self, index: usize, what: impl FnOnce(&Mapped<T>, usize) -> R) -> io::Result<R> {
        let number = index / PART;
        let mut used = self.used.borrow_mut();
        let part = match used.take_if(|(it, _)| *it == number) {
            Some((_, part)) => part,
            None => {
                let first = number * PART;
                let elements = self.elements.saturating_sub(first).min(PART);
                Mapped::part(self.map.fd().as_fd(), first, elements)?
            }
        };
        let (_, part) = used.insert((number, part));
        Ok(what(part, index % PART))
    }
}
