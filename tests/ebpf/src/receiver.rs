//! What tests put on interfaces that Switcher's programs send to: `pass`, so that the interface takes what XDP
//! transmits, and what takes tunnels' headers off, for kernels without tunnel devices.
#![no_std]
#![no_main]

use aya_ebpf::bindings::{
    BPF_F_ADJ_ROOM_FIXED_GSO, TC_ACT_OK, TC_ACT_SHOT, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
    xdp_action,
};
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::macros::{classifier, map, xdp};
use aya_ebpf::maps::{Array, HashMap};
use aya_ebpf::programs::{TcContext, XdpContext};

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const TYPE_IPV4: u16 = 0x0800_u16.to_be();
const TYPE_IPV6: u16 = 0x86dd_u16.to_be();
/// IP protocol numbers of IPv4 and IPv6 inside another packet.
const IPV4_INSIDE: u8 = 4;
const IPV6_INSIDE: u8 = 41;

/// Source addresses of outer headers, IPv4 in the last four bytes, and how often each was seen.
#[map]
static SOURCES: HashMap<[u8; 16], u64> = HashMap::with_max_entries(65536, 0);

/// Packets of many segments that came at tc, and how many of them were longer or shorter than their outer header says.
#[map]
static SEGMENTED: Array<u64> = Array::with_max_entries(2, 0);

/// Takes the outer header off IPv4 in IPv4, in packets of many segments, too. As the stack of a receiver would, it drops
/// those whose outer header says another length.
#[classifier]
fn decapsulate_at_tc(context: TcContext) -> i32 {
    let is_inside = context.load::<u16>(12) == Ok(TYPE_IPV4)
        && context.load::<u8>(ETHERNET) == Ok(0x45)
        && context.load::<u8>(ETHERNET + 9) == Ok(IPV4_INSIDE);
    if !is_inside {
        return TC_ACT_OK as i32;
    }
    let said = context.load::<u16>(ETHERNET + 2).map_or(0, u16::from_be);
    let right = u32::from(said) + ETHERNET as u32 == context.len();
    // SAFETY: the context is this program's.
    if unsafe { (*context.skb.skb).gso_size } != 0 {
        count(0);
        if !right {
            count(1);
        }
    }
    let flags = u64::from(BPF_F_ADJ_ROOM_FIXED_GSO);
    let stripped = context.adjust_room(-(IPV4 as i32), BPF_ADJ_ROOM_MAC, flags);
    if right && stripped.is_ok() {
        TC_ACT_OK as i32
    } else {
        TC_ACT_SHOT as i32
    }
}

#[inline(always)]
fn count(place: u32) {
    if let Some(counter) = SEGMENTED.get_ptr_mut(place) {
        // SAFETY: a word of a map that lives as long as the program; a lost update loses a count.
        unsafe { *counter += 1 };
    }
}

/// Being there is enough: a veth with a program takes what its peer transmits by XDP.
#[xdp(frags)]
fn pass(_context: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Takes the outer header off IPv4 in IPv4, IPv6 in IPv6 and IPv4 in IPv6.
#[xdp(frags)]
fn decapsulate(context: XdpContext) -> u32 {
    match outer(&context) {
        Some((length, inner)) => strip(&context, length, inner),
        None => xdp_action::XDP_PASS,
    }
}

/// The length of the outer header and the Ethernet type of what is inside.
#[inline(always)]
fn outer(context: &XdpContext) -> Option<(usize, u16)> {
    let mut source = [0; 16];
    let (length, inside) = match load::<u16>(context, 12)? {
        TYPE_IPV4 if load::<u8>(context, ETHERNET)? == 0x45 => {
            let inside = load::<u8>(context, ETHERNET + 9)?;
            if inside != IPV4_INSIDE {
                return None;
            }
            let [a, b, c, d] = load::<[u8; 4]>(context, ETHERNET + 12)?;
            [source[12], source[13], source[14], source[15]] = [a, b, c, d];
            (IPV4, inside)
        }
        TYPE_IPV6 => {
            source = load(context, ETHERNET + 8)?;
            (IPV6, load::<u8>(context, ETHERNET + 6)?)
        }
        _ => return None,
    };
    let inner = match inside {
        IPV4_INSIDE => TYPE_IPV4,
        IPV6_INSIDE => TYPE_IPV6,
        _ => return None,
    };
    let seen = SOURCES.get_ptr_mut(source).map_or(0, |seen| {
        // SAFETY: a word of a map that lives as long as the program; a lost update loses a count.
        unsafe { seen.read() }
    });
    let _full = SOURCES.insert(source, seen + 1, 0);
    Some((length, inner))
}

#[inline(always)]
fn strip(context: &XdpContext, length: usize, inner: u16) -> u32 {
    let Some(mut ethernet) = load::<[u8; ETHERNET]>(context, 0) else {
        return xdp_action::XDP_PASS;
    };
    [ethernet[12], ethernet[13]] = inner.to_ne_bytes();
    // SAFETY: the context is this program's; packet pointers are loaded anew afterwards.
    if unsafe { bpf_xdp_adjust_head(context.ctx, length as i32) } != 0 {
        return xdp_action::XDP_ABORTED;
    }
    let start = context.data();
    if start + ETHERNET > context.data_end() {
        return xdp_action::XDP_ABORTED;
    }
    // SAFETY: inside the frame, which belongs to this program until it returns.
    unsafe { (start as *mut [u8; ETHERNET]).write_unaligned(ethernet) };
    xdp_action::XDP_PASS
}

#[inline(always)]
fn load<T: Copy>(context: &XdpContext, offset: usize) -> Option<T> {
    let start = context.data();
    if start + offset + size_of::<T>() > context.data_end() {
        return None;
    }
    // SAFETY: inside the frame, and `T` is plain bytes.
    Some(unsafe { ((start + offset) as *const T).read_unaligned() })
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
