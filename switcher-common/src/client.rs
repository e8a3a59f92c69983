//! Clients on this host: their packets never pass the interface, so their sockets are steered.
//!
//! A socket that connects to a VIP is connected to an endpoint of the current table, and stays there for
//! its life: no window is needed. A socket that sends datagrams without connecting is steered with each,
//! as datagrams from outside are. Whoever asks a socket for its peer, or a datagram for its source, is
//! shown the VIP.
//!
//! Only endpoints that are reached by their own address are given out: those of `local` services.

use crate::abi::client::{EXCEPTIONS, Exception, SocketNote, socket_flags};
use crate::abi::{
    Address, Endpoint, FlowKey, Port, Service, TCP, endpoint_flags, flow_space, service_flags,
};
use crate::classify;
use crate::select::{self, Steered};
use crate::steer::{self, How};
use crate::tables::{Count, Tables};
use crate::verdict::Reason;
use crate::word::{Word, flags};

/// What a socket asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The address it wants to reach.
    pub address: Address,
    /// The port.
    pub port: Port,
    /// IP protocol number.
    pub protocol: u8,
    /// The socket's cookie: it has no source port yet, so this is what its bucket is chosen by.
    pub cookie: u64,
}

/// Where a socket's packets go instead of to a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Index of the service or preview it asked for.
    pub front: u16,
    /// Whether that is a preview.
    pub preview: bool,
    /// The endpoint's id.
    pub id: u16,
    /// The endpoint's address. May be what was asked for: then nothing is to be changed.
    pub address: Address,
    /// Its port.
    pub port: Port,
    /// Nowhere: the group is paused, and the call has to fail.
    pub held: bool,
}

/// What time it is.
#[derive(Clone, Copy, Debug)]
pub struct Clock<N, B> {
    /// In ticks of [`crate::abi::TICK_SHIFT`].
    pub ticks: N,
    /// In nanoseconds of `CLOCK_BOOTTIME`.
    pub nanoseconds: B,
}

/// A socket connects: the current table's choice, from now on. Nothing if the address is no VIP, or not
/// one that sockets are steered for.
#[inline(always)]
pub fn connect<T: Tables>(ask: &Ask, tables: &T, nanoseconds: impl FnOnce() -> u64) -> Option<Way> {
    let (front, service) = classify::front_at(ask.address, ask.port, ask.protocol, tables)?;
    let word = select::word_at(service.group, tables, nanoseconds);
    let steered = begin(service, word, chosen(ask, service, word, tables)?, tables);
    way(front, service, steered, tables)
}

/// An unconnected socket sends a datagram: a flow that is known stays where it is, as it does for clients
/// from outside.
#[inline(always)]
pub fn send<T: Tables>(
    ask: &Ask,
    tables: &T,
    clock: Clock<impl FnOnce() -> u32, impl FnOnce() -> u64>,
) -> Option<Way> {
    let (front, service) = classify::front_at(ask.address, ask.port, ask.protocol, tables)?;
    let word = select::word_at(service.group, tables, clock.nanoseconds);
    let new = chosen(ask, service, word, tables)?;
    let once = service_flags::PER_PACKET | service_flags::PREVIEW;
    let steered = if service.flags & once != 0 {
        begin(service, word, new, tables)
    } else {
        let key = FlowKey {
            client: stand_in(ask.cookie),
            port: Port(0),
            id: front,
            space: flow_space::UDP,
        };
        select::remembered(key, service, word, new, tables, (clock.ticks)())
    };
    way(front, service, steered, tables)
}

/// A new flow, which a paused group lets in by the preview only.
#[inline(always)]
fn begin<T: Tables>(service: &Service, word: Word, endpoint: u16, tables: &T) -> Steered {
    if word.has(flags::PAUSED) && !service.has(service_flags::PREVIEW) {
        return Steered::PAUSED;
    }
    select::tell_first(word, service, endpoint, tables);
    Steered {
        endpoint,
        how: How::Current,
        begins: true,
    }
}

/// The endpoint whose own address this is.
#[inline(always)]
pub fn direct<T: Tables>(ask: &Ask, tables: &T) -> Option<u16> {
    sender(ask.address, ask.port, ask.protocol, tables).map(|(id, _)| id)
}

/// The endpoint in the table that new flows use; for a preview, in the staging one.
#[inline(always)]
fn chosen<T: Tables>(ask: &Ask, service: &Service, word: Word, tables: &T) -> Option<u16> {
    let slot = if service.has(service_flags::PREVIEW) {
        word.staging()
    } else {
        word.current()
    };
    // A client of this host comes from the address it speaks to, if it is that address's host.
    let client = if service.has(service_flags::BY_SOURCE) {
        ask.address
    } else {
        stand_in(ask.cookie)
    };
    let hash = steer::hash(tables.settings().seed, client, 0);
    let id = select::choice(service, slot, hash, tables)?;
    local(id, service, tables).map(|_| id)
}

/// Checks the endpoint, and counts.
#[inline(always)]
fn way<T: Tables>(front: u16, service: &Service, steered: Steered, tables: &T) -> Option<Way> {
    let held = steered.how == How::Paused;
    if held {
        tables.count_reason(Reason::Paused);
        return Some(Way {
            front,
            preview: false,
            id: 0,
            address: service.address,
            port: service.port,
            held,
        });
    }
    let id = steered.endpoint;
    let endpoint = local(id, service, tables)?;
    if steered.begins {
        tables.count(endpoint.counter, Count::Connection);
    }
    Some(Way {
        front,
        preview: service.has(service_flags::PREVIEW),
        id,
        address: endpoint.address,
        port: endpoint.port,
        held,
    })
}

/// An endpoint that sockets may be given.
#[inline(always)]
fn local<'a, T: Tables>(id: u16, service: &Service, tables: &'a T) -> Option<&'a Endpoint> {
    tables
        .endpoint(id)
        .filter(|endpoint| is_local(endpoint) && endpoint.protocol == service.protocol)
}

/// In use, and nothing forwards packets to it by other means than its address.
#[inline(always)]
const fn is_local(endpoint: &Endpoint) -> bool {
    let plain = endpoint_flags::PRESENT | endpoint_flags::UNTOUCHED;
    endpoint.has(endpoint_flags::PRESENT) && endpoint.flags & !plain == 0
}

/// A socket without an address, as a client: under ff00::/8, which no client has.
#[inline(always)]
const fn stand_in(cookie: u64) -> Address {
    const MULTICAST: u64 = 0xff00_0000_0000_0000_u64.to_be();
    Address([MULTICAST, cookie])
}

#[inline(always)]
fn sender<T: Tables>(
    address: Address,
    port: Port,
    protocol: u8,
    tables: &T,
) -> Option<(u16, &Endpoint)> {
    let entry = tables.port(port);
    let found = classify::endpoint_at(address, port, protocol, entry, tables);
    found.filter(|(_, endpoint)| is_local(endpoint))
}

impl SocketNote {
    /// The socket is connected to an endpoint in place of what it asked for.
    #[inline(always)]
    pub const fn connects(&mut self, ask: &Ask, way: &Way) {
        self.front = ask.address;
        self.front_port = ask.port;
        self.endpoint = way.address;
        self.endpoint_port = way.port;
    }

    /// What the socket's peer is shown as; nothing if it is what it is.
    #[inline(always)]
    #[must_use]
    pub fn peer(&self, address: Address, port: Port) -> Option<(Address, Port)> {
        let ours = self.endpoint == address && self.endpoint_port == port;
        (ours && self.front_port.0 != 0).then_some((self.front, self.front_port))
    }

    /// The socket has sent a datagram by a VIP or preview.
    #[inline(always)]
    pub fn sends(&mut self, way: &Way) {
        self.flags |= socket_flags::SENDS;
        let front = if way.preview { way.front + 1 } else { 0 };
        self.except(way.id, front);
    }

    /// The socket has sent a datagram to an endpoint's own address.
    #[inline(always)]
    pub fn sends_directly(&mut self, endpoint: u16) {
        self.except(endpoint, Exception::DIRECT);
    }

    #[inline(always)]
    fn except(&mut self, endpoint: u16, front: u16) {
        for known in &mut self.exceptions {
            if known.front != 0 && known.endpoint == endpoint {
                known.front = front;
                return;
            }
        }
        if front == 0 {
            return;
        }
        let place = self.made as usize % EXCEPTIONS;
        self.made = self.made.wrapping_add(1);
        if let Some(exception) = self.exceptions.get_mut(place) {
            *exception = Exception { endpoint, front };
        }
    }

    /// What the source of a datagram that this socket receives is shown as; nothing if it is what it is.
    #[inline(always)]
    pub fn source<T: Tables>(
        &self,
        address: Address,
        port: Port,
        protocol: u8,
        tables: &T,
    ) -> Option<(Address, Port)> {
        if let Some(front) = self.peer(address, port) {
            return Some(front);
        }
        if protocol == TCP || self.flags & socket_flags::SENDS == 0 {
            return None;
        }
        let (id, endpoint) = sender(address, port, protocol, tables)?;
        let front = match self.exception(id) {
            0 => endpoint.service,
            Exception::DIRECT => return None,
            preview => preview - 1,
        };
        let service = tables.service(front)?;
        service
            .has(service_flags::PRESENT)
            .then_some((service.address, service.port))
    }

    #[inline(always)]
    fn exception(&self, endpoint: u16) -> u16 {
        for known in &self.exceptions {
            if known.front != 0 && known.endpoint == endpoint {
                return known.front;
            }
        }
        0
    }
}
