//! The name of an interface's driver.

use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const GDRVINFO: u32 = 3;

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

/// The driver of an interface, as `ethtool -i` shows it. Nothing if it has none or can't be asked.
#[must_use]
pub fn driver(interface: &str) -> Option<String> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .ok()?;
    let mut info = DriverInfo {
        command: GDRVINFO,
        driver: [0; 32],
        rest: [0; 160],
    };
    // SAFETY: plain bytes and pointers; zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut info).cast();
    // SAFETY: the request names an interface, NUL-terminated since it was zero, and points at as much
    // room as this command fills; both outlive the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    let name = super::netlink::text(&info.driver);
    (result == 0 && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_interface_no_driver() {
        assert_eq!(super::driver("no-such-if"), None);
        assert_eq!(super::driver("a-name-that-is-far-too-long"), None);
    }
}
