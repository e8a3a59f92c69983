//! Filters of the clsact qdisc (`RTM_GETTFILTER`, linux/pkt_sched.h).

use std::io;

use super::netlink;

/// Where packets that come in, or go out, are filtered: `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)` and the
/// same of egress.
pub(crate) const INGRESS: u32 = 0xffff_fff2;
pub(crate) const EGRESS: u32 = 0xffff_fff3;

/// Whether an interface has a filter of this priority and handle.
///
/// # Errors
/// When the kernel refuses. That it has no such qdisc is no error.
pub(crate) fn has(interface: u32, parent: u32, priority: u16, handle: u32) -> io::Result<bool> {
    const RTM_GETTFILTER: u16 = 46;
    // struct tcmsg: family and padding, interface, handle, parent, info.
    let mut body = Vec::with_capacity(20);
    for word in [0, interface, 0, parent, 0] {
        body.extend(word.to_ne_bytes());
    }
    let mut found = false;
    let mut look = |message: &[u8]| {
        let word = |at| netlink::u32_at(message, at).unwrap_or_default();
        found |= word(8) == handle && word(16) >> 16 == u32::from(priority);
    };
    match netlink::dump(
        libc::NETLINK_ROUTE as isize,
        RTM_GETTFILTER,
        &body,
        &mut look,
    ) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENODEV)) => {
            Ok(false)
        }
        done => done.map(|()| found),
    }
}
