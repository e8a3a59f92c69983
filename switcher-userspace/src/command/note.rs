//! `switcher stage GROUP [COLOUR]` and `switcher schema GROUP`.

use super::change;
use crate::api::model::{ChangeRequest, NoteAnswer};
use crate::cli::{Globals, SchemaArgs, StageArgs};
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

fn ask(
    globals: &Globals,
    output: &Output,
    (verb, group): (&str, &str),
    request: &ChangeRequest,
) -> Result<Exit, Failure> {
    let path = format!("/v1/groups/{}/{verb}", encode(group));
    let answer: NoteAnswer = converse(Client::new(&globals.socket).post(&path, request))?;
    output.print(&answer, |_| describe(&answer))?;
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
