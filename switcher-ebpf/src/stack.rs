//! Questions to the network stack.

use core::ffi::c_void;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{
    BPF_F_CURRENT_NETNS, BPF_FIB_LKUP_RET_NOT_FWDED, BPF_FIB_LKUP_RET_SUCCESS,
    bpf_fib_lookup as FibLookup, bpf_sock_tuple, xdp_md,
};
use aya_ebpf::helpers::generated::{
    bpf_fib_lookup, bpf_ktime_get_boot_ns, bpf_ktime_get_coarse_ns, bpf_sk_release,
    bpf_skc_lookup_tcp, bpf_tcp_check_syncookie,
};
use aya_ebpf::programs::XdpContext;
use network_types::tcp::TcpHdr;
use switcher_common::abi::{Address, Endpoint, TICK_SHIFT};
use switcher_common::frame::Frame as _;
use switcher_common::parse::{Carriage, Packet};
use switcher_common::rewrite::{Hop, L4};
use switcher_common::steer::{Ownership, Segment};
use switcher_common::tables::{Route, Stack};

use crate::packet::XdpFrame;

const AF_INET: u8 = 2;
/// Socket states (include/net/tcp_states.h).
const TIME_WAIT: u32 = 6;
const LISTEN: u32 = 10;
/// Bytes of the IPv4 variant of `struct bpf_sock_tuple`.
const IPV4_TUPLE: u32 = 12;

/// The network stack, asked from an XDP program.
pub(crate) struct XdpStack<'a>(pub(crate) &'a XdpContext);

impl Stack for XdpStack<'_> {
    #[inline(always)]
    fn now(&self) -> u32 {
        // SAFETY: no arguments.
        (unsafe { bpf_ktime_get_coarse_ns() } >> TICK_SHIFT) as u32
    }

    #[inline(always)]
    fn nanoseconds(&self) -> u64 {
        // SAFETY: no arguments.
        unsafe { bpf_ktime_get_boot_ns() }
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        self.0.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn owner(&self, packet: &Packet, endpoint: &Endpoint, segment: Segment) -> Ownership {
        let ports = u32::from(packet.source_port.0) | u32::from(endpoint.port.0) << 16;
        let (client, server) = (packet.source.v4_word(), endpoint.address.v4_word());
        match socket_at(self.0.ctx, client, server, ports, segment.opens) {
            Some(ownership) => ownership,
            None => Ownership::None,
        }
    }

    #[inline(always)]
    fn route(
        &self,
        source: Address,
        destination: Address,
        protocol: u8,
        carriage: Carriage,
    ) -> Route {
        // SAFETY: plain integers; zero is valid.
        let mut query: FibLookup = unsafe { core::mem::zeroed() };
        query.family = AF_INET;
        query.l4_protocol = protocol;
        query.ifindex = self.interface();
        query.__bindgen_anon_1.tot_len = carriage.length;
        query.__bindgen_anon_2.tos = carriage.tos;
        query.__bindgen_anon_3.ipv4_src = source.v4_word();
        query.__bindgen_anon_4.ipv4_dst = destination.v4_word();
        // SAFETY: the context is this program's; the query outlives the call.
        let answer = unsafe {
            bpf_fib_lookup(
                self.0.as_ptr(),
                &raw mut query,
                size_of::<FibLookup>() as i32,
                0,
            )
        };
        match answer as u32 {
            BPF_FIB_LKUP_RET_SUCCESS => Route::Neighbour {
                interface: query.ifindex,
                hop: Hop {
                    destination: query.dmac,
                    source: query.smac,
                },
                // SAFETY: on success the field holds the MTU of the route (Linux 5.12), before that the
                // length that was asked for and fits.
                mtu: u32::from(unsafe { query.__bindgen_anon_1.mtu_result }),
            },
            BPF_FIB_LKUP_RET_NOT_FWDED => Route::Local,
            _ => Route::Stack,
        }
    }
}

/// Looks a connection up in the socket table. A function of its own with scalar arguments: it is asked
/// once per slot, and inlined copies would multiply what the verifier walks.
#[inline(never)]
fn socket_at(
    context: *mut xdp_md,
    client: u32,
    server: u32,
    ports: u32,
    opens: bool,
) -> Option<Ownership> {
    // SAFETY: plain integers; zero is valid.
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    tuple.__bindgen_anon_1.ipv4.saddr = client;
    tuple.__bindgen_anon_1.ipv4.daddr = server;
    tuple.__bindgen_anon_1.ipv4.sport = ports as u16;
    tuple.__bindgen_anon_1.ipv4.dport = (ports >> 16) as u16;
    let namespace = BPF_F_CURRENT_NETNS as u64;
    // SAFETY: the context is this program's; the tuple outlives the call.
    let socket =
        unsafe { bpf_skc_lookup_tcp(context.cast(), &raw mut tuple, IPV4_TUPLE, namespace, 0) };
    if socket.is_null() {
        return None;
    }
    // SAFETY: not null, and held until released below.
    let state = unsafe { (*socket).state };
    let ownership = match state {
        TIME_WAIT => Ownership::TimeWait,
        LISTEN if !opens && carries_cookie(context, socket.cast(), client, server, ports) => {
            Ownership::Cookie
        }
        LISTEN => Ownership::None,
        _ => Ownership::Owns,
    };
    // SAFETY: the reference that the look-up took.
    unsafe { bpf_sk_release(socket.cast()) };
    Some(ownership)
}

/// Whether the segment acknowledges a SYN cookie of this listener.
///
/// A cookie is made for the listener's own address, so the helper gets the headers as they will be after
/// the rewrite: of the IPv4 header it reads the version and the addresses.
#[inline(always)]
fn carries_cookie(
    context: *mut xdp_md,
    listener: *mut c_void,
    client: u32,
    server: u32,
    ports: u32,
) -> bool {
    /// Aligned, or else the compiler writes two words at once where the verifier allows only one.
    #[repr(C, align(8))]
    struct Ipv4([u32; 5]);
    const VERSION: u32 = u32::from_ne_bytes([0x45, 0, 0, 0]);
    let frame = XdpContext::new(context);
    let Some(mut tcp) = XdpFrame(&frame).read::<TcpHdr>(L4) else {
        return false;
    };
    tcp.dest = ((ports >> 16) as u16).to_ne_bytes();
    let mut ip = Ipv4([VERSION, 0, 0, client, server]);
    let (ip_size, tcp_size) = (size_of_val(&ip) as u32, size_of_val(&tcp) as u32);
    // SAFETY: both headers outlive the call; the listener is held by the caller.
    let answer = unsafe {
        bpf_tcp_check_syncookie(
            listener,
            (&raw mut ip).cast(),
            ip_size,
            (&raw mut tcp).cast(),
            tcp_size,
        )
    };
    answer == 0
}
