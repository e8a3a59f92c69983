//! Entry points of tc: what leaves an interface, and, where XDP is not wanted, what comes in. Other programs on
//! these hooks run afterwards.

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use switcher_common::verdict::{Stage, Verdict};
use switcher_common::{front, pipeline};

use crate::maps::{EGRESS_STAGES, Maps, TC_STAGES};
use crate::packet::TcFrame;
use crate::stack::{Incoming as _, KernelStack};

/// Incoming packets of an interface.
#[classifier]
fn switcher_tc_ingress(context: TcContext) -> i32 {
    let mut frame = TcFrame::new(&context);
    frame.pull();
    let verdict = front::ingress(&mut frame, &Maps, &KernelStack(&context));
    act(&context, verdict)
}

/// Of these, those that are not among the most frequent.
#[classifier]
fn switcher_tc_whole(context: TcContext) -> i32 {
    let mut frame = TcFrame::new(&context);
    let verdict = pipeline::ingress(&mut frame, &Maps, &KernelStack(&context));
    act(&context, verdict)
}

/// Of these, fragments.
#[classifier]
fn switcher_tc_fragments(context: TcContext) -> i32 {
    let mut frame = TcFrame::new(&context);
    frame.pull_more();
    let verdict = pipeline::fragments(&mut frame, &Maps, &KernelStack(&context));
    act(&context, verdict)
}

/// Of these, ICMP errors.
#[classifier]
fn switcher_tc_errors(context: TcContext) -> i32 {
    let mut frame = TcFrame::new(&context);
    frame.pull_more();
    let verdict = pipeline::errors(&mut frame, &Maps, &KernelStack(&context));
    act(&context, verdict)
}

/// Of these, packets of services in `masquerade`, and replies to them.
#[classifier]
fn switcher_tc_nat(context: TcContext) -> i32 {
    let mut frame = TcFrame::new(&context);
    let verdict = pipeline::nat(&mut frame, &Maps, &KernelStack(&context));
    act(&context, verdict)
}

/// Of these, packets of services in `dsr` and `ipip`.
#[classifier]
fn switcher_tc_tunnel(context: TcContext) -> i32 {
    let mut frame = TcFrame::new(&context);
    let verdict = pipeline::tunnel(&mut frame, &Maps, &KernelStack(&context));
    act(&context, verdict)
}

/// Of these, packets that travel on inside others.
#[classifier]
fn switcher_tc_wrap(context: TcContext) -> i32 {
    let mut frame = TcFrame::new(&context);
    let verdict = pipeline::wrap(&mut frame, &Maps, &KernelStack(&context));
    act(&context, verdict)
}

/// Of these, packets that are too big for that.
#[classifier]
fn switcher_tc_answer(context: TcContext) -> i32 {
    let mut frame = TcFrame::new(&context);
    frame.pull_more();
    let verdict = pipeline::answer(&mut frame, &Maps);
    act(&context, verdict)
}

/// Link addresses are those that the FIB gave, so that packets leave as they are.
#[inline(always)]
pub(crate) fn act(context: &TcContext, verdict: Verdict) -> i32 {
    match verdict {
        Verdict::Pass(_) | Verdict::Deliver => TC_ACT_UNSPEC,
        // SAFETY: plain integers.
        Verdict::Transmit => unsafe { bpf_redirect(context.interface(), 0) as i32 },
        // SAFETY: as above.
        Verdict::Redirect(interface) => unsafe { bpf_redirect(interface, 0) as i32 },
        Verdict::Drop(_) => TC_ACT_SHOT,
        Verdict::Continue(stage) => {
            // SAFETY: nothing here waits to be dropped. It only returns if the agent has put no program
            // there; the packet is untouched.
            unsafe { TC_STAGES.tail_call(context, stage as u32) };
            TC_ACT_UNSPEC
        }
    }
}

/// Outgoing packets of an interface.
#[classifier]
fn switcher_egress(context: TcContext) -> i32 {
    let mut frame = TcFrame::new(&context);
    frame.pull();
    let verdict = pipeline::egress(&mut frame, &Maps, &KernelStack(&context));
    if matches!(verdict, Verdict::Continue(Stage::Fragments | Stage::Errors)) {
        // SAFETY: as above.
        unsafe { EGRESS_STAGES.tail_call(&context, 0) };
    }
    act_egress(verdict)
}

/// Of these, fragments and ICMP errors.
#[classifier]
fn switcher_odd_egress(context: TcContext) -> i32 {
    let mut frame = TcFrame::new(&context);
    frame.pull_more();
    let stack = KernelStack(&context);
    act_egress(pipeline::odd_egress(&mut frame, &Maps, &stack))
}

#[inline(always)]
pub(crate) const fn act_egress(verdict: Verdict) -> i32 {
    match verdict {
        Verdict::Drop(_) => TC_ACT_SHOT,
        Verdict::Pass(_)
        | Verdict::Deliver
        | Verdict::Transmit
        | Verdict::Redirect(_)
        | Verdict::Continue(_) => TC_ACT_UNSPEC,
    }
}
