//! What the bench compares Switcher with, what feeds frames to both, and strangers on the hooks.
#![no_std]
#![no_main]

use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, TC_ACT_OK, xdp_action};
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::macros::{classifier, map, xdp};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, ProgramArray};
use aya_ebpf::programs::{TcContext, XdpContext};
use switcher_tests_ebpf::{self as abi, ENDPOINT, Flow, Plan, SERVICE, TOUCHES};

/// Offsets of Ethernet frames with IPv4 headers without options.
mod at {
    pub(super) const TYPE: usize = 12;
    pub(super) const TTL: usize = 22;
    pub(super) const PROTOCOL: usize = 23;
    pub(super) const IP_CHECK: usize = 24;
    pub(super) const SOURCE: usize = 26;
    pub(super) const DESTINATION: usize = 30;
    pub(super) const SOURCE_PORT: usize = 34;
    pub(super) const DESTINATION_PORT: usize = 36;
    pub(super) const SEQUENCE: usize = 38;
    pub(super) const TCP_CHECK: usize = 50;
    /// Up to here the programs read and write.
    pub(super) const END: usize = 54;
}

/// An odd number near 2^32 divided by the golden ratio: flows come in no order that a cache likes.
const STRIDE: u32 = 0x9e37_79b1;

#[map]
static PLAN: Array<Plan> = Array::with_max_entries(1, 0);
#[map]
static TARGETS: ProgramArray = ProgramArray::with_max_entries(6, 0);
/// As large as the bench wants it: what is touched to see what that costs. An element is a line of the cache.
#[map]
static LINES: Array<[u64; 8]> = Array::with_max_entries(1, 0);

/// What [`look_up`] remembers, in a map of the kind and the size that Switcher's windows are.
#[map]
static FLOWS: HashMap<Flow, [u32; 4]> = HashMap::with_max_entries(abi::FLOWS, BPF_F_NO_PREALLOC);

/// Frames that [`swallow`] has seen.
#[map]
static SWALLOWED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// The least a program can do.
#[xdp(frags)]
fn empty(_context: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// The least that a program can do that sends frames elsewhere.
#[xdp(frags)]
fn across(_context: XdpContext) -> u32 {
    let Some(plan) = PLAN.get(0) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: a helper without pointers; an interface that is not there drops the frame.
    unsafe { bpf_redirect(plan.interface, 0) as u32 }
}

/// Counts what arrives at the other end of a link.
#[xdp(frags)]
fn swallow(_context: XdpContext) -> u32 {
    if let Some(count) = SWALLOWED.get_ptr_mut(0) {
        // SAFETY: this CPU's own.
        unsafe { *count += 1 };
    }
    xdp_action::XDP_DROP
}

/// Somebody on the egress hook who lets everything pass, and nobody else have a look.
#[classifier]
fn has_the_last_word(_context: TcContext) -> i32 {
    TC_ACT_OK as i32
}

/// One service and one endpoint, both in the code.
#[xdp(frags)]
fn minimal(context: XdpContext) -> u32 {
    // SAFETY: `headers` has compared the offsets with the end of the frame.
    unsafe {
        let Some(frame) = headers(&context) else {
            return xdp_action::XDP_PASS;
        };
        let ((service, port), (endpoint, endpoint_port)) = (SERVICE, ENDPOINT);
        let ours = read::<u16>(frame, at::TYPE) == 0x0800_u16.to_be()
            && read::<u8>(frame, at::PROTOCOL) == 6
            && read::<u32>(frame, at::DESTINATION) == u32::from_ne_bytes(service)
            && read::<u16>(frame, at::DESTINATION_PORT) == port.to_be();
        if !ours {
            return xdp_action::XDP_PASS;
        }
        let (from, to) = (u32::from_ne_bytes(service), u32::from_ne_bytes(endpoint));
        let address = u64::from(!from) + u64::from(to);
        let ports = u64::from(!port.to_be()) + u64::from(endpoint_port.to_be());
        update(frame, at::IP_CHECK, address);
        update(frame, at::TCP_CHECK, address + ports);
        write(frame, at::DESTINATION, to);
        write(frame, at::DESTINATION_PORT, endpoint_port.to_be());
    }
    xdp_action::XDP_PASS
}

/// Reads lines of an array, others for each flow, one after the other: which is next, the last one says, as it is with
/// look-ups that lead to each other.
#[xdp(frags)]
fn touch(context: XdpContext) -> u32 {
    let Some(plan) = PLAN.get(0) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: `headers` has compared the offsets.
    let flow = unsafe {
        let Some(frame) = headers(&context) else {
            return xdp_action::XDP_ABORTED;
        };
        read::<u32>(frame, at::SOURCE)
            ^ u32::from(read::<u16>(frame, at::SOURCE_PORT)) << 12
            ^ read::<u32>(frame, at::DESTINATION).swap_bytes()
            ^ u32::from(read::<u16>(frame, at::DESTINATION_PORT).swap_bytes())
    };
    let mut place = flow;
    for (turn, &lines) in plan.touches.iter().enumerate() {
        if lines == 0 {
            break;
        }
        place = place.wrapping_add(1).wrapping_mul(STRIDE);
        // Structures lie beside each other, as far as there is room.
        let line = ((place >> 7) & (lines - 1)) + (turn as u32) * (abi::LINES / TOUCHES);
        if let Some(line) = LINES.get(line & (abi::LINES - 1)) {
            // Zero, which nobody but us knows.
            place ^= line[0] as u32;
        }
    }
    match place {
        0 => xdp_action::XDP_DROP,
        _ => xdp_action::XDP_PASS,
    }
}

/// The least that a program can do that knows every flow: finds what it remembers of this one, and notes that it was seen.
#[xdp(frags)]
fn look_up(context: XdpContext) -> u32 {
    // SAFETY: `headers` has compared the offsets.
    let key = unsafe {
        let Some(frame) = headers(&context) else {
            return xdp_action::XDP_ABORTED;
        };
        Flow {
            client: [0, 0, 0, read(frame, at::SOURCE)],
            port: read(frame, at::SOURCE_PORT),
            ..Flow::default()
        }
    };
    match FLOWS.get_ptr_mut(&key) {
        Some(known) => {
            // SAFETY: the bench runs this program on one CPU.
            unsafe { (*known)[3] = (*known)[3].wrapping_add(1) };
            xdp_action::XDP_PASS
        }
        None => match FLOWS.insert(&key, &[0; 4], 0) {
            Ok(()) => xdp_action::XDP_PASS,
            Err(_) => xdp_action::XDP_ABORTED,
        },
    }
}

/// `BPF_PROG_TEST_RUN` gives every repetition the frame that the one before left behind. This program
/// makes it a fresh one, of the next flow, and hands it to the program in question.
#[xdp(frags)]
fn drive(context: XdpContext) -> u32 {
    let Some(plan) = PLAN.get_ptr_mut(0) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: the bench runs this program on one CPU; `headers` has compared the offsets.
    unsafe {
        let Some(frame) = headers(&context) else {
            return xdp_action::XDP_ABORTED;
        };
        let plan = &mut *plan;
        plan.next = plan.next.wrapping_add(1);
        let flow = plan.next.wrapping_mul(STRIDE) & plan.mask;
        write(frame, at::TTL, 64_u8);
        write(frame, at::SOURCE, plan.client ^ (flow >> 16));
        let address = u32::from_be(plan.destination) + (flow & plan.addresses);
        let port = u16::from_be(plan.destination_port) + (flow & plan.ports) as u16;
        write(frame, at::DESTINATION, address.to_be());
        write(frame, at::SOURCE_PORT, plan.client_port ^ flow as u16);
        write(frame, at::DESTINATION_PORT, port.to_be());
        if plan.sequences != 0 {
            write(frame, at::SEQUENCE, plan.next);
        }
        TARGETS.tail_call(&context, plan.target);
    }
    xdp_action::XDP_ABORTED
}

/// The frame's start, if it is long enough.
#[inline(always)]
fn headers(context: &XdpContext) -> Option<*mut u8> {
    let (start, end) = (context.data(), context.data_end());
    (start + at::END <= end).then_some(start as *mut u8)
}

/// # Safety
/// `frame` holds a `T` at `offset`.
#[inline(always)]
unsafe fn read<T>(frame: *mut u8, offset: usize) -> T {
    // SAFETY: the caller's promise.
    unsafe { frame.add(offset).cast::<T>().read_unaligned() }
}

/// # Safety
/// As [`read`].
#[inline(always)]
unsafe fn write<T>(frame: *mut u8, offset: usize, value: T) {
    // SAFETY: the caller's promise.
    unsafe { frame.add(offset).cast::<T>().write_unaligned(value) }
}

/// RFC 1624, equation 3.
///
/// # Safety
/// As [`read`].
#[inline(always)]
unsafe fn update(frame: *mut u8, offset: usize, change: u64) {
    // SAFETY: the caller's promise.
    let check: u16 = unsafe { read(frame, offset) };
    let mut sum = u64::from(!check) + change;
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    // SAFETY: the caller's promise.
    unsafe { write(frame, offset, !(sum as u16)) };
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier proves that this is never reached.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
