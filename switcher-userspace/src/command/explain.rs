//! `switcher explain`: where a packet would go, and why.

use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use crate::api::model::ExplainRequest;
use crate::cli::{ExplainArgs, Globals};
use crate::client::{Client, converse};
use crate::config::DEFAULT_BPFFS;
use crate::datapath::pinned::Pinned;
use crate::exit::{Exit, Failure};
use crate::explain::explain;
use crate::output::Output;

pub(super) fn run(globals: &Globals, output: &Output, args: &ExplainArgs) -> Result<Exit, Failure> {
    let found = match &args.bpffs {
        Some(bpffs) => from_pins(bpffs, args)?,
        None => match from_agent(globals, args) {
            // The maps are there without it.
            Err(failure) if failure.exit == Exit::Unreachable => {
                from_pins(Path::new(DEFAULT_BPFFS), args).map_err(|_| failure)?
            }
            answer => answer?,
        },
    };
    output.print(&found, |_| said(&found))?;
    Ok(Exit::Done)
}

fn from_agent(globals: &Globals, args: &ExplainArgs) -> Result<Value, Failure> {
    let question = ExplainRequest {
        group: args.group.clone(),
        protocol: args.packet.protocol,
        source: args.packet.source,
        destination: args.packet.destination,
        syn: args.packet.syn,
    };
    converse(Client::new(globals)?.post("/v1/explain", &question))
}

fn from_pins(bpffs: &Path, args: &ExplainArgs) -> Result<Value, Failure> {
    let found = explain(&Pinned::open(bpffs)?, args.group.as_deref(), &args.packet)?;
    Ok(serde_json::to_value(found).context("explain")?)
}

/// One fact a line, what matters most first.
fn said(found: &Value) -> String {
    let text = |name: &str| found[name].as_str().map(str::to_owned);
    let chosen = &found["endpoint"];
    let endpoint = chosen["address"].as_str().zip(chosen["colour"].as_str());
    let lines = [
        ("packet", text("packet")),
        ("is", text("kind")),
        (
            "service",
            text("group")
                .zip(text("service"))
                .map(|(group, service)| format!("{group}/{service}")),
        ),
        ("live", text("live")),
        ("window", text("phase")),
        (
            "bucket",
            found["bucket"]
                .as_array()
                .map(|of| format!("{} of {}", of[0], of[1])),
        ),
        (
            "tag",
            found["tag"].as_u64().map(|id| format!("endpoint {id}")),
        ),
        (
            "endpoint",
            endpoint.map(|(address, colour)| format!("{address} ({colour}, id {})", chosen["id"])),
        ),
        ("action", text("action")),
        (
            "counted",
            found["counted"]
                .as_array()
                .filter(|it| !it.is_empty())
                .map(|reasons| {
                    let reasons: Vec<&str> = reasons.iter().filter_map(Value::as_str).collect();
                    reasons.join(", ")
                }),
        ),
        ("why", text("reason")),
    ];
    let shown = lines
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    shown
        .map(|(name, value)| format!("{name:<9} {value}\n"))
        .collect()
}
