//! The few uses of bpf(2) that aya has no safe way to: maps of maps with empty elements, batches, and
//! links whose failure is to be told apart. Numbers are from include/uapi/linux/bpf.h.

pub(super) mod element;
mod types;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytemuck::{Pod, Zeroable};

const MAP_CREATE: i32 = 0;
const MAP_LOOKUP_ELEM: i32 = 1;
const MAP_UPDATE_ELEM: i32 = 2;
const MAP_DELETE_ELEM: i32 = 3;
const OBJ_PIN: i32 = 6;
const OBJ_GET: i32 = 7;
const OBJ_GET_INFO_BY_FD: i32 = 15;
const MAP_LOOKUP_BATCH: i32 = 24;
const LINK_CREATE: i32 = 28;
const LINK_UPDATE: i32 = 29;
const LINK_DETACH: i32 = 34;

/// Entries fetched by one call of [`entries`].
const BATCH: usize = 4096;

/// Kinds of maps made here.
#[derive(Clone, Copy, Debug)]
pub(super) enum MapKind {
    Hash = 1,
    Array = 2,
    LruHash = 9,
    ArrayOfMaps = 12,
}

/// Flag of a hash map whose entries take memory only when they are made.
pub(super) const NO_PREALLOC: u32 = 1;

/// Where a link attaches.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hook {
    Xdp = 37,
    /// Linux 6.6.
    TcxIngress = 46,
    TcxEgress = 47,
    /// The hooks of a cgroup (Linux 5.8 for `getpeername`).
    Connect4 = 10,
    Connect6 = 11,
    SendMsg4 = 14,
    SendMsg6 = 15,
    RecvMsg4 = 19,
    RecvMsg6 = 20,
    GetPeerName4 = 29,
    GetPeerName6 = 30,
}

/// XDP in the kernel's receive path.
pub(super) const XDP_GENERIC: u32 = 1 << 1;
/// Before all others on a tcx hook.
pub(super) const FIRST: u32 = 1 << 3;
/// XDP in the driver.
pub(super) const XDP_NATIVE: u32 = 1 << 2;

/// What the kernel says of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkInfo {
    pub(super) id: u32,
    pub(super) program: u32,
    /// Of an interface's link; 0 when the interface has gone.
    pub(super) interface: u32,
    /// Of a cgroup's link: the number of the cgroup, which is its directory's inode; 0 when it has gone.
    pub(super) cgroup: u64,
}

/// Makes a map.
pub(super) fn create_map(
    kind: MapKind,
    (key_size, value_size): (usize, usize),
    max_entries: u32,
    flags: u32,
    inner: Option<BorrowedFd<'_>>,
    name: &str,
) -> io::Result<OwnedFd> {
    #[repr(C)]
    #[derive(Clone, Copy, Pod, Zeroable)]
    struct Attributes {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        map_flags: u32,
        inner_map_fd: u32,
        numa_node: u32,
        name: [u8; 16],
        interface: u32,
        btf_fd: u32,
        btf_key: u32,
        btf_value: u32,
    }
    let types = match kind {
        MapKind::Hash | MapKind::LruHash => Some(types::load(key_size, value_size)?),
        MapKind::Array | MapKind::ArrayOfMaps => None,
    };
    let mut short_name = [0; 16];
    for (to, from) in short_name.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    let attributes = Attributes {
        map_type: kind as u32,
        key_size: key_size as u32,
        value_size: value_size as u32,
        max_entries,
        map_flags: flags,
        inner_map_fd: inner.map_or(0, raw),
        numa_node: 0,
        name: short_name,
        interface: 0,
        btf_fd: types.as_ref().map_or(0, |types| raw(types.as_fd())),
        btf_key: types.as_ref().map_or(0, |_| types::KEY),
        btf_value: types.as_ref().map_or(0, |_| types::VALUE),
    };
    // SAFETY: the attributes hold no pointers; on success the call returns a new descriptor.
    unsafe { bpf_open(MAP_CREATE, attributes) }
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Element {
    map_fd: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Sets an element of an array of maps. Returns after an RCU grace period: the kernel waits for programs
/// that may still use the old map (`maybe_wait_bpf_programs`).
pub(super) fn set_inner(outer: impl AsFd, index: u32, inner: impl AsFd) -> io::Result<()> {
    let value = raw(inner.as_fd());
    let element = Element {
        map_fd: raw(outer.as_fd()),
        reserved: 0,
        key: &raw const index as u64,
        value: &raw const value as u64,
        flags: 0,
    };
    // SAFETY: key and value are four bytes, as arrays of maps have them, and outlive the call.
    unsafe { bpf(MAP_UPDATE_ELEM, element) }.map(drop)
}

/// Id of the map in an element of an array of maps.
pub(super) fn inner_id(outer: impl AsFd, index: u32) -> io::Result<Option<u32>> {
    let mut id = 0u32;
    let element = Element {
        map_fd: raw(outer.as_fd()),
        reserved: 0,
        key: &raw const index as u64,
        value: &raw mut id as u64,
        flags: 0,
    };
    // SAFETY: key and value are four bytes, as arrays of maps have them, and outlive the call.
    match unsafe { bpf(MAP_LOOKUP_ELEM, element) } {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        result => result.map(|_| Some(id)),
    }
}

/// Empties an element of an array of maps, likewise with a grace period. An empty one is no error.
pub(super) fn clear_inner(outer: impl AsFd, index: u32) -> io::Result<()> {
    let element = Element {
        map_fd: raw(outer.as_fd()),
        reserved: 0,
        key: &raw const index as u64,
        value: 0,
        flags: 0,
    };
    // SAFETY: the key is four bytes, as arrays of maps have them, and outlives the call.
    match unsafe { bpf(MAP_DELETE_ELEM, element) } {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result.map(drop),
    }
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    element_flags: u64,
    flags: u64,
}

/// Calls `each` for every entry of a hash map, in batches (Linux 5.6). Entries that come or go meanwhile
/// may be left out.
///
/// # Errors
/// When the map's keys and values have other sizes, or the kernel refuses.
pub(super) fn entries<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    (key_size, value_size): (u32, u32),
    mut each: impl FnMut(&K, &V),
) -> io::Result<()> {
    if (key_size as usize, value_size as usize) != (size_of::<K>(), size_of::<V>()) {
        return Err(io::Error::other("a map has entries of another size"));
    }
    let mut keys = vec![K::zeroed(); BATCH];
    let mut values = vec![V::zeroed(); BATCH];
    let (mut from, mut to) = (0u64, 0u64);
    let mut first = true;
    loop {
        let mut batch = Batch {
            in_batch: if first { 0 } else { &raw mut from as u64 },
            out_batch: &raw mut to as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: BATCH as u32,
            map_fd: raw(map),
            element_flags: 0,
            flags: 0,
        };
        // SAFETY: there is room for `count` keys and values of the map's sizes, checked above, and for
        // the four bytes of a hash map's position; all outlive the call.
        let result = unsafe { bpf_back(MAP_LOOKUP_BATCH, &mut batch) };
        let ended = match result {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            other => other.map(|_| false)?,
        };
        let count = (batch.count as usize).min(BATCH);
        keys.iter()
            .zip(&values)
            .take(count)
            .for_each(|(key, value)| each(key, value));
        if ended {
            return Ok(());
        }
        (first, from) = (false, to);
    }
}

/// Reads `count` elements of a per-CPU array from `first` on, by one call (Linux 5.13): for each of them what every
/// possible CPU has. Fewer if the array ends before.
///
/// # Errors
/// When the map's values have another size, or the kernel refuses.
pub(super) fn per_cpu<V: Pod>(
    map: BorrowedFd<'_>,
    value_size: u32,
    (first, count): (u32, u32),
    cpus: usize,
) -> io::Result<Vec<V>> {
    let stride = size_of::<V>();
    if value_size as usize != stride || !stride.is_multiple_of(8) {
        return Err(io::Error::other("a map has elements of another size"));
    }
    let mut keys = vec![0u32; count as usize];
    let mut values = vec![V::zeroed(); count as usize * cpus];
    // An array's position is the key before.
    let (before, mut to) = (first.wrapping_sub(1), 0u32);
    let mut batch = Batch {
        in_batch: if first == 0 {
            0
        } else {
            &raw const before as u64
        },
        out_batch: &raw mut to as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count,
        map_fd: raw(map),
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: there is room for `count` keys of four bytes, as arrays have them, and for a value of every possible
    // CPU for each, as large as the map's, checked above, which is a multiple of eight. All outlives the call.
    match unsafe { bpf_back(MAP_LOOKUP_BATCH, &mut batch) } {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
        other => drop(other?),
    }
    values.truncate(batch.count as usize * cpus);
    Ok(values)
}

/// Attaches a program to a cgroup, beside those that are there.
pub(super) fn create_cgroup_link(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    hook: Hook,
) -> io::Result<OwnedFd> {
    create_link(program, raw(cgroup), hook, 0)
}

/// Attaches a program to an interface, or to what a descriptor stands for.
pub(super) fn create_link(
    program: BorrowedFd<'_>,
    target: u32,
    hook: Hook,
    flags: u32,
) -> io::Result<OwnedFd> {
    // struct { prog_fd, target_ifindex or target_fd, attach_type, flags }, and nothing in the union behind.
    let attributes = [raw(program), target, hook as u32, flags, 0, 0, 0, 0, 0, 0];
    // SAFETY: the attributes hold no pointers; on success the call returns a new descriptor.
    unsafe { bpf_open(LINK_CREATE, attributes) }
}

/// Puts another program in a link's place; no packet meets neither.
pub(super) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = [raw(link), raw(program), 0, 0];
    // SAFETY: the attributes hold no pointers.
    unsafe { bpf(LINK_UPDATE, attributes) }.map(drop)
}

/// Takes a link's program off its interface now (Linux 5.9). Without it the kernel does so some time after
/// the last reference has gone.
pub(super) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the attributes hold no pointers.
    unsafe { bpf(LINK_DETACH, [raw(link)]) }.map(drop)
}

/// What the kernel says of a link (Linux 5.8; 6.6 for tcx).
pub(super) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    #[repr(C)]
    #[derive(Clone, Copy, Pod, Zeroable)]
    struct Query {
        fd: u32,
        length: u32,
        info: u64,
    }
    // struct bpf_link_info: type, id, prog_id, padding, and a union that begins with the interface.
    let mut info = [0u32; 32];
    let query = Query {
        fd: raw(link),
        length: size_of_val(&info) as u32,
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: there is room for `length` bytes, and the array outlives the call.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, query) }?;
    Ok(LinkInfo {
        id: info[1],
        program: info[2],
        interface: info[4],
        cgroup: bytemuck::cast([info[4], info[5]]),
    })
}

/// Sets what a socket storage map holds for one of this process's sockets.
///
/// # Errors
/// When the map's values have another size, or the kernel refuses.
pub(super) fn set_of_socket<V: Pod>(
    map: BorrowedFd<'_>,
    socket: BorrowedFd<'_>,
    value: &V,
) -> io::Result<()> {
    let key = raw(socket);
    let element = Element {
        map_fd: raw(map),
        reserved: 0,
        key: &raw const key as u64,
        value: std::ptr::from_ref(value) as u64,
        flags: 0,
    };
    // SAFETY: the key is a descriptor; the map is one of `V`s, which the caller has checked. Both outlive
    // the call.
    unsafe { bpf(MAP_UPDATE_ELEM, element) }.map(drop)
}

/// The cookie of this thread's network namespace (Linux 5.14).
pub(super) fn namespace_cookie() -> io::Result<u64> {
    const SO_NETNS_COOKIE: i32 = 71;
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))?;
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    let place = (&raw mut cookie).cast();
    let (level, socket) = (libc::SOL_SOCKET, socket.as_raw_fd());
    // SAFETY: there is room for `length` bytes, and it outlives the call.
    match unsafe { libc::getsockopt(socket, level, SO_NETNS_COOKIE, place, &raw mut length) } {
        0 => Ok(cookie),
        _ => Err(io::Error::last_os_error()),
    }
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Pins an object at a path of a BPF file system.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = Object {
        path: path.as_ptr() as u64,
        fd: raw(object),
        flags: 0,
    };
    // SAFETY: the path ends with a NUL and outlives the call.
    unsafe { bpf(OBJ_PIN, attributes) }.map(drop)
}

/// Opens a pinned object.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = Object {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: 0,
    };
    // SAFETY: the path ends with a NUL and outlives the call, which returns a new descriptor.
    unsafe { bpf_open(OBJ_GET, attributes) }
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// For commands that return a new descriptor.
///
/// # Safety
/// Pointers in `attributes` are what `command` expects, and valid until it returns.
unsafe fn bpf_open<A: Pod>(command: i32, attributes: A) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let number = unsafe { bpf(command, attributes) }?;
    // SAFETY: a descriptor that the kernel has just given to us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// # Safety
/// Pointers in `attributes` are what `command` expects, and valid until it returns.
unsafe fn bpf<A: Pod>(command: i32, mut attributes: A) -> io::Result<i32> {
    // SAFETY: the caller's promise.
    unsafe { bpf_back(command, &mut attributes) }
}

/// Like [`bpf`], for commands that answer in the attributes.
///
/// # Safety
/// Pointers in `attributes` are what `command` expects, and valid until it returns.
unsafe fn bpf_back<A: Pod>(command: i32, attributes: &mut A) -> io::Result<i32> {
    let size = size_of::<A>();
    // SAFETY: `attributes` is `size` bytes; the kernel takes a shorter bpf_attr as one that goes on with
    // zeros. What it points at is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size) };
    match result {
        0.. => Ok(result as i32),
        _ => Err(io::Error::last_os_error()),
    }
}
