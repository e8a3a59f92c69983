//! Programs that also tell what they do with packets that somebody wants to see.
//!
//! They run the same pipeline as the plain ones, which know nothing of them: while nobody traces, none of this is
//! loaded on a packet's way. While somebody does, [`switcher_trace`], or what stands for it at tc, is at the hook. It
//! looks at a packet's ends and sends it on to the plain program or, if it is meant, to those that tell.

mod tc;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::btf_maps::{Array, PerCpuArray, ProgramArray, RingBuf};
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_boot_ns};
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use core::mem::MaybeUninit;
use switcher_common::abi::trace::{
    Trace, TraceFilter, Tracing, hook, how, kind, place, verdict as verdicts,
};
use switcher_common::abi::{Endpoint, TCP, UDP};
use switcher_common::frame::Frame;
use switcher_common::layers::Layers;
use switcher_common::parse::{self, Packet};
use switcher_common::pipeline;
use switcher_common::steer::{Ownership, Segment};
use switcher_common::tables::{Route, Stack, Tables as _, Way};
use switcher_common::verdict::Verdict;
use switcher_common::word::Word;

use crate::act;
use crate::maps::{MAPPED, Maps};
use crate::packet::XdpFrame;
use crate::stack::{Incoming, KernelStack};

/// Room for more than a thousand records; what does not fit is counted as lost.
const BYTES: usize = 1 << 17;

#[btf_map]
static TRACE_FILTER: Array<TraceFilter, 1, MAPPED> = Array::new();
#[btf_map]
static TRACING: PerCpuArray<Tracing, 2> = PerCpuArray::new();
#[btf_map]
static TRACES: RingBuf<Trace, BYTES> = RingBuf::new();
#[btf_map]
static TRACE_STAGES: ProgramArray<{ place::COUNT }> = ProgramArray::new();
#[btf_map]
static TC_TRACE_STAGES: ProgramArray<{ place::COUNT }> = ProgramArray::new();

/// Incoming packets of an interface, while somebody traces.
#[xdp(frags)]
fn switcher_trace(context: XdpContext) -> u32 {
    let next = match begin(&XdpFrame(&context), &context, hook::XDP) {
        true => place::MEANT,
        false => place::OTHERS,
    };
    // SAFETY: nothing here waits to be dropped. The agent has put programs there before it attached this one.
    unsafe { TRACE_STAGES.tail_call(&context, next) };
    xdp_action::XDP_PASS
}

/// Of these, those that are meant.
#[xdp(frags)]
fn traced_ingress(context: XdpContext) -> u32 {
    let stack = Traced(KernelStack(&context));
    let verdict = pipeline::ingress(&mut XdpFrame(&context), &Maps, &stack);
    told(&context, verdict)
}

/// As the plain one.
#[xdp(frags)]
fn traced_fragments(context: XdpContext) -> u32 {
    let stack = Traced(KernelStack(&context));
    let verdict = pipeline::fragments(&mut XdpFrame(&context), &Maps, &stack);
    told(&context, verdict)
}

/// As the plain one.
#[xdp(frags)]
fn traced_errors(context: XdpContext) -> u32 {
    let stack = Traced(KernelStack(&context));
    let verdict = pipeline::errors(&mut XdpFrame(&context), &Maps, &stack);
    told(&context, verdict)
}

/// As the plain one.
#[xdp(frags)]
fn traced_nat(context: XdpContext) -> u32 {
    let stack = Traced(KernelStack(&context));
    let verdict = pipeline::nat(&mut XdpFrame(&context), &Maps, &stack);
    told(&context, verdict)
}

/// As the plain one.
#[xdp(frags)]
fn traced_tunnel(context: XdpContext) -> u32 {
    let stack = Traced(KernelStack(&context));
    let verdict = pipeline::tunnel(&mut XdpFrame(&context), &Maps, &stack);
    told(&context, verdict)
}

/// As the plain one.
#[xdp(frags)]
fn traced_wrap(context: XdpContext) -> u32 {
    let stack = Traced(KernelStack(&context));
    let verdict = pipeline::wrap(&mut XdpFrame(&context), &Maps, &stack);
    told(&context, verdict)
}

/// As the plain one.
#[xdp(frags)]
fn traced_answer(context: XdpContext) -> u32 {
    let verdict = pipeline::answer(&mut XdpFrame(&context), &Maps);
    told(&context, verdict)
}

/// The stack, and whoever keeps the record.
struct Traced<'a, C>(KernelStack<'a, C>);

impl<C: Incoming> Stack for Traced<'_, C> {
    #[inline(always)]
    fn now(&self) -> u32 {
        self.0.now()
    }

    #[inline(always)]
    fn nanoseconds(&self) -> u64 {
        self.0.nanoseconds()
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        self.0.interface()
    }

    #[inline(always)]
    fn owner(&self, packet: &Packet, endpoint: &Endpoint, segment: Segment) -> Ownership {
        self.0.owner(packet, endpoint, segment)
    }

    #[inline(always)]
    fn route(&self, way: &Way) -> Route {
        self.0.route(way)
    }

    #[inline(always)]
    fn met(&self, service: u16, endpoint: u16, how: u32) {
        met(C::KIND, u32::from(service), u32::from(endpoint), how);
    }

    #[inline(always)]
    fn read(&self, word: Word) {
        read(C::KIND, word.0);
    }

    #[inline(always)]
    fn blur(&self, value: u64) -> u64 {
        self.0.blur(value)
    }
}

#[inline(never)]
fn met(kind: u32, service: u32, endpoint: u32, how: u32) {
    let Some(tracing) = TRACING.get_ptr_mut(kind) else {
        return;
    };
    // Of a packet that passes nothing else is remembered.
    if how == how::FRAGMENT && endpoint == 0 {
        return;
    }
    let mut service = service as u16;
    if matches!(how, how::DIRECT | how::FRAGMENT)
        && let Some(endpoint) = Maps.endpoint(endpoint as u16)
    {
        service = endpoint.service;
    }
    // SAFETY: this CPU's element.
    let trace = unsafe { &mut (*tracing).trace };
    trace.service = service;
    trace.endpoint = endpoint as u16;
    trace.how = how;
}

#[inline(never)]
fn read(kind: u32, word: u64) {
    if let Some(tracing) = TRACING.get_ptr_mut(kind) {
        // SAFETY: this CPU's element.
        unsafe { (*tracing).trace.word = word };
    }
}

/// Whether a packet may be meant; then its record begins.
#[inline(always)]
fn begin<C: Incoming>(frame: &impl Frame, context: &C, hook: u16) -> bool {
    let Ok(found) = Layers::find(frame) else {
        return false;
    };
    let layers = frame.layers(found);
    let whole = layers.fragment == 0 && matches!(layers.protocol, TCP | UDP);
    let packet = if whole {
        parse::packet(frame, &layers)
    } else {
        parse::bare(frame, &layers)
    };
    let Ok(packet) = packet else {
        return false;
    };
    let mut place = MaybeUninit::uninit();
    let Some(packet) = frame.keep(packet, &mut place) else {
        return false;
    };
    let (Some(filter), Some(tracing)) = (TRACE_FILTER.get(0), TRACING.get_ptr_mut(C::KIND)) else {
        return false;
    };
    let ports = [packet.source_port, packet.destination_port];
    if !filter.fits([packet.source, packet.destination], ports, packet.protocol) {
        return false;
    }
    let [flags]: [u8; 1] = match whole && packet.protocol == TCP {
        true => frame.read(usize::from(packet.l4) + 13).unwrap_or_default(),
        false => [0],
    };
    // SAFETY: this CPU's element.
    let trace = unsafe { &mut (*tracing).trace };
    trace.word = 0;
    trace.source = packet.source;
    trace.destination = packet.destination;
    trace.source_port = packet.source_port;
    trace.destination_port = packet.destination_port;
    trace.service = 0;
    trace.endpoint = 0;
    trace.how = how::NOBODYS;
    trace.interface = context.interface();
    // SAFETY: no arguments.
    trace.cpu = unsafe { bpf_get_smp_processor_id() };
    trace.length = frame.length();
    trace.protocol = packet.protocol;
    trace.flags = flags;
    trace.hook = hook;
    true
}

/// Carries a verdict out, and tells of it.
#[inline(always)]
fn told(context: &XdpContext, verdict: Verdict) -> u32 {
    if let Verdict::Continue(stage) = verdict {
        // SAFETY: as above.
        unsafe { TRACE_STAGES.tail_call(context, stage as u32) };
        return xdp_action::XDP_PASS;
    }
    tell_of(kind::XDP, verdict);
    act(context, verdict)
}

#[inline(always)]
fn tell_of(kind: u32, verdict: Verdict) {
    match verdict {
        Verdict::Continue(_) => {}
        Verdict::Pass(reason) => tell(kind, verdicts::PASS, reason as u32, 0),
        Verdict::Deliver => tell(kind, verdicts::DELIVER, 0, 0),
        Verdict::Transmit => tell(kind, verdicts::TRANSMIT, 0, 0),
        Verdict::Redirect(interface) => tell(kind, verdicts::REDIRECT, 0, interface),
        Verdict::Drop(reason) => tell(kind, verdicts::DROP, reason as u32, 0),
    }
}

/// Writes the record, if it is wanted and there is room. A function of its own for the verifier, which walks it
/// once.
#[inline(never)]
fn tell(kind: u32, verdict: u32, reason: u32, to: u32) {
    let (Some(filter), Some(tracing)) = (TRACE_FILTER.get(0), TRACING.get_ptr_mut(kind)) else {
        return;
    };
    // SAFETY: this CPU's element.
    let tracing = unsafe { &mut *tracing };
    let how = tracing.trace.how;
    if how == how::NOBODYS {
        if filter.strangers == 0 || filter.service != 0 || filter.group != 0 {
            return;
        }
    } else {
        let Some(service) = Maps.service(tracing.trace.service) else {
            return;
        };
        // With a service its preview is meant, too.
        if filter.service != 0 && filter.service != service.parent + 1
            || filter.group != 0 && filter.group != service.group + 1
        {
            return;
        }
    }
    // SAFETY: no arguments.
    let at = unsafe { bpf_ktime_get_boot_ns() };
    // Not quite a second: a shift is what a program can do fast.
    if !tracing.spend((at >> 30) as u32, filter.rate) {
        return;
    }
    tracing.trace.at = at;
    tracing.trace.verdict = verdict;
    tracing.trace.reason = reason;
    tracing.trace.to = to;
    if TRACES.output(&tracing.trace, 0).is_err() {
        tracing.lost = tracing.lost.wrapping_add(1);
    }
}
