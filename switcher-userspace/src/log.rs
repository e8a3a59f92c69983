//! What the agent says of what it does: one event, one line, in one of three forms.
//!
//! Everybody says it with `tracing`. A line has the event's fields and those of the spans around it; the
//! innermost of a name counts. What is done for a cut-over is done inside of a span with its name, so that each of its
//! lines carries the id.

mod journald;
mod json;
mod line;
mod plain;
mod text;

use std::io::{IsTerminal as _, Write as _};
use std::os::fd::AsFd;
use std::path::Path;

use tracing::Span;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry};

use journald::Journal;
use line::{Form, Lines};

/// Where the journal takes lines with fields.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Sentences on standard error, in colour on a terminal
    Human,
    /// One JSON object a line on standard error
    Json,
    /// Entries with fields in systemd's journal
    Journald,
}

impl LogFormat {
    /// As in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Json => "json",
            Self::Journald => "journald",
        }
    }

    /// What suits whoever reads standard error: entries for systemd's journal, sentences for everybody else.
    fn suited() -> Self {
        let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        match leads_to(&stream, std::io::stderr()) {
            true => Self::Journald,
            false => Self::Human,
        }
    }
}

/// What is to be said: `info`, or `warn,switcher::agent=debug`.
///
/// # Errors
/// When that is no level and no list of directives; says why.
pub fn filter(directives: &str) -> Result<EnvFilter, String> {
    let filter = EnvFilter::builder().parse(directives);
    let filter = filter.map_err(|error| {
        format!(
            "{error}; write error, warn, info, debug or trace, or \"info,switcher::agent=debug\""
        )
    })?;
    // Whoever is about to say something has to have said what about.
    let always = format!("{ABOUT}=error").parse();
    Ok(always.map_or_else(
        |_| EnvFilter::default(),
        |always| filter.add_directive(always),
    ))
}

/// From here on events become lines.
///
/// # Errors
/// As [`filter`].
pub fn start(format: Option<LogFormat>, directives: &str) -> Result<(), String> {
    let form = match format.unwrap_or_else(LogFormat::suited) {
        LogFormat::Human => Form::Text {
            colours: std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        },
        LogFormat::Json => Form::Json,
        LogFormat::Journald => Form::Journald(Journal::at(Path::new(JOURNAL))),
    };
    // Whether anybody can read it changes nothing.
    let write = |line: &[u8]| drop(std::io::stderr().lock().write_all(line));
    let lines = Lines::new(form, Box::new(write));
    // A second agent in one process, as tests may have it, logs to the first one's.
    let registry = Registry::default().with(filter(directives)?);
    let _already_set = registry.with(lines).try_init();
    Ok(())
}

const ABOUT: &str = "cutover";

/// Whatever is said inside of this is about a cut-over.
pub(crate) fn about(
    group: &str,
    cutover: &str,
    colour: Option<&str>,
    trace_id: Option<&str>,
) -> Span {
    // Of the highest level, or warnings would lose it where nothing else is said.
    tracing::error_span!(target: ABOUT, "cutover", group, cutover, colour, trace_id)
}

/// Whether a file is the one that `JOURNAL_STREAM` names by device and inode (systemd.exec(5)).
fn leads_to(stream: &str, file: impl AsFd) -> bool {
    let Some((device, inode)) = stream.split_once(':') else {
        return false;
    };
    nix::sys::stat::fstat(file)
        .is_ok_and(|it| (device.parse(), inode.parse()) == (Ok(it.st_dev), Ok(it.st_ino)))
}

#[cfg(test)]
mod tests;
