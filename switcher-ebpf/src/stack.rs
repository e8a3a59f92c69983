//! Questions to the network stack.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::{
    BPF_F_CURRENT_NETNS, BPF_FIB_LKUP_RET_NOT_FWDED, BPF_FIB_LKUP_RET_SUCCESS,
    bpf_fib_lookup as FibLookup, bpf_sock, bpf_sock_tuple as SocketTuple,
};
use aya_ebpf::helpers::generated::{
    bpf_fib_lookup, bpf_ktime_get_boot_ns, bpf_ktime_get_coarse_ns, bpf_sk_release,
    bpf_skc_lookup_tcp, bpf_tcp_check_syncookie,
};
use aya_ebpf::programs::{TcContext, XdpContext};
use network_types::tcp::TcpHdr;
use switcher_common::abi::trace::kind;
use switcher_common::abi::{Endpoint, NextHop, TICK_SHIFT};
use switcher_common::frame::Frame as _;
use switcher_common::parse::Packet;
use switcher_common::rewrite::Hop;
use switcher_common::steer::{Ownership, Segment};
use switcher_common::tables::{Route, Stack, Way};

use crate::packet::{TcFrame, XdpFrame};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// Socket states (include/net/tcp_states.h).
const TIME_WAIT: u32 = 6;
const LISTEN: u32 = 10;
/// Bytes of the variants of `struct bpf_sock_tuple`.
const IPV4_TUPLE: u32 = 12;
const IPV6_TUPLE: u32 = 36;

/// The network stack, asked from a program on this hook.
pub(crate) struct KernelStack<'a, C>(pub(crate) &'a C);

/// A program's context, as the stack's helpers want it.
pub(crate) trait Incoming {
    /// Programs of one kind don't interrupt each other: which elements of memory are theirs.
    const KIND: u32;
    /// What the kernel gave the program.
    fn pointer(&self) -> *mut c_void;
    /// Index of the interface the packet came in or goes out by.
    fn interface(&self) -> u32;
    /// The TCP header at `offset` of the packet of a context.
    fn tcp(pointer: *mut c_void, offset: usize) -> Option<TcpHdr>;
}

impl Incoming for XdpContext {
    const KIND: u32 = kind::XDP;

    #[inline(always)]
    fn pointer(&self) -> *mut c_void {
        self.ctx.cast()
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        self.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn tcp(pointer: *mut c_void, offset: usize) -> Option<TcpHdr> {
        XdpFrame(&Self::new(pointer.cast())).read(offset)
    }
}

impl Incoming for TcContext {
    const KIND: u32 = kind::TC;

    #[inline(always)]
    fn pointer(&self) -> *mut c_void {
        self.skb.skb.cast()
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        // SAFETY: the context is this program's.
        unsafe { (*self.skb.skb).ifindex }
    }

    #[inline(always)]
    fn tcp(pointer: *mut c_void, offset: usize) -> Option<TcpHdr> {
        TcFrame::new(&Self::new(pointer.cast())).read(offset)
    }
}

impl<C: Incoming> Stack for KernelStack<'_, C> {
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
        self.0.interface()
    }

    #[inline(always)]
    fn owner(&self, packet: &Packet, endpoint: &Endpoint, segment: Segment) -> Ownership {
        match socket_at::<C>(self.0.pointer(), packet, endpoint, segment.opens) {
            Some(ownership) => ownership,
            None => Ownership::None,
        }
    }

    #[inline(always)]
    fn route(&self, way: &Way) -> Route {
        /// Aligned, so that link addresses may be copied by halves.
        #[repr(C, align(8))]
        struct Aligned(NextHop);
        let mut aligned = Aligned(NextHop::default());
        let Aligned(hop) = &mut aligned;
        match next_hop(self.0.pointer(), self.interface(), way, hop) {
            BPF_FIB_LKUP_RET_SUCCESS => Route::Neighbour {
                interface: hop.interface,
                hop: Hop {
                    destination: hop.destination,
                    source: hop.source,
                },
                mtu: hop.mtu.into(),
            },
            BPF_FIB_LKUP_RET_NOT_FWDED => Route::Local,
            _ => Route::Stack,
        }
    }

    #[inline(always)]
    fn blur(&self, value: u64) -> u64 {
        // A number that the verifier knows nothing about, mixed in behind the compiler's back and out again.
        let salt = u64::from(self.interface());
        let mut mixed = value;
        // SAFETY: arithmetic only.
        unsafe {
            core::arch::asm!(
                "{0} ^= {1}",
                inout(reg) mixed,
                in(reg) salt,
                options(pure, nomem, nostack)
            );
        }
        mixed ^ salt
    }
}

/// Asks the FIB. A function of its own for its stack; the helper's return code.
#[inline(never)]
fn next_hop(context: *mut c_void, interface: u32, way: &Way, hop: &mut NextHop) -> u32 {
    let Way {
        source,
        destination,
        carriage,
        protocol,
    } = *way;
    let mut words = MaybeUninit::<[u64; 8]>::uninit();
    let query: &mut FibLookup = zeroed(&mut words);
    query.l4_protocol = protocol;
    query.ifindex = interface;
    query.__bindgen_anon_1.tot_len = carriage.length;
    if destination.is_v4() {
        query.family = AF_INET;
        query.__bindgen_anon_2.tos = carriage.class as u8;
        query.__bindgen_anon_3.ipv4_src = source.v4_word();
        query.__bindgen_anon_4.ipv4_dst = destination.v4_word();
    } else {
        query.family = AF_INET6;
        query.__bindgen_anon_2.flowinfo = carriage.class;
        query.__bindgen_anon_3.ipv6_src = source.words();
        query.__bindgen_anon_4.ipv6_dst = destination.words();
    }
    let size = size_of::<FibLookup>() as i32;
    // SAFETY: the context is this program's; the query outlives the call.
    let answer = unsafe { bpf_fib_lookup(context, query, size, 0) };
    *hop = NextHop {
        expires: 0,
        endpoint: 0,
        interface: query.ifindex,
        destination: query.dmac,
        source: query.smac,
        // SAFETY: on success the field holds the MTU of the route (Linux 5.12), before that the length that was
        // asked for and fits.
        mtu: unsafe { query.__bindgen_anon_1.mtu_result },
    };
    answer as u32
}

/// A structure of the kernel's, all zero.
///
/// Cleared a word at a time: by itself the compiler calls a function that goes byte by byte. Aligned, so that
/// addresses may be copied by halves.
#[inline(always)]
fn zeroed<T: Plain, const N: usize>(words: &mut MaybeUninit<[u64; N]>) -> &mut T {
    const { assert!(size_of::<T>() <= size_of::<[u64; N]>() && align_of::<T>() <= 8) };
    let first = words.as_mut_ptr().cast::<u64>();
    for index in 0..N {
        // SAFETY: one of the array's words.
        unsafe { first.add(index).write_volatile(0) };
    }
    // SAFETY: large enough and aligned, as asserted; any bytes are a valid `Plain`.
    unsafe { &mut *first.cast::<T>() }
}

/// A structure of integers.
///
/// # Safety
/// Any bytes are a valid value.
unsafe trait Plain {}
// SAFETY: integers and unions of them.
unsafe impl Plain for SocketTuple {}
// SAFETY: as above.
unsafe impl Plain for FibLookup {}
// SAFETY: integers.
unsafe impl Plain for [u32; 10] {}

/// Looks a connection up in the socket table. A function of its own: it is asked once per slot, and inlined
/// copies would multiply what the verifier walks.
#[inline(never)]
fn socket_at<C: Incoming>(
    context: *mut c_void,
    packet: &Packet,
    endpoint: &Endpoint,
    opens: bool,
) -> Option<Ownership> {
    let socket = look_up(context, packet, endpoint);
    if socket.is_null() {
        return None;
    }
    // SAFETY: not null, and held until released below.
    let state = unsafe { (*socket).state };
    let ownership = match state {
        TIME_WAIT => Ownership::TimeWait,
        LISTEN if !opens && carries_cookie::<C>(context, socket.cast(), packet, endpoint) => {
            Ownership::Cookie
        }
        LISTEN => Ownership::None,
        _ => Ownership::Owns,
    };
    // SAFETY: the reference that the look-up took.
    unsafe { bpf_sk_release(socket.cast()) };
    Some(ownership)
}

/// The socket of the packet's client at this endpoint, with a reference taken, or null.
#[inline(never)]
fn look_up(context: *mut c_void, packet: &Packet, endpoint: &Endpoint) -> *mut bpf_sock {
    let mut words = MaybeUninit::<[u64; 5]>::uninit();
    let tuple: &mut SocketTuple = zeroed(&mut words);
    let bytes = if packet.is_v6 {
        tuple.__bindgen_anon_1.ipv6.saddr = packet.source.words();
        tuple.__bindgen_anon_1.ipv6.daddr = endpoint.address.words();
        tuple.__bindgen_anon_1.ipv6.sport = packet.source_port.0;
        tuple.__bindgen_anon_1.ipv6.dport = endpoint.port.0;
        IPV6_TUPLE
    } else {
        tuple.__bindgen_anon_1.ipv4.saddr = packet.source.v4_word();
        tuple.__bindgen_anon_1.ipv4.daddr = endpoint.address.v4_word();
        tuple.__bindgen_anon_1.ipv4.sport = packet.source_port.0;
        tuple.__bindgen_anon_1.ipv4.dport = endpoint.port.0;
        IPV4_TUPLE
    };
    let namespace = BPF_F_CURRENT_NETNS as u64;
    // SAFETY: the context is this program's; the tuple outlives the call.
    unsafe { bpf_skc_lookup_tcp(context, tuple, bytes, namespace, 0) }
}

/// Whether the segment acknowledges a SYN cookie of this listener.
///
/// A cookie is made for the listener's own address, so the helper gets the headers as they will be after
/// the rewrite: of the IP header it reads the version and the addresses.
#[inline(never)]
fn carries_cookie<C: Incoming>(
    context: *mut c_void,
    listener: *mut c_void,
    packet: &Packet,
    endpoint: &Endpoint,
) -> bool {
    const VERSION_4: u32 = u32::from_ne_bytes([0x45, 0, 0, 0]);
    const VERSION_6: u32 = u32::from_ne_bytes([0x60, 0, 0, 0]);
    let Some(mut tcp) = C::tcp(context, packet.l4.into()) else {
        return false;
    };
    tcp.dest = endpoint.port.0.to_ne_bytes();
    let mut words = MaybeUninit::<[u64; 5]>::uninit();
    let ip: &mut [u32; 10] = zeroed(&mut words);
    let ip_size = if packet.is_v6 {
        let ([a, b, c, d], [e, f, g, h]) = (packet.source.words(), endpoint.address.words());
        *ip = [VERSION_6, 0, a, b, c, d, e, f, g, h];
        40
    } else {
        ip[0] = VERSION_4;
        ip[3] = packet.source.v4_word();
        ip[4] = endpoint.address.v4_word();
        20
    };
    // SAFETY: both headers outlive the call; the listener is held by the caller.
    let answer = unsafe {
        bpf_tcp_check_syncookie(
            listener,
            ip.as_mut_ptr().cast(),
            ip_size,
            (&raw mut tcp).cast(),
            size_of_val(&tcp) as u32,
        )
    };
    answer == 0
}
