//! From a bare kernel to a system that tests run on.

use std::ffi::CStr;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::mount::MsFlags;

/// Modules and their order; a line is a path.
const MODULES: &str = "/guest/modules";
const MOUNTS: [(&str, &str); 8] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("bpf", "/sys/fs/bpf"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("debugfs", "/sys/kernel/debug"),
    ("tmpfs", "/run"),
    ("tmpfs", "/tmp"),
];

pub(crate) fn mount() -> Result<()> {
    for (kind, at) in MOUNTS {
        fs::create_dir_all(at).or_else(|error| {
            if Path::new(at).is_dir() {
                Ok(())
            } else {
                Err(error)
            }
        })?;
        nix::mount::mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mounting {kind} at {at}"))?;
    }
    Ok(())
}

/// Loads what the kernel does not have built in.
pub(crate) fn modules() -> Result<()> {
    for path in fs::read_to_string(MODULES).unwrap_or_default().lines() {
        let file = File::open(path).with_context(|| format!("opening {path}"))?;
        let none: &CStr = c"";
        // SAFETY: a descriptor that is open, and a string that ends; the kernel keeps neither.
        let done =
            unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), none.as_ptr(), 0) };
        let error = std::io::Error::last_os_error();
        let known = error.raw_os_error() == Some(libc::EEXIST);
        ensure!(done == 0 || known, "loading {path}: {error}");
    }
    Ok(())
}

pub(crate) fn network() -> Result<()> {
    let status = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    ensure!(status.context("starting ip")?.success(), "no loopback");
    Ok(())
}

/// Its release and the seconds it has been up.
pub(crate) fn kernel() -> Result<String> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("reading {path}"));
    let release = read("/proc/sys/kernel/osrelease")?;
    let uptime = read("/proc/uptime")?;
    let seconds = uptime.split('.').next().unwrap_or_default();
    Ok(format!("{} after {seconds} s", release.trim()))
}

pub(crate) fn power_off() -> ! {
    // SAFETY: takes no pointers. Nothing here is to be kept.
    let _refused = unsafe { libc::reboot(libc::RB_POWER_OFF) };
    // The first process must not end: the kernel would panic, and `xtask` wait.
    loop {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}
