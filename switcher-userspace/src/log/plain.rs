//! What can't mislead whoever reads it: control characters, line ends among them, and those that turn the
//! direction of writing are written out. Programs, receivers and people say things that end up in the log.

use std::borrow::Cow;

use crate::api::misleads;

/// The same on one line. The parts of a sentence of several lines are told apart by semicolons.
pub(super) fn on_one_line(text: &str) -> String {
    let parts = text.lines().map(str::trim).filter(|it| !it.is_empty());
    let parts: Vec<Cow<'_, str>> = parts.map(written_out).collect();
    parts.join("; ")
}

/// The same with its line ends.
pub(super) fn on_its_lines(text: &str) -> String {
    let parts: Vec<Cow<'_, str>> = text.lines().map(written_out).collect();
    parts.join("\n")
}

fn written_out(text: &str) -> Cow<'_, str> {
    if !text.contains(misleads) {
        return text.into();
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match misleads(c) {
            true => plain.extend(c.escape_default()),
            false => plain.push(c),
        }
    }
    plain.into()
}
