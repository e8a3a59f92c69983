//! Sentences: `2026-11-28T18:00:00.123456Z  INFO green is live group=shop cutover=…`

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use serde_json::Value;
use tracing::Level;

use super::line::Line;
use super::plain;

pub(super) fn line(line: &Line, colours: bool) -> String {
    let (faint, level) = match colours {
        true => (Style::new().dimmed(), style(line.level)),
        false => (Style::new(), Style::new()),
    };
    let mut text = format!(
        "{faint}{:.6}{faint:#} {level}{:>5}{level:#} {}",
        line.at,
        line.level,
        plain::on_one_line(&line.message)
    );
    for (name, value) in &line.fields {
        let _infallible = write!(text, " {faint}{name}={faint:#}{}", said(value));
    }
    text.push('\n');
    text
}

/// Words as they are, everything else in quotes.
fn said(value: &Value) -> String {
    let Value::String(text) = value else {
        return value.to_string();
    };
    let word = |c: char| c.is_alphanumeric() || "-_./:%+@#,".contains(c);
    match !text.is_empty() && text.chars().all(word) {
        true => text.clone(),
        false => format!("\"{}\"", plain::on_one_line(&text.replace('"', "'"))),
    }
}

fn style(level: Level) -> Style {
    let colour = match level {
        Level::ERROR => AnsiColor::Red,
        Level::WARN => AnsiColor::Yellow,
        Level::INFO => AnsiColor::Green,
        Level::DEBUG => AnsiColor::Blue,
        Level::TRACE => AnsiColor::Magenta,
    };
    Style::new().fg_color(Some(colour.into()))
}
