//! What the programs tell the agent: rare things only, by a ring buffer.

use bytemuck::{Pod, Zeroable};

/// Values of [`Notice::kind`].
pub mod notice_kind {
    /// The first new connection or flow after a switch that this CPU sent where the current table says; `id` is the
    /// endpoint. Not by a preview.
    pub const FIRST: u32 = 1;
    /// The flow map refused a tag; once a tick and CPU.
    pub const FULL: u32 = 2;
    /// A timed word was found to be over; `id` is nothing.
    pub const EXPIRED: u32 = 3;
    /// A client got a reply with the address of an endpoint, `id`, or would have.
    pub const LEAK: u32 = 4;
}

/// An entry of the ring buffer `NOTICES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Notice {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub at: u64,
    /// The group's word as the packet found it.
    pub word: u64,
    /// One of [`notice_kind`].
    pub kind: u32,
    /// Which CPU saw it.
    pub cpu: u32,
    /// Index of the group.
    pub group: u32,
    /// What the kind says.
    pub id: u32,
}
const _: () = assert!(size_of::<Notice>() == 32);

/// Per-CPU element of `NOTICED`, by group: what was told last, so that it is told once.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Noticed {
    /// The mark of the last notice of each kind, [`notice_kind::FIRST`] at 0.
    pub marks: [u32; 4],
}
const _: () = assert!(size_of::<Noticed>() == 16);

impl Noticed {
    /// Whether a notice with this mark is news; it is none from now on.
    #[inline(always)]
    pub fn is_news(&mut self, kind: u32, mark: u32) -> bool {
        let Some(last) = self.marks.get_mut(kind.wrapping_sub(1) as usize) else {
            return false;
        };
        let news = *last != mark;
        *last = mark;
        news
    }
}
