//! `switcher plan [FILE]`.

use std::io::ErrorKind;
use std::path::Path;

use crate::api::model::{ConfigAnswer, PlanRequest};
use crate::cli::Globals;
use crate::client::{Client, converse};
use crate::config;
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub(super) fn run(
    globals: &Globals,
    output: &Output,
    file: Option<&Path>,
) -> Result<Exit, Failure> {
    let request = request(file, "plan")?;
    let client = Client::new(globals)?;
    let answer: ConfigAnswer = converse(client.post("/v1/plan", &request))?;
    output.print(&answer, |_| describe(&answer))?;
    Ok(if answer.changes.is_empty() {
        Exit::Done
    } else {
        Exit::Differences
    })
}

/// A request with the file's content: whoever asks has to be able to read it, not the agent.
pub(super) fn request(file: Option<&Path>, tried: &str) -> Result<PlanRequest, Failure> {
    let Some(file) = file else {
        return Ok(PlanRequest::default());
    };
    let name = file.display().to_string();
    let unreadable = |error| {
        Failure::new(Exit::Usage, tried, format!("{name} can't be read: {error}"))
            .advise("check the path and its permissions")
    };
    let bytes = config::read(file).map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|_| unreadable(ErrorKind::InvalidData.into()))?;
    Ok(PlanRequest {
        text: Some(text),
        name: Some(name),
    })
}

/// Sentences, then steps.
pub(super) fn describe(answer: &ConfigAnswer) -> String {
    if answer.changes.is_empty() {
        return "nothing to change: the kernel is as the configuration says".to_owned();
    }
    let mut text = String::new();
    for sentence in &answer.summary {
        text += &format!("{sentence}\n");
    }
    let done = if answer.applied { "done" } else { "steps" };
    text += &format!("{done}, in order:\n");
    for (index, change) in answer.changes.iter().enumerate() {
        text += &format!("  {}. {change}\n", index + 1);
    }
    for group in &answer.unfinished {
        text += &format!("{group}: what is replaced goes when no connection needs it any more\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_is_not_sent() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let size = config::FILE_MAX + 1;
        file.as_file().set_len(size).expect("a hole");
        let refused = request(Some(file.path()), "apply").expect_err("too large");
        assert_eq!(refused.exit, Exit::Usage);
        let expected = format!("{size} bytes is too large");
        assert!(refused.why.contains(&expected), "{refused}");
    }
}
