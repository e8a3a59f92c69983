//! How a canary grows by itself: `canary`.

use std::time::Duration;

use crate::config::report::Typed;
use crate::config::scalar;
use crate::config::section::{Section, Value};

/// A share, and how long it is held.
pub(in crate::config) struct TypedHold {
    pub(in crate::config) percent: Option<Typed<u8>>,
    pub(in crate::config) time: Option<Typed<Duration>>,
}

const STEPS: &str = "list shares: steps = [{ percent = 5, hold = \"2m\" }]";

pub(super) fn read(section: Section<'_>) -> Vec<TypedHold> {
    let items = section.required("steps", STEPS).and_then(|value| {
        let items = value.items(STEPS)?;
        if items.is_empty() {
            value.report.error(&value.at, "the list is empty", STEPS);
        }
        Some(items)
    });
    let holds = items.into_iter().flatten().filter_map(TypedHold::read);
    let holds = holds.collect();
    section.finish();
    holds
}

impl TypedHold {
    fn read(value: Value<'_>) -> Option<Self> {
        if !value.is_table() {
            return value.wrong_type("a table of percent and hold", STEPS);
        }
        let section = value.section()?;
        let hold = Self {
            percent: section
                .required("percent", "say which share: percent = 5")
                .and_then(|value| value.integer(1..=99)),
            time: section
                .required("hold", "say for how long: hold = \"2m\"")
                .and_then(|value| value.parse(scalar::DURATION, scalar::duration_above_zero)),
        };
        section.finish();
        Some(hold)
    }
}
