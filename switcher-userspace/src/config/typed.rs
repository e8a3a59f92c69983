//! What was typed: every key read, every single value understood or reported.

mod agent;
mod api;
mod bake;
mod canary;
mod gates;
mod group;
mod hooks;
mod masquerade;
mod service;

pub(super) use agent::{TypedAgent, TypedInterface};
pub(super) use api::{TypedApi, TypedRoles};
pub(super) use bake::TypedBake;
pub(super) use canary::TypedHold;
pub(super) use gates::{TypedBudget, TypedGate};
pub(super) use group::{TypedDrain, TypedGroup, TypedHealth, TypedKind};
pub(super) use hooks::TypedHook;
pub(super) use masquerade::TypedMasquerade;
pub(super) use service::{TypedColour, TypedEndpoint, TypedService};

use super::report::{Report, Typed};
use super::scalar;
use super::section::Section;

/// A file's content; what could not be understood is left out, and reported.
pub(super) struct TypedConfig {
    pub(super) agent: TypedAgent,
    pub(super) groups: Vec<TypedGroup>,
}

impl TypedConfig {
    pub(super) fn read(root: Section<'_>) -> Self {
        let agent = match root.section("agent") {
            Some(section) => TypedAgent::read(section),
            None => TypedAgent::absent(&root),
        };
        let groups = root
            .section("groups")
            .map(|section| read_groups(&section))
            .unwrap_or_default();
        root.finish();
        Self { agent, groups }
    }
}

fn read_groups(section: &Section<'_>) -> Vec<TypedGroup> {
    let named = section.entries().filter_map(|(name, mut value)| {
        check_name(section.report, &name);
        value.at.span = name.at.span.clone();
        Some(TypedGroup::read(name, value.section()?))
    });
    named.collect()
}

/// Reports a bad name. Its bearer is read all the same, for the errors in it.
fn check_name(report: &Report<'_>, name: &Typed<String>) {
    if let Err(complaint) = scalar::name(&name.value) {
        report.complain(&name.at, complaint);
    }
}
