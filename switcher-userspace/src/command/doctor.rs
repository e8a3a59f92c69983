//! `switcher doctor`: is this host ready?

use std::path::Path;

use crate::doctor::{Check, Report, State, examine};
use crate::exit::{Exit, Failure};
use crate::output::{Cell, Output, Tint, table};

/// People get a table; the exit says whether there is a problem.
pub(super) fn run(config: Option<&Path>, output: &Output) -> Result<Exit, Failure> {
    let report = examine(config);
    output.print(&report, |output| said(&report, output))?;
    Ok(match report.problems {
        0 => Exit::Done,
        _ => Exit::Unexpected,
    })
}

fn said(report: &Report, output: &Output) -> String {
    let rows = report.checks.iter().map(|check| {
        let Check {
            name, state, found, ..
        } = check;
        let state = match state {
            State::Ok => Cell::new("ok", Tint::Good),
            State::Problem => Cell::new("problem", Tint::Bad),
            State::Unknown => Cell::new("unknown", Tint::Warning),
        };
        vec![state, name.as_str().into(), found.as_str().into()]
    });
    let mut text = table(output, &["state", "check", "found"], rows);
    for check in &report.checks {
        let see = check.see.as_ref().map(|page| format!("see {page}"));
        let advice = Some(check.advice.clone()).filter(|advice| !advice.is_empty());
        let told: Vec<_> = advice.into_iter().chain(see).collect();
        if !told.is_empty() {
            text.push_str(&format!("\n{}: {}\n", check.name, told.join("\n  ")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;

    #[test]
    fn advice_follows_the_table() {
        let check = Check {
            name: "kernel".into(),
            state: State::Problem,
            found: "Linux 5.4".into(),
            advice: "take a newer one".into(),
            see: Some("docs/doctor.md#kernel".into()),
        };
        let report = Report {
            checks: vec![check],
            problems: 1,
        };
        let plain = Output {
            format: Format::Table,
            colour: false,
            quiet: false,
        };
        let text = said(&report, &plain);
        assert!(text.contains("problem  kernel  Linux 5.4"), "{text}");
        let told = "\nkernel: take a newer one\n  see docs/doctor.md#kernel\n";
        assert!(text.ends_with(told), "{text}");
    }
}
