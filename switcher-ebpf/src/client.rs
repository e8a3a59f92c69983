//! Sockets of this host: entry points of the cgroup hooks.
//!
//! They see every socket of every process below their cgroup, whatever its network namespace; those of
//! other namespaces than the agent's, and the agent's own, are left alone. So is whatever concerns a port
//! that nobody here has.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::{
    bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_boot_ns, bpf_ktime_get_coarse_ns,
};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use switcher_common::abi::client::{SocketNote, socket_flags};
use switcher_common::abi::{Address, Port, TCP, TICK_SHIFT, UDP};
use switcher_common::client::{self, Ask, Clock};
use switcher_common::tables::Tables as _;

use crate::maps::{CLIENTS, Maps, SOCKETS};

macro_rules! hooks {
    ($($hook:ident, $name:ident, $work:ident::<$family:ident>;)+) => {$(
        #[cgroup_sock_addr($hook)]
        fn $name(context: SockAddrContext) -> i32 {
            i32::from($work(&Call::<$family>::new(&context)))
        }
    )+};
}

hooks! {
    connect4, switcher_connect4, connect::<V4>;
    connect6, switcher_connect6, connect::<V6>;
    sendmsg4, switcher_sendmsg4, send::<V4>;
    sendmsg6, switcher_sendmsg6, send::<V6>;
    recvmsg4, switcher_recvmsg4, receive::<V4>;
    recvmsg6, switcher_recvmsg6, receive::<V6>;
    getpeername4, switcher_getpeername4, peer::<V4>;
    getpeername6, switcher_getpeername6, peer::<V6>;
}

/// `connect(2)` of a TCP or UDP socket. False if it has to fail, which it does with EPERM.
#[inline(always)]
fn connect<F: Family>(call: &Call<'_, F>) -> bool {
    let Some(ask) = call.ask() else {
        return true;
    };
    let Some(way) = client::connect(&ask, &Maps, nanoseconds) else {
        return true;
    };
    if way.address == ask.address && way.port == ask.port {
        return !way.held;
    }
    // Without memory for it the peer's name is the endpoint's: no reason to fail.
    if let Some(note) = call.make_note() {
        note.connects(&ask, &way);
    }
    call.say(way.address, way.port);
    true
}

/// `sendto(2)` and `sendmsg(2)` of an unconnected UDP socket. False likewise.
#[inline(always)]
fn send<F: Family>(call: &Call<'_, F>) -> bool {
    let Some(ask) = call.ask() else {
        return true;
    };
    let clock = Clock { ticks, nanoseconds };
    let Some(way) = client::send(&ask, &Maps, clock) else {
        if let Some(endpoint) = client::direct(&ask, &Maps)
            && let Some(note) = call.make_note()
        {
            note.sends_directly(endpoint);
        }
        return true;
    };
    if way.held {
        return false;
    }
    // Without memory for the note its answer would come from a stranger.
    let Some(note) = call.make_note() else {
        return false;
    };
    note.sends(&way);
    if way.address != ask.address || way.port != ask.port {
        call.say(way.address, way.port);
    }
    true
}

/// `recvfrom(2)` and `recvmsg(2)` of a UDP socket, with the source about to be told.
#[inline(always)]
fn receive<F: Family>(call: &Call<'_, F>) -> bool {
    if let Some((address, port)) = call.address()
        && let Some(note) = call.note()
        && let Some((address, port)) = note.source(address, port, UDP, &Maps)
    {
        call.say(address, port);
    }
    true
}

/// `getpeername(2)`.
#[inline(always)]
fn peer<F: Family>(call: &Call<'_, F>) -> bool {
    if let Some((address, port)) = call.address()
        && let Some(note) = call.note()
        && let Some((address, port)) = note.peer(address, port)
    {
        call.say(address, port);
    }
    true
}

#[inline(always)]
fn ticks() -> u32 {
    // SAFETY: no arguments.
    (unsafe { bpf_ktime_get_coarse_ns() } >> TICK_SHIFT) as u32
}

#[inline(always)]
fn nanoseconds() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// A system call with a socket address. Fields of the context are read and written one by one: the verifier
/// allows nothing wider.
struct Call<'a, F> {
    context: &'a SockAddrContext,
    family: core::marker::PhantomData<F>,
}

impl<'a, F: Family> Call<'a, F> {
    #[inline(always)]
    const fn new(context: &'a SockAddrContext) -> Self {
        Self {
            context,
            family: core::marker::PhantomData,
        }
    }

    /// The address, if its port is one that anybody has.
    #[inline(always)]
    fn address(&self) -> Option<(Address, Port)> {
        let call = self.context.sock_addr;
        // SAFETY: a field of the context.
        let port = Port(unsafe { (&raw const (*call).user_port).read_volatile() } as u16);
        if !Maps.known(port) {
            return None;
        }
        Some((F::read(self.context), port))
    }

    /// What is asked for, by a socket that is to be steered.
    #[inline(always)]
    fn ask(&self) -> Option<Ask> {
        let (address, port) = self.address()?;
        let call = self.context.sock_addr;
        // SAFETY: a field of the context.
        let protocol = unsafe { (&raw const (*call).protocol).read_volatile() };
        if protocol != u32::from(TCP) && protocol != u32::from(UDP) {
            return None;
        }
        // SAFETY: the context is this program's.
        let namespace = unsafe { bpf_get_netns_cookie(self.context.as_ptr()) };
        let ours = CLIENTS.get(0)?.namespace;
        if namespace != ours || ours == 0 {
            return None;
        }
        if let Some(note) = self.note()
            && note.flags & socket_flags::OWN != 0
        {
            return None;
        }
        Some(Ask {
            address,
            port,
            protocol: protocol as u8,
            // SAFETY: the context is this program's.
            cookie: unsafe { bpf_get_socket_cookie(self.context.as_ptr()) },
        })
    }

    /// Another address in place of the one that the call has.
    #[inline(always)]
    fn say(&self, address: Address, port: Port) {
        F::write(self.context, address);
        let call = self.context.sock_addr;
        // SAFETY: a field that these hooks may write.
        unsafe { (&raw mut (*call).user_port).write_volatile(u32::from(port.0)) };
    }

    #[inline(always)]
    fn note(&self) -> Option<&SocketNote> {
        // SAFETY: the context is this program's. The value lives as long as the socket, which the call holds.
        unsafe { SOCKETS.get_ptr_mut(self.context).as_ref() }
    }

    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "the kernel's value, not the call's")]
    fn make_note(&self) -> Option<&mut SocketNote> {
        // SAFETY: as above. Two threads may use a socket at once; each field is a word or less.
        unsafe { SOCKETS.get_or_insert_ptr_mut(self.context, None).as_mut() }
    }
}

/// How the context has an address.
trait Family {
    fn read(context: &SockAddrContext) -> Address;
    fn write(context: &SockAddrContext, address: Address);
}

struct V4;

impl Family for V4 {
    #[inline(always)]
    fn read(context: &SockAddrContext) -> Address {
        // SAFETY: a field of the context.
        let word = unsafe { (&raw const (*context.sock_addr).user_ip4).read_volatile() };
        Address::v4(word.to_ne_bytes())
    }

    #[inline(always)]
    fn write(context: &SockAddrContext, address: Address) {
        // SAFETY: a field that these hooks may write.
        unsafe { (&raw mut (*context.sock_addr).user_ip4).write_volatile(address.v4_word()) };
    }
}

/// IPv4-mapped addresses of IPv6 sockets included: they are keys as they are.
struct V6;

impl Family for V6 {
    #[inline(always)]
    fn read(context: &SockAddrContext) -> Address {
        // SAFETY: a field of the context.
        let word =
            |at: usize| unsafe { (&raw const (*context.sock_addr).user_ip6[at]).read_volatile() };
        Address::of_words([word(0), word(1), word(2), word(3)])
    }

    #[inline(always)]
    fn write(context: &SockAddrContext, address: Address) {
        for (at, word) in address.words().into_iter().enumerate() {
            // SAFETY: a field that these hooks may write.
            unsafe { (&raw mut (*context.sock_addr).user_ip6[at]).write_volatile(word) };
        }
    }
}
