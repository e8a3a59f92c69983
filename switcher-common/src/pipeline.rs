//! The stages in order: the data path's table of contents, behind the [front].
//!
//! Incoming: parse, classify, steer, rewrite, forward. Outgoing: replies of endpoints get the service's
//! address back.

use core::mem::MaybeUninit;

use crate::abi::trace::how;
use crate::abi::{endpoint_flags, service_flags};
use crate::classify::{self, Class};
use crate::dsr;
use crate::error;
use crate::forward::{Step, out, send};
use crate::fragment::{self, Head};
use crate::frame::Frame;
use crate::front;
use crate::nat::{self, NatTables};
use crate::parse::{self, Packet};
use crate::reply;
use crate::request;
use crate::tables::{Stack, Tables};
use crate::tunnel::{self, Parcel};
use crate::unreachable;
use crate::verdict::{Reason, Stage, Verdict};

/// A packet comes in by one of our interfaces, and the front has not decided: [`Stage::Whole`].
#[inline(always)]
pub fn ingress<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Verdict {
    let packet = match parse::parse(frame) {
        Ok(packet) => packet,
        Err(Reason::Fragment) => return Verdict::Continue(Stage::Fragments),
        Err(Reason::IcmpError) => return Verdict::Continue(Stage::Errors),
        Err(reason) => return pass(reason, tables),
    };
    if !classify::concerns(&packet, tables) {
        return Verdict::Pass(Reason::NotOurs);
    }
    let mut place = MaybeUninit::uninit();
    let Some(packet) = frame.keep(packet, &mut place) else {
        return Verdict::Pass(Reason::NotOurs);
    };
    let step = match classify::incoming(packet, tables) {
        None => return Verdict::Pass(Reason::NotOurs),
        Some(Class::Request(_, service)) if service.has(service_flags::KEEPS_VIP) => {
            return Verdict::Continue(Stage::Tunnel);
        }
        Some(Class::Request(_, service)) if service.has(service_flags::MASQUERADE) => {
            return Verdict::Continue(Stage::Nat);
        }
        Some(Class::Reply(_, endpoint)) if endpoint.has(endpoint_flags::MASQUERADE) => {
            return Verdict::Continue(Stage::Nat);
        }
        Some(Class::Request(index, service)) => {
            stack.met(index, 0, how::REQUEST);
            request::step(frame, packet, index, service, tables, stack)
        }
        Some(Class::Direct(id)) => {
            stack.met(0, id, how::DIRECT);
            Err(request::direct(frame, packet, id, tables))
        }
        Some(Class::Reply(id, endpoint)) => {
            stack.met(endpoint.service, id, how::REPLY);
            reply::step(frame, packet, id, endpoint, tables)
        }
    };
    finish(frame, packet, step, tables, stack)
}

/// Fragments: [`Stage::Fragments`].
#[inline(always)]
pub fn fragments<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Verdict {
    match fragment::ingress(frame, tables, stack) {
        Ok(verdict) => verdict,
        Err(reason) => pass(reason, tables),
    }
}

/// ICMP, of which only errors are anybody's business: [`Stage::Errors`].
#[inline(always)]
pub fn errors<F: Frame + ?Sized, T: NatTables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Verdict {
    match error::ingress(frame, tables, stack) {
        Ok(verdict) => verdict,
        Err(reason) => pass(reason, tables),
    }
}

/// Services whose endpoints answer to this host: [`Stage::Nat`].
#[inline(always)]
pub fn nat<F: Frame + ?Sized, T: NatTables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Verdict {
    let mut place = MaybeUninit::uninit();
    let head = match Head::read(frame, &mut place) {
        Ok(head) => head,
        Err(reason) => return pass(reason, tables),
    };
    let packet = &head.packet;
    match classify::incoming(packet, tables) {
        None | Some(Class::Direct(_)) => Verdict::Pass(Reason::NotOurs),
        Some(Class::Request(index, service)) => {
            stack.met(index, 0, how::REQUEST);
            let step = nat::request(frame, packet, index, service, tables, stack);
            head.request(&step, stack.now(), tables);
            finish(frame, packet, step, tables, stack)
        }
        Some(Class::Reply(id, endpoint)) => {
            stack.met(endpoint.service, id, how::REPLY);
            let step = nat::reply(frame, packet, id, endpoint, tables, stack);
            head.reply(&step, id, stack.now(), tables);
            let step = step.map(|(step, _)| step);
            finish(frame, packet, step, tables, stack)
        }
    }
}

/// Services whose packets reach endpoints with the VIP in them: [`Stage::Tunnel`].
#[inline(always)]
pub fn tunnel<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Verdict {
    let packet = match parse::parse(frame) {
        Ok(packet) => packet,
        Err(reason) => return pass(reason, tables),
    };
    let mut place = MaybeUninit::uninit();
    let Some(packet) = frame.keep(packet, &mut place) else {
        return Verdict::Pass(Reason::NotOurs);
    };
    let Some(Class::Request(index, service)) = classify::incoming(packet, tables) else {
        return Verdict::Pass(Reason::NotOurs);
    };
    stack.met(index, 0, how::REQUEST);
    let (id, endpoint) = match request::steer(frame, packet, index, service, tables, stack) {
        Ok(chosen) => chosen,
        Err(reason) => return pass(reason, tables),
    };
    if endpoint.has(endpoint_flags::UNTOUCHED) {
        return Verdict::Pass(Reason::Untouched);
    }
    if endpoint.has(endpoint_flags::TUNNEL) {
        tables.hand_on(&Parcel::whole(packet, id));
        return Verdict::Continue(Stage::Wrap);
    }
    match dsr::relay(frame, packet, id, endpoint.address, true, tables, stack) {
        Ok(interface) => out(interface, stack),
        Err(reason) => pass(reason, tables),
    }
}

/// What travels on inside another packet: [`Stage::Wrap`].
#[inline(always)]
pub fn wrap<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Verdict {
    match tunnel::wrap(frame, tables, stack) {
        Ok(verdict) => verdict,
        Err(reason) => pass(reason, tables),
    }
}

/// What would be too big inside another packet: [`Stage::Answer`].
#[inline(always)]
pub fn answer<F: Frame + ?Sized, T: Tables>(frame: &mut F, tables: &T) -> Verdict {
    let told = unreachable::too_big(frame, tables);
    let verdict = pass(Reason::TooBig, tables);
    if told { Verdict::Transmit } else { verdict }
}

/// The front and whatever stages take over from it, as the kernel's tail calls do.
pub fn run<F: Frame + ?Sized, T: NatTables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Verdict {
    let verdict = front::ingress(frame, tables, stack);
    run_on(verdict, frame, tables, stack)
}

/// Whatever stages take over after `verdict`.
pub fn run_on<F: Frame + ?Sized, T: NatTables, S: Stack>(
    mut verdict: Verdict,
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Verdict {
    while let Verdict::Continue(stage) = verdict {
        verdict = match stage {
            Stage::Fragments => fragments(frame, tables, stack),
            Stage::Errors => errors(frame, tables, stack),
            Stage::Nat => nat(frame, tables, stack),
            Stage::Tunnel => tunnel(frame, tables, stack),
            Stage::Wrap => wrap(frame, tables, stack),
            Stage::Answer => answer(frame, tables),
            Stage::Whole => ingress(frame, tables, stack),
        };
    }
    verdict
}

/// A packet leaves by one of our interfaces, from the host itself or through its stack.
#[inline(always)]
pub fn egress<F: Frame + ?Sized, T: NatTables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Verdict {
    let packet = match parse::parse(frame) {
        Ok(packet) => packet,
        Err(Reason::Fragment) => return Verdict::Continue(Stage::Fragments),
        Err(Reason::IcmpError) => return Verdict::Continue(Stage::Errors),
        Err(_) => return Verdict::Pass(Reason::NotOurs),
    };
    let edit = match classify::sender(&packet, tables) {
        Some((id, endpoint)) if endpoint.has(endpoint_flags::MASQUERADE) => {
            nat::reply_leaves(&packet, id, tables, stack)
        }
        Some((id, endpoint)) => {
            if !endpoint.has(endpoint_flags::ROUTED) {
                reply::count(frame, &packet, endpoint, tables);
            }
            stack.met(endpoint.service, id, how::REPLY);
            reply::edit(&packet, id, endpoint, tables)
        }
        None => match classify::receiver(&packet, tables) {
            Some((id, endpoint)) if endpoint.has(endpoint_flags::MASQUERADE) => {
                nat::request_leaves(&packet, id, tables, stack)
            }
            Some(_) | None => Err(Reason::NotOurs),
        },
    };
    match edit {
        Ok(edit) => match frame.edit(&edit) {
            Some(()) => Verdict::Deliver,
            None => pass(Reason::Malformed, tables),
        },
        Err(reason) => pass(reason, tables),
    }
}

/// [`egress`] for fragments and ICMP errors.
#[inline(always)]
pub fn odd_egress<F: Frame + ?Sized, T: NatTables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Verdict {
    let sent = match parse::parse(frame) {
        Err(Reason::Fragment) => fragment::egress(frame, tables, stack),
        Err(Reason::IcmpError) => error::egress(frame, tables, stack),
        _ => Err(Reason::NotOurs),
    };
    match sent {
        Ok(verdict) => verdict,
        Err(Reason::FragmentUnseen) => pass(Reason::FragmentUnseen, tables),
        // Of what leaves this host little is anybody's business.
        Err(_) => Verdict::Pass(Reason::NotOurs),
    }
}

/// [`egress`] and what takes over from it.
pub fn run_egress<F: Frame + ?Sized, T: NatTables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Verdict {
    match egress(frame, tables, stack) {
        Verdict::Continue(Stage::Fragments | Stage::Errors) => odd_egress(frame, tables, stack),
        verdict => verdict,
    }
}

/// Carries a step out.
#[inline(always)]
fn finish<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &mut F,
    packet: &Packet,
    step: Result<Step, Reason>,
    tables: &T,
    stack: &S,
) -> Verdict {
    match step.and_then(|step| send(frame, packet, step, tables, stack)) {
        Ok((edit, verdict)) => match frame.edit(&edit) {
            Some(()) => verdict,
            None => pass(Reason::Malformed, tables),
        },
        Err(reason) => pass(reason, tables),
    }
}

#[inline(always)]
fn pass<T: Tables>(reason: Reason, tables: &T) -> Verdict {
    if reason.counted() {
        tables.count_reason(reason);
    }
    if reason.drops() {
        Verdict::Drop(reason)
    } else {
        Verdict::Pass(reason)
    }
}
