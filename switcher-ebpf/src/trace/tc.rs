//! The same at the hooks of tc.

use aya_ebpf::bindings::TC_ACT_UNSPEC;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use switcher_common::abi::trace::{hook, kind, place};
use switcher_common::pipeline;
use switcher_common::verdict::{Stage, Verdict};

use super::{TC_TRACE_STAGES, Traced, begin, tell_of};
use crate::maps::Maps;
use crate::packet::TcFrame;
use crate::stack::KernelStack;
use crate::tc::{act, act_egress};

/// Incoming packets of an interface, while somebody traces.
#[classifier]
fn switcher_tc_trace(context: TcContext) -> i32 {
    send_on(&context, hook::TC, [place::MEANT, place::OTHERS])
}

/// Outgoing ones.
#[classifier]
fn switcher_trace_egress(context: TcContext) -> i32 {
    send_on(
        &context,
        hook::EGRESS,
        [place::LEAVES, place::LEAVES_OTHERS],
    )
}

#[inline(always)]
fn send_on(context: &TcContext, hook: u16, [meant, others]: [u32; 2]) -> i32 {
    let frame = TcFrame::new(context);
    frame.pull();
    let next = if begin(&frame, context, hook) {
        meant
    } else {
        others
    };
    // SAFETY: nothing here waits to be dropped. The agent has put programs there before it attached this one.
    unsafe { TC_TRACE_STAGES.tail_call(context, next) };
    TC_ACT_UNSPEC
}

/// Of incoming ones, those that are meant.
#[classifier]
fn traced_tc_ingress(context: TcContext) -> i32 {
    let stack = Traced(KernelStack(&context));
    let verdict = pipeline::ingress(&mut TcFrame::new(&context), &Maps, &stack);
    told(&context, verdict)
}

/// As the plain one.
#[classifier]
fn traced_tc_fragments(context: TcContext) -> i32 {
    let mut frame = TcFrame::new(&context);
    frame.pull_more();
    let stack = Traced(KernelStack(&context));
    let verdict = pipeline::fragments(&mut frame, &Maps, &stack);
    told(&context, verdict)
}

/// As the plain one.
#[classifier]
fn traced_tc_errors(context: TcContext) -> i32 {
    let mut frame = TcFrame::new(&context);
    frame.pull_more();
    let stack = Traced(KernelStack(&context));
    let verdict = pipeline::errors(&mut frame, &Maps, &stack);
    told(&context, verdict)
}

/// As the plain one.
#[classifier]
fn traced_tc_nat(context: TcContext) -> i32 {
    let stack = Traced(KernelStack(&context));
    let verdict = pipeline::nat(&mut TcFrame::new(&context), &Maps, &stack);
    told(&context, verdict)
}

/// As the plain one.
#[classifier]
fn traced_tc_tunnel(context: TcContext) -> i32 {
    let stack = Traced(KernelStack(&context));
    let verdict = pipeline::tunnel(&mut TcFrame::new(&context), &Maps, &stack);
    told(&context, verdict)
}

/// As the plain one.
#[classifier]
fn traced_tc_wrap(context: TcContext) -> i32 {
    let stack = Traced(KernelStack(&context));
    let verdict = pipeline::wrap(&mut TcFrame::new(&context), &Maps, &stack);
    told(&context, verdict)
}

/// As the plain one.
#[classifier]
fn traced_tc_answer(context: TcContext) -> i32 {
    let mut frame = TcFrame::new(&context);
    frame.pull_more();
    let verdict = pipeline::answer(&mut frame, &Maps);
    told(&context, verdict)
}

#[inline(always)]
fn told(context: &TcContext, verdict: Verdict) -> i32 {
    if let Verdict::Continue(stage) = verdict {
        // SAFETY: as above.
        unsafe { TC_TRACE_STAGES.tail_call(context, stage as u32) };
        return TC_ACT_UNSPEC;
    }
    tell_of(kind::TC, verdict);
    act(context, verdict)
}

/// Of outgoing ones, those that are meant.
#[classifier]
fn traced_egress(context: TcContext) -> i32 {
    let stack = Traced(KernelStack(&context));
    let verdict = pipeline::egress(&mut TcFrame::new(&context), &Maps, &stack);
    if matches!(verdict, Verdict::Continue(Stage::Fragments | Stage::Errors)) {
        // SAFETY: as above.
        unsafe { TC_TRACE_STAGES.tail_call(&context, place::LEAVES_ODD) };
    }
    tell_of(kind::TC, verdict);
    act_egress(verdict)
}

/// As the plain one.
#[classifier]
fn traced_odd_egress(context: TcContext) -> i32 {
    let mut frame = TcFrame::new(&context);
    frame.pull_more();
    let stack = Traced(KernelStack(&context));
    let verdict = pipeline::odd_egress(&mut frame, &Maps, &stack);
    tell_of(kind::TC, verdict);
    act_egress(verdict)
}
