//! Why a packet is treated as it is, and what that means.

/// What happens to a frame.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To this host's stack, untouched, because of the reason.
    Pass(Reason),
    /// Rewritten, to this host's stack.
    Deliver,
    /// Rewritten, out of the interface it came from.
    Transmit,
    /// Rewritten, out of the interface with this index.
    Redirect(u32),
    /// Untouched and uncounted so far: another program takes over.
    Continue(Stage),
    /// Nowhere, because of the reason.
    Drop(Reason),
}

/// A program that takes over from the first one: what is rare, or too much for one program. The number
/// is its place in the `STAGES` map.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Fragments.
    Fragments,
    /// Services with `forward = "masquerade"`.
    Nat,
    /// Services with `forward = "dsr"` or `"ipip"`.
    Tunnel,
    /// ICMP errors.
    Errors,
    /// Packets that travel on inside others.
    Wrap,
    /// Of these, what is too big: its sender is told.
    Answer,
    /// What the [front](crate::front) does not decide: the whole pipeline.
    Whole,
}

impl Stage {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Fragments,
        Self::Nat,
        Self::Tunnel,
        Self::Errors,
        Self::Wrap,
        Self::Answer,
        Self::Whole,
    ];

    /// Its program in the object that also tells what it does.
    pub const fn traced(self) -> &'static str {
        match self {
            Self::Fragments => "traced_fragments",
            Self::Nat => "traced_nat",
            Self::Tunnel => "traced_tunnel",
            Self::Errors => "traced_errors",
            Self::Wrap => "traced_wrap",
            Self::Answer => "traced_answer",
            Self::Whole => "traced_ingress",
        }
    }

    /// Likewise at tc ingress.
    pub const fn tc_traced(self) -> &'static str {
        match self {
            Self::Fragments => "traced_tc_fragments",
            Self::Nat => "traced_tc_nat",
            Self::Tunnel => "traced_tc_tunnel",
            Self::Errors => "traced_tc_errors",
            Self::Wrap => "traced_tc_wrap",
            Self::Answer => "traced_tc_answer",
            Self::Whole => "traced_tc_ingress",
        }
    }

    /// The program at egress for fragments and ICMP errors.
    pub const AT_EGRESS: &str = "switcher_odd_egress";

    /// Likewise, one that also tells what it does.
    pub const AT_EGRESS_TRACED: &str = "traced_odd_egress";

    /// Its program in the object.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Fragments => "switcher_fragments",
            Self::Nat => "switcher_nat",
            Self::Tunnel => "switcher_tunnel",
            Self::Errors => "switcher_errors",
            Self::Wrap => "switcher_wrap",
            Self::Answer => "switcher_answer",
            Self::Whole => "switcher_whole",
        }
    }

    /// Its program at tc ingress.
    pub const fn tc_program(self) -> &'static str {
        match self {
            Self::Fragments => "switcher_tc_fragments",
            Self::Nat => "switcher_tc_nat",
            Self::Tunnel => "switcher_tc_tunnel",
            Self::Errors => "switcher_tc_errors",
            Self::Wrap => "switcher_tc_wrap",
            Self::Answer => "switcher_tc_answer",
            Self::Whole => "switcher_tc_whole",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])+ $name:ident = $label:literal,)+) => {
        /// Why a packet was not forwarded. The number is its cell in the `REASONS` map.
        ///
        /// In a `Result` it takes the place of an address: with half its width the compiler would copy what
        /// else is there unaligned, which the verifier does not allow on the stack.
        #[repr(u64)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[$doc])+ $name,)+ }

        impl Reason {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its name in metrics and in `status`.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }
        }
    };
}

reasons! {
    /// No service, preview or endpoint of ours: most packets of a host. Not counted.
    NotOurs = "not-ours",
    /// Shorter than its headers say, or a header that contradicts itself.
    Malformed = "malformed",
    /// An Ethernet type other than IPv4 and IPv6, or more than two VLAN tags.
    NotIp = "not-ip",
    /// More IPv6 extension headers than are walked, or a route that is still to be followed.
    ExtensionHeaders = "extension-headers",
    /// A fragment, or an error about one, where only the first has ports.
    Fragment = "fragment",
    /// A protocol other than TCP and UDP.
    Protocol = "protocol",
    /// A service without a table in the slot that the word names.
    NoTable = "no-table",
    /// A bucket without a usable endpoint.
    NoEndpoint = "no-endpoint",
    /// To an endpoint's own address, on purpose.
    Direct = "direct",
    /// The endpoint is the VIP: nothing to rewrite.
    Untouched = "untouched",
    /// A reply for this host itself.
    OwnReply = "own-reply",
    /// Not a reason to pass: a window's flow map refused a tag and the flow stayed on the old colour.
    TagRefused = "tag-refused",
    /// Not a reason to pass: rewritten but left to the stack, which knows no next hop yet, has to fragment,
    /// or answers that the time to live is over.
    LeftToStack = "left-to-stack",
    /// A SYN whose tag was refused just before the window drains: dropped, the client repeats it.
    TagWait = "tag-wait",
    /// Dropped: a new flow of a paused group. Clients try again.
    Paused = "paused",
    /// A client resets a connection at an endpoint's own address that never began there, or a reply's service
    /// has gone: somebody saw an address that nobody should see.
    Leak = "leak",
    /// Not a reason to pass: an ICMP error about a packet of a service, translated.
    IcmpError = "icmp-error",
    /// A fragment whose first was not seen: dropped if it is for a VIP.
    FragmentUnseen = "fragment-unseen",
    /// Dropped, since only the endpoint may see it: the way there is not known yet. No link address, no
    /// route, or no forwarding.
    NoNeighbour = "no-neighbour",
    /// Dropped likewise: larger than the MTU of the way to the endpoint. Or its sender is told so, if it would
    /// have travelled inside another packet.
    TooBig = "too-big",
    /// Dropped likewise: at the end of its time to live.
    Expired = "expired",
    /// A segment of a masqueraded service that opens no connection and belongs to none that is known: the
    /// stack resets it.
    UnknownFlow = "unknown-flow",
    /// No address of this host leads to a masqueraded service's endpoint.
    NatSource = "nat-no-source",
    /// Dropped: no port is left for a new masqueraded flow to an endpoint.
    NatExhausted = "nat-exhausted",
    /// Dropped: no room is left in the map of masqueraded flows.
    NatFull = "nat-full",
    /// Dropped: no room for an outer header in front of the packet.
    NoRoom = "no-room",
}

impl Reason {
    /// Whether the program counts it.
    #[inline(always)]
    pub const fn counted(self) -> bool {
        !matches!(self, Self::NotOurs | Self::Untouched | Self::Direct)
    }

    /// Whether it is about a service's packets that did not fare as usual, and not about a stranger's or one that the
    /// stack takes care of.
    pub const fn is_trouble(self) -> bool {
        self.drops()
            || matches!(
                self,
                Self::NoTable
                    | Self::NoEndpoint
                    | Self::TagRefused
                    | Self::Leak
                    | Self::UnknownFlow
                    | Self::NatSource
            )
    }

    /// Whether the packet goes nowhere; otherwise it passes.
    #[inline(always)]
    pub const fn drops(self) -> bool {
        matches!(
            self,
            Self::TagWait
                | Self::Paused
                | Self::NoNeighbour
                | Self::TooBig
                | Self::Expired
                | Self::NatExhausted
                | Self::NatFull
                | Self::NoRoom
        )
    }
}
