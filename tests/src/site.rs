//! The town as a network namespace: what the kernel's FIB and socket table are asked about.

use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::Context as _;
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, accept, bind,
    connect, listen, recv, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use switcher_common::steer::Ownership;
use switcher_harness::Namespace;

use crate::frame::{Build, L3, L4, flag};
use crate::town::{
    CLIENT, GATEWAY, HERE, INSIDE, Interface, NARROW, NEIGHBOURS, OUTSIDE, State, WEB, endpoint,
    link_of,
};

/// Makes the namespace.
///
/// # Errors
/// When `ip` fails.
pub fn build() -> anyhow::Result<Namespace> {
    let namespace = Namespace::new("town")?;
    namespace.sysctl("ipv4/ip_forward", "1")?;
    for interface in [OUTSIDE, INSIDE, NARROW] {
        add(&namespace, interface)?;
    }
    for (neighbour, interface) in NEIGHBOURS {
        let (link, name) = (mac(link_of(neighbour)), interface.name);
        namespace.ip(&format!(
            "neigh replace {neighbour} lladdr {link} dev {name} nud permanent"
        ))?;
    }
    namespace.ip(&format!("route add {} via {GATEWAY}", CLIENT.ip()))?;
    // Without any route the FIB's answer is the same as for this host's own addresses.
    namespace.ip("route add unreachable default")?;
    for here in HERE {
        namespace.ip(&format!("address add {here}/32 dev lo"))?;
    }
    Ok(namespace)
}

fn add(namespace: &Namespace, interface: Interface) -> anyhow::Result<()> {
    let Interface {
        name,
        index,
        link,
        address,
        mtu,
    } = interface;
    let link = mac(link);
    namespace.ip(&format!(
        "link add name {name} index {index} mtu {mtu} address {link} type veth peer name {name}-peer"
    ))?;
    namespace.ip(&format!("link set {name} up"))?;
    namespace.ip(&format!("link set {name}-peer up"))?;
    namespace.ip(&format!("address add {address} dev {name}"))?;
    Ok(())
}

fn mac(link: [u8; 6]) -> String {
    link.map(|byte| format!("{byte:02x}")).join(":")
}

/// The listeners of [`WEB`]'s endpoints.
#[derive(Debug)]
pub struct Servers(Vec<(SocketAddrV4, OwnedFd)>);

impl Servers {
    /// Begins to listen; for a thread inside the namespace.
    ///
    /// # Errors
    /// When the kernel refuses a socket.
    pub fn start() -> anyhow::Result<Self> {
        let listener = |colour| {
            let address = endpoint(WEB, colour);
            let listener = stream(address)?;
            listen(&listener, Backlog::new(16)?)?;
            Ok((address, listener))
        };
        (0..3)
            .map(listener)
            .collect::<anyhow::Result<_>>()
            .map(Self)
    }

    /// Makes the sockets that a state speaks of; they live as long as what is returned.
    ///
    /// # Errors
    /// When a connection can't be made.
    pub fn connect(&self, state: &State) -> anyhow::Result<Vec<OwnedFd>> {
        let mut kept = Vec::new();
        for ((address, port, server, server_port), ownership) in &state.told.sockets {
            let client = v4((*address).into(), port.number())?;
            let server = v4((*server).into(), server_port.number())?;
            let (ours, theirs) = self.connection(client, server)?;
            match ownership {
                Ownership::Owns => kept.extend([ours, theirs]),
                // Who closes first is left with TIME_WAIT.
                Ownership::TimeWait => {
                    drop(theirs);
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    drop(ours);
                }
                Ownership::None | Ownership::Cookie => {
                    anyhow::bail!("{ownership:?} is not a connection")
                }
            }
        }
        Ok(kept)
    }

    fn connection(
        &self,
        client: SocketAddrV4,
        server: SocketAddrV4,
    ) -> anyhow::Result<(OwnedFd, OwnedFd)> {
        let listens = |(address, _): &&(SocketAddrV4, OwnedFd)| *address == server;
        let (_, listener) = self
            .0
            .iter()
            .find(listens)
            .context("nobody listens there")?;
        let ours = stream(client)?;
        connect(ours.as_raw_fd(), &SockaddrIn::from(server))
            .with_context(|| format!("connecting {client} to {server}"))?;
        let theirs = accept(listener.as_raw_fd())?;
        // SAFETY: a descriptor that the call before has just given to us.
        let theirs = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(theirs) };
        Ok((ours, theirs))
    }
}

fn stream(address: SocketAddrV4) -> anyhow::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), &SockaddrIn::from(address))
        .with_context(|| format!("binding to {address}"))?;
    Ok(socket)
}

fn v4(address: std::net::IpAddr, port: u16) -> anyhow::Result<SocketAddrV4> {
    match address {
        std::net::IpAddr::V4(address) => Ok(SocketAddrV4::new(address, port)),
        std::net::IpAddr::V6(_) => anyhow::bail!("the town speaks IPv4"),
    }
}

/// Opens a connection at a listener whose host answers with SYN cookies, up to the cookie.
///
/// # Errors
/// When no SYN+ACK comes.
pub fn cookie(client: SocketAddrV4, server: SocketAddrV4) -> anyhow::Result<u32> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let tcp = Some(SockProtocol::Tcp);
    let ear = socket(AddressFamily::Inet, SockType::Raw, flags, tcp)?;
    setsockopt(&ear, sockopt::ReceiveTimeout, &TimeVal::seconds(5))?;
    let raw = Some(SockProtocol::Raw);
    let mouth = socket(AddressFamily::Inet, SockType::Raw, flags, raw)?;
    let syn = Build {
        payload: Vec::new(),
        ..Build::tcp(client, server, flag::SYN)
    };
    let to = SockaddrIn::from(server);
    sendto(
        mouth.as_raw_fd(),
        &syn.bytes()[L3..],
        &to,
        MsgFlags::empty(),
    )?;
    let mut packet = [0; 256];
    loop {
        let length = recv(ear.as_raw_fd(), &mut packet, MsgFlags::empty())
            .context("waiting for a SYN+ACK")?;
        let Some(header) = packet[..length].get(L4 - L3..L4 - L3 + 20) else {
            continue;
        };
        let ports = [server.port().to_be_bytes(), client.port().to_be_bytes()].concat();
        if header[..4] == ports && header[13] == flag::SYN | flag::ACK {
            return Ok(u32::from_be_bytes([
                header[4], header[5], header[6], header[7],
            ]));
        }
    }
}
