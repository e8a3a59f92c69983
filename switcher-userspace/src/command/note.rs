//! What people say of a group: `stage`, `schema`, `freeze`, `unfreeze`, `gate`.

use std::collections::BTreeMap;

use super::change;
use crate::api::model::{ChangeRequest, GateStatus, GroupStatus, NoteAnswer};
use crate::cli::{FreezeArgs, GateArgs, Globals, GroupArgs, SchemaArgs, StageArgs, Way};
use crate::client::{Client, converse, encode};
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub(super) fn stage(globals: &Globals, output: &Output, args: StageArgs) -> Result<Exit, Failure> {
    let StageArgs {
        group,
        colour,
        version,
        schema,
        change,
    } = args;
    let request = ChangeRequest {
        to: colour,
        version: Some(version),
        schema: schema.map(|range| range.to_string()),
        ..change::request(change)
    };
    ask(globals, output, ("stage", &group), &request)
}

pub(super) fn schema(
    globals: &Globals,
    output: &Output,
    args: SchemaArgs,
) -> Result<Exit, Failure> {
    let SchemaArgs {
        group,
        applied,
        close_rollback,
        change,
    } = args;
    let request = ChangeRequest {
        applied: Some(applied),
        close_rollback,
        ..change::request(change)
    };
    ask(globals, output, ("schema", &group), &request)
}

pub(super) fn freeze(
    globals: &Globals,
    output: &Output,
    args: FreezeArgs,
) -> Result<Exit, Failure> {
    let FreezeArgs {
        group,
        time,
        change,
    } = args;
    let request = ChangeRequest {
        duration: time.map(change::written),
        ..change::request(change)
    };
    ask(globals, output, ("freeze", &group), &request)
}

pub(super) fn unfreeze(
    globals: &Globals,
    output: &Output,
    args: GroupArgs,
) -> Result<Exit, Failure> {
    let GroupArgs { group, change } = args;
    let request = change::request(change);
    ask(globals, output, ("unfreeze", &group), &request)
}

/// Without a name it lists them.
pub(super) fn gate(globals: &Globals, output: &Output, args: GateArgs) -> Result<Exit, Failure> {
    let GateArgs {
        group,
        name,
        way,
        change,
    } = args;
    let (Some(name), Some(way)) = (name, way) else {
        let path = format!("/v1/groups/{}", encode(&group));
        let status: GroupStatus = converse(Client::new(globals)?.get(&path))?;
        output.print(&status.gates, |_| match status.gates.is_empty() {
            true => format!("{group}: there are no gates"),
            false => gates(&status.gates),
        })?;
        return Ok(Exit::Done);
    };
    let request = ChangeRequest {
        gate: Some(name),
        open: Some(way == Way::Open),
        ..change::request(change)
    };
    ask(globals, output, ("gate", &group), &request)
}

fn ask(
    globals: &Globals,
    output: &Output,
    (verb, group): (&str, &str),
    request: &ChangeRequest,
) -> Result<Exit, Failure> {
    let path = format!("/v1/groups/{}/{verb}", encode(group));
    let answer: NoteAnswer = converse(Client::new(globals)?.post(&path, request))?;
    output.print(&answer, |_| match verb {
        "stage" | "schema" => describe(&answer),
        _ => decided(verb, &answer),
    })?;
    Ok(Exit::Done)
}

fn describe(answer: &NoteAnswer) -> String {
    let NoteAnswer {
        group,
        colour,
        role,
        version,
        schema,
        applied,
        ..
    } = answer;
    let said = match (colour, applied) {
        (Some(colour), _) => {
            let (version, role) = (version.as_deref(), role.as_deref());
            let range = schema.as_ref().map(|it| format!(", for schema {it}"));
            format!(
                "{} is on {colour} ({}){}",
                version.unwrap_or("nothing known"),
                role.unwrap_or_default(),
                range.unwrap_or_default()
            )
        }
        (None, Some(applied)) => format!("the database is at schema {applied}"),
        (None, None) => "nothing is known of the database".to_owned(),
    };
    let how = match (answer.dry_run, answer.unchanged) {
        (_, true) => " already",
        (true, false) => " (would be recorded)",
        (false, false) => "",
    };
    let warnings = answer.warnings.iter();
    let warnings: String = warnings.map(|it| format!("\n  {it}")).collect();
    format!("{group}: {said}{how}{warnings}")
}

fn decided(verb: &str, answer: &NoteAnswer) -> String {
    let how = match (answer.dry_run, answer.unchanged) {
        (_, true) => " already",
        (true, false) => " (would be recorded)",
        (false, false) => "",
    };
    let group = &answer.group;
    match (&answer.frozen, verb) {
        (_, "gate") => format!("{group}{how}:\n{}", gates(&answer.gates)),
        (Some(frozen), _) => {
            let until = frozen.until.map(|until| format!(", until {until:.0}"));
            let until = until.unwrap_or_default();
            format!("{group}: frozen{how}{until}; rollback still works")
        }
        (None, _) => format!("{group}: not frozen{how}"),
    }
}

fn gates(gates: &BTreeMap<String, GateStatus>) -> String {
    let line = |(name, gate): (&String, &GateStatus)| {
        let state = if gate.open { "open" } else { "closed" };
        let by = gate.by.as_ref().map(|by| format!(", by {by}"));
        let until = gate.until.map(|until| format!(", until {until:.0}"));
        let (by, until) = (by.unwrap_or_default(), until.unwrap_or_default());
        format!("  {name}: {state}{by}{until}")
    };
    gates.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_what_is_known_now() {
        let mut answer = NoteAnswer {
            group: "shop".into(),
            live: "green".into(),
            previous: None,
            colour: Some("blue".into()),
            role: Some("staging".into()),
            version: Some("v43".into()),
            schema: Some("12..14".into()),
            applied: Some(13),
            gates: BTreeMap::new(),
            frozen: None,
            revision: 3,
            warnings: vec!["there is no rollback to blue (v41) any more".into()],
            unchanged: false,
            dry_run: false,
        };
        assert_eq!(
            describe(&answer),
            "shop: v43 is on blue (staging), for schema 12..14\n  there is no rollback to blue (v41) any more"
        );
        (answer.colour, answer.unchanged) = (None, true);
        answer.warnings.clear();
        assert_eq!(
            describe(&answer),
            "shop: the database is at schema 13 already"
        );
    }
}
