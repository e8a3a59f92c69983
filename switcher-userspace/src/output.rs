//! Printing: tables for people, JSON and YAML for scripts.

mod humane;
mod table;

use std::io::{self, ErrorKind, IsTerminal, Write};

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

pub use humane::{human_bytes, human_count, human_duration, human_flows};
pub use table::{Cell, Tint, table};

use crate::cli::Globals;
use crate::exit::Failure;

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For scripts.
    Json,
    /// For scripts, and for people who read much.
    Yaml,
}

/// What the global options say about printing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// How to print.
    pub format: Format,
    /// Whether people's output has colours.
    pub colour: bool,
    /// Whether people's output is wanted at all.
    pub quiet: bool,
}

impl Output {
    /// As the options and the environment of this process say.
    #[must_use]
    pub fn new(globals: &Globals) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let unwanted = globals.no_color || set("NO_COLOR") || dumb;
        Self {
            format: globals.format(),
            colour: !unwanted && io::stdout().is_terminal(),
            quiet: globals.quiet,
        }
    }

    /// Prints a value on standard output: as it is for scripts, as `human` says it for people.
    ///
    /// # Errors
    ///
    /// When standard output can't be written; a reader who left early is no error.
    pub fn print<T: Serialize + ?Sized>(
        &self,
        value: &T,
        human: impl FnOnce(&Self) -> String,
    ) -> anyhow::Result<()> {
        write(&mut io::stdout().lock(), &self.render(value, human)?)
    }

    /// What [`print`](Self::print) prints: empty, or ending with a newline.
    ///
    /// # Errors
    ///
    /// When the value has no JSON or YAML form.
    pub fn render<T: Serialize + ?Sized>(
        &self,
        value: &T,
        human: impl FnOnce(&Self) -> String,
    ) -> anyhow::Result<String> {
        let mut text = match self.format {
            Format::Table if self.quiet => return Ok(String::new()),
            Format::Table => human(self),
            Format::Json => serde_json::to_string_pretty(value).context("print as JSON")?,
            Format::Yaml => serde_yaml_ng::to_string(value).context("print as YAML")?,
        };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        Ok(text)
    }

    /// What standard error gets of a failure: a sentence for people, a problem for scripts.
    #[must_use]
    pub fn failure(&self, failure: &Failure) -> String {
        let human = || match failure.page() {
            Some(page) => format!("error: {failure}\nsee {page}\n"),
            None => format!("error: {failure}\n"),
        };
        match self.format {
            Format::Table => human(),
            Format::Json | Format::Yaml => self
                .render(&failure.problem(), |_| human())
                .unwrap_or_else(|_| human()),
        }
    }
}

/// Writes and flushes; a reader who left early (`| head`) has what it wanted.
fn write(to: &mut impl Write, text: &str) -> anyhow::Result<()> {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("write to standard output")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::exit::{self, Exit};

    const TABLE: Output = Output {
        format: Format::Table,
        colour: false,
        quiet: false,
    };
    const JSON: Output = Output {
        format: Format::Json,
        ..TABLE
    };
    const YAML: Output = Output {
        format: Format::Yaml,
        ..TABLE
    };

    #[test]
    fn each_format_has_its_own_text() {
        let render = |output: Output| {
            output
                .render(&json!({ "live": "blue" }), |_| "blue is live".into())
                .expect("renders")
        };
        assert_eq!(render(TABLE), "blue is live\n");
        assert_eq!(render(JSON), "{\n  \"live\": \"blue\"\n}\n");
        assert_eq!(render(YAML), "live: blue\n");
        assert_eq!(
            render(Output {
                quiet: true,
                ..TABLE
            }),
            ""
        );
        assert_eq!(
            render(Output {
                quiet: true,
                ..JSON
            }),
            render(JSON)
        );
    }

    #[test]
    fn failures_are_sentences_or_problems() {
        let failure = Failure::new(Exit::Unreachable, "status", "no agent");
        assert_eq!(
            TABLE.failure(&failure),
            "error: status: no agent\nsee docs/runbook.md#the-agent-does-not-answer\n"
        );
        let own = Failure::new(Exit::Unexpected, "flip", "no room").see(exit::DISK_FULL);
        assert_eq!(
            TABLE.failure(&own),
            "error: flip: no room\nsee docs/runbook.md#the-disk-is-full\n"
        );
        let plain = Failure::new(Exit::Unexpected, "status", "odd");
        assert_eq!(TABLE.failure(&plain), "error: status: odd\n");
        assert!(
            JSON.failure(&failure)
                .contains(r#""type": "urn:switcher:problem:unreachable""#)
        );
        assert!(
            YAML.failure(&failure)
                .contains("type: urn:switcher:problem:unreachable")
        );
    }

    #[test]
    fn a_reader_who_left_is_no_error_and_a_full_disk_is_one() {
        struct Fails(ErrorKind);
        impl Write for Fails {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert!(write(&mut Fails(ErrorKind::BrokenPipe), "x").is_ok());
        assert!(write(&mut Fails(ErrorKind::StorageFull), "x").is_err());
    }
}
