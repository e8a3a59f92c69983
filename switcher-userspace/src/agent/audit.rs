//! What goes to the audit, beside cut-overs: what people ask for, and how it comes out.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Value, json};
use tracing::warn;

use super::Runner;
use super::asked::Asked;
use crate::exit::{Exit, Failure};
use crate::journal::{AuditRecord, Entry, Who};
use crate::release::GroupState;

impl Runner {
    /// The newest records of one group or all, the newest first.
    ///
    /// # Errors
    /// When there is no such group and never was, or the journal can't be read.
    pub fn audited(&self, group: Option<&str>, limit: u32) -> Result<Vec<AuditRecord>, Failure> {
        let records = self.journal.audited(group, limit)?;
        if let (Some(group), true) = (group, records.is_empty()) {
            self.group(group)?;
        }
        Ok(records)
    }

    /// Where the records are.
    #[must_use]
    pub fn state_file(&self) -> PathBuf {
        self.journal.file()
    }

    /// Records what somebody has asked for, and what came of it.
    pub(super) fn audit<T>(&self, entry: Entry, answer: &Result<T, Failure>) {
        let entry = match answer {
            Ok(_) => entry,
            Err(failure) => Entry {
                exit: Some(failure.exit.code()),
                why: Some(failure.to_string()),
                ..entry
            },
        };
        if let Err(error) = self.journal.audit(&entry) {
            warn!("{error:#}");
        }
    }

    /// The group as it is now, for what changes it.
    pub(super) fn portrait(&self, name: &str) -> Value {
        let state = self.groups.get(name).map(|group| &group.state);
        state.map_or(Value::Null, portrait)
    }
}

impl Asked {
    /// For the audit.
    pub(super) fn entry(&self, old: Value, new: Value) -> Entry {
        asked_entry(
            Some(&self.group),
            &self.who,
            self.tried(),
            (&self.request, old, new),
        )
    }

    /// Whether it is to be recorded how this came out: not if it was to change nothing.
    pub(super) fn counts<T>(&self, answer: &Result<T, Failure>) -> bool {
        let usage = matches!(answer, Err(failure) if failure.exit == Exit::Usage);
        !self.request.dry_run && !usage
    }
}

/// For the audit: what was asked, and the group before and after.
pub(super) fn asked_entry(
    group: Option<&str>,
    who: &Who,
    what: String,
    (request, old, new): (&impl Serialize, Value, Value),
) -> Entry {
    let request = serde_json::to_value(request).unwrap_or_default();
    let detail = json!({ "request": request, "old": old, "new": new });
    Entry::asked(group, who, what, detail)
}

/// A group, as far as people change it.
pub(super) fn portrait(state: &GroupState) -> Value {
    let releases = state.releases.colours.iter();
    let releases = releases.map(|(colour, it)| (colour.clone(), json!(it.version)));
    json!({
        "live": state.live,
        "previous": state.previous,
        "revision": state.revision,
        "phase": state.phase(),
        "releases": releases.collect::<serde_json::Map<_, _>>(),
        "schema": state.releases.applied,
        "gates": super::gates::gates_record(&state.gates),
    })
}
