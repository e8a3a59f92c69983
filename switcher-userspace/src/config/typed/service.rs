//! Section `[groups.NAME.services.NAME]`.

use std::net::SocketAddr;

use crate::config::limits::WEIGHT_MAX;
use crate::config::report::Typed;
use crate::config::scalar;
use crate::config::section::{Section, Value};
use crate::config::{Forward, HashMode, Prefix, Protocol, UdpMode};

const ENDPOINTS: &str = "list a colour's servers: blue = [\"203.0.113.10:8443\"]";
const FORWARD: &[(&str, Forward)] = &[
    ("auto", Forward::Auto),
    ("local", Forward::Local),
    ("routed", Forward::Routed),
    ("masquerade", Forward::Masquerade),
    ("dsr", Forward::Dsr),
    ("ipip", Forward::Ipip),
];
const HASH: &[(&str, HashMode)] = &[("flow", HashMode::Flow), ("source", HashMode::Source)];
const UDP: &[(&str, UdpMode)] = &[
    ("flow", UdpMode::Flow),
    ("packet", UdpMode::Packet),
    ("quic", UdpMode::Quic),
];

pub(in crate::config) struct TypedService {
    pub(in crate::config) name: Typed<String>,
    pub(in crate::config) vip: Option<Typed<(SocketAddr, Protocol)>>,
    pub(in crate::config) forward: Option<Typed<Forward>>,
    pub(in crate::config) hash: Option<Typed<HashMode>>,
    pub(in crate::config) tunnel_source: Option<Typed<Prefix>>,
    pub(in crate::config) udp: Option<Typed<UdpMode>>,
    pub(in crate::config) preview: Option<Typed<SocketAddr>>,
    pub(in crate::config) endpoints: Vec<TypedColour>,
}

/// A colour's entry in `endpoints`.
pub(in crate::config) struct TypedColour {
    pub(in crate::config) name: Typed<String>,
    pub(in crate::config) endpoints: Vec<TypedEndpoint>,
}

pub(in crate::config) struct TypedEndpoint {
    pub(in crate::config) address: Typed<SocketAddr>,
    pub(in crate::config) weight: Option<Typed<u16>>,
}

impl TypedService {
    pub(super) fn read(name: Typed<String>, section: Section<'_>) -> Self {
        let address = |value: Value<'_>| value.parse(scalar::ADDRESS, scalar::address);
        let service = Self {
            vip: section
                .required("vip", scalar::VIP)
                .and_then(|value| value.parse(scalar::VIP, scalar::vip)),
            forward: section
                .value("forward")
                .and_then(|value| value.choice(FORWARD, &[])),
            hash: section
                .value("hash")
                .and_then(|value| value.choice(HASH, &[])),
            tunnel_source: section
                .value("tunnel_source")
                .and_then(|value| value.parse(scalar::PREFIX, scalar::prefix)),
            udp: section
                .value("udp")
                .and_then(|value| value.choice(UDP, &[])),
            preview: section.value("preview").and_then(address),
            endpoints: section
                .section("endpoints")
                .map(|section| read_endpoints(&section))
                .unwrap_or_default(),
            name,
        };
        if !section.has("endpoints") {
            section.missing("endpoints", format_args!("add it, and {ENDPOINTS}"));
        }
        section.finish();
        service
    }
}

fn read_endpoints(section: &Section<'_>) -> Vec<TypedColour> {
    if section.entries().next().is_none() {
        section
            .report
            .error(&section.at, "no colour has endpoints", ENDPOINTS);
    }
    let colour = |(name, value): (Typed<String>, Value<'_>)| {
        let items = value.items(ENDPOINTS).unwrap_or_default();
        if items.is_empty() && value.is_list() {
            let message = format_args!("colour {:?} has no endpoints", name.value);
            let advice = "list at least one, or remove the colour from every service of the group";
            section.report.error(&value.at, message, advice);
        }
        let endpoints = items.into_iter().filter_map(read_endpoint).collect();
        TypedColour { name, endpoints }
    };
    section.entries().map(colour).collect()
}

/// Either an address, or a table of address and weight.
fn read_endpoint(value: Value<'_>) -> Option<TypedEndpoint> {
    if value.is_string() {
        let address = value.parse(scalar::ADDRESS, scalar::address)?;
        return Some(TypedEndpoint {
            address,
            weight: None,
        });
    }
    if !value.is_table() {
        return value.wrong_type("an address, or a table of address and weight", ENDPOINTS);
    }
    let section = value.section()?;
    let address = section
        .required("address", scalar::ADDRESS)
        .and_then(|value| value.parse(scalar::ADDRESS, scalar::address));
    let weight = section
        .value("weight")
        .and_then(|value| value.integer(1..=WEIGHT_MAX));
    section.finish();
    Some(TypedEndpoint {
        address: address?,
        weight,
    })
}
