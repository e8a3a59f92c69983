//! Text for a grid of cells.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::output::{human_count, human_duration};

/// Columns of bars, from nothing to full.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Lines of at most so many characters, broken between words where that is possible. What follows the first
/// is indented as far as `hang` says.
pub(super) fn wrap(text: &str, width: usize, hang: usize) -> Vec<String> {
    let width = width.max(hang + 1);
    let (mut lines, mut line, mut length) = (Vec::new(), String::new(), 0);
    let indent = text.len() - text.trim_start().len();
    line.push_str(&text[..indent]);
    length += indent;
    let mut fresh = true;
    for word in text.trim_start().split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        if !fresh && length + 1 + word.len() > width {
            lines.push(std::mem::replace(&mut line, " ".repeat(hang)));
            (length, fresh) = (hang, true);
        }
        if !fresh {
            line.push(' ');
            length += 1;
        }
        while length + word.len() > width {
            let rest = word.split_off(width - length);
            line.extend(std::mem::replace(&mut word, rest));
            lines.push(std::mem::replace(&mut line, " ".repeat(hang)));
            length = hang;
        }
        length += word.len();
        line.extend(word);
        fresh = false;
    }
    lines.push(line);
    lines
}

/// At most so many characters; what is cut off is known by its end.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept = text.chars().take(width.saturating_sub(1));
    kept.chain("…".chars().take(width)).collect()
}

/// A rate as a number of at most four characters; what is less than one and not nothing is told from it.
pub(super) fn rate(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(rate) if rate > 0.0 && rate < 1.0 => "<1".to_owned(),
        // Saturates.
        Some(rate) => human_count(rate.round() as u64),
    }
}

/// The cell of a bar of `height` rows that is in a row, counted from the bottom.
pub(super) fn bar(value: f64, max: f64, height: u16, row: u16) -> char {
    if value <= 0.0 || max <= 0.0 {
        return BARS[0];
    }
    // What is there is seen, however little it is.
    let eighths = (value / max * f64::from(height) * 8.0).round().max(1.0);
    let here = (eighths - f64::from(row) * 8.0).clamp(0.0, 8.0);
    BARS[here as usize]
}

/// `in 12s`, `now`.
pub(super) fn until(now: Timestamp, then: Timestamp) -> String {
    let left = then.duration_since(now);
    match left > SignedDuration::from_millis(500) {
        // A countdown that is rounded down would stay at nothing for a second.
        true => format!("in {}", seconds(left + SignedDuration::from_millis(500))),
        false => "now".to_owned(),
    }
}

/// `3m 2s`, in whole seconds.
pub(super) fn seconds(span: SignedDuration) -> String {
    let seconds = span.unsigned_abs().as_secs();
    match seconds {
        0 => "0s".to_owned(),
        seconds => human_duration(Duration::from_secs(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words() {
        assert_eq!(wrap("one two three", 8, 2), ["one two", "  three"]);
        assert_eq!(wrap(" - one two", 6, 3), [" - one", "   two"]);
        assert_eq!(wrap("abcdefghij", 4, 1), ["abcd", " efg", " hij"]);
        assert_eq!(wrap("", 4, 0), [""]);
    }

    #[test]
    fn what_is_cut_off_is_known() {
        assert_eq!([cut("blue", 4), cut("green", 4)], ["blue", "gre…"]);
    }

    #[test]
    fn rates_are_short() {
        let said = [None, Some(0.0), Some(0.2), Some(17.4), Some(1234.0)].map(rate);
        assert_eq!(said, ["-", "0", "<1", "17", "1.2k"]);
    }

    #[test]
    fn bars_fill_rows_from_below() {
        let of = |value| [1, 0].map(|row| bar(value, 100.0, 2, row));
        assert_eq!(of(0.0), [' ', ' ']);
        assert_eq!(of(0.1), [' ', '▁']);
        assert_eq!(of(50.0), [' ', '█']);
        assert_eq!(of(75.0), ['▄', '█']);
        assert_eq!(of(100.0), ['█', '█']);
    }

    #[test]
    fn countdowns_end_with_now() {
        let now: Timestamp = "2026-11-20T20:00:00Z".parse().expect("a time");
        let said = |millis| until(now, now + SignedDuration::from_millis(millis));
        assert_eq!(
            [61_000, 9_600, 700, 400, -5].map(said),
            ["in 1m 1s", "in 10s", "in 1s", "now", "now"]
        );
    }
}
