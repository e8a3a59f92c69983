//! The kernel's socket table, by sock_diag(7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context;

use crate::host::netlink;

const NETLINK_SOCK_DIAG: isize = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// ESTABLISHED, SYN_RECV, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING: whoever has one of these
/// is still spoken to (include/net/tcp_states.h).
const CONNECTED: u32 = 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;

/// Every state.
const ANY: u32 = 0xfff;

/// Every TCP connection of this network namespace.
///
/// # Errors
/// When the kernel can't be asked.
pub(super) fn connections() -> anyhow::Result<Vec<TcpSocket>> {
    let mut connections = Vec::new();
    each_socket(CONNECTED, |socket| connections.push(socket))?;
    Ok(connections)
}

/// The state (include/net/tcp_states.h) of the TCP socket with these two ends, or of a listener for
/// `local`, if there is either in this network namespace.
///
/// # Errors
/// When the kernel can't be asked.
pub(crate) fn state(local: SocketAddr, remote: SocketAddr) -> anyhow::Result<Option<u8>> {
    let mut found = None;
    each_socket(ANY, |socket| {
        let listens = socket.state == LISTEN
            && socket.local.port() == local.port()
            && (socket.local.ip() == local.ip() || socket.local.ip().is_unspecified());
        if (socket.local, socket.remote) == (local, remote) || listens && found.is_none() {
            found = Some(socket.state);
        }
    })?;
    Ok(found)
}

/// `TCP_LISTEN`.
pub(crate) const LISTEN: u8 = 10;
/// `TCP_TIME_WAIT`.
pub(crate) const TIME_WAIT: u8 = 6;

/// A TCP socket.
#[derive(Clone, Debug)]
pub(super) struct TcpSocket {
    state: u8,
    /// Its own end.
    pub(super) local: SocketAddr,
    /// The other end.
    pub(super) remote: SocketAddr,
    family: u8,
    /// `struct inet_diag_sockid`, cookie included.
    id: [u8; 48],
}

impl TcpSocket {
    /// Resets the connection, for both ends to see; false if it has ended meanwhile.
    ///
    /// # Errors
    /// When the kernel can't, or does not permit it (CAP_NET_ADMIN).
    pub(super) fn destroy(&self) -> anyhow::Result<bool> {
        let request = request(self.family, CONNECTED, &self.id);
        match netlink::order(NETLINK_SOCK_DIAG, SOCK_DESTROY, &request) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).context("a connection can't be reset (SOCK_DESTROY)"),
        }
    }
}

/// `struct inet_diag_req_v2`: family, protocol, two bytes, states, and a socket's id.
fn request(family: u8, states: u32, id: &[u8; 48]) -> [u8; 56] {
    let mut request = [0; 56];
    request[0] = family;
    request[1] = libc::IPPROTO_TCP as u8;
    request[4..8].copy_from_slice(&states.to_ne_bytes());
    request[8..].copy_from_slice(id);
    request
}

fn each_socket(states: u32, mut each: impl FnMut(TcpSocket)) -> anyhow::Result<()> {
    for family in [libc::AF_INET, libc::AF_INET6] {
        let request = request(family as u8, states, &[0; 48]);
        netlink::dump(
            NETLINK_SOCK_DIAG,
            SOCK_DIAG_BY_FAMILY,
            &request,
            |message| {
                if let Some(socket) = parse(message) {
                    each(socket);
                }
            },
        )
        .context("the kernel's socket table can't be read (sock_diag)")?;
    }
    Ok(())
}

/// `struct inet_diag_msg`: family, state, two bytes, both ports, both addresses.
fn parse(message: &[u8]) -> Option<TcpSocket> {
    let end = |port: usize, address: usize| {
        let port = u16::from_be_bytes(message.get(port..port + 2)?.try_into().ok()?);
        let address: [u8; 16] = message.get(address..address + 16)?.try_into().ok()?;
        let address = match i32::from(*message.first()?) {
            libc::AF_INET => IpAddr::V4(Ipv4Addr::new(
                address[0], address[1], address[2], address[3],
            )),
            // A dual-stack listener's connections are IPv4-mapped.
            _ => Ipv6Addr::from(address).to_canonical(),
        };
        Some(SocketAddr::new(address, port))
    };
    Some(TcpSocket {
        state: *message.get(1)?,
        local: end(4, 8)?,
        remote: end(6, 24)?,
        family: *message.first()?,
        id: message.get(4..52)?.try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn finds_connections_of_both_families() {
        for address in ["127.0.0.1:0", "[::]:0"] {
            let listener = TcpListener::bind(address).expect("a port is free");
            let port = listener.local_addr().expect("it is bound").port();
            let target = SocketAddr::from(([127, 0, 0, 1], port));
            let _client = TcpStream::connect(target).expect("it listens");
            let _server = listener.accept().expect("there is one");
            let mut found = 0;
            for socket in connections().expect("anyone can") {
                found += u32::from(socket.local == target);
            }
            assert_eq!(found, 1, "{address}");
        }
    }
}
