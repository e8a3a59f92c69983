//! What a hard rollback or a deadline takes of masqueraded flows: they are forgotten.
//!
//! The programs compare nothing for it: a flow that is not remembered is unknown, and its client is reset. The
//! group's floor says since when, so that the next agent finishes what one was killed in.

use std::collections::BTreeSet;

use switcher_common::abi::MAX_GROUPS;
use switcher_common::word::Phase;

use crate::datapath::GroupIndex;
use crate::datapath::pinned::Pinned;

/// Flows to give up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// Where they are.
    pub endpoints: BTreeSet<u16>,
    /// They began before this epoch.
    pub epoch: u32,
}

impl Pinned {
    /// The flows of a group at endpoints that its current tables don't choose; nothing where nothing is masqueraded.
    pub(in crate::datapath) fn given_up(
        &self,
        group: GroupIndex,
    ) -> anyhow::Result<Option<GivenUp>> {
        let ours = self.masqueraded_endpoints_of(group);
        if ours.is_empty() {
            return Ok(None);
        }
        let live = self.current_endpoints(group)?;
        let endpoints: BTreeSet<u16> = ours.difference(&live).copied().collect();
        let epoch = self.maps.groups.get(group.into()).udp_floor;
        Ok((!endpoints.is_empty()).then_some(GivenUp { endpoints, epoch }))
    }

    /// What an agent may not have come to the end of: groups where nothing was switched since. Who is relieved
    /// in the live colour keeps its flows, so only endpoints count that other colours have.
    pub(in crate::datapath) fn left_to_give_up(&self) -> anyhow::Result<Vec<GivenUp>> {
        let mut left = Vec::new();
        for group in 0..MAX_GROUPS as GroupIndex {
            let (word, floor) = (
                self.word(group),
                self.maps.groups.get(group.into()).udp_floor,
            );
            if floor == 0 || word.phase() != Phase::Steady || word.epoch() != floor {
                continue;
            }
            if let Some(mut what) = self.given_up(group)? {
                let others = self.endpoints_chosen(group, |_| true)?;
                what.endpoints.retain(|id| others.contains(id));
                left.push(what);
            }
        }
        Ok(left)
    }
}
