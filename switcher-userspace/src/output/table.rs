//! Tables without lines, as `kubectl` and `ip -br` have them.

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Color, Table};

use super::Output;

/// What a cell says, and how it looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tint: Tint,
}

/// How a cell looks where colours are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tint {
    /// As everything else.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// Somebody should look.
    Warning,
    /// Something is broken.
    Bad,
    /// What matters most.
    Strong,
    /// What matters least.
    Faint,
    /// A colour of a group, in that colour where it is one.
    Colour,
}

impl Cell {
    /// A cell that looks some way.
    pub fn new(text: impl Into<String>, tint: Tint) -> Self {
        Self {
            text: text.into(),
            tint,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Tint::Plain)
    }
}

/// A table for people: aligned columns, two spaces between them, nothing at the ends of lines.
#[must_use]
pub fn table(
    output: &Output,
    header: &[&str],
    rows: impl IntoIterator<Item = Vec<Cell>>,
) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).force_no_tty();
    if output.colour {
        table.enforce_styling();
    }
    let title =
        |name: &&str| comfy_table::Cell::new(name.to_uppercase()).add_attribute(Attribute::Dim);
    table.set_header(header.iter().map(title));
    table.add_rows(rows.into_iter().map(|row| row.into_iter().map(tinted)));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect()
}

fn tinted(cell: Cell) -> comfy_table::Cell {
    let Cell { text, tint } = cell;
    let named = named_colour(&text);
    let cell = comfy_table::Cell::new_owned(text);
    match tint {
        Tint::Plain => cell,
        Tint::Good => cell.fg(Color::DarkGreen),
        Tint::Warning => cell.fg(Color::DarkYellow),
        Tint::Bad => cell.fg(Color::DarkRed),
        Tint::Strong => cell.add_attribute(Attribute::Bold),
        Tint::Faint => cell.add_attribute(Attribute::Dim),
        Tint::Colour => match named {
            Some(colour) => cell.fg(colour),
            None => cell.add_attribute(Attribute::Bold),
        },
    }
}

/// The terminal's own colour of that name. The light ones: dark blue on black can't be read.
fn named_colour(name: &str) -> Option<Color> {
    Some(match name {
        "blue" => Color::Blue,
        "green" => Color::Green,
        "red" => Color::Red,
        "yellow" => Color::Yellow,
        "cyan" => Color::Cyan,
        "magenta" | "purple" | "pink" => Color::Magenta,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;

    #[test]
    fn columns_are_aligned_and_lines_end_with_their_text() {
        assert_eq!(
            render(false),
            "GROUP     LIVE   ROLLBACK\nshop      blue   yes\nbilling2  green  no\n"
        );
    }

    #[test]
    fn colours_are_escapes_around_the_same_text() {
        let text = render(true);
        assert!(text.contains("\u{1b}[38;5;12mblue"), "{text:?}");
        assert!(!render(false).contains('\u{1b}'));
    }

    fn render(colour: bool) -> String {
        let output = Output {
            format: Format::Table,
            colour,
            quiet: false,
        };
        let row = |group: &str, live: &str, rollback: &str| {
            vec![group.into(), Cell::new(live, Tint::Colour), rollback.into()]
        };
        let rows = [row("shop", "blue", "yes"), row("billing2", "green", "no")];
        table(&output, &["group", "live", "rollback"], rows)
    }
}
