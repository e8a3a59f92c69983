//! `switcher trace`: decisions about real packets, live.

use std::io::Write as _;

use crate::cli::{Globals, TraceArgs};
use crate::client::{Client, converse};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Output};
use crate::trace::{Ended, Seen};

pub(super) fn run(globals: &Globals, output: &Output, args: &TraceArgs) -> Result<Exit, Failure> {
    let wanted = args.wanted()?;
    let people = output.format == Format::Table && !output.quiet;
    let client = Client::new(globals)?;
    converse(client.lines(
        "/v1/trace",
        &wanted,
        || {
            if people {
                eprintln!("tracing; Ctrl-C ends it");
            }
        },
        |line| {
            let shown = match output.format {
                Format::Table => people.then(|| said(line)),
                Format::Json | Format::Yaml => Some(line.to_owned()),
            };
            let Some(text) = shown else {
                return true;
            };
            let mut out = std::io::stdout().lock();
            // A reader who left early has what it wanted.
            writeln!(out, "{text}").and_then(|()| out.flush()).is_ok()
        },
    ))?;
    Ok(Exit::Done)
}

fn said(line: &str) -> String {
    if let Ok(Ended { told, lost }) = serde_json::from_str(line) {
        return format!("{told} packets told of, {lost} more that fitted were not");
    }
    let Ok(seen) = serde_json::from_str::<Seen>(line) else {
        return line.to_owned();
    };
    let at = seen.at.strftime("%H:%M:%S%.6f");
    let flags = seen.flags.map(|flags| format!(" {flags}"));
    let way = if seen.hook == "egress" { "out " } else { "" };
    let mut text = format!(
        "{at} {} {way}{}{} {} > {}",
        seen.interface,
        seen.protocol,
        flags.unwrap_or_default(),
        seen.source,
        seen.destination
    );
    if let (Some(group), Some(service)) = (seen.group, seen.service) {
        text += &format!(" {group}/{service}");
    }
    text += &format!(" {}", seen.kind);
    let facts = [seen.phase, seen.how];
    for fact in facts.into_iter().flatten() {
        text += &format!(" {fact}");
    }
    if let Some(it) = seen.endpoint {
        text += &format!(" {} {}", it.colour, it.address);
    }
    text += &format!(": {}", seen.action);
    match seen.reason {
        Some(reason) => text + &format!(" ({reason})"),
        None => text,
    }
}
