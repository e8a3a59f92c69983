//! Links that come, go and change.

use std::io;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// `RTMGRP_LINK` (rtnetlink(7)).
const LINKS: u32 = 1;

/// Calls `changed` whenever a link of this network namespace comes, goes or changes, from a thread of its own, for as long as
/// it wants to hear more.
///
/// # Errors
/// When there is no such socket, or no thread.
pub fn follow(mut changed: impl FnMut() -> bool + Send + 'static) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind(&SocketAddr::new(0, LINKS))?;
    let hear = move || {
        loop {
            match socket.recv_from_full() {
                Ok(_) => {}
                // More has happened than there is room for: something has.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return tracing::warn!("links are looked at in turn only: {error}"),
            }
            if !changed() {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("links".to_owned());
    thread.spawn(hear).map(drop)
}
