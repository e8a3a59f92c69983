//! Where the pipeline looks things up.

use core::mem::MaybeUninit;

use crate::abi::fragment::{FragmentKey, Fragmented};
use crate::abi::{
    Address, AddressKey, Endpoint, FlowKey, NextHop, Note, Port, PortEntry, Service, Settings, Tag,
    Times, Tunnel,
};
use crate::parse::{Carriage, Packet};
use crate::rewrite::Hop;
use crate::steer::{Ownership, Segment};
use crate::tunnel::Parcel;
use crate::verdict::Reason;
use crate::word::Word;

/// The maps, as one packet needs them. Methods take `&self`: the kernel's maps are shared by all CPUs,
/// and a write of one packet is visible to the others at once.
pub trait Tables {
    /// Where a tag was found.
    type Place: Copy;

    /// Whether anybody might be concerned by a packet with this port.
    fn known(&self, port: Port) -> bool;
    /// Who might be concerned by a packet with this port.
    fn port(&self, port: Port) -> PortEntry;
    /// Index of the service or endpoint with exactly this address.
    fn find(&self, key: &AddressKey) -> Option<u16>;
    /// A service or preview.
    fn service(&self, index: u16) -> Option<&Service>;
    /// An endpoint.
    fn endpoint(&self, id: u16) -> Option<&Endpoint>;
    /// Where packets to an endpoint say to come from that travel inside others.
    fn tunnel(&self, endpoint: u16) -> Tunnel;
    /// The endpoint id in a bucket.
    fn bucket(&self, bucket: u32) -> Option<u16>;
    /// A group's steering word: one load.
    fn word(&self, group: u16) -> Word;
    /// The epoch before which a group's UDP tags are void.
    fn udp_floor(&self, group: u16) -> u32;
    /// When a group's word changes its meaning; only asked if the word has a flag that says so.
    fn times(&self, group: u16) -> Times;
    /// Seed and idle times.
    fn settings(&self) -> Settings;

    /// A flow's tag in its group's window; nothing if no window is open.
    fn tag(&self, group: u16, key: &FlowKey) -> Option<(Tag, Self::Place)>;
    /// Sets a tag; false if there is no window or its map refuses.
    fn set_tag(&self, group: u16, key: &FlowKey, tag: Tag) -> bool;
    /// Notes in a tag when its flow's last packet came, a UDP flow's included: no other look-up.
    fn touch(&self, place: Self::Place, seen: u32);
    /// Whether this CPU may make one more tag in the tick that the tag is of: a flood of SYNs is not to fill the
    /// flow map faster than the agent looks at it. SYNs and flows that are learnt count apart.
    fn may_tag(&self, tag: &Tag) -> bool;
    /// The tick from which on [`Word::HELD`] means nothing.
    fn held_until(&self, group: u16) -> u32;
    /// Removes a tag.
    fn remove_tag(&self, group: u16, key: &FlowKey);
    /// A UDP flow's tag.
    fn udp_flow(&self, group: u16, key: &FlowKey) -> Option<(Tag, Self::Place)>;
    /// Sets a UDP flow's tag; false if its map refuses.
    fn set_udp_flow(&self, group: u16, key: &FlowKey, tag: Tag) -> bool;

    /// What is noted of a direct or preview flow.
    fn note(&self, key: &FlowKey) -> Option<Note>;
    /// Notes an exception. The oldest makes room.
    fn set_note(&self, key: &FlowKey, note: Note);
    /// Forgets an exception.
    fn remove_note(&self, key: &FlowKey);
    /// Records that replies of this endpoint need a look at the notes from now on.
    fn mark_noted(&self, endpoint: u16);

    /// What the first fragment of a packet said, however long ago.
    fn fragments(&self, key: &FragmentKey) -> Option<Fragmented>;
    /// Remembers what a first fragment said. The oldest makes room.
    fn set_fragments(&self, key: &FragmentKey, said: &Fragmented);

    /// The last answer of the FIB for an endpoint, fresh or not.
    fn next_hop(&self, endpoint: u16) -> Option<NextHop>;
    /// Remembers an answer of the FIB.
    fn set_next_hop(&self, endpoint: u16, hop: NextHop);

    /// Leaves a packet to the next stage: memory of this CPU.
    fn hand_on(&self, parcel: &Parcel);
    /// The packet that the stage before has left, if one has; `place` is for who has it nowhere else.
    fn handed_on<'a>(&self, place: &'a mut MaybeUninit<Parcel>) -> Option<&'a mut Parcel>;

    /// Tells the agent of something rare: see [`Notice`](crate::abi::notice::Notice). Told once for each `mark`,
    /// by each CPU, group and kind.
    fn notice(&self, kind: u32, group: u16, id: u16, mark: u32);

    /// Adds to a colour's counters.
    fn count(&self, cell: u32, event: Count);
    /// Counts a packet that was not forwarded, or another thing worth a reason.
    fn count_reason(&self, reason: Reason);
}

/// Something that counters count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// A packet to an endpoint.
    Packet {
        /// Its length in bytes.
        bytes: u32,
        /// Whether it begins a connection or flow.
        begins: bool,
    },
    /// A connection or flow of a client on this host, whose packets nobody sees.
    Connection,
    /// A reset from an endpoint.
    Reset,
    /// A SYN-ACK from an endpoint.
    Answer,
}

/// What only the network stack knows.
pub trait Stack {
    /// Time, in ticks of [`crate::abi::TICK_SHIFT`].
    fn now(&self) -> u32;
    /// Nanoseconds of `CLOCK_BOOTTIME`, for [`Times`].
    fn nanoseconds(&self) -> u64;
    /// Index of the interface the packet came in, or goes out, by.
    fn interface(&self) -> u32;
    /// What the socket table says about `packet`'s client and `endpoint`.
    fn owner(&self, packet: &Packet, endpoint: &Endpoint, segment: Segment) -> Ownership;
    /// What the FIB says.
    fn route(&self, way: &Way) -> Route;
    /// The same value. A program forgets here what the verifier knows of it, so that paths which differ in
    /// nothing else are walked once.
    #[inline(always)]
    fn blur(&self, value: u64) -> u64 {
        value
    }
    /// A packet concerns a service or preview and an endpoint, whose number may be 0 for none; why, says one of
    /// [`how`](crate::abi::trace::how) or of [`How`](crate::steer::How). For whoever traces; else nothing is done.
    #[inline(always)]
    fn met(&self, _service: u16, _endpoint: u16, _how: u32) {}
    /// A group's word was read, and counts as this one. Likewise.
    #[inline(always)]
    fn read(&self, _word: Word) {}
}

/// A way to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// From here.
    pub source: Address,
    /// To here; the family is this address's.
    pub destination: Address,
    /// For a packet of this size and class.
    pub carriage: Carriage,
    /// And of this protocol.
    pub protocol: u8,
}

/// An answer of the FIB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To a neighbour.
    Neighbour {
        /// Outgoing interface index.
        interface: u32,
        /// Link addresses.
        hop: Hop,
        /// MTU in bytes; 0 if unknown.
        mtu: u32,
    },
    /// The destination is this host.
    Local,
    /// No route, no forwarding, no neighbour yet, or too big: the stack knows what to do.
    Stack,
}
