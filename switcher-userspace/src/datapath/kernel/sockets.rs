//! The socket table of this network namespace, by sock_diag(7).

use std::net::IpAddr;

use anyhow::Context as _;
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};

/// Connections, or requests for one, at a local address and port. Listeners and the remains of ended
/// connections do not count.
///
/// # Errors
/// When the kernel does not answer.
pub(super) fn connections_at(address: IpAddr, port: u16) -> anyhow::Result<u64> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG).context("opening a sock_diag socket")?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket
        .send(&request(port), 0)
        .context("asking sock_diag for connections")?;
    let mut found = 0;
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)
                .context("reading an answer of sock_diag")?;
            let length = (message.header.length as usize)
                .next_multiple_of(4)
                .min(rest.len());
            rest = &rest[length..];
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(socket)) => {
                    let id = &socket.header.socket_id;
                    if id.source_port == port && (id.source_address == address) {
                        found += 1;
                    }
                }
                NetlinkPayload::Done(_) => return Ok(found),
                NetlinkPayload::Error(error) => {
                    return Err(error.to_io()).context("sock_diag refuses to list connections");
                }
                _ => {}
            }
        }
    }
}

fn request(port: u16) -> Vec<u8> {
    let mut id = SocketId::new_v4();
    id.source_port = port;
    let states = StateFlags::all() - StateFlags::LISTEN - StateFlags::TIME_WAIT - StateFlags::CLOSE;
    let query = InetRequest {
        family: AF_INET,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states,
        socket_id: id,
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(query).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}
