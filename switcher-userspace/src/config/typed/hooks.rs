//! What is called at moments of a group's life: `[[groups.NAME.hooks]]`.

use std::path::PathBuf;
use std::time::Duration;

use super::group::{USER, argv};
use crate::config::report::Typed;
use crate::config::scalar;
use crate::config::section::{Section, Value};
use crate::config::{Format, On};
use crate::release::Moment;

const HOOKS: &str = "write [[groups.NAME.hooks]], with `on` and either `exec` or `url`";
const URL: &str = "write it in full: url = \"https://ci.internal/hooks\"";
const METADATA: &str = "write words: metadata = { cmd = \"smoke\" }";

pub(in crate::config) struct TypedHook {
    /// Where it is, and whether it says what to run or to call.
    pub(in crate::config) at: Typed<bool>,
    pub(in crate::config) name: Option<Typed<String>>,
    pub(in crate::config) on: Option<Typed<TypedOn>>,
    pub(in crate::config) exec: Option<Typed<Vec<String>>>,
    pub(in crate::config) user: Option<Typed<String>>,
    pub(in crate::config) url: Option<Typed<String>>,
    pub(in crate::config) format: Option<Typed<Format>>,
    pub(in crate::config) secret_file: Option<Typed<PathBuf>>,
    pub(in crate::config) ca_file: Option<Typed<PathBuf>>,
    pub(in crate::config) metadata: Option<Typed<Vec<(String, String)>>>,
    pub(in crate::config) timeout: Option<Typed<Duration>>,
    pub(in crate::config) retries: Option<Typed<u32>>,
    /// Whether a failure matters.
    pub(in crate::config) on_failure: Option<Typed<bool>>,
}

/// A moment, as it is called here or in Flagger.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct TypedOn {
    pub(in crate::config) name: &'static str,
    pub(in crate::config) on: On,
    /// It is Flagger's word.
    pub(in crate::config) flagger: bool,
}

/// Our words, and Flagger's.
const ON: [(&str, On, bool); 12] = [
    ("stage", On::Moment(Moment::Stage), false),
    ("pre-flip", On::Moment(Moment::PreFlip), false),
    ("post-flip", On::Moment(Moment::PostFlip), false),
    ("rolled-back", On::Moment(Moment::RolledBack), false),
    ("drained", On::Moment(Moment::Drained), false),
    ("event", On::Event, false),
    ("confirm-rollout", On::Moment(Moment::PreFlip), true),
    ("pre-rollout", On::Moment(Moment::PreFlip), true),
    ("rollout", On::Moment(Moment::PostFlip), true),
    ("confirm-promotion", On::Moment(Moment::PostFlip), true),
    ("post-rollout", On::Over, true),
    ("rollback", On::Rollback, true),
];

pub(super) fn read(value: &Value<'_>) -> Vec<TypedHook> {
    let items = value.items(HOOKS).unwrap_or_default();
    let hooks = items.into_iter().filter_map(Value::section);
    hooks.map(TypedHook::read).collect()
}

impl TypedHook {
    fn read(section: Section<'_>) -> Self {
        let ours: Vec<_> = ON.iter().filter(|(_, _, flagger)| !flagger).collect();
        let names: Vec<&str> = ours.iter().map(|(name, _, _)| *name).collect();
        let when = format!("choose one of: {}", names.join(", "));
        let words = ON.map(|(name, on, flagger)| (name, TypedOn { name, on, flagger }));
        let formats = [
            ("plain", Format::Plain),
            ("cloudevents", Format::CloudEvents),
            ("flagger", Format::Flagger),
        ];
        let path = |value: Value<'_>| value.parse("such as \"/etc/switcher/key\"", scalar::path);
        let hook = Self {
            at: Typed {
                value: section.has("exec") || section.has("url"),
                at: section.at.clone(),
            },
            name: section
                .value("name")
                .and_then(|value| value.parse("such as \"smoke\"", scalar::name)),
            on: section
                .required("on", when)
                .and_then(|value| value.choice(&words, &[])),
            exec: section.value("exec").and_then(|value| argv(&value)),
            user: section
                .value("user")
                .and_then(|value| value.parse(USER, scalar::user)),
            url: section
                .value("url")
                .and_then(|value| value.parse(URL, scalar::url)),
            format: section
                .value("format")
                .and_then(|value| value.choice(&formats, &[])),
            secret_file: section.value("secret_file").and_then(path),
            ca_file: section.value("ca_file").and_then(path),
            metadata: section.section("metadata").map(|it| metadata(&it)),
            timeout: section
                .value("timeout")
                .and_then(|value| value.parse(scalar::DURATION, scalar::duration_above_zero)),
            retries: section
                .value("retries")
                .and_then(|value| value.integer(0..=20)),
            on_failure: section
                .value("on_failure")
                .and_then(|value| value.choice(&[("abort", true), ("ignore", false)], &[])),
        };
        section.finish();
        hook
    }
}

fn metadata(section: &Section<'_>) -> Typed<Vec<(String, String)>> {
    let entries = section.entries().filter_map(|(name, value)| {
        let text = value.parse(METADATA, |text| Ok(text.to_owned()))?;
        Some((name.value, text.value))
    });
    Typed {
        value: entries.collect(),
        at: section.at.clone(),
    }
}
