//! ICMP errors about packets of services: [`Stage::Errors`](crate::verdict::Stage::Errors), and the same at
//! egress.
//!
//! About a reply: to the endpoint of the quoted flow, which is asked for without a trace. About a request: to the
//! client, quoting the VIP that it has sent to.

use core::mem::MaybeUninit;

use crate::abi::trace::how;
use crate::abi::{Address, endpoint_flags, service_flags};
use crate::classify::{self, Class};
use crate::forward::Onward;
use crate::frame::Frame;
use crate::icmp::{self, IcmpError, Turn};
use crate::pipeline;
use crate::quiet::{Asked, Quiet};
use crate::select;
use crate::steer::Segment;
use crate::tables::{Stack, Tables};
use crate::verdict::{Reason, Verdict};

/// An error comes in.
///
/// # Errors
/// Why it passes as it is.
#[inline(always)]
pub(crate) fn ingress<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Result<Verdict, Reason> {
    let mut place = MaybeUninit::uninit();
    let error = frame
        .keep(IcmpError::NONE, &mut place)
        .ok_or(Reason::NotOurs)?;
    error.read(frame)?;
    let mut turn = Turn::NONE;
    decide(error, &mut turn, tables, stack)?;
    if !turn.local {
        find_way(frame, error, &mut turn, tables, stack)?;
    }
    emit(frame, error, &turn, tables)?;
    Ok(match turn.interface {
        0 => Verdict::Deliver,
        same if same == stack.interface() => Verdict::Transmit,
        other => Verdict::Redirect(other),
    })
}

/// How it goes on.
///
/// A function of its own also in the programs, for its stack.
#[inline(never)]
fn find_way<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &F,
    error: &IcmpError,
    turn: &mut Turn,
    tables: &T,
    stack: &S,
) -> Result<(), Reason> {
    let onward = Onward {
        address: turn.outer,
        other: Address([0; 2]),
        both: false,
        end: turn.end,
        endpoint: turn.endpoint,
        finished: true,
    };
    let forth = onward.find(frame, &error.outer, tables, stack)?;
    turn.hop = forth.hop;
    turn.interface = forth.interface;
    Ok(())
}

/// Whose flow is quoted, and what is to be done.
///
/// A function of its own also in the programs, for its stack.
#[inline(never)]
fn decide<T: Tables, S: Stack>(
    error: &IcmpError,
    turn: &mut Turn,
    tables: &T,
    stack: &S,
) -> Result<(), Reason> {
    let packet = &error.packet;
    match classify::incoming(packet, tables) {
        Some(Class::Request(_, service)) if service.has(service_flags::MASQUERADE) => {
            Err(Reason::NotOurs)
        }
        Some(Class::Request(index, service)) => {
            let (quiet, asked) = (Quiet(tables), Asked(stack));
            let chosen = if service.has(service_flags::PREVIEW) {
                select::preview(packet, index, service, false, &quiet, &asked)
            } else {
                select::steer(packet, index, service, Segment::OTHER, &quiet, &asked)
            };
            let steered = chosen.ok_or(Reason::NoTable)?;
            let id = steered.endpoint;
            stack.met(index, id, steered.how as u32);
            let endpoint = pipeline::endpoint(id, tables)?;
            if pipeline::stays(endpoint, service) || endpoint.has(endpoint_flags::DSR) {
                return Err(Reason::Untouched);
            }
            *turn = error.to(id, endpoint.address, endpoint.port);
            turn.local = !endpoint.has(endpoint_flags::ROUTED);
            Ok(())
        }
        Some(Class::Reply(id, endpoint)) => {
            stack.met(endpoint.service, id, how::REPLY);
            let service = pipeline::answers_as(packet, id, endpoint, tables)?;
            let service = pipeline::face(service, tables)?;
            *turn = error.from(id, service.address, service.port);
            Ok(())
        }
        Some(Class::Direct(_)) | None => Err(Reason::NotOurs),
    }
}

/// An error goes out.
///
/// # Errors
/// Why it passes as it is.
#[inline(always)]
pub(crate) fn egress<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &mut F,
    tables: &T,
    stack: &S,
) -> Result<Verdict, Reason> {
    let mut place = MaybeUninit::uninit();
    let error = frame
        .keep(IcmpError::NONE, &mut place)
        .ok_or(Reason::NotOurs)?;
    error.read(frame)?;
    let packet = &error.packet;
    let (id, endpoint) = classify::sender(packet, tables).ok_or(Reason::NotOurs)?;
    stack.met(endpoint.service, id, how::REPLY);
    let service = pipeline::answers_as(packet, id, endpoint, tables)?;
    let service = pipeline::face(service, tables)?;
    let turn = error.from(id, service.address, service.port);
    emit(frame, error, &turn, tables)?;
    Ok(Verdict::Deliver)
}

/// Carries a translation out.
#[inline(always)]
fn emit<F: Frame + ?Sized, T: Tables>(
    frame: &mut F,
    error: &IcmpError,
    turn: &Turn,
    tables: &T,
) -> Result<(), Reason> {
    if !icmp::translate(frame, error, turn) {
        return Err(Reason::Malformed);
    }
    tables.count_reason(Reason::IcmpError);
    Ok(())
}
