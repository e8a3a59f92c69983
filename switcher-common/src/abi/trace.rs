//! What `switcher trace` sees: records of packets that fit a filter, by a ring buffer.
//!
//! Only programs of their own write them, which take the place of the plain ones while somebody traces.

use bytemuck::{Pod, Zeroable};

use super::{Address, Port};

/// Records that a CPU may write in a second, at most.
pub const MAX_RATE: u32 = 10_000;

/// Values of [`Trace::how`] besides [`How`](crate::steer::How)'s numbers.
pub mod how {
    /// No service is concerned.
    pub const NOBODYS: u32 = 200;
    /// To a service, and no endpoint was chosen.
    pub const REQUEST: u32 = 201;
    /// From an endpoint.
    pub const REPLY: u32 = 202;
    /// To an endpoint's own address.
    pub const DIRECT: u32 = 203;
    /// Part of a packet whose first fragment was seen.
    pub const FRAGMENT: u32 = 204;
}

/// Values of [`Trace::hook`].
pub mod hook {
    /// It came in, at XDP.
    pub const XDP: u16 = 0;
    /// It came in, at tc.
    pub const TC: u16 = 1;
    /// It goes out.
    pub const EGRESS: u16 = 2;
}

/// Elements of `TRACING`: programs of one kind of hook don't interrupt each other.
pub mod kind {
    /// XDP.
    pub const XDP: u32 = 0;
    /// Both of tc.
    pub const TC: u32 = 1;
}

/// Elements of `TRACE_STAGES` and `TC_TRACE_STAGES` behind those by [`Stage`](crate::verdict::Stage).
pub mod place {
    use crate::verdict::Stage;

    /// Where incoming packets go that are meant.
    pub const MEANT: u32 = Stage::Whole as u32;
    /// And all others.
    pub const OTHERS: u32 = Stage::ALL.len() as u32;
    /// The like for outgoing ones.
    pub const LEAVES: u32 = OTHERS + 1;
    /// And all others.
    pub const LEAVES_OTHERS: u32 = OTHERS + 2;
    /// What takes over from the former.
    pub const LEAVES_ODD: u32 = OTHERS + 3;
    /// How many there are.
    pub const COUNT: usize = OTHERS as usize + 4;
}

/// Values of [`Trace::verdict`]: see [`Verdict`](crate::verdict::Verdict).
pub mod verdict {
    /// Untouched, to the stack.
    pub const PASS: u32 = 0;
    /// Rewritten, to the stack.
    pub const DELIVER: u32 = 1;
    /// Out of the interface it came from.
    pub const TRANSMIT: u32 = 2;
    /// Out of another one.
    pub const REDIRECT: u32 = 3;
    /// Nowhere.
    pub const DROP: u32 = 4;
}

/// An entry of the ring buffer `TRACES`: a packet that a hook met, as it was, and what became of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Trace {
    /// Nanoseconds of `CLOCK_BOOTTIME`.
    pub at: u64,
    /// The group's word, as it counted; 0 if none was asked.
    pub word: u64,
    /// Where it came from.
    pub source: Address,
    /// Where it was to go.
    pub destination: Address,
    /// Likewise; 0 where there are no ports.
    pub source_port: Port,
    /// Likewise.
    pub destination_port: Port,
    /// The service or preview, where [`how`](Self::how) knows of one.
    pub service: u16,
    /// The endpoint, likewise.
    pub endpoint: u16,
    /// One of [`how`], or of [`How`](crate::steer::How).
    pub how: u32,
    /// One of [`verdict`].
    pub verdict: u32,
    /// The verdict's [`Reason`](crate::verdict::Reason), if it has one.
    pub reason: u32,
    /// Outgoing interface index, if it is redirected.
    pub to: u32,
    /// Index of the interface it came in or goes out by.
    pub interface: u32,
    /// Which CPU saw it.
    pub cpu: u32,
    /// Bytes of the frame.
    pub length: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// The byte with a TCP header's flags; 0 for others.
    pub flags: u8,
    /// One of [`hook`].
    pub hook: u16,
}
const _: () = assert!(size_of::<Trace>() == 88);

/// The only element of `TRACE_FILTER`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct TraceFilter {
    /// Either end's address, as far as the mask goes.
    pub client: Address,
    /// Ones where the address counts; none for any.
    pub mask: Address,
    /// Either end's port; 0 for any.
    pub port: Port,
    /// IP protocol number; 0 for any.
    pub protocol: u8,
    /// Whether packets are shown that concern nobody.
    pub strangers: u8,
    /// Index of a service or preview, plus one; 0 for any.
    pub service: u16,
    /// Index of a group, plus one; 0 for any.
    pub group: u16,
    /// Records a CPU may write in a second.
    pub rate: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<TraceFilter>() == 48);

impl TraceFilter {
    /// Whether a packet with these ends may be meant.
    #[inline(always)]
    pub const fn fits(&self, ends: [Address; 2], ports: [Port; 2], protocol: u8) -> bool {
        let Self { client, mask, .. } = self;
        let [high, low] = mask.0;
        let from = (ends[0].0[0] ^ client.0[0]) & high | (ends[0].0[1] ^ client.0[1]) & low;
        let to = (ends[1].0[0] ^ client.0[0]) & high | (ends[1].0[1] ^ client.0[1]) & low;
        if from != 0 && to != 0 {
            return false;
        }
        if self.port.0 != 0 && self.port.0 != ports[0].0 && self.port.0 != ports[1].0 {
            return false;
        }
        self.protocol == 0 || self.protocol == protocol
    }
}

/// Per-CPU element of `TRACING`: the record in the making, and what was written of late.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Tracing {
    /// The packet that is being worked on.
    pub trace: Trace,
    /// Its group.
    pub group: u32,
    /// Second that [`spent`](Self::spent) is about.
    pub second: u32,
    /// Records written in it.
    pub spent: u32,
    /// Records that were not written ever, for want of room or because of the rate.
    pub lost: u32,
}
const _: () = assert!(size_of::<Tracing>() == 104);

impl Tracing {
    /// Whether one more record may be written now; counted either way.
    #[inline(always)]
    pub const fn spend(&mut self, second: u32, rate: u32) -> bool {
        if self.second != second {
            self.second = second;
            self.spent = 0;
        }
        if self.spent >= rate {
            self.lost = self.lost.wrapping_add(1);
            return false;
        }
        self.spent += 1;
        true
    }
}
