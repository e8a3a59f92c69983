//! What is demanded before a switch: `[groups.NAME.gates.NAME]` and `flap_budget`.

use std::time::Duration;

use super::check_name;
use crate::config::report::Typed;
use crate::config::scalar;
use crate::config::section::{Section, Value};

pub(in crate::config) struct TypedGate {
    pub(in crate::config) name: Typed<String>,
    /// Whether it is open.
    pub(in crate::config) default: Option<Typed<bool>>,
    pub(in crate::config) expires: Option<Typed<Duration>>,
}

pub(in crate::config) struct TypedBudget {
    pub(in crate::config) switches: Option<Typed<u32>>,
    pub(in crate::config) within: Option<Typed<Duration>>,
}

pub(super) fn read(section: &Section<'_>) -> Vec<TypedGate> {
    let named = section.entries().filter_map(|(name, mut value)| {
        check_name(section.report, &name);
        value.at.span = name.at.span.clone();
        Some(TypedGate::read(name, value.section()?))
    });
    named.collect()
}

impl TypedGate {
    fn read(name: Typed<String>, section: Section<'_>) -> Self {
        let gate = Self {
            name,
            default: section
                .value("default")
                .and_then(|value| value.choice(&[("open", true), ("closed", false)], &[])),
            expires: section.value("expires").and_then(|value| duration(&value)),
        };
        section.finish();
        gate
    }
}

impl TypedBudget {
    pub(super) fn read(section: Section<'_>) -> Self {
        let budget = Self {
            switches: section
                .required("switches", "say how many: switches = 3")
                .and_then(|value| value.integer(1..=100)),
            within: section
                .required("within", "say in how much time: within = \"1h\"")
                .and_then(|value| duration(&value)),
        };
        section.finish();
        budget
    }
}

fn duration(value: &Value<'_>) -> Option<Typed<Duration>> {
    value.parse(scalar::DURATION, scalar::duration_above_zero)
}
