//! The few bpf(2) commands that aya has no call for.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_link_info};

/// Most entries that one batch reads.
const BATCH: usize = 4096;

/// Deletes an element of a map.
///
/// # Errors
/// As bpf(2); `NotFound` if there is none.
pub(super) fn delete(map: BorrowedFd<'_>, key: &u32) -> io::Result<()> {
    let mut attr = zeroed();
    attr.__bindgen_anon_2.map_fd = map.as_raw_fd() as u32;
    attr.__bindgen_anon_2.key = std::ptr::from_ref(key) as u64;
    call(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut attr).map(drop)
}

/// Index of the interface that a pinned link (XDP or tcx) is attached to; 0 if the interface has gone.
///
/// # Errors
/// As bpf(2); `NotFound` if there is no such pin.
pub(super) fn pinned_link_interface(pin: &Path) -> io::Result<u32> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    let fd = call(bpf_cmd::BPF_OBJ_GET, &mut attr)?;
    // SAFETY: a fresh descriptor that nobody else knows.
    link_interface(unsafe { OwnedFd::from_raw_fd(fd as i32) }.as_fd())
}

fn link_interface(link: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: plain integers; zero is valid.
    let mut info: bpf_link_info = unsafe { std::mem::zeroed() };
    let mut attr = zeroed();
    attr.info.bpf_fd = link.as_raw_fd() as u32;
    attr.info.info_len = size_of::<bpf_link_info>() as u32;
    attr.info.info = std::ptr::from_mut(&mut info) as u64;
    call(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    // SAFETY: XDP and tcx links both begin with the interface index.
    Ok(unsafe { info.__bindgen_anon_1.xdp.ifindex })
}

/// Reads all values of a hash map in batches (Linux 5.6), without stopping the programs that change it.
///
/// # Errors
/// As bpf(2).
pub(super) fn values<K: bytemuck::Pod, V: bytemuck::Pod>(
    map: BorrowedFd<'_>,
    mut each: impl FnMut(&K, &V),
) -> io::Result<()> {
    let mut keys = vec![K::zeroed(); BATCH];
    let mut values = vec![V::zeroed(); BATCH];
    let mut position: Option<u64> = None;
    loop {
        let mut next = 0_u64;
        let mut attr = zeroed();
        attr.batch.in_batch = position
            .as_ref()
            .map_or(0, |p| std::ptr::from_ref(p) as u64);
        attr.batch.out_batch = std::ptr::from_mut(&mut next) as u64;
        attr.batch.keys = keys.as_mut_ptr() as u64;
        attr.batch.values = values.as_mut_ptr() as u64;
        attr.batch.count = BATCH as u32;
        attr.batch.map_fd = map.as_raw_fd() as u32;
        let outcome = call(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr);
        let ended = match outcome {
            Ok(_) => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error),
        };
        // SAFETY: the kernel has written the number of entries that it returned.
        let count = unsafe { attr.batch.count } as usize;
        for (key, value) in keys.iter().zip(&values).take(count) {
            each(key, value);
        }
        if ended {
            return Ok(());
        }
        position = Some(next);
    }
}

fn zeroed() -> bpf_attr {
    // SAFETY: a union of plain integers; unused bytes must be zero.
    unsafe { std::mem::zeroed() }
}

fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i64> {
    let attr = std::ptr::from_mut(attr);
    // SAFETY: `attr` is filled in for `command`, and every pointer in it outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command as i64, attr, size_of::<bpf_attr>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
