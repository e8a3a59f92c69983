//! Section `[groups.NAME]`.

use std::time::Duration;

use super::bake::TypedBake;
use super::canary::{self, TypedHold};
use super::gates::{self, TypedBudget, TypedGate};
use super::hooks::{self, TypedHook};
use super::{TypedService, check_name};
use crate::config::report::Typed;
use crate::config::scalar;
use crate::config::section::{Section, Value};

const FREEZE: &str = "say why nobody flips: freeze = \"year-end accounts\"";
const COLOURS: &str = "list the colours: colours = [\"blue\", \"green\"]";
/// Keys of features that this version lacks, under the names people would try.
const LATER: &[&str] = &["schema"];

pub(in crate::config) struct TypedGroup {
    pub(in crate::config) name: Typed<String>,
    pub(in crate::config) initial: Option<Typed<String>>,
    pub(in crate::config) colours: Option<Vec<Typed<String>>>,
    pub(in crate::config) confirm_within: Option<Typed<Duration>>,
    pub(in crate::config) freeze: Option<Typed<String>>,
    pub(in crate::config) bake: Option<TypedBake>,
    pub(in crate::config) canary: Option<Vec<TypedHold>>,
    pub(in crate::config) gates: Vec<TypedGate>,
    pub(in crate::config) flap_budget: Option<TypedBudget>,
    pub(in crate::config) automatic_after: Option<Typed<Duration>>,
    pub(in crate::config) drain: TypedDrain,
    pub(in crate::config) health: TypedHealth,
    pub(in crate::config) hooks: Vec<TypedHook>,
    pub(in crate::config) services: Vec<TypedService>,
}

#[derive(Default)]
pub(in crate::config) struct TypedDrain {
    pub(in crate::config) arm: Option<Typed<Duration>>,
    pub(in crate::config) learn: Option<Typed<Duration>>,
    pub(in crate::config) deadline: Option<Typed<Duration>>,
}

#[derive(Default)]
pub(in crate::config) struct TypedHealth {
    pub(in crate::config) kind: Option<Typed<TypedKind>>,
    pub(in crate::config) path: Option<Typed<String>>,
    pub(in crate::config) interval: Option<Typed<Duration>>,
    pub(in crate::config) timeout: Option<Typed<Duration>>,
    pub(in crate::config) rise: Option<Typed<u32>>,
    pub(in crate::config) fall: Option<Typed<u32>>,
    pub(in crate::config) exec: Option<Typed<Vec<String>>>,
    pub(in crate::config) user: Option<Typed<String>>,
    pub(in crate::config) min_healthy: Option<Typed<Duration>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum TypedKind {
    None,
    Tcp,
    Http,
    Exec,
}

impl TypedGroup {
    pub(super) fn read(name: Typed<String>, section: Section<'_>) -> Self {
        let initial = "name the colour that is live the very first time: initial = \"blue\"";
        let services = format!("add [{}.services.NAME]", name.at.key);
        let group = Self {
            initial: section
                .required("initial", initial)
                .and_then(|value| value.parse(initial, |text| Ok(text.to_owned()))),
            colours: section.value("colours").and_then(|value| colours(&value)),
            confirm_within: section
                .value("confirm_within")
                .and_then(|value| value.parse(scalar::DURATION, scalar::duration_above_zero)),
            freeze: section
                .value("freeze")
                .and_then(|value| value.parse(FREEZE, scalar::line)),
            bake: section.value("bake").and_then(TypedBake::read),
            canary: section.section("canary").map(canary::read),
            gates: section
                .section("gates")
                .map(|section| gates::read(&section))
                .unwrap_or_default(),
            flap_budget: section.section("flap_budget").map(TypedBudget::read),
            automatic_after: section
                .value("automatic_after")
                .and_then(|value| value.parse(scalar::DURATION, scalar::duration_above_zero)),
            drain: section
                .section("drain")
                .map(TypedDrain::read)
                .unwrap_or_default(),
            health: section
                .section("health")
                .map(TypedHealth::read)
                .unwrap_or_default(),
            hooks: section
                .value("hooks")
                .map(|value| hooks::read(&value))
                .unwrap_or_default(),
            services: section
                .section("services")
                .map(|section| read_services(&section))
                .unwrap_or_default(),
            name,
        };
        if !section.has("services") {
            section.missing("services", services);
        }
        section.unavailable(LATER);
        section.finish();
        group
    }
}

impl TypedDrain {
    fn read(section: Section<'_>) -> Self {
        let above_zero =
            |value: Value<'_>| value.parse(scalar::DURATION, scalar::duration_above_zero);
        let drain = Self {
            arm: section
                .value("arm")
                .and_then(|value| value.parse(scalar::DURATION, scalar::duration)),
            learn: section.value("learn").and_then(above_zero),
            deadline: section.value("deadline").and_then(above_zero),
        };
        section.finish();
        drain
    }
}

impl TypedHealth {
    fn read(section: Section<'_>) -> Self {
        let kinds = [
            ("tcp", TypedKind::Tcp),
            ("http", TypedKind::Http),
            ("exec", TypedKind::Exec),
            ("none", TypedKind::None),
        ];
        let duration =
            |value: Value<'_>| value.parse(scalar::DURATION, scalar::duration_above_zero);
        let count = |value: Value<'_>| value.integer(1..=1000);
        let health = Self {
            kind: section
                .value("kind")
                .and_then(|value| value.choice(&kinds, &[])),
            path: section
                .value("path")
                .and_then(|value| value.parse("such as \"/healthz\"", scalar::http_path)),
            interval: section.value("interval").and_then(duration),
            timeout: section.value("timeout").and_then(duration),
            rise: section.value("rise").and_then(count),
            fall: section.value("fall").and_then(count),
            exec: section.value("exec").and_then(|value| argv(&value)),
            user: section
                .value("user")
                .and_then(|value| value.parse(USER, scalar::user)),
            min_healthy: section
                .value("min_healthy")
                .and_then(|value| value.parse(scalar::DURATION, scalar::duration)),
        };
        section.finish();
        health
    }
}

const EXEC: &str =
    "list a program by its absolute path, and its arguments: exec = [\"/usr/local/bin/check\"]";

pub(super) const USER: &str = "name a user of this host: user = \"nobody\"";

/// A program and its arguments; no shell. What could not be understood is reported, and empty.
pub(super) fn argv(value: &Value<'_>) -> Option<Typed<Vec<String>>> {
    let items = value.items(EXEC)?;
    if items.is_empty() {
        value.report.error(&value.at, "the list is empty", EXEC);
    }
    let words = items.iter().enumerate().map(|(index, item)| {
        item.parse(EXEC, |text| match index {
            0 => scalar::path(text).map(|_| text.to_owned()),
            _ => Ok(text.to_owned()),
        })
    });
    // Every word is looked at, for the errors in it.
    let words: Vec<Option<Typed<String>>> = words.collect();
    let words: Option<Vec<String>> = words.into_iter().map(|word| Some(word?.value)).collect();
    Some(Typed {
        value: words.unwrap_or_default(),
        at: value.at.clone(),
    })
}

fn colours(value: &Value<'_>) -> Option<Vec<Typed<String>>> {
    let items = value.items(COLOURS)?;
    if items.is_empty() {
        value.report.error(&value.at, "the list is empty", COLOURS);
    }
    Some(
        items
            .iter()
            .filter_map(|item| item.parse(COLOURS, scalar::name))
            .collect(),
    )
}

fn read_services(section: &Section<'_>) -> Vec<TypedService> {
    if section.entries().next().is_none() {
        let advice = format_args!("add [{}.NAME]", section.at.key);
        section.report.error(&section.at, "no services", advice);
    }
    let named = section.entries().filter_map(|(name, mut value)| {
        check_name(section.report, &name);
        value.at.span = name.at.span.clone();
        Some(TypedService::read(name, value.section()?))
    });
    named.collect()
}
