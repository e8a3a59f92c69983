//! The binary from outside: exit codes, JSON, and what it says to people.

#[path = "cli/changes.rs"]
mod changes;
#[path = "cli/files.rs"]
mod files;
#[path = "cli/gates.rs"]
mod gates;
#[path = "cli/reads.rs"]
mod reads;
#[path = "cli/releases.rs"]
mod releases;
#[path = "cli/service.rs"]
mod service;
#[path = "cli/terminal.rs"]
mod terminal;
#[path = "cli/trace.rs"]
mod trace;

use anyhow::Result;
use serde_json::Value;
use switcher_harness::agent::binary;
use switcher_harness::config::Settings;
use switcher_harness::privilege::run;
use switcher_harness::{Mode, Stand};

/// A stand with one server a colour.
fn stand() -> Result<Stand> {
    Stand::new(Mode::Local, true, Settings::default(), &binary()?)
}

/// The values of `fields`, which must all be there.
fn fields<'a>(value: &'a Value, fields: &[&str]) -> Result<Vec<&'a Value>> {
    fields
        .iter()
        .map(|field| {
            value
                .get(field)
                .ok_or_else(|| anyhow::anyhow!("no field `{field}` in {value:#}"))
        })
        .collect()
}
