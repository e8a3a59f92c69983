//! Whether packets find the endpoints that answer clients directly.

use std::net::IpAddr;

use super::Check;
use crate::config::{Config, Forward, ServiceConfig};
use crate::host::route::{self, Way};

/// A check of each such endpoint.
pub(super) fn checks(config: &Config) -> Vec<Check> {
    let services = config.groups.values().flat_map(|it| it.services.values());
    services
        .filter(|service| service.forward.keeps_vip())
        .flat_map(of_service)
        .collect()
}

fn of_service(service: &ServiceConfig) -> Vec<Check> {
    let endpoints = service.endpoints.values().flatten();
    let others = endpoints.filter(|endpoint| endpoint.address != service.vip);
    let mut checks: Vec<_> = others
        .map(|endpoint| {
            let address = endpoint.address.ip();
            let check = match route::way(address) {
                Ok(way) => of_way(address, way, service.forward),
                Err(error) => Check::unknown(name(address), error.to_string(), ""),
            };
            check.about("way-to-an-endpoint")
        })
        .collect();
    checks.push(accepts(service).about("service-on-its-endpoints"));
    checks
}

fn of_way(address: IpAddr, way: Option<Way>, forward: Forward) -> Check {
    let Some(way) = way else {
        let advice = "`ip route get` shows the same; add a route to it";
        return Check::problem(name(address), "there is no way to it", advice);
    };
    if let (Forward::Dsr, Some(gateway)) = (forward, way.gateway) {
        return Check::problem(
            name(address),
            format!("behind {gateway}, which would route the packet back to the VIP"),
            "\"dsr\" takes an address on a link of this host",
        );
    }
    let next = way.next(address);
    match route::is_known(next, way.interface) {
        Ok(true) => Check::ok(
            name(address),
            format!("the link address of {next} is known"),
        ),
        Ok(false) => Check::unknown(
            name(address),
            format!("the link address of {next} is not known"),
            "the agent asks for it while it runs; until then packets to it are dropped",
        ),
        Err(error) => Check::unknown(name(address), error.to_string(), ""),
    }
}

/// What can't be seen from here.
fn accepts(service: &ServiceConfig) -> Check {
    let vip = service.vip.ip();
    let length = if vip.is_ipv4() { 32 } else { 128 };
    let name = format!("service {} on its endpoints", service.name);
    let found = "what they accept is not seen from here";
    match service.forward {
        Forward::Ipip => {
            let mut endpoints = service.endpoints.values().flatten();
            let device = match endpoints.any(|endpoint| endpoint.address.is_ipv6()) {
                true => "ip6tnl",
                false => "ipip",
            };
            Check::unknown(
                name,
                found,
                &format!(
                    "on each: `ip link add tunl type {device} external`, `ip link set tunl up`, `ip address add {vip}/{length} dev lo`, `sysctl -w \
                     net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.tunl.rp_filter=0` and a server that listens on \
                     the VIP",
                ),
            )
        }
        Forward::Dsr | Forward::Auto | Forward::Local | Forward::Routed | Forward::Masquerade => {
            Check::unknown(
                name,
                found,
                &format!(
                    "on each: `ip address add {vip}/{length} dev lo`, a server that listens on it, and no answers \
                     to who has it: `sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2`",
                ),
            )
        }
    }
}

fn name(address: IpAddr) -> String {
    format!("way to {address}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn a_router_in_between_is_a_problem_for_dsr() {
        let way = Way {
            interface: 1,
            gateway: Some([10, 0, 0, 1].into()),
            source: None,
        };
        let check = of_way([10, 9, 0, 1].into(), Some(way), Forward::Dsr);
        assert_eq!(check.state, State::Problem);
        assert!(check.found.contains("10.0.0.1"), "{}", check.found);
        let inside = of_way([10, 9, 0, 1].into(), Some(way), Forward::Ipip);
        assert_ne!(inside.state, State::Problem, "tunnels pass routers");
        let none = of_way([10, 9, 0, 1].into(), None, Forward::Dsr);
        assert_eq!(none.state, State::Problem);
    }
}
