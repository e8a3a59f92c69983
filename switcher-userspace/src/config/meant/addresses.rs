//! Which addresses are claimed by whom, over all groups.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::config::report::{Place, Report};
use crate::config::typed::{TypedGroup, TypedService};
use crate::config::{Forward, Protocol};

/// Somebody's claim to an address.
struct Claim<'a> {
    address: SocketAddr,
    protocol: Protocol,
    role: Role<'a>,
    service: &'a TypedService,
    at: &'a Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role<'a> {
    Vip,
    Preview,
    Endpoint { colour: &'a str },
}

type Taken<'a> = HashMap<(SocketAddr, Protocol), &'a Claim<'a>>;
/// Endpoints that answer for themselves know from the packet which VIP it was for: theirs is an address
/// per service.
type Key = (SocketAddr, Protocol, Option<*const TypedService>);

/// Reports addresses that would mean two things. Of two claims, the later line is at fault.
pub(super) fn check(groups: &[TypedGroup], report: &Report<'_>) {
    for service in groups.iter().flat_map(|group| &group.services) {
        check_kept_port(service, report);
    }
    let mut claims: Vec<_> = groups
        .iter()
        .flat_map(|group| &group.services)
        .flat_map(claims)
        .collect();
    claims.sort_by_key(|claim| claim.at.span.start);
    let (endpoints, fronts): (Vec<_>, Vec<_>) = claims
        .iter()
        .partition(|claim| matches!(claim.role, Role::Endpoint { .. }));

    let fronts_taken = check_fronts(&fronts, report);
    let mut endpoints_taken = HashMap::<Key, &Claim<'_>>::new();
    for endpoint in endpoints {
        if let Some(front) = fronts_taken.get(&endpoint.key()) {
            check_endpoint_and_front(endpoint, front, report);
        }
        if let Some(other) = endpoints_taken.get(&endpoint.endpoint_key()) {
            report_shared_endpoint(endpoint, other, report);
        } else {
            endpoints_taken.insert(endpoint.endpoint_key(), endpoint);
        }
    }
}

fn keeps_vip(service: &TypedService) -> bool {
    let forward = service.forward.as_ref();
    forward.is_some_and(|forward| forward.value.keeps_vip())
}

/// Ports are not rewritten where the VIP is kept: all of a service's are one.
fn check_kept_port(service: &TypedService, report: &Report<'_>) {
    let Some(forward) = service.forward.as_ref().filter(|it| it.value.keeps_vip()) else {
        return;
    };
    let Some(vip) = &service.vip else {
        return;
    };
    let port = vip.value.0.port();
    let addresses = service
        .endpoints
        .iter()
        .flat_map(|colour| &colour.endpoints);
    let addresses = addresses.map(|endpoint| &endpoint.address);
    for other in addresses.chain(&service.preview) {
        if other.value.port() != port {
            let message = format_args!(
                "port {} is not the vip's, and forward = \"{}\" changes no ports",
                other.value.port(),
                forward.value
            );
            let advice = format_args!(
                "let it be {}, which has to accept the vip's packets, too",
                SocketAddr::new(other.value.ip(), port)
            );
            report.error(&other.at, message, advice);
        }
    }
}

/// All claims of a service. Without a vip nothing is known of its protocol: none.
fn claims(service: &TypedService) -> Vec<Claim<'_>> {
    let Some(vip) = &service.vip else {
        return Vec::new();
    };
    let (_, protocol) = vip.value;
    let claim = |address, role, at| Claim {
        address,
        protocol,
        role,
        service,
        at,
    };
    let mut claims = vec![claim(vip.value.0, Role::Vip, &vip.at)];
    claims.extend(
        service
            .preview
            .iter()
            .map(|it| claim(it.value, Role::Preview, &it.at)),
    );
    for colour in &service.endpoints {
        let role = Role::Endpoint {
            colour: &colour.name.value,
        };
        let addresses = colour.endpoints.iter().map(|endpoint| &endpoint.address);
        claims.extend(addresses.map(|it| claim(it.value, role, &it.at)));
    }
    claims
}

/// No two vips or previews are the same.
fn check_fronts<'a>(fronts: &[&'a Claim<'a>], report: &Report<'_>) -> Taken<'a> {
    let mut taken = Taken::new();
    for front in fronts {
        if let Some(other) = taken.get(&front.key()) {
            report.error(
                front.at,
                format_args!(
                    "{} is already taken by {}",
                    front.name(),
                    report.refer(other.at)
                ),
                "give every vip and preview an address, port and protocol of its own",
            );
        } else {
            taken.insert(front.key(), *front);
        }
    }
    taken
}

/// An endpoint may be its own service's vip, which means "do not rewrite"; nothing else.
fn check_endpoint_and_front(endpoint: &Claim<'_>, front: &Claim<'_>, report: &Report<'_>) {
    let same_service = std::ptr::eq(endpoint.service, front.service);
    if front.role == Role::Vip && same_service {
        let forward = endpoint.service.forward.as_ref().map(|typed| typed.value);
        if forward == Some(Forward::Routed) {
            report.error(
                endpoint.at,
                "an endpoint equal to the vip is this host itself, which \"routed\" never reaches",
                "choose forward = \"local\", or another endpoint",
            );
        }
        if forward == Some(Forward::Masquerade) && endpoint.protocol == Protocol::Udp {
            report.error(
                endpoint.at,
                "flows to the vip itself can't be told from others in \"masquerade\" over UDP",
                "let the endpoint be another host's, or choose forward = \"local\"",
            );
        }
        return;
    }
    let role = if front.role == Role::Vip {
        "vip"
    } else {
        "preview"
    };
    report.error(
        endpoint.at,
        format_args!(
            "{} is also a {role}: {}",
            endpoint.name(),
            report.refer(front.at)
        ),
        "let the endpoint listen on a port of its own",
    );
}

fn report_shared_endpoint(endpoint: &Claim<'_>, other: &Claim<'_>, report: &Report<'_>) {
    let name = endpoint.name();
    let refer = report.refer(other.at);
    let (message, advice) = if !std::ptr::eq(endpoint.service, other.service) {
        let message = format!("{name} would serve two vips: it is also {refer}");
        (
            message,
            "its replies could not tell them apart: let it listen on one port for each",
        )
    } else if endpoint.role == other.role {
        (
            format!("{name} is listed twice: it is also {refer}"),
            "remove one, or give it a weight",
        )
    } else {
        (
            format!("{name} is in two colours: it is also {refer}"),
            "give each colour its own servers",
        )
    };
    report.error(endpoint.at, message, advice);
}

impl Claim<'_> {
    fn key(&self) -> (SocketAddr, Protocol) {
        (self.address, self.protocol)
    }

    fn endpoint_key(&self) -> Key {
        let service = keeps_vip(self.service).then_some(std::ptr::from_ref(self.service));
        (self.address, self.protocol, service)
    }

    fn name(&self) -> String {
        format!("{}/{}", self.address, self.protocol)
    }
}
