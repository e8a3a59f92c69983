//! Collecting errors, with where they are.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::Range;

use super::error::{ConfigError, ConfigErrors};

/// Where something was typed.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The key's path.
    pub(super) key: String,
    /// Byte offsets in the file.
    pub(super) span: Range<usize>,
}

/// Something that was typed, and where.
#[derive(Clone, Debug)]
pub(super) struct Typed<T> {
    pub(super) value: T,
    pub(super) at: Place,
}

/// What is wrong with a value, before it is known where the value is.
#[derive(Clone, Debug)]
pub(crate) struct Complaint {
    pub(crate) message: String,
    pub(crate) advice: String,
}

/// The errors of one file. Readers share it, hence the cell.
pub(super) struct Report<'a> {
    file: &'a str,
    lines: Lines<'a>,
    found: RefCell<Vec<(Place, Complaint)>>,
}

impl Complaint {
    pub(super) fn new(message: impl Display, advice: impl Display) -> Self {
        Self {
            message: message.to_string(),
            advice: advice.to_string(),
        }
    }

    /// What every feature of a later version is answered with.
    pub(super) fn unavailable(what: impl Display, advice: impl Display) -> Self {
        Self::new(format_args!("{what} not available in this version"), advice)
    }
}

impl<'a> Report<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self {
            file,
            lines: Lines::new(text),
            found: RefCell::default(),
        }
    }

    pub(super) fn error(&self, at: &Place, message: impl Display, advice: impl Display) {
        self.complain(at, Complaint::new(message, advice));
    }

    pub(super) fn complain(&self, at: &Place, complaint: Complaint) {
        self.found.borrow_mut().push((at.clone(), complaint));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// A place as other errors refer to it.
    pub(super) fn refer(&self, at: &Place) -> String {
        format!("{}, line {}", at.key, self.lines.position(at.span.start).0)
    }

    /// All errors in the order of their lines.
    pub(super) fn finish(self) -> ConfigErrors {
        let mut found = self.found.into_inner();
        found.sort_by_key(|(at, _)| at.span.start);
        let error = |(at, complaint): (Place, Complaint)| {
            let (line, column) = self.lines.position(at.span.start);
            let Complaint { message, advice } = complaint;
            ConfigError {
                file: self.file.to_owned(),
                line,
                column,
                key: at.key,
                message,
                advice,
            }
        };
        ConfigErrors(found.into_iter().map(error).collect())
    }
}

/// Where lines begin: bad files can have more errors than it is worth counting lines for.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let after_newlines = text.match_indices('\n').map(|(newline, _)| newline + 1);
        Self {
            text,
            starts: std::iter::once(0).chain(after_newlines).collect(),
        }
    }

    /// Line and column of a byte offset, both from 1; the column counts characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.starts.partition_point(|start| *start <= offset);
        let before = &self.text[self.starts[line - 1]..offset];
        (line, before.chars().count() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let text = "a\nbö c\n";
        let lines = Lines::new(text);
        let at = |needle: &str| lines.position(text.find(needle).expect("in the text"));
        assert_eq!(at("a"), (1, 1));
        assert_eq!(at("b"), (2, 1));
        assert_eq!(at("c"), (2, 4));
        assert_eq!(lines.position(text.len()), (3, 1));
        assert_eq!(lines.position(999), (3, 1), "past the end is the end");
        assert_eq!(lines.position(4), (2, 2), "inside a character is its start");
    }
}
