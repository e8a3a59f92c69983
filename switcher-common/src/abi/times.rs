//! Instants that the program itself acts on, agent or no agent.

use bytemuck::{Pod, Zeroable};

/// Part of [`GroupState`](super::GroupState), in nanoseconds of `CLOCK_BOOTTIME`: a clock set back or
/// forward moves none of them, and time in which the host was suspended counts. Each is read only if the
/// word has the flag it belongs to, and changed by one 64-bit store.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct Times {
    /// `TIMED`: SYNs are tagged from here on, so that they follow the switch to come.
    pub arm_at: u64,
    /// `TIMED`: the switch. Zero if it was stored when it was made.
    pub activate_at: u64,
    /// `TIMED`: the way back. [`Self::NEVER`] if there is none.
    pub revert_at: u64,
    /// `PAUSED`: until here new flows are held.
    pub paused_until: u64,
}
const _: () = assert!(size_of::<Times>() == 32);

impl Times {
    /// After everything.
    pub const NEVER: u64 = u64::MAX;
}
