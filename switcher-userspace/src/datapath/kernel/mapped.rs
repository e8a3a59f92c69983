//! A mapped BPF array: plain memory that the programs read while we write.

use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use anyhow::Context as _;
use bytemuck::Pod;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// An array map with `BPF_F_MMAPABLE` (Linux 5.5), elements of type `T`.
#[derive(Debug)]
pub(super) struct Mapped<T> {
    start: NonNull<u8>,
    bytes: usize,
    elements: u32,
    _element: PhantomData<T>,
}

// SAFETY: the memory is shared with the kernel anyway; every access is atomic or of bytes that only the
// agent's one owner writes.
unsafe impl<T> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Mapped<T> {}

impl<T: Pod> Mapped<T> {
    /// An array's elements stand 8 bytes apart, or a multiple of it.
    const STRIDE: usize = size_of::<T>().next_multiple_of(8);

    /// Maps an array of `elements`.
    ///
    /// # Errors
    /// When the kernel refuses, for instance because the map is not mappable.
    pub(super) fn new(map: impl AsFd, elements: u32) -> anyhow::Result<Self> {
        let bytes = Self::STRIDE * elements as usize;
        let length = NonZeroUsize::new(bytes).context("an empty array cannot be mapped")?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let start = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, map, 0) }
            .context("mapping a BPF array into memory")?;
        Ok(Self {
            start: start.cast(),
            bytes,
            elements,
            _element: PhantomData,
        })
    }

    /// A copy of an element.
    ///
    /// # Panics
    /// If `index` is not within the array.
    pub(super) fn read(&self, index: u32) -> T {
        // SAFETY: within the mapping (see `element`), aligned to 8, and `T` is plain data.
        unsafe { self.element(index).cast::<T>().read_volatile() }
    }

    /// Replaces an element that no program reads now, or whose words may change one by one.
    ///
    /// # Panics
    /// If `index` is not within the array.
    pub(super) fn write(&self, index: u32, value: T) {
        // SAFETY: within the mapping, aligned to 8, and `T` is plain data.
        unsafe { self.element(index).cast::<T>().write_volatile(value) };
    }

    /// A 64-bit word of an element.
    pub(super) fn word64(&self, index: u32, offset: usize) -> &AtomicU64 {
        // SAFETY: aligned, within the mapping, and only ever accessed atomically.
        unsafe { AtomicU64::from_ptr(self.field(index, offset, 8).cast()) }
    }

    /// A 32-bit word of an element.
    pub(super) fn word32(&self, index: u32, offset: usize) -> &AtomicU32 {
        // SAFETY: aligned, within the mapping, and only ever accessed atomically.
        unsafe { AtomicU32::from_ptr(self.field(index, offset, 4).cast()) }
    }

    /// Stores a 16-bit field of an element at once.
    pub(super) fn store16(&self, index: u32, offset: usize, value: u16) {
        // SAFETY: aligned, within the mapping, and only ever accessed atomically.
        let field = unsafe { AtomicU16::from_ptr(self.field(index, offset, 2).cast()) };
        field.store(value, Ordering::Release);
    }

    fn field(&self, index: u32, offset: usize, size: usize) -> *mut u8 {
        assert!(
            offset + size <= Self::STRIDE && offset.is_multiple_of(size),
            "a field inside the element"
        );
        // SAFETY: inside the element, as just asserted.
        unsafe { self.element(index).add(offset) }
    }

    fn element(&self, index: u32) -> *mut u8 {
        assert!(
            index < self.elements,
            "element {index} of an array of {}",
            self.elements
        );
        // SAFETY: the mapping holds `elements` strides.
        unsafe { self.start.as_ptr().add(index as usize * Self::STRIDE) }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: this mapping, which nobody can refer to any more.
        let _unmapped = unsafe { munmap(self.start.cast(), self.bytes) };
    }
}
