//! Entry points of XDP: run the pipeline, map its verdict once.
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
mod tc;
mod trace;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use switcher_common::verdict::Verdict;
use switcher_common::{front, pipeline};

use crate::maps::{Maps, STAGES};
use crate::packet::XdpFrame;
use crate::stack::KernelStack;

/// Incoming packets of an interface.
#[xdp(frags)]
fn switcher_ingress(context: XdpContext) -> u32 {
    let verdict = front::ingress(&mut XdpFrame(&context), &Maps, &KernelStack(&context));
    act(&context, verdict)
}

/// Of these, those that are not among the most frequent.
#[xdp(frags)]
fn switcher_whole(context: XdpContext) -> u32 {
    let verdict = pipeline::ingress(&mut XdpFrame(&context), &Maps, &KernelStack(&context));
    act(&context, verdict)
}

/// Of these, fragments.
#[xdp(frags)]
fn switcher_fragments(context: XdpContext) -> u32 {
    let verdict = pipeline::fragments(&mut XdpFrame(&context), &Maps, &KernelStack(&context));
    act(&context, verdict)
}

/// Of these, ICMP errors.
#[xdp(frags)]
fn switcher_errors(context: XdpContext) -> u32 {
    let verdict = pipeline::errors(&mut XdpFrame(&context), &Maps, &KernelStack(&context));
    act(&context, verdict)
}

/// Of these, packets of services in `masquerade`, and replies to them.
#[xdp(frags)]
fn switcher_nat(context: XdpContext) -> u32 {
    let verdict = pipeline::nat(&mut XdpFrame(&context), &Maps, &KernelStack(&context));
    act(&context, verdict)
}

/// Of these, packets of services in `dsr` and `ipip`.
#[xdp(frags)]
fn switcher_tunnel(context: XdpContext) -> u32 {
    let verdict = pipeline::tunnel(&mut XdpFrame(&context), &Maps, &KernelStack(&context));
    act(&context, verdict)
}

/// Of these, packets that travel on inside others.
#[xdp(frags)]
fn switcher_wrap(context: XdpContext) -> u32 {
    let verdict = pipeline::wrap(&mut XdpFrame(&context), &Maps, &KernelStack(&context));
    act(&context, verdict)
}

/// Of these, packets that are too big for that.
#[xdp(frags)]
fn switcher_answer(context: XdpContext) -> u32 {
    let verdict = pipeline::answer(&mut XdpFrame(&context), &Maps);
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
