//! Flips that nobody orders: see [`release::automatic`].

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tracing::warn;

use super::Runner;
use super::asked::{Asked, Verb};
use crate::api::model::{ChangeAnswer, ChangeRequest};
use crate::exit::{Exit, Failure};
use crate::journal::Who;
use crate::release::{self, Millis};

/// How long to wait after one could not be carried out.
const RETRY: Duration = Duration::from_secs(60);

/// A flip that nobody orders.
#[derive(Default)]
pub(super) struct Automatic {
    /// The colour and the time, if all stays as it is.
    pub(super) coming: Option<(String, Millis)>,
    /// The colour, and the answer that is waited for.
    begun: Option<(String, oneshot::Receiver<Result<ChangeAnswer, Failure>>)>,
    /// Not before.
    again: Millis,
}

impl Runner {
    /// Flips where everything speaks for it.
    pub(super) fn flip_by_itself(&mut self) {
        let now = self.clock.now();
        let wants = |group: &&super::group::Group| group.state.gates.policy.automatic.is_some();
        let names = self.groups.values().filter(wants);
        let names: Vec<String> = names.map(|group| group.name.clone()).collect();
        for name in names {
            self.hear_of_it(&name, now);
            let Some(group) = self.groups.get(&name) else {
                continue;
            };
            let passing = |colour: &str| self.health.passing(&name, colour);
            let coming = release::automatic(&group.state, now, passing);
            let coming = coming.map(|(to, at)| (to, at.max(group.automatic.again)));
            let due = coming.clone().filter(|(_, at)| *at <= now);
            if let Some(group) = self.groups.get_mut(&name) {
                group.automatic.coming = coming;
            }
            if let Some((to, _)) = due {
                self.begin_by_itself(&name, to);
            }
        }
    }

    fn begin_by_itself(&mut self, name: &str, to: String) {
        let Some(group) = self.groups.get(name) else {
            return;
        };
        let releases = &group.state.releases.colours;
        let what = releases
            .get(&to)
            .map_or_else(|| to.clone(), |it| it.said(&to));
        let after = group.state.gates.policy.automatic.unwrap_or_default();
        let after = humantime::format_duration(after);
        let (reply, answer) = oneshot::channel();
        let asked = Asked {
            group: name.to_owned(),
            verb: Verb::Flip,
            request: ChangeRequest {
                to: Some(to.clone()),
                ..ChangeRequest::default()
            },
            who: Who {
                actor: "agent".to_owned(),
                reason: Some(format!("{what} has passed its checks for {after}")),
            },
        };
        self.order(asked, reply);
        if let Some(group) = self.groups.get_mut(name) {
            group.automatic.begun = Some((to, answer));
            group.automatic.coming = None;
        }
    }

    /// Whoever stops it, means it: it is not tried again before something is staged again.
    fn hear_of_it(&mut self, name: &str, now: Millis) {
        let Some(group) = self.groups.get_mut(name) else {
            return;
        };
        let Some((to, mut answer)) = group.automatic.begun.take() else {
            return;
        };
        let failure = match answer.try_recv() {
            Err(TryRecvError::Empty) => {
                group.automatic.begun = Some((to, answer));
                return;
            }
            Ok(Ok(_)) | Err(TryRecvError::Closed) => return,
            Ok(Err(failure)) => failure,
        };
        warn!(group = name, "{failure}");
        if failure.exit != Exit::Precondition {
            group.automatic.again = now + RETRY;
            return;
        }
        group.state.gates.declined.insert(to);
        if let Err(error) = self.journal.put_group(&group.record(), None) {
            warn!(group = name, "{error:#}");
        }
    }
}
