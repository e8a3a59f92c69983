//! `switcher drift`.

use crate::api::model::{Difference, Drift};
use crate::cli::Globals;
use crate::client::{Client, converse};
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub(super) fn run(globals: &Globals, output: &Output) -> Result<Exit, Failure> {
    let drift: Drift = converse(Client::new(globals)?.get("/v1/drift"))?;
    output.print(&drift, |_| describe(&drift))?;
    Ok(match drift.differences.is_empty() {
        true => Exit::Done,
        false => Exit::Differences,
    })
}

fn describe(drift: &Drift) -> String {
    let lines = drift.differences.iter();
    let lines = lines.map(|it| format!("{}: {}", it.kind.name(), it.what));
    let mut lines: Vec<String> = lines.collect();
    if lines.is_empty() {
        lines.push("kernel, record and configuration agree".to_owned());
    }
    if let Some(why) = &drift.not_compared {
        lines.push(format!("tables are not compared now: {why}"));
    }
    if drift.differences.iter().any(Difference::is_repaired) {
        lines.push(match (drift.repairs, drift.repairs_left) {
            (false, _) => "the agent was told not to repair: `apply` does".to_owned(),
            (true, 0) => {
                "it was repaired too often within an hour: `apply` does once more".to_owned()
            }
            (true, _) => "the agent repairs programs, kernel and record within seconds".to_owned(),
        });
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::model::DifferenceKind;

    #[test]
    fn people_read_what_differs_and_what_happens() {
        let mut drift = Drift {
            differences: Vec::new(),
            not_compared: None,
            repairs: true,
            repairs_left: 0,
        };
        assert_eq!(describe(&drift), "kernel, record and configuration agree");
        drift.differences.push(Difference {
            kind: DifferenceKind::Kernel,
            what: "service shop/web: add blue endpoint 10.0.0.1:8001".into(),
        });
        let text = describe(&drift);
        assert!(text.starts_with("kernel: service shop/web: add"), "{text}");
        assert!(text.ends_with("`apply` does once more"), "{text}");
    }
}
