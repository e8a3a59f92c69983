//! What the agent may ask of the kernel.
//!
//! `release` and `reconcile` decide, the runner carries out, and this trait is all it has for that:
//! the kernel's maps in production, ordinary memory in tests.

pub mod attach;
pub mod clients;
pub mod detach;
pub mod emergency;
pub(crate) mod flows;
pub mod kernel;
mod mapped;
pub mod memory;
pub mod nat;
pub mod pinned;
pub mod pins;
mod programs;
pub(crate) mod refusal;
mod snapshot;
pub(crate) mod sockets;
mod steering;
mod sys;
mod table;
pub(crate) mod times;
pub mod tracing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clients::{Bypass, LocalClients};
use switcher_common::abi::notice::Notice;
use switcher_common::abi::{AddressKey, Counters, Endpoint, Service, TableRef, Times, Tunnel};
use switcher_common::verdict::Reason;
use switcher_common::word::Word;

use nat::Masqueraded;

/// Index of a group: of its word, its names, its flow maps.
pub type GroupIndex = u16;
/// Number of a table within its group.
pub type Slot = u8;
/// Number of a colour within its group.
pub type Colour = u8;
/// What a table holds: endpoint ids, a power of two of them. Shared, since a host can have 16 million and
/// plans are tried on copies.
pub type Buckets = Arc<[u16]>;

/// What a slot's tables are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mix {
    /// The colour that has them, or most of them.
    pub colour: Colour,
    /// The other colour that has a part.
    pub canary: Option<Canary>,
}

/// A colour that has a part of another one's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Canary {
    /// Its number.
    pub colour: Colour,
    /// Its part of the buckets, 1 to 99.
    pub percent: u8,
}

impl Mix {
    /// One colour alone.
    #[must_use]
    pub const fn pure(colour: Colour) -> Self {
        Self {
            colour,
            canary: None,
        }
    }

    /// The colours that take part.
    pub fn colours(self) -> impl Iterator<Item = Colour> {
        std::iter::once(self.colour).chain(self.canary.map(|canary| canary.colour))
    }
}

/// What the kernel holds, read back from its maps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Have {
    /// By group index.
    pub groups: BTreeMap<GroupIndex, HaveGroup>,
    /// By index in `SERVICES`.
    pub services: BTreeMap<u16, HaveService>,
    /// By endpoint id.
    pub endpoints: BTreeMap<u16, Endpoint>,
    /// By endpoint id: where outer headers say to come from.
    pub tunnels: BTreeMap<u16, Tunnel>,
    /// What is published: address -> index of the service or id of the endpoint.
    pub addresses: BTreeMap<AddressKey, u16>,
    /// The buckets of every table that a service refers to, by [`TableRef`]'s number.
    pub tables: BTreeMap<u32, Buckets>,
    /// The endpoint id that was given last.
    pub last_endpoint: u16,
}

impl Have {
    /// Every table that a service refers to; a table can come up more than once.
    pub fn tables_in_use(&self) -> impl Iterator<Item = TableRef> {
        let all = self.services.values().flat_map(|have| have.service.tables);
        all.filter(|table| table.exists())
    }
}

/// The word for [`Change::Switch`]: new flows use `slot`, which has the colour that is live already, so
/// that previews go on reaching the colour they reached before.
#[must_use]
pub const fn refilled(word: Word, slot: Slot) -> Word {
    word.switch_to(slot as u32).with_staging(word.staging())
}

/// Flows that the kernel knows of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flows {
    /// How many there are at each endpoint that has any.
    pub by_endpoint: BTreeMap<u16, u64>,
    /// How many would go elsewhere if the window closed now: the current table has another endpoint for
    /// them, or for UDP, whose tags outlive a window, no place for theirs at all. By the endpoint where they
    /// are.
    pub astray: BTreeMap<u16, u64>,
}

/// A group in the kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct HaveGroup {
    /// Its name.
    pub name: String,
    /// Colour number -> name.
    pub colours: BTreeMap<Colour, String>,
    /// Slot -> whose tables lie there.
    pub slots: BTreeMap<Slot, Mix>,
    /// Its steering word.
    pub word: Word,
}

impl HaveGroup {
    /// The number of a colour.
    #[must_use]
    pub fn colour(&self, name: &str) -> Option<Colour> {
        let mut all = self.colours.iter();
        all.find(|(_, known)| *known == name)
            .map(|(number, _)| *number)
    }

    /// The slot to switch to for a colour: one that is all its own. While its endpoints are being replaced
    /// a colour has two; then the word knows which is the newer one.
    #[must_use]
    pub fn slot_of(&self, colour: Colour) -> Option<Slot> {
        let roles = [
            self.word.current(),
            self.word.staging(),
            self.word.previous(),
        ];
        let by_role = roles.into_iter().map(|slot| slot as Slot);
        let mut all = by_role.chain(self.slots.keys().copied());
        all.find(|slot| self.slots.get(slot) == Some(&Mix::pure(colour)))
    }

    /// The live colour's number, if the current slot has one: the one that has most of it.
    #[must_use]
    pub fn live(&self) -> Option<Colour> {
        self.current().map(|mix| mix.colour)
    }

    /// Whose tables the current slot has.
    #[must_use]
    pub fn current(&self) -> Option<Mix> {
        self.slots.get(&(self.word.current() as Slot)).copied()
    }
}

/// A service (or preview) in the kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct HaveService {
    /// Its name; a preview has the name of its service.
    pub name: String,
    /// The map's element.
    pub service: Service,
    /// Whether clients reach it: it stands in `PORTS` and `ADDRESSES`.
    pub published: bool,
}

/// One step from what the kernel has to what it should have. After each of them, in the order that
/// `reconcile` puts them, traffic is served.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Writes a group's names and slots.
    NameGroup {
        /// Which.
        group: GroupIndex,
        /// Its name; empty to free the element.
        name: String,
        /// Colour number -> name.
        colours: BTreeMap<Colour, String>,
        /// Slot -> whose tables lie there.
        slots: BTreeMap<Slot, Mix>,
    },
    /// Writes an endpoint; a zero endpoint frees the id.
    SetEndpoint {
        /// Its id.
        id: u16,
        /// The map's element.
        endpoint: Endpoint,
    },
    /// Writes where outer headers to an endpoint say to come from; zero where it has none.
    SetTunnel {
        /// The endpoint's id.
        id: u16,
        /// The map's element.
        tunnel: Tunnel,
    },
    /// Fills a table that no word points at.
    FillTable {
        /// Where.
        table: TableRef,
        /// Endpoint ids, `1 << table.bits()` of them.
        buckets: Buckets,
    },
    /// Gives buckets of a table in use to other endpoints. Right only where the ones they had are dead,
    /// and safe at any moment: each bucket is one 16-bit store.
    HandOver {
        /// Where.
        table: TableRef,
        /// Buckets, counted from the table's first, and the endpoint that each goes to.
        buckets: Vec<(u32, u16)>,
    },
    /// Writes a service; a zero service frees the index.
    SetService {
        /// Its index.
        index: u16,
        /// Its name.
        name: String,
        /// The map's element.
        service: Service,
    },
    /// Sets a group's word without a window: only for a group that carries no traffic yet, or to move
    /// the staging slot.
    SetWord {
        /// Which group.
        group: GroupIndex,
        /// The word.
        word: Word,
    },
    /// Lets clients (or replies) reach an entry: the last step of adding.
    Publish {
        /// Address, port, protocol, and whether `index` is a service or an endpoint.
        key: AddressKey,
        /// Index of the service or endpoint.
        index: u16,
    },
    /// The first step of removing.
    Unpublish {
        /// What [`Change::Publish`] was given.
        key: AddressKey,
    },
    /// Moves the live colour to another slot by a window: its endpoints have changed.
    Switch {
        /// Which group.
        group: GroupIndex,
        /// The slot that is filled and ready.
        slot: Slot,
    },
    /// Waits until no CPU can be acting on anything that was changed before.
    Settle,
}

/// An interface and how the programs are attached to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Interface name.
    pub interface: String,
    /// `native`, `generic` or `tc`.
    pub xdp: String,
    /// Whether both programs are on it.
    pub hold: Hold,
}

/// How it stands with the programs on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// They are attached.
    Attached,
    /// There is no interface of this name.
    Absent,
    /// There is another interface of this name than the one that had them.
    Recreated,
    /// Somebody has taken them off.
    Detached,
}

impl Hold {
    /// Why packets of the interface are not steered; nothing if they are.
    #[must_use]
    pub const fn missing(self) -> Option<&'static str> {
        match self {
            Self::Attached => None,
            Self::Absent => {
                Some("there is no such interface; programs are attached when it is back")
            }
            Self::Recreated => Some("the interface was made anew and has no programs yet"),
            Self::Detached => Some("somebody has taken the programs off"),
        }
    }
}

/// Waits for RCU grace periods, on any thread.
pub trait Grace: Send + Sync {
    /// See [`Datapath::settle`].
    ///
    /// # Errors
    /// When the kernel refuses.
    fn wait(&self) -> anyhow::Result<Duration>;
}

/// What the agent may ask of the kernel.
pub trait Datapath: Send {
    /// Reads everything back.
    ///
    /// # Errors
    /// When a map can't be read or holds what no agent of this ABI writes.
    fn have(&self) -> anyhow::Result<Have>;

    /// Carries out one change ([`Change::Switch`] excepted: that is the release logic's).
    ///
    /// # Errors
    /// When the kernel refuses; what was done before stays and is consistent.
    fn apply(&mut self, change: &Change) -> anyhow::Result<()>;

    /// How long a group may be armed at most: floods of SYNs get so many tags that most of a flow map is left for
    /// flows that are learnt afterwards.
    fn set_arming(&mut self, longest: Duration);

    /// A group's word, as the program sees it.
    fn word(&self, group: GroupIndex) -> Word;

    /// One atomic store of a group's word.
    fn store(&mut self, group: GroupIndex, word: Word);

    /// The instants at which a group's word changes its meaning, as the program sees them.
    fn times(&self, group: GroupIndex) -> Times;

    /// Sets them, each by one store. If a word with a flag that they belong to is to follow, a grace period
    /// has to lie in between: the program reads the word first.
    fn set_times(&mut self, group: GroupIndex, times: Times);

    /// Waits for an RCU grace period: afterwards no CPU can act on a word, table or entry that was
    /// replaced before the call. Returns how long it took.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn settle(&mut self) -> anyhow::Result<Duration>;

    /// The same for another thread; None where nobody has to wait.
    fn grace(&self) -> Option<Arc<dyn Grace>>;

    /// Flows are counted anew when they are asked for next: a grace period that another thread waited for has passed.
    fn forget_counts(&self);

    /// Gives the group's window a fresh flow map of at most `flows` tags. Keeps an existing one.
    ///
    /// # Errors
    /// When the kernel has no memory for it.
    fn open_window(&mut self, group: GroupIndex, flows: u32) -> anyhow::Result<()>;

    /// Drops the group's flow map and all its tags.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn close_window(&mut self, group: GroupIndex) -> anyhow::Result<()>;

    /// Gives up flows that the current table does not choose and that began before `epoch`: UDP flows are new from
    /// now on, and masqueraded ones are forgotten. Many of these take longer than the call does.
    fn give_up(&mut self, group: GroupIndex, epoch: u32);

    /// Links have changed, and with them perhaps which addresses lead to endpoints.
    fn links_changed(&mut self) {}

    /// Sets for how long from now a held word is obeyed at most.
    fn hold_until(&mut self, group: GroupIndex, at_most: Duration);

    /// Resets the TCP connections of this namespace at endpoints that the group's current table does not
    /// choose, and says how many. Their packets go elsewhere now; left alone, they would claim the flow of a
    /// client that uses its port again. Connections that did not come by the VIP are spared.
    ///
    /// # Errors
    /// When the kernel has no `SOCK_DESTROY` (Linux 4.5, `CONFIG_INET_DIAG_DESTROY`) or refuses.
    fn end_connections(&mut self, group: GroupIndex) -> anyhow::Result<u64>;

    /// Flows that the kernel would still send to each endpoint because they began there: tags of the open
    /// window (of the word's epoch), connections in the socket table of this namespace, masqueraded flows that
    /// are neither idle nor closed, and UDP flows that are not idle. Tags do not see connections end: one that was silent for longer than `idle` is not
    /// counted. Endpoints without any flow are left out.
    ///
    /// # Errors
    /// When a map or the socket table can't be read.
    fn flows(&self, group: GroupIndex, idle: Duration) -> anyhow::Result<Flows>;

    /// How masqueraded flows are doing; nothing where no endpoint is masqueraded for.
    ///
    /// # Errors
    /// When a map can't be read.
    fn masqueraded(&self) -> anyhow::Result<Option<Masqueraded>>;

    /// How full the group's flow map is, from 0 to 1; 0 without a window.
    ///
    /// # Errors
    /// When the map can't be read.
    fn flow_map_used(&self, group: GroupIndex) -> anyhow::Result<f64>;

    /// Counter cells, summed over CPUs, in the order of `cells`, which is ascending.
    ///
    /// # Errors
    /// When the map can't be read.
    fn counters(&self, cells: &[u32]) -> anyhow::Result<Vec<Counters>>;

    /// Packets not forwarded, by reason, summed over CPUs.
    ///
    /// # Errors
    /// When the map can't be read.
    fn reasons(&self) -> anyhow::Result<Vec<(Reason, u64)>>;

    /// What the programs have told since the last call, oldest first.
    fn notices(&mut self) -> Vec<Notice>;

    /// The interfaces and whether the programs are on them.
    fn attachments(&self) -> Vec<Attachment>;

    /// Attaches the programs to an interface of [`Self::attachments`] that has lost them.
    ///
    /// # Errors
    /// When there is no such interface, somebody else's program is on it, or the kernel refuses.
    fn attach_again(&mut self, interface: &str) -> anyhow::Result<()>;

    /// Whether the maps that this agent works with are still pinned. If not, the kernel has let go of the
    /// programs, or will, and only an agent that starts anew helps.
    fn is_pinned(&self) -> bool;

    /// Whether sockets of this host are steered.
    fn local_clients(&self) -> LocalClients;

    /// Steers them again where somebody has taken the programs off.
    ///
    /// # Errors
    /// When the programs can't be had. That there is no cgroup to attach them to is told by
    /// [`Self::local_clients`].
    fn steer_clients_again(&mut self) -> anyhow::Result<()>;

    /// What exempts the agent's own sockets from that.
    fn bypass(&self) -> Bypass;
}
