//! For how long a new colour is watched: `bake`.

use std::time::Duration;

use crate::config::report::{Place, Typed};
use crate::config::scalar;
use crate::config::section::Value;

pub(in crate::config) struct TypedBake {
    pub(in crate::config) at: Place,
    pub(in crate::config) time: Option<Typed<Duration>>,
    pub(in crate::config) resets: Option<Typed<u32>>,
    pub(in crate::config) failed: Option<Typed<u32>>,
    pub(in crate::config) sample: Option<Typed<u32>>,
}

const TIME: &str = "say for how long: bake = { for = \"5m\" }";

impl TypedBake {
    /// A duration alone, or a table.
    pub(super) fn read(value: Value<'_>) -> Option<Self> {
        let at = value.at.clone();
        let duration =
            |value: Value<'_>| value.parse(scalar::DURATION, scalar::duration_above_zero);
        if value.is_string() {
            return Some(Self {
                at,
                time: duration(value),
                resets: None,
                failed: None,
                sample: None,
            });
        }
        if !value.is_table() {
            return value.wrong_type(
                "a duration, or a table of for, resets, failed and sample",
                TIME,
            );
        }
        let section = value.section()?;
        let percent = |value: Value<'_>| value.integer(1..=100);
        let bake = Self {
            at,
            time: section.required("for", TIME).and_then(duration),
            resets: section.value("resets").and_then(percent),
            failed: section.value("failed").and_then(percent),
            sample: section
                .value("sample")
                .and_then(|value| value.integer(1..=1_000_000)),
        };
        section.finish();
        Some(bake)
    }
}
