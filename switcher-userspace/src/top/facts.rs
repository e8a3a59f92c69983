//! What there is to know of a group beside numbers, as a label and a text each.

use jiff::Timestamp;

use super::text::until;
use crate::api::model::{GroupStatus, Status};
use crate::output::human_flows;

/// How much a fact matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    Plain,
    Coming,
    Bad,
}

/// A fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    pub(super) label: &'static str,
    pub(super) text: String,
    pub(super) weight: Weight,
}

/// What keeps the whole from working as it is meant to.
pub(super) fn troubles(status: &Status) -> Vec<String> {
    let lost = status.interfaces.iter().filter(|it| !it.attached);
    let lost = lost.map(|it| {
        let reason = it.reason.as_deref().unwrap_or("unknown why");
        format!("{}: its traffic is not steered: {reason}", it.name)
    });
    let pending = status.agent.pending.iter();
    lost.chain(pending.map(|why| format!("not in the kernel yet: {why}")))
        .collect()
}

/// What is going on with a group, what comes next, and what could be done.
pub(super) fn of_group(group: &GroupStatus, now: Timestamp) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut add = |label, text, weight| {
        facts.push(Fact {
            label,
            text,
            weight,
        });
    };
    if let Some(next) = &group.next {
        let text = format!("{}: {}", until(now, next.at), next.what);
        add("next", text, Weight::Coming);
    }
    if let Some(canary) = &group.canary {
        let by = if canary.policy { ", by policy" } else { "" };
        let (colour, percent) = (&canary.colour, canary.percent);
        let text = format!("{percent} % of new connections go to {colour}{by}");
        add("canary", text, Weight::Coming);
    }
    if let Some(window) = &group.window {
        let flows = window.flows_on_old;
        let flows = flows.map_or_else(|| "? flows".to_owned(), human_flows);
        let used = window.flow_map_used * 100.0;
        let text = format!(
            "{}: {flows} left on old endpoints, flow map {used:.0} % used",
            window.phase
        );
        add("drain", text, Weight::Coming);
    }
    for (colour, status) in &group.colours {
        for endpoint in status
            .endpoints
            .iter()
            .filter(|it| it.healthy == Some(false))
        {
            let why = endpoint.reason.as_deref();
            let why = why.unwrap_or("passes again, but not often enough yet");
            let text = format!("{colour} {} {}: {why}", endpoint.service, endpoint.address);
            add("failing", text, Weight::Bad);
        }
    }
    for warning in &group.warnings {
        add("warning", warning.clone(), Weight::Bad);
    }
    add("rollback", rollback(group), Weight::Plain);
    match group.blockers.split_first() {
        None => {}
        Some((first, rest)) => {
            add("flip", format!("refused for now: {first}"), Weight::Plain);
            rest.iter()
                .for_each(|it| add("", it.clone(), Weight::Plain));
        }
    }
    facts
}

fn rollback(group: &GroupStatus) -> String {
    let rollback = &group.rollback;
    let why = rollback.blockers.join("; ");
    match (&rollback.to, rollback.eligible) {
        (Some(to), true) => format!("to {to} is possible"),
        (Some(to), false) => format!("to {to} would not help: {why}"),
        (None, _) => format!("nowhere to: {why}"),
    }
}
