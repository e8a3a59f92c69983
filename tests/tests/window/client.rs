//! What a test knows of a connection: everything, and for ever. The algorithm has to do with less.

use switcher_common::abi::Tag;
use switcher_common::steer::{self, Choice, Flows, Segment};
use switcher_common::word::{Phase, Word};

/// A connection as its client sees it, and what it has been promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Connection {
    /// The client's initial sequence number.
    pub(crate) sequence: u32,
    /// Where its first SYN went, and where every other packet of it has to go.
    pub(crate) home: u16,
    /// Nothing but SYNs sent so far.
    opening: bool,
    /// A copy of the SYN may still come, and is promised to find the way. Not so for a SYN whose tag was
    /// refused, and see [`Connection::switched`].
    repeats: bool,
    /// A copy of the SYN was seen where the window promises to remember it.
    promised: bool,
    /// Something was sent since the last switch.
    spoke: bool,
    /// The tag of the last packet was refused.
    unfit: bool,
    /// Given up: its tag did not fit by the time the window drained, or it was moved by force.
    lost: bool,
}

/// What one packet met.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Met {
    /// The word.
    pub(crate) word: Word,
    /// The choice of the previous table.
    pub(crate) old: u16,
    /// The choice of the current table.
    pub(crate) new: u16,
    /// Where the packet went.
    pub(crate) went: u16,
    /// Whether the flow map refused a tag.
    pub(crate) refused: bool,
    /// It went nowhere: a SYN that has to be repeated.
    pub(crate) nowhere: bool,
    /// The flow has a tag that says where it went.
    pub(crate) tagged: bool,
}

impl Met {
    /// A held word sends no SYN to the old endpoint whose next packet it might not know once it drains.
    pub(crate) fn is_safe(&self) -> bool {
        !self.word.is_held() || self.nowhere || self.tagged || self.went == self.new
    }
}

impl Connection {
    /// The first SYN of a connection, which went wherever it went.
    pub(crate) fn begin(sequence: u32, met: &Met) -> Self {
        Self {
            sequence,
            home: met.went,
            opening: true,
            repeats: !met.refused,
            promised: remembered(met),
            spoke: true,
            unfit: met.refused,
            lost: false,
        }
    }

    /// Whether the client may repeat its SYN.
    pub(crate) fn may_repeat(&self) -> bool {
        self.opening && self.repeats
    }

    /// A copy of the SYN. True if it went where it should.
    #[must_use]
    pub(crate) fn repeat(&mut self, met: &Met) -> bool {
        self.repeats &= !met.refused;
        self.promised |= remembered(met);
        self.sent(met)
    }

    /// A packet that is no SYN. True if it went where it should.
    #[must_use]
    pub(crate) fn speak(&mut self, met: &Met) -> bool {
        self.opening = false;
        self.sent(met)
    }

    fn sent(&mut self, met: &Met) -> bool {
        self.spoke = true;
        self.unfit = met.refused;
        self.lost || met.went == self.home
    }

    /// The operator is about to switch.
    ///
    /// A SYN that the window does not remember may be repeated in safety only if the switch goes back to
    /// what the open window began from: old and new agreed on the SYN, so they will agree on its copy. From
    /// other phases, or to a third table, arming comes first; what was not seen while armed (and not
    /// remembered from before) is then too old to be on its way still.
    pub(crate) fn switched(&mut self, before: Word, slot: u32) {
        let back = before.phase() == Phase::Open && slot == before.previous();
        self.repeats &= self.promised || back;
        self.spoke = false;
    }

    /// Whether the window may drain: a flow that is idle for a whole phase is not promised anything.
    pub(crate) fn lets_drain(&self) -> bool {
        self.spoke || self.lost
    }

    /// The window drains.
    pub(crate) fn drained(&mut self, new: u16) {
        self.lost |= self.unfit && self.home != new;
    }

    /// Whether the window may end.
    pub(crate) fn lets_settle(&self, new: u16) -> bool {
        self.lost || self.home == new
    }

    /// The window has ended; tags are void.
    pub(crate) fn settled(&mut self) {
        self.promised = false;
    }

    /// A hard rollback to a table that chooses `new`.
    pub(crate) fn forced(&mut self, new: u16) {
        self.lost |= self.home != new;
        self.settled();
    }
}

/// Whether a tag is valid and says that a flow went there.
pub(crate) fn names(tag: Option<Tag>, word: Word, went: u16) -> bool {
    tag.is_some_and(|tag| tag.epoch == word.epoch() && tag.endpoint == went)
}

/// Whether the window promises to remember a SYN that met this.
fn remembered(met: &Met) -> bool {
    let tagged = match met.word.phase() {
        Phase::Arming => true,
        Phase::Open => met.old != met.new,
        Phase::Steady | Phase::Draining => false,
    };
    tagged && !met.refused
}

/// What the short way says of a segment that it is asked about: the same as [`steer::tagged`], or nothing.
pub(crate) fn known(
    word: Word,
    new: u16,
    segment: Segment,
    now: u32,
    flow: &impl Flows,
) -> Option<Choice> {
    let asked = word.phase() != Phase::Steady && !segment.opens;
    asked.then(|| steer::known(word, new, now, flow)).flatten()
}
