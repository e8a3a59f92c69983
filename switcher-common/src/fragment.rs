//! Fragments, of which only the first has ports: [`Stage::Fragments`](crate::verdict::Stage::Fragments), and
//! the same at egress.
//!
//! The first fragment is treated like a whole packet, and what became of it is remembered for the others, if
//! its addresses are such that these may have to be changed ([`fragment_keys`](crate::abi::fragment)). A
//! fragment whose first was not seen is dropped if it is for a VIP: it could go anywhere, and its receiver would
//! keep it in vain. From an endpoint's address much may come that is no reply: that passes.

use core::mem::MaybeUninit;

use crate::abi::fragment::{FRAGMENTS_LIFE, FragmentKey, Fragmented, fragmented};
use crate::abi::trace::how;
use crate::abi::{Address, AddressKey, Endpoint, TCP, UDP, endpoint_flags, service_flags};
use crate::classify::{self, Class};
use crate::forward::Onward;
use crate::frame::Frame;
use crate::layers::Layers;
use crate::parse::{self, Packet};
use crate::pipeline;
use crate::rewrite::{self, Edit, End};
use crate::tables::{Count, Stack, Tables};
use crate::verdict::{Reason, Verdict};

/// A fragment comes in.
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
    let fragment = Fragment::read(frame, &mut place)?;
    let packet = fragment.packet;
    let said = if fragment.first {
        let said = meet(frame, packet, tables, stack)?;
        if said.kind == fragmented::REPLY || is_followed_to(packet, tables) {
            fragment.remember(said, stack.now(), tables);
        }
        said
    } else {
        match fragment.known(stack.now(), tables) {
            Some(said) => {
                stack.met(said.service, said.id, how::FRAGMENT);
                said
            }
            None if is_followed_to(packet, tables) => {
                tables.count_reason(Reason::FragmentUnseen);
                return Ok(Verdict::Drop(Reason::FragmentUnseen));
            }
            None => return Err(unseen_reply(packet, tables)),
        }
    };
    let (edit, end) = match said.kind {
        fragmented::REQUEST => {
            let endpoint = request(frame, &fragment, said.id, tables)?;
            // The stack would take it for its own.
            if endpoint.has(endpoint_flags::DSR) {
                return Err(Reason::NoFragments);
            }
            let edit = Edit::to(packet, endpoint.address, endpoint.port);
            if !endpoint.has(endpoint_flags::ROUTED) {
                fragment.emit(frame, &edit).ok_or(Reason::Malformed)?;
                return Ok(Verdict::Deliver);
            }
            (edit, End::Destination)
        }
        fragmented::REPLY => (reply(packet, said.service, tables)?, End::Source),
        _ => return Err(Reason::NotOurs),
    };
    let onward = Onward {
        address: edit.address,
        other: Address([0; 2]),
        both: false,
        end,
        endpoint: said.id,
        finished: true,
    };
    let forth = onward.find(frame, packet, tables, stack)?;
    let (edit, verdict) = forth.act(edit, stack);
    fragment.emit(frame, &edit).ok_or(Reason::Malformed)?;
    Ok(verdict)
}

/// A fragment goes out.
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
    let fragment = Fragment::read(frame, &mut place)?;
    let packet = fragment.packet;
    let said = if fragment.first {
        let said = match classify::sender(packet, tables) {
            Some((id, endpoint)) => {
                stack.met(endpoint.service, id, how::REPLY);
                answer(packet, id, endpoint, tables)
            }
            None => PASSES,
        };
        if is_followed_from(packet, tables) {
            fragment.remember(said, stack.now(), tables);
        }
        said
    } else {
        match fragment.known(stack.now(), tables) {
            Some(said) => {
                stack.met(said.service, said.id, how::FRAGMENT);
                said
            }
            None => return Err(unseen_reply(packet, tables)),
        }
    };
    if said.kind != fragmented::REPLY {
        return Err(Reason::NotOurs);
    }
    let edit = reply(packet, said.service, tables)?;
    fragment.emit(frame, &edit).ok_or(Reason::Malformed)?;
    Ok(Verdict::Deliver)
}

/// A fragment of a TCP or UDP packet.
struct Fragment<'a> {
    /// Without ports, if it is not the first.
    packet: &'a Packet,
    first: bool,
    /// Of the packet that it is part of.
    identification: u32,
}

impl<'a> Fragment<'a> {
    #[inline(always)]
    fn read<F: Frame + ?Sized>(
        frame: &F,
        place: &'a mut MaybeUninit<Packet>,
    ) -> Result<Self, Reason> {
        let layers = frame.layers(Layers::find(frame)?);
        let part = layers.fragment(frame).ok_or(Reason::Malformed)?;
        let first = part.offset == 0;
        let packet = if first {
            if !matches!(layers.protocol, TCP | UDP) {
                return Err(Reason::Protocol);
            }
            parse::packet(frame, &layers)?
        } else {
            parse::bare(frame, &layers)?
        };
        Ok(Self {
            packet: frame.keep(packet, place).ok_or(Reason::NotOurs)?,
            first,
            identification: part.id,
        })
    }

    #[inline(always)]
    const fn key(&self) -> FragmentKey {
        let Packet {
            source,
            destination,
            protocol,
            is_v6,
            ..
        } = *self.packet;
        FragmentKey {
            source,
            destination,
            identification: self.identification,
            // Fragments of one IPv6 packet need not agree on what follows (RFC 8200, 4.5).
            protocol: if is_v6 { 0 } else { protocol as u32 },
        }
    }

    #[inline(always)]
    fn remember<T: Tables>(&self, said: Fragmented, now: u32, tables: &T) {
        tables.set_fragments(&self.key(), Fragmented { seen: now, ..said });
    }

    /// What the first one said, if that was not long ago.
    #[inline(always)]
    fn known<T: Tables>(&self, now: u32, tables: &T) -> Option<Fragmented> {
        let said = tables.fragments(&self.key())?;
        // Negative if another CPU, whose clock is ahead, has just seen it.
        let age = now.wrapping_sub(said.seen).cast_signed();
        (age <= FRAGMENTS_LIFE.cast_signed()).then_some(said)
    }

    #[inline(always)]
    fn emit<F: Frame + ?Sized>(&self, frame: &mut F, edit: &Edit) -> Option<()> {
        if self.first {
            frame.edit(edit)
        } else {
            rewrite::header(frame, edit)
        }
    }
}

/// What is said of a packet that passes.
const PASSES: Fragmented = Fragmented {
    kind: fragmented::PASSES,
    id: 0,
    service: 0,
    reserved: 0,
    seen: 0,
};

/// What classification and steering say of a packet.
#[inline(always)]
fn meet<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &F,
    packet: &Packet,
    tables: &T,
    stack: &S,
) -> Result<Fragmented, Reason> {
    match classify::incoming(packet, tables) {
        Some(Class::Request(_, service)) if service.has(service_flags::MASQUERADE) => {
            Err(Reason::NatFragment)
        }
        Some(Class::Request(index, service)) => {
            stack.met(index, 0, how::REQUEST);
            let (id, endpoint) = pipeline::steer(frame, packet, index, service, tables, stack)?;
            Ok(if pipeline::stays(endpoint, service) {
                PASSES
            } else {
                Fragmented {
                    kind: fragmented::REQUEST,
                    id,
                    ..PASSES
                }
            })
        }
        Some(Class::Reply(id, endpoint)) => {
            stack.met(endpoint.service, id, how::REPLY);
            Ok(answer(packet, id, endpoint, tables))
        }
        Some(Class::Direct(id)) => {
            stack.met(0, id, how::DIRECT);
            let _reason = pipeline::direct(frame, packet, id, tables);
            Ok(PASSES)
        }
        None => Ok(PASSES),
    }
}

#[inline(always)]
fn answer<T: Tables>(packet: &Packet, id: u16, endpoint: &Endpoint, tables: &T) -> Fragmented {
    match pipeline::answers_as(packet, id, endpoint, tables) {
        Ok(service) => Fragmented {
            kind: fragmented::REPLY,
            id,
            service,
            ..PASSES
        },
        Err(_stays) => PASSES,
    }
}

/// The endpoint that a packet goes to.
#[inline(always)]
fn request<'a, F: Frame + ?Sized, T: Tables>(
    frame: &F,
    fragment: &Fragment,
    id: u16,
    tables: &'a T,
) -> Result<&'a Endpoint, Reason> {
    let endpoint = pipeline::endpoint(id, tables)?;
    if !fragment.first {
        let bytes = frame.length();
        let begins = false;
        tables.count(endpoint.counter, Count::Packet { bytes, begins });
    }
    Ok(endpoint)
}

/// The edit that makes a packet come from a service.
#[inline(always)]
fn reply<T: Tables>(packet: &Packet, service: u16, tables: &T) -> Result<Edit, Reason> {
    let service = pipeline::face(service, tables)?;
    Ok(Edit::from(packet, service.address, service.port))
}

#[inline(always)]
fn is_followed_to<T: Tables>(packet: &Packet, tables: &T) -> bool {
    let key = AddressKey::fragments_to(packet.destination, packet.protocol);
    tables.find(&key).is_some()
}

#[inline(always)]
fn is_followed_from<T: Tables>(packet: &Packet, tables: &T) -> bool {
    let key = AddressKey::fragments_from(packet.source, packet.protocol);
    tables.find(&key).is_some()
}

#[inline(always)]
fn unseen_reply<T: Tables>(packet: &Packet, tables: &T) -> Reason {
    if is_followed_from(packet, tables) {
        Reason::FragmentUnseen
    } else {
        Reason::NotOurs
    }
}
