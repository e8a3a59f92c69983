//! Out of this host by the program itself, or up its stack.

use crate::abi::{Address, NextHop};
use crate::frame::Frame;
use crate::parse::{self, Packet};
use crate::rewrite::{Edit, End, Hop};
use crate::tables::{Route, Stack, Tables, Way};
use crate::verdict::{Reason, Verdict};

/// What is to be done with a packet of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// New addresses.
    pub(crate) edit: Edit,
    /// Who takes it further.
    pub(crate) via: Via,
}

impl Step {
    /// The endpoint that it is remembered for; 0 if it goes to a client.
    #[inline(always)]
    pub(crate) const fn endpoint(&self) -> u16 {
        match self.via {
            Via::Endpoint(id) => id,
            Via::Host | Via::Client => 0,
        }
    }
}

/// Who takes a packet further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// This host's stack.
    Host,
    /// The program, to a routed endpoint, whose next hop is remembered.
    Endpoint(u16),
    /// The program, to a client.
    Client,
}

/// Out of this host, or up its stack.
#[inline(always)]
pub(crate) fn send<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &F,
    packet: &Packet,
    step: Step,
    tables: &T,
    stack: &S,
) -> Result<(Edit, Verdict), Reason> {
    let Step { edit, via } = step;
    let onward = match via {
        Via::Host => return Ok((edit, Verdict::Deliver)),
        Via::Endpoint(endpoint) => Onward {
            address: edit.address,
            other: edit.other_address,
            both: edit.both,
            end: End::Destination,
            endpoint,
            finished: false,
        },
        Via::Client => Onward {
            address: edit.address,
            other: edit.other_address,
            both: edit.both,
            end: End::Source,
            endpoint: 0,
            finished: false,
        },
    };
    let forth = onward.find(frame, packet, tables, stack)?;
    Ok(forth.act(packet, edit, stack))
}

/// A packet that the program forwards, if it can. Nothing in it is an enum with a payload: the compiler may
/// move one that was never set, and the verifier refuses to read it.
pub(crate) struct Onward {
    /// The address that is new.
    pub(crate) address: Address,
    /// Whether the address at the other end is new, too: see [`Edit::leave_source`].
    pub(crate) both: bool,
    /// That one.
    pub(crate) other: Address,
    /// Which of them is that: a client's packet goes to a routed endpoint, whose next hop is remembered, or an
    /// endpoint's to a client.
    pub(crate) end: End,
    /// The endpoint, if it goes to one.
    pub(crate) endpoint: u16,
    /// Its checksum can't be an unfinished one.
    pub(crate) finished: bool,
}

/// How it goes on.
pub(crate) struct Forth {
    /// Outgoing interface index; 0 leaves the packet to the stack.
    pub(crate) interface: u32,
    /// Link addresses.
    pub(crate) hop: Hop,
    /// The stack finds an unfinished checksum in it.
    unfinished: bool,
}

impl Onward {
    /// Out of this host, or up its stack.
    #[inline(always)]
    pub(crate) fn find<F: Frame + ?Sized, T: Tables, S: Stack>(
        self,
        frame: &F,
        packet: &Packet,
        tables: &T,
        stack: &S,
    ) -> Result<Forth, Reason> {
        let Self {
            address,
            other,
            both,
            end,
            endpoint,
            finished,
        } = self;
        let (source, destination) = match end {
            End::Destination if both => (other, address),
            End::Destination => (packet.source, address),
            End::Source if both => (address, other),
            End::Source => (address, packet.destination),
        };
        let carriage = parse::carriage(frame, packet).ok_or(Reason::Malformed)?;
        let way = Way {
            source,
            destination,
            protocol: packet.protocol,
            carriage,
        };
        let Found {
            kind,
            interface,
            hop,
            ..
        } = match end {
            End::Destination => way.remembered(endpoint, tables, stack),
            End::Source => stack.route(&way).into(),
        };
        let unfinished = !finished && parse::is_unfinished(frame, packet, carriage);
        let tagged = packet.is_tagged() || frame.is_tagged();
        match kind {
            // At the end of its time to live the stack answers for us (RFC 1812, 5.2.7.3), and only the stack
            // finishes checksums. A VLAN tag means nothing on another interface, and a VLAN device is none that
            // a program can send to.
            Kind::Neighbour
                if carriage.ttl > 1
                    && !unfinished
                    && (!tagged || interface == stack.interface()) =>
            {
                Ok(Forth {
                    interface,
                    hop,
                    unfinished,
                })
            }
            Kind::Local if matches!(end, End::Source) && !both => Err(Reason::OwnReply),
            // It gets the service's address on its way out. Here it would make the packet a martian: the
            // stack drops what comes in from an address of its own.
            Kind::Neighbour | Kind::Local | Kind::Stack if matches!(end, End::Source) && !both => {
                Err(Reason::LeftToStack)
            }
            Kind::Neighbour | Kind::Local | Kind::Stack => {
                tables.count_reason(Reason::LeftToStack);
                Ok(Forth {
                    interface: 0,
                    hop,
                    // A packet over the MTU is one that GRO or a virtual peer made, and is unfinished. One
                    // that fits may be finished and look like this by chance.
                    unfinished: unfinished && kind == Kind::Stack,
                })
            }
        }
    }
}

impl Forth {
    /// The edit with what is to be done on the way, and the verdict.
    #[inline(always)]
    fn act<S: Stack>(self, packet: &Packet, mut edit: Edit, stack: &S) -> (Edit, Verdict) {
        if self.interface == 0 {
            edit.unfinished = self.unfinished;
            if edit.both {
                edit.leave_source(packet);
            }
            return (edit, Verdict::Deliver);
        }
        let hop = Some(self.hop);
        (Edit { hop, ..edit }, self.verdict(stack))
    }

    /// The verdict of a packet that is forwarded.
    #[inline(always)]
    pub(crate) fn verdict<S: Stack>(&self, stack: &S) -> Verdict {
        out(self.interface, stack)
    }
}

/// A [`Route`] with everything set.
pub(crate) struct Found {
    pub(crate) kind: Kind,
    pub(crate) interface: u32,
    pub(crate) hop: Hop,
    /// In bytes; 0 if unknown.
    pub(crate) mtu: u32,
}

/// Which [`Route`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Neighbour,
    Local,
    Stack,
}

impl From<Route> for Found {
    #[inline(always)]
    fn from(route: Route) -> Self {
        let without = |kind| Self {
            kind,
            interface: 0,
            hop: Hop {
                destination: [0; 6],
                source: [0; 6],
            },
            mtu: 0,
        };
        match route {
            Route::Neighbour {
                interface,
                hop,
                mtu,
            } => Self {
                kind: Kind::Neighbour,
                interface,
                hop,
                mtu,
            },
            Route::Local => without(Kind::Local),
            Route::Stack => without(Kind::Stack),
        }
    }
}

/// Out of an interface, perhaps the one that the packet came in by.
#[inline(always)]
pub(crate) fn out<S: Stack>(interface: u32, stack: &S) -> Verdict {
    if interface == stack.interface() {
        Verdict::Transmit
    } else {
        Verdict::Redirect(interface)
    }
}

/// To a routed endpoint whose next hop is remembered, if nothing else is to be considered.
#[inline(always)]
pub(crate) fn at_once<F: Frame + ?Sized, T: Tables, S: Stack>(
    frame: &F,
    packet: &Packet,
    edit: Edit,
    id: u16,
    tables: &T,
    stack: &S,
) -> Option<(Edit, Verdict)> {
    let carriage = parse::carriage(frame, packet)?;
    let known = known(id, carriage.length, stack.now(), tables)?;
    if carriage.ttl <= 1 || frame.is_tagged() || parse::is_unfinished(frame, packet, carriage) {
        return None;
    }
    let hop = Some(Hop {
        destination: known.destination,
        source: known.source,
    });
    Some((Edit { hop, ..edit }, out(known.interface, stack)))
}

/// What is remembered of the way to an endpoint, if it holds for a packet of this length at this tick.
#[inline(always)]
fn known<T: Tables>(id: u16, length: u16, now: u32, tables: &T) -> Option<NextHop> {
    tables.next_hop(id).filter(|known| {
        known.interface != 0
            && known.expires.wrapping_sub(now).cast_signed() >= 0
            && (known.mtu == 0 || length <= known.mtu)
    })
}

impl Way {
    /// The FIB's answer, remembered for a second or two.
    #[inline(always)]
    pub(crate) fn remembered<T: Tables, S: Stack>(&self, id: u16, tables: &T, stack: &S) -> Found {
        let now = stack.now();
        if let Some(known) = known(id, self.carriage.length, now, tables) {
            let NextHop {
                interface,
                destination,
                source,
                mtu,
                ..
            } = known;
            return Found {
                kind: Kind::Neighbour,
                interface,
                hop: Hop {
                    destination,
                    source,
                },
                mtu: mtu.into(),
            };
        }
        let route = stack.route(self);
        if let Route::Neighbour {
            interface,
            hop: Hop {
                destination,
                source,
            },
            mtu,
        } = route
        {
            let expires = now.wrapping_add(1);
            tables.set_next_hop(
                id,
                NextHop {
                    expires,
                    interface,
                    destination,
                    source,
                    // No packet is longer than 65,535 bytes.
                    mtu: mtu.min(u16::MAX.into()) as u16,
                    endpoint: id,
                },
            );
        }
        route.into()
    }
}
