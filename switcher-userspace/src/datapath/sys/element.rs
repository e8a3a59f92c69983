//! Elements of hash maps, one at a time.

use std::io;
use std::os::fd::BorrowedFd;

use bytemuck::Pod;

use super::{Element, MAP_LOOKUP_ELEM, MAP_UPDATE_ELEM, bpf, raw};

const MAP_LOOKUP_AND_DELETE_ELEM: i32 = 21;

/// An element, if there is one.
///
/// # Safety
/// `K` and `V` have the sizes of the map's keys and values.
pub(in crate::datapath) unsafe fn look_up<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    key: &K,
) -> io::Result<Option<V>> {
    // SAFETY: the caller's promise.
    unsafe { value_by(MAP_LOOKUP_ELEM, map, key) }
}

/// Removes an element and returns it, in one step (Linux 5.14).
///
/// # Safety
/// As [`look_up`].
pub(in crate::datapath) unsafe fn take<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    key: &K,
) -> io::Result<Option<V>> {
    // SAFETY: the caller's promise.
    unsafe { value_by(MAP_LOOKUP_AND_DELETE_ELEM, map, key) }
}

/// Adds an element, unless there is one.
///
/// # Safety
/// As [`look_up`].
pub(in crate::datapath) unsafe fn insert_new<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    key: &K,
    value: &V,
) -> io::Result<()> {
    const NOEXIST: u64 = 1;
    let element = Element {
        map_fd: raw(map),
        reserved: 0,
        key: std::ptr::from_ref(key) as u64,
        value: std::ptr::from_ref(value) as u64,
        flags: NOEXIST,
    };
    // SAFETY: key and value have the map's sizes, by the caller's promise, and outlive the call.
    match unsafe { bpf(MAP_UPDATE_ELEM, element) } {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        result => result.map(drop),
    }
}

/// # Safety
/// As [`look_up`].
unsafe fn value_by<K: Pod, V: Pod>(
    command: i32,
    map: BorrowedFd<'_>,
    key: &K,
) -> io::Result<Option<V>> {
    let mut value = V::zeroed();
    let element = Element {
        map_fd: raw(map),
        reserved: 0,
        key: std::ptr::from_ref(key) as u64,
        value: &raw mut value as u64,
        flags: 0,
    };
    // SAFETY: key and value have the map's sizes, by the caller's promise, and outlive the call.
    match unsafe { bpf(command, element) } {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        result => result.map(|_| Some(value)),
    }
}
