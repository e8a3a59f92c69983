//! Entry points: run the pipeline, map its verdict once.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(
    internal_features,
    reason = "whether an offset is a constant decides how a packet pointer is made"
)]

mod client;
mod maps;
mod packet;
mod stack;

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action};
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use switcher_common::frame::Frame as _;
use switcher_common::layers::LINK;
use switcher_common::pipeline;
use switcher_common::verdict::{Stage, Verdict};

use crate::maps::{EGRESS_STAGES, Maps, STAGES};
use crate::packet::{TcFrame, XdpFrame};
use crate::stack::{XdpStack, now};

/// Incoming packets of an interface.
#[xdp(frags)]
fn switcher_ingress(context: XdpContext) -> u32 {
    let verdict = pipeline::ingress(&mut XdpFrame(&context), &Maps, &XdpStack(&context));
    act(&context, verdict)
}

/// Of these, fragments.
#[xdp(frags)]
fn switcher_fragments(context: XdpContext) -> u32 {
    let verdict = pipeline::fragments(&mut XdpFrame(&context), &Maps, &XdpStack(&context));
    act(&context, verdict)
}

/// Of these, ICMP errors.
#[xdp(frags)]
fn switcher_errors(context: XdpContext) -> u32 {
    let verdict = pipeline::errors(&mut XdpFrame(&context), &Maps, &XdpStack(&context));
    act(&context, verdict)
}

/// Of these, packets of services in `masquerade`, and replies to them.
#[xdp(frags)]
fn switcher_nat(context: XdpContext) -> u32 {
    let verdict = pipeline::nat(&mut XdpFrame(&context), &Maps, &XdpStack(&context));
    act(&context, verdict)
}

/// Of these, packets of services in `dsr`.
#[xdp(frags)]
fn switcher_tunnel(context: XdpContext) -> u32 {
    let verdict = pipeline::tunnel(&mut XdpFrame(&context), &Maps, &XdpStack(&context));
    act(&context, verdict)
}

#[inline(always)]
fn act(context: &XdpContext, verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Pass(_) | Verdict::Deliver => xdp_action::XDP_PASS,
        Verdict::Transmit => xdp_action::XDP_TX,
        // SAFETY: plain integers.
        Verdict::Redirect(interface) => unsafe { bpf_redirect(interface, 0) as u32 },
        Verdict::Drop(_) => xdp_action::XDP_DROP,
        Verdict::Continue(stage) => {
            // SAFETY: nothing here waits to be dropped. It only returns if the agent has put no program
            // there; the packet is untouched.
            unsafe { STAGES.tail_call(context, stage as u32) };
            xdp_action::XDP_PASS
        }
    }
}

/// Outgoing packets of an interface. Other programs on the hook run afterwards.
#[classifier]
fn switcher_egress(context: TcContext) -> i32 {
    let (start, end) = TcFrame(&context).bounds();
    let linear = (end - start) as u32;
    let headers = headers(TcFrame(&context).read(LINK - 2));
    if linear < headers && context.len() > linear {
        // Nothing to do about a failure: the packet then looks short and passes.
        let _short = context.pull_data(headers.min(context.len()));
    }
    let verdict = pipeline::egress(&mut TcFrame(&context), &Maps);
    if matches!(verdict, Verdict::Continue(Stage::Fragments | Stage::Errors)) {
        // SAFETY: as above.
        unsafe { EGRESS_STAGES.tail_call(&context, 0) };
    }
    act_egress(verdict)
}

/// Of these, fragments and ICMP errors.
#[classifier]
fn switcher_odd_egress(context: TcContext) -> i32 {
    /// Both IP headers of an ICMP error and the TCP header that it quotes.
    const HEADERS: u32 = 256;
    let (start, end) = TcFrame(&context).bounds();
    let linear = (end - start) as u32;
    if linear < HEADERS && context.len() > linear {
        // As above.
        let _short = context.pull_data(HEADERS.min(context.len()));
    }
    act_egress(pipeline::odd_egress(&mut TcFrame(&context), &Maps, now()))
}

#[inline(always)]
const fn act_egress(verdict: Verdict) -> i32 {
    match verdict {
        Verdict::Drop(_) => TC_ACT_SHOT,
        Verdict::Pass(_)
        | Verdict::Deliver
        | Verdict::Transmit
        | Verdict::Redirect(_)
        | Verdict::Continue(_) => TC_ACT_UNSPEC,
    }
}

/// As far as the pipeline reads in a packet of this Ethernet type, unless it has options or extension
/// headers: those are always in the linear part, where the stack had to look at them.
#[inline(always)]
const fn headers(kind: Option<u16>) -> u32 {
    const IPV4: u16 = 0x0800_u16.to_be();
    const IPV6: u16 = 0x86dd_u16.to_be();
    const TCP: usize = 20;
    let bytes = match kind {
        Some(IPV4) => LINK + 20 + TCP,
        Some(IPV6) => LINK + 40 + TCP,
        _ => LINK + 2 * 4 + 40 + TCP,
    };
    bytes as u32
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier proves that this is never reached.
    loop {}
}

/// `bpf_fib_lookup` is for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
