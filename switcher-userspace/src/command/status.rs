//! `switcher status [GROUP] [-w]`.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use switcher_common::verdict::Reason;

use crate::api::model::{
    ColourStatus, GroupStatus, MasqueradeStatus, OutboxStatus, PortsStatus, Status,
};
use crate::cli::Globals;
use crate::client::{Client, converse, encode};
use crate::exit::{Exit, Failure};
use crate::output::{
    Cell, Output, Tint, human_bytes, human_count, human_duration, human_flows, table,
};

pub(super) fn run(
    globals: &Globals,
    output: &Output,
    group: Option<&str>,
    watch: bool,
) -> Result<Exit, Failure> {
    let only = group
        .map(|group| format!("?group={}", encode(group)))
        .unwrap_or_default();
    let path = format!("/v1/status{only}");
    let client = Client::new(globals)?;
    converse(async {
        if !watch {
            let status: Status = client.get(&path).await?;
            output.print(&status, |output| {
                describe(output, &status, Timestamp::now())
            })?;
            return Ok(Exit::Done);
        }
        follow(output, &client, &path).await
    })
}

/// Again and again, also while the agent is started anew.
async fn follow(output: &Output, client: &Client, path: &str) -> Result<Exit, Failure> {
    // To the top left, and nothing below; files get one after the other.
    let top = match std::io::stdout().is_terminal() {
        true => "\x1b[H\x1b[2J",
        false => "",
    };
    let (mut seen, mut away) = (false, false);
    loop {
        match client.get::<Status>(path).await {
            Ok(status) => {
                let text = |output: &Output| describe(output, &status, Timestamp::now());
                output.print(&status, |output| format!("{top}{}", text(output)))?;
                (seen, away) = (true, false);
            }
            // Said once, below what was seen last.
            Err(failure) if seen && failure.exit == Exit::Unreachable => {
                if !away {
                    eprint!("{}", output.failure(&failure));
                }
                away = true;
            }
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn describe(output: &Output, status: &Status, now: Timestamp) -> String {
    let mut text = String::new();
    for interface in status
        .interfaces
        .iter()
        .filter(|interface| !interface.attached)
    {
        let reason = interface.reason.as_deref().unwrap_or("unknown why");
        text += &format!("{}: its traffic is not steered: {reason}\n", interface.name);
    }
    if let Some(reason) = &status.local_clients.reason {
        text += &format!("clients on this host are not steered: {reason}\n");
    }
    text += &status
        .masquerade
        .as_ref()
        .map_or_else(String::new, masquerade);
    if let Some(problem) = status
        .agent
        .api
        .as_ref()
        .and_then(|api| api.problem.as_ref())
    {
        text += &format!("agent.api goes on with what it had before: {problem}\n");
    }
    if let Some(pending) = &status.agent.pending {
        text += &format!("not in the kernel yet: {pending}\n");
    }
    if status.groups.is_empty() {
        text += "no groups are configured\n";
    }
    let groups: Vec<_> = status
        .groups
        .iter()
        .map(|group| describe_group(output, group, now))
        .collect();
    text + &groups.join("\n") + &troubles(status)
}

/// What has been counted of packets of services that did not fare as usual.
fn troubles(status: &Status) -> String {
    let troubles = Reason::ALL.iter().filter(|reason| reason.is_trouble());
    let counted = troubles.filter_map(|reason| {
        let count = *status.reasons.get(reason.label())?;
        Some(format!("{} {}", human_count(count), reason.label()))
    });
    let counted: Vec<_> = counted.collect();
    match counted.is_empty() {
        true => String::new(),
        false => format!("counted ever: {}\n", counted.join(", ")),
    }
}

/// How near flows that go on as this host's own are to the end of its ports.
fn masquerade(status: &MasqueradeStatus) -> String {
    let share = |ports: &&PortsStatus| ports.used * 1000 / ports.of.max(1);
    let fullest = status.ports.iter().max_by_key(share);
    let mut text = format!(
        "masquerade: {} of {} flows",
        human_count(status.flows),
        human_count(status.capacity)
    );
    if let Some(PortsStatus { endpoint, used, of }) = fullest {
        text += &format!(
            ", at most {} of {} ports (to {endpoint})",
            human_count(*used),
            human_count(*of)
        );
    }
    for (refused, why) in [
        (status.exhausted, "for want of a port"),
        (status.full, "for want of room"),
    ] {
        if refused > 0 {
            text += &format!("; {} refused {why}", human_count(refused));
        }
    }
    let cut_off = status.ports.iter().filter(|ports| ports.of == 0);
    let cut_off: Vec<_> = cut_off.map(|ports| &*ports.endpoint).collect();
    if !cut_off.is_empty() {
        text += &format!("; no address of this host leads to {}", cut_off.join(", "));
    }
    text + "\n"
}

fn describe_group(output: &Output, group: &GroupStatus, now: Timestamp) -> String {
    let previous = group.previous.clone().unwrap_or_else(|| "-".to_owned());
    let calm = if group.phase == "idle" {
        Tint::Plain
    } else {
        Tint::Warning
    };
    let row = vec![
        Cell::new(group.name.clone(), Tint::Strong),
        Cell::new(group.live.clone(), Tint::Colour),
        Cell::new(previous, Tint::Colour),
        Cell::new(group.phase.clone(), calm),
        group.revision.to_string().into(),
        ago(now, group.since).into(),
        group.by.clone().into(),
    ];
    let header = [
        "group", "live", "previous", "phase", "revision", "since", "by",
    ];
    let mut text = table(output, &header, [row]);
    if let Some(next) = &group.next {
        text += &format!(
            "  in {}: {}\n",
            span(next.at.duration_since(now)),
            next.what
        );
    }
    if let Some(canary) = &group.canary {
        let (colour, percent) = (&canary.colour, canary.percent);
        let grows = if canary.policy { ", by policy" } else { "" };
        text += &format!("  canary: {percent} % of new connections go to {colour}{grows}\n");
    }
    if let Some(window) = &group.window {
        let flows = window
            .flows_on_old
            .map_or_else(|| "? flows".to_owned(), human_flows);
        let used = window.flow_map_used * 100.0;
        text += &format!(
            "  window {}: {flows} on old endpoints{}, flow map {used:.0} % used\n",
            window.phase,
            each(&window.left)
        );
    }
    for trouble in &group.degraded {
        text += &format!("  degraded: {trouble}\n");
    }
    for lane in group.outbox.iter().filter(|it| it.failures > 0) {
        let OutboxStatus {
            hook,
            waiting,
            failures,
            reason,
            ..
        } = lane;
        let reason = reason.as_deref().unwrap_or("unknown why");
        text += &format!(
            "  hook {hook}: {waiting} events wait, sent {failures} times in vain: {reason}\n"
        );
    }
    for warning in &group.warnings {
        text += &format!("  {warning}\n");
    }
    text += &format!("  {}\n", rollback(group));
    if !group.blockers.is_empty() {
        let all = group.blockers.join("\n    ");
        text += &format!("  in the way of a flip:\n    {all}\n");
    }
    if let Some(applied) = group.schema {
        text += &format!("  the database is at schema {applied}\n");
    }
    text += &indented(&colours(output, group, now));
    text + &indented(&failing(group))
}

/// Which colours these are at.
fn each(left: &BTreeMap<String, Option<u64>>) -> String {
    if left.is_empty() {
        return String::new();
    }
    let one = |(colour, flows): (&String, &Option<u64>)| {
        let flows = flows.map_or_else(|| "?".to_owned(), human_count);
        format!("{flows} {colour}")
    };
    let all: Vec<_> = left.iter().map(one).collect();
    format!(" ({})", all.join(", "))
}

fn rollback(group: &GroupStatus) -> String {
    let rollback = &group.rollback;
    match (&rollback.to, rollback.eligible) {
        (Some(to), true) => format!("rollback to {to} is possible"),
        (Some(to), false) => format!(
            "rollback to {to} would not help: {}",
            rollback.blockers.join("; ")
        ),
        (None, _) => format!("no rollback: {}", rollback.blockers.join("; ")),
    }
}

fn colours(output: &Output, group: &GroupStatus, now: Timestamp) -> String {
    let mut colours: Vec<_> = group.colours.iter().collect();
    colours.sort_by_key(|(_, colour)| match colour.role.as_str() {
        "live" => 0,
        "previous" => 1,
        "staging" => 2,
        _ => 3,
    });
    let rows = colours.into_iter().map(|(name, colour)| {
        vec![
            Cell::new(name.clone(), Tint::Colour),
            colour.role.clone().into(),
            colour
                .version
                .clone()
                .unwrap_or_else(|| "-".to_owned())
                .into(),
            health(colour),
            colour
                .flows
                .map_or_else(|| "?".to_owned(), human_count)
                .into(),
            human_count(colour.connections).into(),
            human_count(colour.packets).into(),
            human_bytes(colour.bytes).into(),
            human_count(colour.resets).into(),
            colour
                .last_packet_at
                .map_or_else(|| "-".to_owned(), |at| ago(now, at))
                .into(),
        ]
    });
    let header = [
        "colour",
        "role",
        "version",
        "healthy",
        "flows",
        "connections",
        "packets",
        "bytes",
        "resets",
        "last packet",
    ];
    table(output, &header, rows)
}

fn health(colour: &ColourStatus) -> Cell {
    let all = colour.endpoints.len();
    let healthy = colour
        .endpoints
        .iter()
        .filter(|it| it.healthy == Some(true))
        .count();
    let text = format!("{healthy}/{all}");
    match colour.healthy {
        Some(true) => Cell::new(text, Tint::Good),
        Some(false) => Cell::new(text, Tint::Bad),
        None => Cell::new(text + " so far", Tint::Warning),
    }
}

/// Endpoints that somebody should look at, and why.
fn failing(group: &GroupStatus) -> String {
    let all = group.colours.iter().flat_map(|(name, colour)| {
        colour
            .endpoints
            .iter()
            .map(move |endpoint| (name, endpoint))
    });
    let failing = all.filter(|(_, endpoint)| endpoint.healthy == Some(false));
    let lines = failing.map(|(colour, endpoint)| {
        let why = endpoint
            .reason
            .as_deref()
            .unwrap_or("passes again, but not often enough yet");
        format!(
            "{colour} {} {}: {why}\n",
            endpoint.service, endpoint.address
        )
    });
    lines.collect()
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

fn ago(now: Timestamp, then: Timestamp) -> String {
    format!("{} ago", span(now.duration_since(then)))
}

fn span(duration: SignedDuration) -> String {
    let duration = duration.unsigned_abs();
    human_duration(if duration < Duration::from_secs(1) {
        Duration::ZERO
    } else {
        duration
    })
    .replace("0us", "0s")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;

    const STATUS: &str = include_str!("status.json");

    #[test]
    fn people_see_what_matters() {
        let status: Status = serde_json::from_str(STATUS).expect("a status");
        let output = Output {
            format: Format::Table,
            colour: false,
            quiet: false,
        };
        let now = "2026-11-20T20:03:00Z".parse().expect("a time");
        let text = describe(&output, &status, now);
        let expected = "\
eth1: its traffic is not steered: somebody has taken the programs off
clients on this host are not steered: no cgroup v2 hierarchy is mounted
GROUP  LIVE   PREVIOUS  PHASE     REVISION  SINCE   BY
shop   green  blue      draining  12        3m ago  root (uid 0, pid 7 switcher)
  in 57m: drain deadline: 12 connections left would be reset
  window draining: 12 flows on old endpoints, flow map 1 % used
  rollback to blue would not help: web 10.0.0.1:8001: connection refused
  the database is at schema 13
  COLOUR  ROLE      VERSION  HEALTHY  FLOWS  CONNECTIONS  PACKETS  BYTES    RESETS  LAST PACKET
  green   live      v42      1/1      3      20           1.2k     4.0 KiB  0       0s ago
  blue    previous  -        0/1      12     400          98k      12 MiB   1       5s ago
  blue web 10.0.0.1:8001: connection refused
counted ever: 2 no-table, 1.5k paused
";
        assert_eq!(text, expected, "{text}");
    }
}
