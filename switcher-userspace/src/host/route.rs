//! The way from this host to another, and the first neighbour on it.

use std::io;
use std::net::IpAddr;

use super::netlink;

const ROUTE: isize = libc::NETLINK_ROUTE as isize;
/// `RTN_UNICAST`: to another host.
const UNICAST: u8 = 1;
/// Neighbour states in which a link address can be used (`NUD_VALID`).
const VALID: u16 = 0xde;

/// The way to another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Index of the interface.
    pub interface: u32,
    /// The router that the host is behind, if it isn't on the link.
    pub gateway: Option<IpAddr>,
    /// The address that this host uses on this way.
    pub source: Option<IpAddr>,
}

/// The kernel's way to `address`; nothing if there is none, or the address is this host's own.
///
/// # Errors
/// When the kernel can't be asked.
pub fn way(address: IpAddr) -> io::Result<Option<Way>> {
    const RTM_GETROUTE: u16 = 26;
    const RTA_DST: u16 = 1;
    let (family, bytes) = parts(address);
    // struct rtmsg: the family and the length of the prefix, which is all of it.
    let mut body = vec![family, bytes.len() as u8 * 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    netlink::attribute(&mut body, RTA_DST, &bytes);
    match netlink::get(ROUTE, RTM_GETROUTE, &body) {
        Ok(answer) => Ok(parse(&answer)),
        Err(error) if is_unreachable(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `struct rtmsg` and attributes.
fn parse(message: &[u8]) -> Option<Way> {
    const RTA_OIF: u16 = 4;
    const RTA_GATEWAY: u16 = 5;
    const RTA_PREFSRC: u16 = 7;
    const RTA_VIA: u16 = 18;
    if message.get(7) != Some(&UNICAST) {
        return None;
    }
    let mut way = Way {
        interface: 0,
        gateway: None,
        source: None,
    };
    for (kind, value) in netlink::attributes(message.get(12..)?) {
        match kind {
            RTA_OIF => way.interface = netlink::u32_at(value, 0)?,
            RTA_GATEWAY => way.gateway = ip(value),
            // The family comes first: a gateway of the other one.
            RTA_VIA => way.gateway = ip(value.get(2..)?),
            RTA_PREFSRC => way.source = ip(value),
            _ => {}
        }
    }
    (way.interface != 0).then_some(way)
}

impl Way {
    /// Who gets a packet for `address` next.
    #[must_use]
    pub fn next(&self, address: IpAddr) -> IpAddr {
        self.gateway.unwrap_or(address)
    }
}

/// Whether the link address of a neighbour is known.
///
/// # Errors
/// When the kernel can't be asked (before Linux 5.0 it can't).
pub fn is_known(neighbour: IpAddr, interface: u32) -> io::Result<bool> {
    const RTM_GETNEIGH: u16 = 30;
    match netlink::get(
        ROUTE,
        RTM_GETNEIGH,
        &neighbour_message(neighbour, interface, 0),
    ) {
        // struct ndmsg: the state follows family and interface.
        Ok(answer) => Ok(netlink::u16_at(&answer, 8).is_some_and(|state| state & VALID != 0)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes the kernel behave as if it had a packet for this neighbour: it finds out the link address, or
/// whether an old one still holds.
///
/// # Errors
/// When the kernel refuses (CAP_NET_ADMIN).
pub fn refresh(neighbour: IpAddr, interface: u32) -> io::Result<()> {
    const RTM_NEWNEIGH: u16 = 28;
    /// `NTF_USE`.
    const USE: u8 = 1;
    netlink::create(
        ROUTE,
        RTM_NEWNEIGH,
        &neighbour_message(neighbour, interface, USE),
    )
}

/// `struct ndmsg` and the address.
fn neighbour_message(neighbour: IpAddr, interface: u32, flags: u8) -> Vec<u8> {
    const NDA_DST: u16 = 1;
    let (family, bytes) = parts(neighbour);
    let mut body = vec![family, 0, 0, 0];
    body.extend(interface.to_ne_bytes());
    body.extend([0, 0, flags, 0]);
    netlink::attribute(&mut body, NDA_DST, &bytes);
    body
}

fn parts(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (libc::AF_INET as u8, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6 as u8, v6.octets().to_vec()),
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn is_unreachable(error: &io::Error) -> bool {
    let unreachable = [
        libc::ENETUNREACH,
        libc::EHOSTUNREACH,
        libc::EACCES,
        libc::EINVAL,
    ];
    error
        .raw_os_error()
        .is_some_and(|number| unreachable.contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_this_host_has_no_way() {
        let here = way([127, 0, 0, 1].into()).expect("anyone may ask");
        assert_eq!(here, None);
    }

    #[test]
    fn the_next_is_the_gateway_or_the_host_itself() {
        let (host, gateway) = (IpAddr::from([10, 0, 0, 9]), IpAddr::from([10, 1, 0, 1]));
        let direct = Way {
            interface: 2,
            gateway: None,
            source: None,
        };
        assert_eq!(direct.next(host), host);
        let behind = Way {
            gateway: Some(gateway),
            ..direct
        };
        assert_eq!(behind.next(host), gateway);
    }
}
