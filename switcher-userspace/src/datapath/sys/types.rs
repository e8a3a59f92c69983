//! BTF for the hash maps made here: the key as so many bytes, the value as a structure of them.
//!
//! Until Linux 6.2 a map only goes into an array of maps if its value is a structure where that of the
//! array's template is one (`timer_off` in `bpf_map_meta_equal`), and the loader gives the templates of our
//! programs their types.

use std::io;
use std::os::fd::OwnedFd;

use bytemuck::{Pod, Zeroable};

use super::bpf_open;

const BTF_LOAD: i32 = 18;
/// Offsets are into this; the first name is the empty one.
const NAMES: &[u8] = b"\0byte\0index\0";
const BYTE: u32 = 1;
const INDEX: u32 = 2;
/// Type number of the key.
pub(super) const KEY: u32 = 3;
const CONTENT: u32 = 4;
/// Type number of the value.
pub(super) const VALUE: u32 = 5;

/// Loads the types of a map with keys and values of this many bytes.
pub(super) fn load(key: usize, value: usize) -> io::Result<OwnedFd> {
    #[repr(C)]
    #[derive(Clone, Copy, Pod, Zeroable)]
    struct Attributes {
        btf: u64,
        log: u64,
        size: u32,
        log_size: u32,
        log_level: u32,
        reserved: u32,
    }
    let blob = blob(key as u32, value as u32);
    let attributes = Attributes {
        btf: blob.as_ptr() as u64,
        size: blob.len() as u32,
        ..Attributes::zeroed()
    };
    // SAFETY: the blob is that long and outlives the call; on success it returns a new descriptor.
    unsafe { bpf_open(BTF_LOAD, attributes) }
}

/// `struct btf_header`, types, names: Documentation/bpf/btf.rst.
fn blob(key: u32, value: u32) -> Vec<u8> {
    const MAGIC_AND_VERSION: u32 = 0x0001_eb9f_u32;
    const HEADER: u32 = 24;
    let int = |name: u32, bytes: u32| [name, 1 << 24, bytes, bytes * 8];
    let array = |bytes: u32| [0, 3 << 24, 0, BYTE, INDEX, bytes];
    // One member, at the beginning.
    let structure = |bytes: u32| [0, 4 << 24 | 1, bytes, 0, CONTENT, 0];
    let types = [
        &int(1, 1)[..],
        &int(6, 4)[..],
        &array(key)[..],
        &array(value)[..],
        &structure(value)[..],
    ]
    .concat();
    let length = size_of_val(types.as_slice()) as u32;
    let header = [
        MAGIC_AND_VERSION,
        HEADER,
        0,
        length,
        length,
        NAMES.len() as u32,
    ];
    let words = header.iter().chain(&types).copied();
    let mut blob: Vec<u8> = words.flat_map(u32::to_ne_bytes).collect();
    blob.extend(NAMES);
    blob
}
