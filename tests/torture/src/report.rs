//! What was tried and what was found, for people and for machines.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Value, json};

use crate::counts::Counts;
use crate::judge::{Record, describe};

/// One run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Where the servers were.
    pub mode: String,
    /// Of its plan.
    pub seed: u64,
    /// Seconds.
    pub lasted: f64,
    /// What was done.
    pub counts: Counts,
    /// What clients saw.
    pub record: Record,
    /// The agent's memory at the beginning and at the end, in MiB.
    pub resident: (f64, f64),
}

impl Report {
    /// Whether every promise was kept.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.record.broken == 0
    }

    /// For machines.
    #[must_use]
    pub fn json(&self) -> Value {
        #[derive(Serialize)]
        struct Row<'a> {
            kind: &'a str,
            #[serde(flatten)]
            flows: &'a crate::judge::Flows,
        }
        let flows = self.record.flows.iter();
        let flows: Vec<_> = flows
            .map(|(kind, flows)| Row {
                kind: kind.name(),
                flows,
            })
            .collect();
        json!({
            "mode": self.mode,
            "seed": self.seed,
            "seconds": self.lasted,
            "actions": self.counts,
            "flows": flows,
            "broken": self.record.broken,
            "findings": self.record.findings,
            "agent_mib": { "first": self.resident.0, "last": self.resident.1 },
        })
    }

    /// For people.
    #[must_use]
    pub fn markdown(&self) -> String {
        let Self {
            mode,
            seed,
            lasted,
            counts,
            record,
            resident,
        } = self;
        let mut text = format!(
            "## {mode}\n\nSeed {seed}, {lasted:.0} s: {} actions, {} broken promises. The agent's memory: {:.1} MiB, \
             then {:.1} MiB.\n\n| action | done | refused | odd |\n|---|--:|--:|--:|\n",
            counts.total(),
            record.broken,
            resident.0,
            resident.1
        );
        for (name, count) in &counts.0 {
            let _ = writeln!(
                text,
                "| {name} | {} | {} | {} |",
                count.done, count.refused, count.odd
            );
        }
        text += "\n| clients | flows | answers | MB checked | taken as promised | datagrams sent again |\n\
                 |---|--:|--:|--:|--:|--:|\n";
        for (kind, flows) in &record.flows {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {:.1} | {} | {} |",
                kind.name(),
                flows.begun,
                flows.answers,
                flows.bytes as f64 / 1e6,
                flows.taken,
                flows.again
            );
        }
        if !record.findings.is_empty() {
            text += "\nBroken:\n\n";
        }
        for finding in &record.findings {
            let _ = writeln!(text, "- {}", describe(finding));
        }
        text + "\n"
    }
}

/// Writes all runs to a directory.
///
/// # Errors
/// When a file can't be written.
pub fn write(directory: &Path, reports: &[Report]) -> Result<()> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.trim();
    let parts: String = reports.iter().map(Report::markdown).collect();
    let text = format!("# Torture\n\nLinux {kernel}.\n\n{parts}");
    let runs: Vec<Value> = reports.iter().map(Report::json).collect();
    let json = json!({ "kernel": kernel, "runs": runs });
    for (name, content) in [
        ("torture.md", text),
        ("torture.json", serde_json::to_string_pretty(&json)?),
    ] {
        let path = directory.join(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}
