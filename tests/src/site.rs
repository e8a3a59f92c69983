//! The town as a network namespace: what the kernel's FIB and socket table are asked about.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::libc::linger;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn,
    SockaddrStorage, accept, bind, connect, listen, recv, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use switcher_common::steer::Ownership;
use switcher_harness::Namespace;

use crate::frame::{Build, L3, L4, flag, six};
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
    namespace.sysctl("ipv6/conf/all/forwarding", "1")?;
    for interface in [OUTSIDE, INSIDE, NARROW] {
        add(&namespace, interface)?;
    }
    for (neighbour, interface) in NEIGHBOURS {
        let (link, name) = (mac(link_of(neighbour)), interface.name);
        for neighbour in families(neighbour, interface.mtu) {
            namespace.ip(&format!(
                "neigh replace {neighbour} lladdr {link} dev {name} nud permanent"
            ))?;
        }
    }
    let (client, gateway) = (*CLIENT.ip(), GATEWAY);
    namespace.ip(&format!("route add {client} via {gateway}"))?;
    namespace.ip(&format!(
        "-6 route add {} via {}",
        six(client),
        six(gateway)
    ))?;
    // Without any route the FIB's answer is the same as for this host's own addresses.
    namespace.ip("route add unreachable default")?;
    namespace.ip("-6 route add unreachable default")?;
    for here in HERE {
        namespace.ip(&format!("address add {here}/32 dev lo"))?;
        namespace.ip(&format!("address add {}/128 dev lo nodad", six(here)))?;
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
    if let Some((v4, length)) = address.split_once('/')
        && mtu >= SMALLEST_V6
    {
        let (v6, length) = (six(v4.parse()?), 96 + length.parse::<u8>()?);
        namespace.ip(&format!("address add {v6}/{length} dev {name} nodad"))?;
    }
    Ok(())
}

/// An interface with a smaller MTU has no IPv6 (RFC 8200, 5).
const SMALLEST_V6: u32 = 1280;

/// An address of the town in the families that it has behind an interface with this MTU.
fn families(address: std::net::Ipv4Addr, mtu: u32) -> impl Iterator<Item = IpAddr> {
    let v6 = (mtu >= SMALLEST_V6).then(|| six(address).into());
    std::iter::once(address.into()).chain(v6)
}

fn mac(link: [u8; 6]) -> String {
    link.map(|byte| format!("{byte:02x}")).join(":")
}

/// A connection: the client's end, and the server's. Dropped, nothing is left of it: what is just ending would own the next
/// case's packets.
#[derive(Debug)]
pub struct Owned(Option<OwnedFd>, OwnedFd);

impl Drop for Owned {
    fn drop(&mut self) {
        let by_reset = linger {
            l_onoff: 1,
            l_linger: 0,
        };
        if let Some(ours) = self.0.take() {
            let _set = setsockopt(&ours, sockopt::Linger, &by_reset);
        }
        // The other end has seen it when it hangs up.
        let mut theirs = [PollFd::new(self.1.as_fd(), PollFlags::empty())];
        let _heard = poll(&mut theirs, PollTimeout::from(2000_u16));
    }
}

/// The listeners of [`WEB`]'s endpoints.
#[derive(Debug)]
pub struct Servers(Vec<(SocketAddr, OwnedFd)>);

impl Servers {
    /// Begins to listen; for a thread inside the namespace.
    ///
    /// # Errors
    /// When the kernel refuses a socket.
    pub fn start() -> anyhow::Result<Self> {
        let listener = |address: SocketAddr| {
            let listener = stream(address)?;
            listen(&listener, Backlog::new(16)?)?;
            Ok((address, listener))
        };
        (0..3)
            .map(|colour| endpoint(WEB, colour))
            .flat_map(|v4| [v4.into(), SocketAddr::new(six(*v4.ip()).into(), v4.port())])
            .map(listener)
            .collect::<anyhow::Result<_>>()
            .map(Self)
    }

    /// Makes the sockets that a state speaks of; they live as long as what is returned.
    ///
    /// # Errors
    /// When a connection can't be made.
    pub fn connect(&self, state: &State) -> anyhow::Result<Vec<Owned>> {
        let mut kept = Vec::new();
        for ((address, port, server, server_port), ownership) in &state.told.sockets {
            let client = SocketAddr::new((*address).into(), port.number());
            let server = SocketAddr::new((*server).into(), server_port.number());
            let (ours, theirs) = self.connection(client, server)?;
            match ownership {
                Ownership::Owns => kept.push(Owned(Some(ours), theirs)),
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
        client: SocketAddr,
        server: SocketAddr,
    ) -> anyhow::Result<(OwnedFd, OwnedFd)> {
        let listens = |(address, _): &&(SocketAddr, OwnedFd)| *address == server;
        let (_, listener) = self
            .0
            .iter()
            .find(listens)
            .context("nobody listens there")?;
        let mut attempts = 0;
        let connected = loop {
            let ours = stream(client)?;
            match connect(ours.as_raw_fd(), &SockaddrStorage::from(server)) {
                // What a case before has left of the tuple may take a moment to end.
                Err(Errno::EADDRNOTAVAIL) if attempts < 50 => {
                    attempts += 1;
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                done => break done.map(|()| ours),
            }
        };
        let ours = connected.with_context(|| format!("connecting {client} to {server}"))?;
        let theirs = accept(listener.as_raw_fd())?;
        // SAFETY: a descriptor that the call before has just given to us.
        let theirs = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(theirs) };
        Ok((ours, theirs))
    }
}

fn stream(address: SocketAddr) -> anyhow::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let socket = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))
        .with_context(|| format!("binding to {address}"))?;
    Ok(socket)
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
