//! Entries of flow maps.

use switcher_common::abi::Tag;
use switcher_common::abi::nat::{Activity, activity};

use super::{EPOCH, NOW};
use crate::frame::SEQUENCE;

/// A masqueraded flow.
#[derive(Clone, Copy, Debug)]
pub struct Masked {
    /// Where it goes.
    pub endpoint: u16,
    /// Its port of this host.
    pub port: u16,
    /// The word's epoch when it began.
    pub epoch: u32,
    /// Initial sequence number.
    pub sequence: u32,
    /// What the client does.
    pub client: Activity,
    /// What the endpoint does.
    pub server: Activity,
}

impl Masked {
    /// One in which both sides have talked at [`NOW`], begun by a SYN as cases send it.
    pub const fn at(endpoint: u16, port: u16) -> Self {
        let talks = Activity::new(NOW, activity::SPEAKS | activity::TALKS);
        Self {
            endpoint,
            port,
            epoch: EPOCH,
            sequence: SEQUENCE,
            client: talks,
            server: talks,
        }
    }

    /// With another state of the client.
    #[must_use]
    pub const fn client(mut self, state: u32) -> Self {
        self.client = Activity::new(NOW, state);
        self
    }

    /// With another state of the endpoint.
    #[must_use]
    pub const fn server(mut self, state: u32) -> Self {
        self.server = Activity::new(NOW, state);
        self
    }

    /// With sides that have been silent for this many ticks.
    #[must_use]
    pub const fn silent(mut self, client: u32, server: u32) -> Self {
        self.client = Activity::new(NOW - client, self.client.state());
        self.server = Activity::new(NOW - server, self.server.state());
        self
    }
}

/// A tag that a SYN with this sequence number left at [`NOW`].
pub const fn syn_tag(endpoint: u16, sequence: u32) -> Tag {
    Tag {
        endpoint,
        from_syn: 1,
        epoch: EPOCH,
        sequence: sequence.to_be(),
        seen: NOW,
    }
}

/// A tag that a packet of an old flow left at [`NOW`].
pub const fn flow_tag(endpoint: u16) -> Tag {
    Tag {
        endpoint,
        from_syn: 0,
        epoch: EPOCH,
        sequence: 0,
        seen: NOW,
    }
}
