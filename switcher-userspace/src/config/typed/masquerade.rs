//! Section `[agent.masquerade]`.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use switcher_common::abi::nat::NAT_ADDRESSES;

use crate::config::limits::FLOWS;
use crate::config::report::Typed;
use crate::config::scalar;
use crate::config::section::{Section, Value};

const ADDRESSES: &str = "list addresses of this host: addresses = [\"10.0.0.1\"]";

#[derive(Default)]
pub(in crate::config) struct TypedMasquerade {
    pub(in crate::config) addresses: Vec<IpAddr>,
    pub(in crate::config) ports: Option<RangeInclusive<u16>>,
    pub(in crate::config) flows: Option<u32>,
    pub(in crate::config) established: Option<Duration>,
    pub(in crate::config) opening: Option<Duration>,
    pub(in crate::config) closing: Option<Duration>,
    pub(in crate::config) udp: Option<Duration>,
}

impl TypedMasquerade {
    pub(super) fn read(section: Section<'_>) -> Self {
        let duration = |key| {
            let value = section.value(key);
            let duration =
                value.and_then(|value| value.parse(scalar::DURATION, scalar::duration_above_zero));
            duration.map(|typed| typed.value)
        };
        let flows = section.value("flows");
        let ports = section.value("ports");
        let masquerade = Self {
            addresses: section
                .value("addresses")
                .map(|value| addresses(&value))
                .unwrap_or_default(),
            ports: ports
                .and_then(|value| value.parse(scalar::PORTS, scalar::ports))
                .map(|typed| typed.value),
            flows: flows
                .and_then(|value| value.integer(FLOWS))
                .map(|typed| typed.value),
            established: duration("established"),
            opening: duration("opening"),
            closing: duration("closing"),
            udp: duration("udp"),
        };
        section.finish();
        masquerade
    }
}

fn addresses(value: &Value<'_>) -> Vec<IpAddr> {
    let items = value.items(ADDRESSES).unwrap_or_default();
    let report = value.report;
    if items.is_empty() && value.is_list() {
        report.error(&value.at, "the list is empty", ADDRESSES);
    }
    let address = |item: &Value<'_>| item.parse(ADDRESSES, scalar::own_address);
    let mut found: Vec<Typed<IpAddr>> = Vec::new();
    for address in items.iter().filter_map(address) {
        let family = |other: &&Typed<IpAddr>| other.value.is_ipv4() == address.value.is_ipv4();
        if found.iter().any(|other| other.value == address.value) {
            let message = format_args!("{} is listed twice", address.value);
            report.error(&address.at, message, "remove one");
        } else if found.iter().filter(family).count() == NAT_ADDRESSES {
            let advice = format_args!("list at most {NAT_ADDRESSES} of IPv4 and of IPv6");
            report.error(&address.at, "too many addresses", advice);
        } else {
            found.push(address);
        }
    }
    found.into_iter().map(|typed| typed.value).collect()
}
