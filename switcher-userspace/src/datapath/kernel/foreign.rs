//! Why an interface does not take our XDP program, in words.

use std::fs;
use std::path::PathBuf;

use anyhow::anyhow;
use aya::programs::{ProgramError, loaded_programs};
use aya::sys::SyscallError;
use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkXdp};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use crate::config::XdpMode;

/// What was tried, why this host refuses, and what to do.
pub(super) fn xdp_refused(
    interface: &str,
    index: u32,
    mode: XdpMode,
    error: ProgramError,
) -> anyhow::Error {
    let errno = match &error {
        ProgramError::SyscallError(SyscallError { io_error, .. }) => io_error.raw_os_error(),
        _ => None,
    };
    let driver = driver_of(interface).unwrap_or_else(|| "unknown".to_owned());
    let tried = format!("attaching XDP in {mode} mode to {interface} (driver {driver})");
    let why = match errno {
        Some(libc::EBUSY | libc::EEXIST) => occupied(index),
        Some(libc::EOPNOTSUPP) if mode == XdpMode::Native => format!(
            "the driver has no native XDP, or not with the present MTU, queues or offloads; set `xdp = \"generic\"` in [agent] to use the slower hook of the kernel ({} MTU)",
            mtu_of(interface).unwrap_or_else(|| "unknown".to_owned())
        ),
        Some(libc::EINVAL | libc::ERANGE | libc::E2BIG) => format!(
            "the driver does not take the program as the interface is set up now; the MTU ({}) and the number of queues are the usual reasons: `ip -d link show {interface}`, `ethtool -l {interface}`",
            mtu_of(interface).unwrap_or_else(|| "unknown".to_owned())
        ),
        Some(libc::EPERM | libc::EACCES) => {
            "not permitted; run the agent as root or with CAP_BPF and CAP_NET_ADMIN".to_owned()
        }
        _ => "the kernel refuses".to_owned(),
    };
    anyhow!(error).context(format!("{tried}: {why}"))
}

fn occupied(index: u32) -> String {
    let found = attached_program(index);
    let program = match found {
        Some(id) => format!(
            "program {} (id {id})",
            name_of(id).unwrap_or_else(|| "without a name".to_owned())
        ),
        None => "a program".to_owned(),
    };
    format!(
        "another XDP program is attached: {program}. It is left alone; remove it (`bpftool net` shows all), or choose another interface"
    )
}

/// The id of the XDP program on an interface.
pub(crate) fn attached_program(index: u32) -> Option<u32> {
    let link = link(index)?;
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Xdp(xdp) => xdp.iter().find_map(|xdp| match xdp {
                LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) => Some(*id),
                _ => None,
            }),
            _ => None,
        })
}

/// The name of a loaded program.
pub(crate) fn name_of(id: u32) -> Option<String> {
    let program = loaded_programs()
        .flatten()
        .find(|program| program.id() == id)?;
    program
        .name_as_str()
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
}

fn link(index: u32) -> Option<LinkMessage> {
    let mut socket = Socket::new(NETLINK_ROUTE).ok()?;
    socket.bind_auto().ok()?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut query = LinkMessage::default();
    query.header.index = index;
    let mut message = NetlinkMessage::new(
        header,
        NetlinkPayload::from(RouteNetlinkMessage::GetLink(query)),
    );
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0).ok()?;
    let (answer, _) = socket.recv_from_full().ok()?;
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
        .ok()?
        .payload
    {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Some(link),
        _ => None,
    }
}

/// The driver of an interface: of its device, or the kind of a virtual one.
pub(crate) fn driver_of(interface: &str) -> Option<String> {
    let device = PathBuf::from("/sys/class/net")
        .join(interface)
        .join("device/driver");
    if let Some(name) = fs::read_link(device)
        .ok()
        .and_then(|path| Some(path.file_name()?.to_str()?.to_owned()))
    {
        return Some(name);
    }
    let index = nix::net::if_::if_nametoindex(interface).ok()?;
    link(index)?
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(info) => info.iter().find_map(|info| match info {
                netlink_packet_route::link::LinkInfo::Kind(kind) => Some(kind.to_string()),
                _ => None,
            }),
            _ => None,
        })
}

fn mtu_of(interface: &str) -> Option<String> {
    let index = nix::net::if_::if_nametoindex(interface).ok()?;
    link(index)?
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(mtu.to_string()),
            _ => None,
        })
}
