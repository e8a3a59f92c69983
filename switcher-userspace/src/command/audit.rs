//! `switcher audit [verify]`.

use crate::api::model::Audit;
use crate::cli::{AuditArgs, Globals};
use crate::client::{Client, converse, encode};
use crate::exit::{Exit, Failure};
use crate::journal::{self, AuditRecord, FILE, Verified};
use crate::output::{Cell, Output, Tint, table};

pub(super) fn run(globals: &Globals, output: &Output, args: &AuditArgs) -> Result<Exit, Failure> {
    let client = Client::new(globals)?;
    if args.action.is_some() {
        let verified = match &args.state_dir {
            Some(directory) => journal::verify(&directory.join(FILE))?,
            None => converse(client.get("/v1/audit/verify"))?,
        };
        output.print(&verified, |_| judged(&verified))?;
        return Ok(match verified.bad {
            None => Exit::Done,
            Some(_) => Exit::Differences,
        });
    }
    let mut path = format!("/v1/audit?limit={}", args.limit);
    let group = args
        .group
        .as_ref()
        .map(|it| format!("&group={}", encode(it)));
    path += &group.unwrap_or_default();
    let audit: Audit = converse(client.get(&path))?;
    output.print(&audit.records, |output| describe(output, &audit.records))?;
    Ok(Exit::Done)
}

fn judged(verified: &Verified) -> String {
    let Verified { records, head, bad } = verified;
    match bad {
        None => format!("{records} records, each as it was written; the last hash is {head}"),
        Some(bad) => format!(
            "record {}: {}\nthe {records} before it are as they were written, and what follows can't be told",
            bad.id, bad.why
        ),
    }
}

fn describe(output: &Output, records: &[AuditRecord]) -> String {
    let rows = records.iter().map(|record| {
        let entry = &record.entry;
        let exit = match (entry.exit, entry.exit.and_then(Exit::from_code)) {
            (Some(0), _) => Cell::new("done", Tint::Good),
            (_, Some(exit)) => Cell::new(exit.title(), Tint::Bad),
            (Some(code), None) => Cell::new(code.to_string(), Tint::Bad),
            (None, None) => "-".to_owned().into(),
        };
        vec![
            record.id.to_string().into(),
            format!("{:.0}", record.at).into(),
            entry.group.clone().unwrap_or_else(|| "-".to_owned()).into(),
            entry.what.clone().into(),
            exit,
            entry.actor.clone().into(),
            entry
                .reason
                .clone()
                .unwrap_or_else(|| "-".to_owned())
                .into(),
        ]
    });
    table(
        output,
        &["id", "at", "group", "what", "result", "by", "reason"],
        rows,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::BadRecord;

    #[test]
    fn the_first_bad_record_is_named() {
        let mut verified = Verified {
            records: 7,
            head: "ab12".into(),
            bad: None,
        };
        assert_eq!(
            judged(&verified),
            "7 records, each as it was written; the last hash is ab12"
        );
        let why = "it is missing: the next one there is 10".to_owned();
        verified.bad = Some(BadRecord { id: 8, why });
        assert!(judged(&verified).starts_with("record 8: it is missing"));
    }
}
