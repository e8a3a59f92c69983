//! Which addresses of this host lead to an endpoint.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use switcher_common::abi::nat::{NAT_ADDRESSES, NatSource};

use crate::config::Masquerade;

/// Where flows to an endpoint come from. Without any address there is no way to it now.
pub(crate) fn source(endpoint: IpAddr, config: &Masquerade) -> NatSource {
    let listed = config.addresses.iter().copied();
    let mut addresses: Vec<IpAddr> = listed
        .filter(|address| address.is_ipv4() == endpoint.is_ipv4())
        .take(NAT_ADDRESSES)
        .collect();
    if addresses.is_empty() {
        addresses.extend(towards(endpoint).ok());
    }
    let mut source = NatSource {
        count: addresses.len() as u32,
        first: *config.ports.start(),
        ports: config.ports.end() - config.ports.start() + 1,
        ..NatSource::default()
    };
    for (to, from) in source.addresses.iter_mut().zip(addresses) {
        *to = from.into();
    }
    source
}

/// The address that this host would use itself: the kernel's choice of route and source (no packet is
/// sent).
fn towards(endpoint: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match endpoint {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((endpoint, 9))?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_addresses_of_the_family_come_first() {
        let config = Masquerade {
            addresses: ["10.0.0.1", "2001:db8::1", "10.0.0.2"]
                .map(|address| address.parse().expect("an address"))
                .to_vec(),
            ports: 20_000..=20_009,
            ..Masquerade::default()
        };
        let v4 = source([192, 0, 2, 1].into(), &config);
        assert_eq!((v4.count, v4.first, v4.ports), (2, 20_000, 10));
        assert_eq!(IpAddr::from(v4.addresses[1]), IpAddr::from([10, 0, 0, 2]));
        let v6 = source("2001:db8::9".parse().expect("an address"), &config);
        assert_eq!(v6.count, 1);
    }

    #[test]
    fn else_this_host_knows() {
        let config = Masquerade::default();
        let here = source([127, 0, 0, 1].into(), &config);
        assert_eq!(
            IpAddr::from(here.addresses[0]),
            IpAddr::from([127, 0, 0, 1])
        );
        assert_eq!((here.count, here.ports), (1, 16_384));
    }
}
