//! Entry points: run the pipeline, map its verdict once.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod maps;
mod packet;
mod stack;

use aya_ebpf::bindings::{TC_ACT_UNSPEC, xdp_action};
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use switcher_common::pipeline;
use switcher_common::rewrite::L4;
use switcher_common::verdict::Verdict;

use crate::maps::Maps;
use crate::packet::{TcFrame, XdpFrame};
use crate::stack::XdpStack;

/// Incoming packets of an interface.
#[xdp]
fn switcher_ingress(context: XdpContext) -> u32 {
    match pipeline::ingress(&mut XdpFrame(&context), &Maps, &XdpStack(&context)) {
        Verdict::Pass(_) | Verdict::Deliver => xdp_action::XDP_PASS,
        Verdict::Transmit => xdp_action::XDP_TX,
        // SAFETY: plain integers.
        Verdict::Redirect(interface) => unsafe { bpf_redirect(interface, 0) as u32 },
    }
}

/// Outgoing packets of an interface. Other programs on the hook run afterwards.
#[classifier]
fn switcher_egress(context: TcContext) -> i32 {
    /// As far as the pipeline reads: the fixed headers of IPv4 and TCP.
    const HEADERS: u32 = L4 as u32 + 20;
    let (start, end) = TcFrame(&context).bounds();
    let linear = (end - start) as u32;
    if linear < HEADERS && context.len() > linear {
        // Nothing to do about a failure: the packet then looks short and passes.
        let _short = context.pull_data(HEADERS.min(context.len()));
    }
    let (Verdict::Pass(_) | Verdict::Deliver | Verdict::Transmit | Verdict::Redirect(_)) =
        pipeline::egress(&mut TcFrame(&context), &Maps);
    TC_ACT_UNSPEC
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
