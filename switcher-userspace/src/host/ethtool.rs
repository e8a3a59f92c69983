//! What an interface's driver says of itself.

use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const GDRVINFO: u32 = 3;
const GGRO: u32 = 0x2b;

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// The driver of an interface, as `ethtool -i` shows it. Nothing if it has none or can't be asked.
#[must_use]
pub fn driver(interface: &str) -> Option<String> {
    let mut info = DriverInfo {
        command: GDRVINFO,
        driver: [0; 32],
        rest: [0; 160],
    };
    ask(interface, &mut info)?;
    let name = super::netlink::text(&info.driver);
    (!name.is_empty()).then_some(name)
}

/// Whether the kernel merges packets that an interface receives (GRO), as `ethtool -k` shows it. Nothing if
/// it can't be asked.
#[must_use]
pub fn merges(interface: &str) -> Option<bool> {
    let mut value = Value {
        command: GGRO,
        data: 0,
    };
    ask(interface, &mut value)?;
    Some(value.data != 0)
}

/// `T` begins with a command and has the room that it fills.
fn ask<T>(interface: &str, question: &mut T) -> Option<()> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .ok()?;
    // SAFETY: plain bytes and pointers; zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = std::ptr::from_mut(question).cast();
    // SAFETY: the request names an interface, NUL-terminated since it was zero, and points at as much
    // room as this command fills; both outlive the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    (result == 0).then_some(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_interface_no_driver() {
        assert_eq!(super::driver("no-such-if"), None);
        assert_eq!(super::merges("no-such-if"), None);
        assert_eq!(super::driver("a-name-that-is-far-too-long"), None);
    }
}
