//! A packet that is whole or the first fragment of one, and has its flow made or found like any packet.

use core::mem::MaybeUninit;

use super::{PASSES, key};
use crate::abi::fragment::{Fragmented, fragmented};
use crate::abi::{TCP, UDP};
use crate::forward::Step;
use crate::frame::{Frame, Kept};
use crate::layers::Layers;
use crate::parse::{self, Packet};
use crate::tables::Tables;
use crate::verdict::Reason;

/// A whole packet, or the first fragment of one.
#[derive(Clone, Copy)]
pub(crate) struct Head {
    pub(crate) packet: Packet,
    /// As in the header.
    identification: u32,
    is_fragment: bool,
}

impl Kept for Head {}

impl Head {
    /// # Errors
    /// Why there is nothing to be done about the frame.
    #[inline(always)]
    pub(crate) fn read<'a, F: Frame + ?Sized>(
        frame: &F,
        place: &'a mut MaybeUninit<Self>,
    ) -> Result<&'a Self, Reason> {
        let layers = frame.layers(Layers::find(frame)?);
        if !matches!(layers.protocol, TCP | UDP) {
            return Err(Reason::Protocol);
        }
        let is_fragment = layers.fragment != 0;
        let mut identification = 0;
        if is_fragment {
            let part = layers.fragment(frame).ok_or(Reason::Malformed)?;
            if part.offset != 0 {
                return Err(Reason::Fragment);
            }
            identification = part.id;
        }
        let head = Self {
            packet: parse::packet(frame, &layers)?,
            identification,
            is_fragment,
        };
        Ok(frame.keep(head, place).ok_or(Reason::NotOurs)?)
    }

    /// Lets the other fragments, if there are any, go where a masqueraded request goes.
    #[inline(always)]
    pub(crate) fn request<T: Tables>(&self, step: &Result<Step, Reason>, now: u32, tables: &T) {
        let id = step.as_ref().map_or(0, Step::endpoint);
        self.follow(step.as_ref(), fragmented::REQUEST, id, 0, now, tables);
    }

    /// Likewise a masqueraded reply of this endpoint, which comes from a service.
    #[inline(always)]
    pub(crate) fn reply<T: Tables>(
        &self,
        step: &Result<(Step, u16), Reason>,
        id: u16,
        now: u32,
        tables: &T,
    ) {
        let service = step.as_ref().map_or(0, |(_, service)| *service);
        let step = step.as_ref().map(|(step, _)| step);
        self.follow(step, fragmented::REPLY, id, service, now, tables);
    }

    #[inline(always)]
    fn follow<T: Tables>(
        &self,
        step: Result<&Step, &Reason>,
        kind: u16,
        id: u16,
        service: u16,
        now: u32,
        tables: &T,
    ) {
        if !self.is_fragment {
            return;
        }
        let said = match step {
            Ok(step) => Fragmented {
                kind,
                id,
                service,
                other: step.edit.other_address,
                ..PASSES
            },
            Err(reason) if reason.drops() => return,
            Err(_passes) => PASSES,
        };
        let key = key(&self.packet, self.identification);
        tables.set_fragments(&key, &Fragmented { seen: now, ..said });
    }
}
