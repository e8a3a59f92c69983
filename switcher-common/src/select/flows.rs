//! The flow maps as [`steer`](crate::steer) sees them: from one flow.

use core::cell::Cell;

use crate::abi::{FlowKey, Tag};
use crate::steer::Flows;
use crate::tables::Tables;

/// A TCP connection's, or a QUIC one's: in the group's window.
pub(super) struct TcpFlow<'a, T: Tables> {
    tables: &'a T,
    group: u16,
    key: FlowKey,
    /// Where its tag was found.
    place: Cell<Option<T::Place>>,
}

impl<'a, T: Tables> TcpFlow<'a, T> {
    #[inline(always)]
    pub(super) const fn new(tables: &'a T, group: u16, key: FlowKey) -> Self {
        Self {
            tables,
            group,
            key,
            place: Cell::new(None),
        }
    }
}

impl<T: Tables> Flows for TcpFlow<'_, T> {
    #[inline(always)]
    fn get(&self) -> Option<Tag> {
        let (tag, place) = self.tables.tag(self.group, &self.key)?;
        self.place.set(Some(place));
        Some(tag)
    }

    #[inline(always)]
    fn put(&self, tag: Tag) -> bool {
        self.tables.may_tag(&tag) && self.tables.set_tag(self.group, &self.key, tag)
    }

    #[inline(always)]
    fn refresh(&self, seen: u32) {
        if let Some(place) = self.place.get() {
            self.tables.touch(place, seen);
        }
    }

    #[inline(always)]
    fn remove(&self) {
        self.tables.remove_tag(self.group, &self.key);
    }
}

/// A UDP flow's.
pub(super) struct UdpFlow<'a, T: Tables> {
    tables: &'a T,
    group: u16,
    key: FlowKey,
    /// Where its tag was found.
    place: Cell<Option<T::Place>>,
}

impl<'a, T: Tables> UdpFlow<'a, T> {
    #[inline(always)]
    pub(super) const fn new(tables: &'a T, group: u16, key: FlowKey) -> Self {
        Self {
            tables,
            group,
            key,
            place: Cell::new(None),
        }
    }
}

impl<T: Tables> Flows for UdpFlow<'_, T> {
    #[inline(always)]
    fn get(&self) -> Option<Tag> {
        let (tag, place) = self.tables.udp_flow(self.group, &self.key)?;
        self.place.set(Some(place));
        Some(tag)
    }

    #[inline(always)]
    fn put(&self, tag: Tag) -> bool {
        self.tables.set_udp_flow(self.group, &self.key, tag)
    }

    #[inline(always)]
    fn refresh(&self, seen: u32) {
        if let Some(place) = self.place.get() {
            self.tables.touch(place, seen);
        }
    }

    #[inline(always)]
    fn remove(&self) {
        // UDP flows are only ever replaced.
    }
}
