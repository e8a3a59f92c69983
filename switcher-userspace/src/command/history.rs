//! `switcher history [GROUP]`.

use super::change::micros_said;
use crate::api::model::History;
use crate::cli::Globals;
use crate::client::{Client, converse, encode};
use crate::exit::{Exit, Failure};
use crate::output::{Cell, Output, Tint, table};
use crate::release::End;

pub(super) fn run(
    globals: &Globals,
    output: &Output,
    group: Option<&str>,
    limit: u32,
) -> Result<Exit, Failure> {
    let mut path = format!("/v1/history?limit={limit}");
    path += &group
        .map(|group| format!("&group={}", encode(group)))
        .unwrap_or_default();
    let history: History = converse(Client::new(globals)?.get(&path))?;
    output.print(&history.cutovers, |output| describe(output, &history))?;
    Ok(Exit::Done)
}

fn describe(output: &Output, history: &History) -> String {
    if history.cutovers.is_empty() {
        return "nothing has been switched yet".to_owned();
    }
    let rows = history.cutovers.iter().map(|record| {
        let settled = record
            .store_to_settled_us
            .map_or_else(|| "-".to_owned(), micros_said);
        vec![
            record.id.clone().into(),
            record.group.clone().into(),
            record.kind.name().into(),
            Cell::new(record.from.clone(), Tint::Colour),
            Cell::new(record.to.clone(), Tint::Colour),
            result(record.result),
            settled.into(),
            record.actor.clone().into(),
            record.reason.clone().unwrap_or_default().into(),
        ]
    });
    table(
        output,
        &[
            "id", "group", "kind", "from", "to", "result", "settled", "by", "reason",
        ],
        rows,
    )
}

/// A result in its colour.
pub(super) fn result(result: Option<End>) -> Cell {
    match result {
        None => Cell::new("in progress", Tint::Strong),
        Some(end @ (End::Switched | End::Succeeded)) => Cell::new(end.name(), Tint::Good),
        Some(end @ End::Scheduled) => Cell::new(end.name(), Tint::Strong),
        Some(end @ (End::RolledBack | End::Aborted)) => Cell::new(end.name(), Tint::Warning),
        Some(end @ End::Failed) => Cell::new(end.name(), Tint::Bad),
    }
}
