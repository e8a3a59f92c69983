//! What keeps a group from serving its clients as it should, as long as that lasts.

use crate::config::GroupConfig;
use crate::health::Standing;
use crate::release::{Stage, Verdict};

use super::Runner;
use super::group::Group;

impl Runner {
    /// The group's phase, as people see it: where nobody is doing anything about it, that it is degraded is
    /// more to the point than that nothing is going on.
    pub(super) fn phase(&self, group: &Group) -> &'static str {
        let phase = group.phase();
        match &group.state.stage {
            Stage::Idle | Stage::Draining(_) | Stage::Baking(_) if phase != "paused" => {
                match self.degraded(group).is_empty() {
                    true => phase,
                    false => "degraded",
                }
            }
            Stage::Idle
            | Stage::Preparing(_)
            | Stage::Switching(_)
            | Stage::Confirming(_)
            | Stage::Baking(_)
            | Stage::Draining(_) => phase,
        }
    }

    /// What the matter is, and what to do.
    pub(super) fn degraded(&self, group: &Group) -> Vec<String> {
        let mut degraded: Vec<String> = self.unsteered().collect();
        if let Some(config) = self.config.groups.get(&group.name) {
            degraded.extend(self.unserved(group, config));
        }
        degraded.extend(does_badly(group));
        degraded.extend(self.unrepaired());
        let lost = self.lost_record.iter();
        degraded.extend(lost.map(|why| format!("the record may be lost: {why}")));
        degraded.extend(group.unrecorded());
        degraded
    }

    /// Interfaces and sockets that have lost their programs: every group's matter.
    fn unsteered(&self) -> impl Iterator<Item = String> {
        let interfaces = self.attachments.iter().filter_map(|it| {
            let missing = it.hold.missing()?;
            let name = &it.interface;
            Some(format!(
                "traffic of {name} is not steered: {missing}; the agent attaches by itself where it may: \
                 `switcher drift`"
            ))
        });
        let lost = self.clients_are_lost().then(|| {
            "clients on this host are not steered any more; `switcher drift` says why".to_owned()
        });
        interfaces.chain(lost)
    }

    /// Services whose clients meet nobody who is well.
    fn unserved(&self, group: &Group, config: &GroupConfig) -> Vec<String> {
        let live = &group.state.live;
        let canary = group.state.canary().map(|share| &share.colour);
        let mut unserved = Vec::new();
        for colour in std::iter::once(live).chain(canary) {
            for service in config.services.values() {
                let endpoints = service.endpoints.get(colour).into_iter().flatten();
                let down = |address| {
                    let standing = self.standing(&group.name, &service.name, colour, address);
                    matches!(standing, Standing::Dead | Standing::Failing)
                };
                let mut endpoints = endpoints.map(|it| it.address).peekable();
                if endpoints.peek().is_none() || !endpoints.all(down) {
                    continue;
                }
                let advice = match (colour == live, self.rollback(group)) {
                    (false, _) => "`abort` ends the canary".to_owned(),
                    (true, way) => match way.to.filter(|_| way.eligible) {
                        Some(to) => format!("repair it, or `rollback` to {to}"),
                        None => "repair it: there is no colour to go back to that is well".into(),
                    },
                };
                unserved.push(format!(
                    "service {}: no endpoint of {colour} is healthy; their shares stay as they are; {advice}",
                    service.name
                ));
            }
        }
        unserved
    }

    /// What somebody else has changed, and nobody repairs.
    fn unrepaired(&self) -> Option<String> {
        let found = self.comparisons.said.iter();
        let count = found.filter(|it| it.is_repaired()).count();
        (count > 0 && self.comparisons.left).then(|| {
            format!(
                "{count} things were changed by somebody else and are not repaired; `switcher drift` lists \
                 them, a restart of the agent repairs them"
            )
        })
    }
}

/// A switch that is watched, does badly, and can't be undone.
fn does_badly(group: &Group) -> Option<String> {
    let Stage::Baking(window) = &group.state.stage else {
        return None;
    };
    let record = group.records.get(&window.cutover.id)?;
    let bake = record.receipt.bake.as_ref()?;
    (bake.verdict == Verdict::Degraded).then(|| {
        format!(
            "{} does badly, and the way back would lead to something worse: {}; `confirm` keeps it, \
             `rollback` goes back all the same",
            record.to,
            bake.why.join("; ")
        )
    })
}
