//! What is remembered of flows.

use bytemuck::{Pod, Zeroable};

use super::{Address, Port};

/// Values of [`FlowKey::space`]: what the flow is remembered for.
pub mod flow_space {
    /// A TCP flow's tag in a window; `id` is the service.
    pub const WINDOW: u32 = 0;
    /// A UDP flow's tag; `id` is the service.
    pub const UDP: u32 = 1;
    /// How replies of an endpoint to this client are to be treated; `id` is the endpoint.
    pub const REPLY: u32 = 2;
    /// The endpoint that a preview flow was given; `id` is the preview's service index.
    pub const PREVIEW: u32 = 3;
    /// A masqueraded flow; `id` is the service or preview.
    pub const NAT: u32 = 4;
}

/// A flow, seen from the service or endpoint named by `id` (which implies the rest of the tuple).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct FlowKey {
    /// The client's address.
    pub client: Address,
    /// The client's port.
    pub port: Port,
    /// Service or endpoint: see [`flow_space`].
    pub id: u16,
    /// One of [`flow_space`].
    pub space: u32,
}
const _: () = assert!(size_of::<FlowKey>() == 24);

impl FlowKey {
    /// What is noted of an endpoint's replies to a client.
    #[inline(always)]
    pub const fn reply(client: Address, port: Port, endpoint: u16) -> Self {
        Self {
            client,
            port,
            id: endpoint,
            space: flow_space::REPLY,
        }
    }

    /// A masqueraded flow of a client to a service or preview.
    #[inline(always)]
    pub const fn nat(client: Address, port: Port, service: u16) -> Self {
        Self {
            client,
            port,
            id: service,
            space: flow_space::NAT,
        }
    }
}

/// What a window, or a UDP service, remembers of a flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct Tag {
    /// Where the flow's packets go.
    pub endpoint: u16,
    /// 1 if `sequence` is the initial sequence number of the SYN that made this tag.
    pub from_syn: u16,
    /// The word's epoch when the tag was made; another epoch makes it void.
    pub epoch: u32,
    /// Initial sequence number, as in the header.
    pub sequence: u32,
    /// Time of the last packet in [`TICK_SHIFT`] units.
    pub seen: u32,
}
const _: () = assert!(size_of::<Tag>() == 16);

impl Tag {
    /// No tag.
    pub const NONE: Self = Self {
        endpoint: 0,
        from_syn: 0,
        epoch: 0,
        sequence: 0,
        seen: 0,
    };
}

/// A tick is `1 << TICK_SHIFT` nanoseconds (about 1.07 s) of `CLOCK_MONOTONIC`.
pub const TICK_SHIFT: u32 = 30;

/// Values of [`Note::kind`].
pub mod note_kind {
    /// The client talks to the endpoint's own address: leave replies alone.
    pub const DIRECT: u16 = 1;
    /// The client came by the preview `id`: replies get the preview's address.
    pub const PREVIEW: u16 = 2;
    /// A preview flow goes to endpoint `id`.
    pub const CHOSEN: u16 = 3;
}

/// Value of `NOTES`, the exceptions.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Note {
    /// One of [`note_kind`].
    pub kind: u16,
    /// What the kind says.
    pub id: u16,
}
const _: () = assert!(size_of::<Note>() == 4);

/// The only element of `TAG_BUDGET`, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct TagBudget {
    /// The tick that the rest is about.
    pub tick: u32,
    /// Tags made of flows that are learnt.
    pub learnt: u32,
    /// Tags made of SYNs.
    pub begun: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<TagBudget>() == 16);

impl TagBudget {
    /// Takes one more tag into account, unless there are `most` of its kind already.
    #[inline(always)]
    pub fn spend(&mut self, tag: &Tag, most: u32) -> bool {
        if self.tick != tag.seen {
            *self = Self {
                tick: tag.seen,
                ..Self::default()
            };
        }
        let spent = if tag.from_syn == 1 {
            &mut self.begun
        } else {
            &mut self.learnt
        };
        let may = most == 0 || *spent < most;
        *spent += may as u32;
        may
    }
}
