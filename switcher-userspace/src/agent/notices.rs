//! What the programs tell: rare things, by a ring buffer.

use jiff::{SignedDuration, Timestamp};
use switcher_common::abi::notice::{Notice, notice_kind};
use switcher_common::word::Word;
use tracing::{debug, info, warn};

use super::Runner;
use crate::host;

impl Runner {
    /// Takes what has been told since the last time.
    pub(super) fn hear(&mut self) {
        for notice in self.datapath.notices() {
            let mut groups = self.groups.values();
            let group = groups.find(|group| u32::from(group.index) == notice.group);
            let name = group.map(|group| group.name.clone()).unwrap_or_default();
            let _about = self.about_what_goes_on(&name);
            self.heard(&notice);
        }
    }

    fn heard(&mut self, notice: &Notice) {
        let mut groups = self.groups.values_mut();
        let Some(group) = groups.find(|group| u32::from(group.index) == notice.group) else {
            return;
        };
        let (name, cpu) = (group.name.as_str(), notice.cpu);
        let endpoint = u16::try_from(notice.id)
            .ok()
            .and_then(|id| self.have.endpoints.get(&id))
            .map(|it| std::net::IpAddr::from(it.address).to_string())
            .unwrap_or_default();
        match notice.kind {
            notice_kind::FIRST => {
                let word = Word(notice.word);
                if (word.epoch(), word.current())
                    != (group.state.word.epoch(), group.state.word.current())
                {
                    // Of a switch that another one has followed, or of an earlier agent's.
                    return;
                }
                let at = moment(notice.at);
                debug!(group = name, cpu, endpoint, %at, "first new connection after the switch");
                let first = group.first_packet.get_or_insert(at);
                *first = at.min(*first);
            }
            notice_kind::FULL => warn!(
                group = name,
                cpu,
                "the window's flow map refuses tags: new connections stay on the old colour; a flood? \
                 `flows` in [agent] makes it larger"
            ),
            notice_kind::EXPIRED => info!(
                group = name,
                cpu, "the program found the timed switch to be over"
            ),
            notice_kind::LEAK => warn!(
                group = name,
                cpu,
                endpoint,
                "a client saw this endpoint's own address instead of its service's: does its way back pass an \
                 interface that is not in [agent] interfaces?"
            ),
            other => debug!(kind = other, "a notice of an unknown kind"),
        }
    }
}

/// The wall clock's time of a moment on `CLOCK_MONOTONIC`.
fn moment(nanoseconds: u64) -> Timestamp {
    let ago = host::monotonic().saturating_sub(nanoseconds);
    let ago = SignedDuration::from_nanos(i64::try_from(ago).unwrap_or(i64::MAX));
    let now = Timestamp::now();
    now.checked_sub(ago).unwrap_or(now)
}
