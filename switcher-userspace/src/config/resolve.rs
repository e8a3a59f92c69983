//! What `forward = "auto"` comes to on this host.

use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

use super::{Forward, ServiceConfig};

/// Why a service's endpoints can't be reached the way its configuration asks for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ResolveError {
    /// `auto` or `masquerade` met an endpoint of this host beside those of others.
    #[error(
        "service {service}: forward = \"masquerade\" sends packets to other hosts, but endpoint \
         {endpoint} is an address of this host; choose forward = \"local\" if all endpoints are on \
         it, in containers or virtual machines, and else let this one be another host's"
    )]
    MasqueradeToSelf {
        /// The service's name.
        service: String,
        /// The first endpoint that is on this host.
        endpoint: SocketAddr,
    },
    /// A mode that sends packets away met an endpoint of this host that is not the VIP itself.
    #[error(
        "service {service}: forward = \"{forward}\" sends packets to other hosts, but endpoint \
         {endpoint} is an address of this host; to serve here, too, name the vip as the endpoint"
    )]
    DirectToSelf {
        /// The service's name.
        service: String,
        /// How packets are sent.
        forward: Forward,
        /// The first endpoint that is on this host.
        endpoint: SocketAddr,
    },
    /// `routed` met an endpoint of this host.
    #[error(
        "service {service}: forward = \"routed\" sends packets to other hosts, but endpoint \
         {endpoint} is an address of this host; choose forward = \"local\""
    )]
    RoutedToSelf {
        /// The service's name.
        service: String,
        /// The first endpoint that is on this host.
        endpoint: SocketAddr,
    },
}

/// Says how a service's packets are forwarded, given which addresses are this host's own:
/// anything but [`Forward::Auto`].
///
/// # Errors
///
/// When a mode that sends packets to other hosts names an endpoint of this one. In `masquerade` and `dsr` the
/// VIP itself may be one.
pub fn resolve(
    service: &ServiceConfig,
    is_own: impl Fn(IpAddr) -> bool,
) -> Result<Forward, ResolveError> {
    let endpoint = |own: bool| {
        let mut all = service.endpoints.values().flatten().map(|e| e.address);
        all.find(|address| is_own(address.ip()) == own)
    };
    let name = || service.name.clone();
    match service.forward {
        forward @ (Forward::Dsr | Forward::Ipip) => {
            let elsewhere = |address: SocketAddr| address != service.vip;
            let mut all = service.endpoints.values().flatten().map(|e| e.address);
            match all.find(|address| elsewhere(*address) && is_own(address.ip())) {
                None => Ok(forward),
                Some(endpoint) => Err(ResolveError::DirectToSelf {
                    service: name(),
                    forward,
                    endpoint,
                }),
            }
        }
        Forward::Local => Ok(Forward::Local),
        Forward::Auto if endpoint(false).is_none() => Ok(Forward::Local),
        Forward::Auto | Forward::Masquerade => {
            let mut all = service.endpoints.values().flatten().map(|e| e.address);
            let own = |at: &SocketAddr| is_own(at.ip()) && *at != service.vip;
            match all.find(own) {
                None => Ok(Forward::Masquerade),
                Some(endpoint) => Err(ResolveError::MasqueradeToSelf {
                    service: name(),
                    endpoint,
                }),
            }
        }
        Forward::Routed => match endpoint(true) {
            None => Ok(Forward::Routed),
            Some(endpoint) => Err(ResolveError::RoutedToSelf {
                service: name(),
                endpoint,
            }),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{EndpointConfig, HashMode, Protocol, UdpMode};

    #[test]
    fn auto_is_local_when_every_endpoint_is_here() {
        let service = service(Forward::Auto, &["10.0.0.1:81", "10.0.0.1:82"]);
        assert_eq!(resolve(&service, own), Ok(Forward::Local));
    }

    #[test]
    fn auto_is_masquerade_when_endpoints_are_elsewhere() {
        let elsewhere = service(Forward::Auto, &["10.0.0.2:81", "10.0.0.3:81"]);
        assert_eq!(resolve(&elsewhere, own), Ok(Forward::Masquerade));
    }

    #[test]
    fn masquerade_never_points_at_this_host_but_by_the_vip() {
        for forward in [Forward::Auto, Forward::Masquerade] {
            let mixed = service(forward, &["10.0.0.1:81", "10.0.0.2:81"]);
            let error = resolve(&mixed, own).expect_err("10.0.0.1 is here");
            let error = error.to_string();
            assert!(error.contains("10.0.0.1:81"), "{error}");
            assert!(error.contains("\"local\""), "{error}");
            let adopted = ServiceConfig {
                vip: "10.0.0.1:81".parse().expect("an address"),
                ..mixed
            };
            assert_eq!(resolve(&adopted, own), Ok(Forward::Masquerade));
        }
    }

    #[test]
    fn local_reaches_containers_too() {
        let service = service(Forward::Local, &["172.17.0.2:80"]);
        assert_eq!(resolve(&service, own), Ok(Forward::Local));
    }

    #[test]
    fn routed_never_points_at_this_host() {
        let elsewhere = service(Forward::Routed, &["10.0.0.2:80"]);
        assert_eq!(resolve(&elsewhere, own), Ok(Forward::Routed));
        let here = service(Forward::Routed, &["10.0.0.1:80"]);
        assert!(matches!(
            resolve(&here, own),
            Err(ResolveError::RoutedToSelf { .. })
        ));
    }

    #[test]
    fn dsr_serves_here_by_the_vip_alone() {
        let adopted = service(Forward::Dsr, &["10.0.0.1:80", "10.0.0.2:80"]);
        assert_eq!(resolve(&adopted, own), Ok(Forward::Dsr));
        let here = service(Forward::Dsr, &["10.0.0.1:81"]);
        let error = resolve(&here, own).expect_err("10.0.0.1 is here");
        assert!(error.to_string().contains("name the vip"), "{error}");
    }

    fn own(address: IpAddr) -> bool {
        address == IpAddr::from([10, 0, 0, 1])
    }

    fn service(forward: Forward, endpoints: &[&str]) -> ServiceConfig {
        let parse = |text: &str| text.parse().expect("an address");
        let endpoint = |text: &&str| EndpointConfig {
            address: parse(text),
            weight: 1,
        };
        ServiceConfig {
            name: "web".into(),
            vip: parse("10.0.0.1:80"),
            protocol: Protocol::Tcp,
            forward,
            hash: HashMode::Flow,
            tunnel_source: None,
            udp: UdpMode::Flow,
            preview: None,
            endpoints: BTreeMap::from([("blue".into(), endpoints.iter().map(endpoint).collect())]),
        }
    }
}
