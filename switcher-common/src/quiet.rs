//! Asking where a packet's flow goes without leaving a trace: for ICMP errors, which only quote the flow.

use core::mem::MaybeUninit;

use crate::abi::fragment::{FragmentKey, Fragmented};
use crate::abi::{
    AddressKey, Endpoint, FlowKey, NextHop, Note, Port, PortEntry, Service, Settings, Tag, Times,
    Tunnel,
};
use crate::parse::Packet;
use crate::steer::{Ownership, Segment};
use crate::tables::{Count, Route, Stack, Tables, Way};
use crate::tunnel::Parcel;
use crate::verdict::Reason;
use crate::word::Word;

/// Tables that remember nothing of flows.
pub(crate) struct Quiet<'a, T>(pub(crate) &'a T);

impl<T: Tables> Tables for Quiet<'_, T> {
    type Place = ();

    #[inline(always)]
    fn known(&self, port: Port) -> bool {
        self.0.known(port)
    }

    #[inline(always)]
    fn port(&self, port: Port) -> PortEntry {
        self.0.port(port)
    }

    #[inline(always)]
    fn find(&self, key: &AddressKey) -> Option<u16> {
        self.0.find(key)
    }

    #[inline(always)]
    fn service(&self, index: u16) -> Option<&Service> {
        self.0.service(index)
    }

    #[inline(always)]
    fn endpoint(&self, id: u16) -> Option<&Endpoint> {
        self.0.endpoint(id)
    }

    #[inline(always)]
    fn tunnel(&self, endpoint: u16) -> Tunnel {
        self.0.tunnel(endpoint)
    }

    #[inline(always)]
    fn bucket(&self, bucket: u32) -> Option<u16> {
        self.0.bucket(bucket)
    }

    #[inline(always)]
    fn word(&self, group: u16) -> Word {
        self.0.word(group)
    }

    #[inline(always)]
    fn times(&self, group: u16) -> Times {
        self.0.times(group)
    }

    #[inline(always)]
    fn udp_floor(&self, group: u16) -> u32 {
        self.0.udp_floor(group)
    }

    #[inline(always)]
    fn settings(&self) -> Settings {
        self.0.settings()
    }

    #[inline(always)]
    fn tag(&self, group: u16, key: &FlowKey) -> Option<(Tag, ())> {
        self.0.tag(group, key).map(|(tag, _)| (tag, ()))
    }

    #[inline(always)]
    fn set_tag(&self, _: u16, _: &FlowKey, _: Tag) -> bool {
        false
    }

    #[inline(always)]
    fn touch(&self, (): (), _: u32) {}

    #[inline(always)]
    fn may_tag(&self, _: &Tag) -> bool {
        false
    }

    #[inline(always)]
    fn held_until(&self, group: u16) -> u32 {
        self.0.held_until(group)
    }

    #[inline(always)]
    fn remove_tag(&self, _: u16, _: &FlowKey) {}

    #[inline(always)]
    fn udp_flow(&self, group: u16, key: &FlowKey) -> Option<(Tag, ())> {
        self.0.udp_flow(group, key).map(|(tag, _)| (tag, ()))
    }

    #[inline(always)]
    fn set_udp_flow(&self, _: u16, _: &FlowKey, _: Tag) -> bool {
        false
    }

    #[inline(always)]
    fn note(&self, key: &FlowKey) -> Option<Note> {
        self.0.note(key)
    }

    #[inline(always)]
    fn set_note(&self, _: &FlowKey, _: Note) {}

    #[inline(always)]
    fn remove_note(&self, _: &FlowKey) {}

    #[inline(always)]
    fn mark_noted(&self, _: u16) {}

    #[inline(always)]
    fn fragments(&self, key: &FragmentKey) -> Option<Fragmented> {
        self.0.fragments(key)
    }

    #[inline(always)]
    fn set_fragments(&self, _: &FragmentKey, _: &Fragmented) {}

    #[inline(always)]
    fn next_hop(&self, endpoint: u16) -> Option<NextHop> {
        self.0.next_hop(endpoint)
    }

    #[inline(always)]
    fn set_next_hop(&self, endpoint: u16, hop: NextHop) {
        self.0.set_next_hop(endpoint, hop);
    }

    #[inline(always)]
    fn hand_on(&self, _: &Parcel) {}

    #[inline(always)]
    fn handed_on<'a>(&self, place: &'a mut MaybeUninit<Parcel>) -> Option<&'a mut Parcel> {
        self.0.handed_on(place)
    }

    #[inline(always)]
    fn notice(&self, _: u32, _: u16, _: u16, _: u32) {}

    #[inline(always)]
    fn count(&self, _: u32, _: Count) {}

    #[inline(always)]
    fn count_reason(&self, reason: Reason) {
        self.0.count_reason(reason);
    }
}

/// The stack, asked about a packet that is not the frame at hand: there is no segment that could carry a cookie.
pub(crate) struct Asked<'a, S>(pub(crate) &'a S);

impl<S: Stack> Stack for Asked<'_, S> {
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
        let opens = true;
        let segment = Segment { opens, ..segment };
        self.0.owner(packet, endpoint, segment)
    }

    #[inline(always)]
    fn route(&self, way: &Way) -> Route {
        self.0.route(way)
    }

    #[inline(always)]
    fn blur(&self, value: u64) -> u64 {
        self.0.blur(value)
    }
}
