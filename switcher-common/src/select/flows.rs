//! The flow maps as [`steer`](crate::steer) sees them: from one flow.

use core::cell::Cell;

use crate::abi::{FlowKey, Tag};
use crate::steer::Flows;
use crate::tables::Tables;

/// One flow in one group's map, and where its tag was found.
struct Entry<'a, T: Tables> {
    tables: &'a T,
    group: u16,
    key: FlowKey,
    place: Cell<Option<T::Place>>,
}

impl<'a, T: Tables> Entry<'a, T> {
    #[inline(always)]
    const fn new(tables: &'a T, group: u16, key: FlowKey) -> Self {
        Self {
            tables,
            group,
            key,
            place: Cell::new(None),
        }
    }

    #[inline(always)]
    fn found(&self, (tag, place): (Tag, T::Place)) -> Tag {
        self.place.set(Some(place));
        tag
    }

    #[inline(always)]
    fn touch(&self, seen: u32) {
        if let Some(place) = self.place.get() {
            self.tables.touch(place, seen);
        }
    }
}

/// A TCP connection's, or a QUIC one's: in the group's window.
pub(super) struct TcpFlow<'a, T: Tables>(Entry<'a, T>);

impl<'a, T: Tables> TcpFlow<'a, T> {
    #[inline(always)]
    pub(super) const fn new(tables: &'a T, group: u16, key: FlowKey) -> Self {
        Self(Entry::new(tables, group, key))
    }
}

impl<T: Tables> Flows for TcpFlow<'_, T> {
    #[inline(always)]
    fn get(&self) -> Option<Tag> {
        let found = self.0.tables.tag(self.0.group, &self.0.key)?;
        Some(self.0.found(found))
    }

    #[inline(always)]
    fn put(&self, tag: Tag) -> bool {
        self.0.tables.may_tag(&tag) && self.0.tables.set_tag(self.0.group, &self.0.key, tag)
    }

    #[inline(always)]
    fn refresh(&self, seen: u32) {
        self.0.touch(seen);
    }

    #[inline(always)]
    fn remove(&self) {
        self.0.tables.remove_tag(self.0.group, &self.0.key);
    }
}

/// A UDP flow's.
pub(super) struct UdpFlow<'a, T: Tables>(Entry<'a, T>);

impl<'a, T: Tables> UdpFlow<'a, T> {
    #[inline(always)]
    pub(super) const fn new(tables: &'a T, group: u16, key: FlowKey) -> Self {
        Self(Entry::new(tables, group, key))
    }
}

impl<T: Tables> Flows for UdpFlow<'_, T> {
    #[inline(always)]
    fn get(&self) -> Option<Tag> {
        let found = self.0.tables.udp_flow(self.0.group, &self.0.key)?;
        Some(self.0.found(found))
    }

    #[inline(always)]
    fn put(&self, tag: Tag) -> bool {
        self.0.tables.set_udp_flow(self.0.group, &self.0.key, tag)
    }

    #[inline(always)]
    fn refresh(&self, seen: u32) {
        self.0.touch(seen);
    }

    #[inline(always)]
    fn remove(&self) {
        // UDP flows are only ever replaced.
    }
}
