//! Packet to service, or to the endpoint side of one.

use crate::abi::{
    Address, AddressKey, Endpoint, MANY, Port, PortEntry, Service, TCP, address_kind,
    endpoint_flags, service_flags,
};
use crate::parse::Packet;
use crate::tables::Tables;

/// What an incoming packet is to us.
#[derive(Clone, Copy, Debug)]
pub enum Class<'a> {
    /// A request to a VIP or preview: index and element.
    Request(u16, &'a Service),
    /// To an endpoint's own address, past the VIP.
    Direct(u16),
    /// A reply of a routed endpoint, or perhaps one of a masqueraded one: id and element.
    Reply(u16, &'a Endpoint),
}

/// Whether anybody might be concerned by a packet: most of a host's are nobody's business.
#[inline(always)]
pub fn concerns<T: Tables>(packet: &Packet, tables: &T) -> bool {
    tables.known(packet.destination_port) || tables.known(packet.source_port)
}

/// Classifies an incoming packet; `None` means it is nobody's business here. Worth asking only where
/// [`concerns`] says so.
#[inline(always)]
pub fn incoming<'a, T: Tables>(packet: &Packet, tables: &'a T) -> Option<Class<'a>> {
    let there = tables.port(packet.destination_port);
    let front = service_at(
        packet.destination,
        packet.destination_port,
        packet.protocol,
        there,
        tables,
    );
    if let Some((index, service)) = front {
        return Some(Class::Request(index, service));
    }
    if let Some((id, _)) = endpoint_at(
        packet.destination,
        packet.destination_port,
        packet.protocol,
        there,
        tables,
    ) {
        return Some(Class::Direct(id));
    }
    let (id, endpoint) = sender(packet, tables)?;
    let elsewhere = endpoint_flags::ROUTED | endpoint_flags::MASQUERADE;
    (endpoint.flags & elsewhere != 0).then_some(Class::Reply(id, endpoint))
}

/// The endpoint that sent a packet, if one of ours did.
#[inline(always)]
pub fn sender<'a, T: Tables>(packet: &Packet, tables: &'a T) -> Option<(u16, &'a Endpoint)> {
    let entry = tables.port(packet.source_port);
    endpoint_at(
        packet.source,
        packet.source_port,
        packet.protocol,
        entry,
        tables,
    )
}

/// The endpoint that a packet goes to, if it is one of ours.
#[inline(always)]
pub fn receiver<'a, T: Tables>(packet: &Packet, tables: &'a T) -> Option<(u16, &'a Endpoint)> {
    if !tables.known(packet.destination_port) {
        return None;
    }
    endpoint_at(
        packet.destination,
        packet.destination_port,
        packet.protocol,
        tables.port(packet.destination_port),
        tables,
    )
}

/// The service or preview with this address.
#[inline(always)]
pub(crate) fn front_at<T: Tables>(
    address: Address,
    port: Port,
    protocol: u8,
    tables: &T,
) -> Option<(u16, &Service)> {
    service_at(address, port, protocol, tables.port(port), tables)
}

#[inline(always)]
fn service_at<T: Tables>(
    address: Address,
    port: Port,
    protocol: u8,
    entry: PortEntry,
    tables: &T,
) -> Option<(u16, &Service)> {
    let code = if protocol == TCP {
        entry.tcp_service
    } else {
        entry.udp_service
    };
    let index = resolve(
        code,
        || key(address, port, protocol, address_kind::SERVICE),
        tables,
    )?;
    let service = tables.service(index)?;
    (service.has(service_flags::PRESENT) && service.address == address).then_some((index, service))
}

/// The endpoint with this address; `entry` is that of its port.
#[inline(always)]
pub(crate) fn endpoint_at<T: Tables>(
    address: Address,
    port: Port,
    protocol: u8,
    entry: PortEntry,
    tables: &T,
) -> Option<(u16, &Endpoint)> {
    let code = if protocol == TCP {
        entry.tcp_endpoint
    } else {
        entry.udp_endpoint
    };
    let id = resolve(
        code,
        || key(address, port, protocol, address_kind::ENDPOINT),
        tables,
    )?;
    let endpoint = tables.endpoint(id)?;
    (endpoint.has(endpoint_flags::PRESENT) && endpoint.address == address).then_some((id, endpoint))
}

/// From a code of [`PortEntry`] to an index; only a crowded port costs a hash look-up.
#[inline(always)]
fn resolve<T: Tables>(code: u16, key: impl FnOnce() -> AddressKey, tables: &T) -> Option<u16> {
    match code {
        0 => None,
        MANY => tables.find(&key()),
        one => Some(one - 1),
    }
}

#[inline(always)]
const fn key(address: Address, port: Port, protocol: u8, kind: u8) -> AddressKey {
    AddressKey {
        address,
        port,
        protocol,
        kind,
        reserved: 0,
    }
}
