//! `switcher explain`: where a packet would go, and why.

use std::path::{Path, PathBuf};

use crate::api::model::Status;
use crate::cli::{ExplainArgs, Globals};
use crate::client::{Client, converse};
use crate::config::{self, DEFAULT_BPFFS};
use crate::datapath::pinned::Pinned;
use crate::exit::{Exit, Failure};
use crate::explain::{Explanation, explain};
use crate::output::Output;

pub(super) fn run(globals: &Globals, output: &Output, args: &ExplainArgs) -> Result<Exit, Failure> {
    let bpffs = args.bpffs.clone().unwrap_or_else(|| agents_bpffs(globals));
    let pinned = Pinned::open(&bpffs)?;
    let found = explain(&pinned, args.group.as_deref(), &args.packet)?;
    output.print(&found, |_| said(&found))?;
    Ok(Exit::Done)
}

/// Where the running agent's configuration has the pins; without an agent, where they usually are.
fn agents_bpffs(globals: &Globals) -> PathBuf {
    let status = converse(Client::new(&globals.socket).get::<Status>("/v1/status"));
    let config = status.map(|status| config::load(Path::new(&status.agent.config)));
    match config {
        Ok(Ok(config)) => config.agent.bpffs,
        _ => DEFAULT_BPFFS.into(),
    }
}

/// One fact a line, what matters most first.
fn said(found: &Explanation) -> String {
    let none = || "-".to_owned();
    let endpoint = found.endpoint.as_ref().map_or_else(none, |chosen| {
        format!("{} ({}, id {})", chosen.address, chosen.colour, chosen.id)
    });
    let service = match (&found.group, &found.service) {
        (Some(group), Some(service)) => format!("{group}/{service}"),
        _ => none(),
    };
    let lines = [
        ("packet", found.packet.clone()),
        ("is", found.kind.into()),
        ("service", service),
        ("live", found.live.clone().unwrap_or_else(none)),
        ("window", found.phase.map_or_else(none, Into::into)),
        (
            "bucket",
            found
                .bucket
                .map_or_else(none, |(n, of)| format!("{n} of {of}")),
        ),
        (
            "tag",
            found.tag.map_or_else(none, |id| format!("endpoint {id}")),
        ),
        ("endpoint", endpoint),
        ("action", found.action.into()),
        ("why", found.reason.clone()),
    ];
    let shown = lines.into_iter().filter(|(_, value)| value != "-");
    shown
        .map(|(name, value)| format!("{name:<9} {value}\n"))
        .collect()
}
