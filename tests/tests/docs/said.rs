//! Whether a command said what the page says.

/// What stands for anything: alone on a line for any lines, else for any text within one.
const ANYTHING: &str = "...";

/// Whether the lines that were said are those that are expected. Runs of blanks count as one, and blanks at the
/// end as none.
pub(crate) fn fits(expected: &[String], said: &str) -> bool {
    let expected: Vec<String> = expected.iter().map(|it| plain(it)).collect();
    let said: Vec<String> = said.lines().map(plain).collect();
    lines(&expected, &said)
}

fn lines(expected: &[String], said: &[String]) -> bool {
    match expected.split_first() {
        None => said.is_empty(),
        Some((first, rest)) if first == ANYTHING => {
            (0..=said.len()).any(|skipped| lines(rest, &said[skipped..]))
        }
        Some((first, rest)) => said
            .split_first()
            .is_some_and(|(line, others)| line_fits(first, line) && lines(rest, others)),
    }
}

fn line_fits(expected: &str, said: &str) -> bool {
    let mut parts = expected.split(ANYTHING);
    let Some(mut rest) = parts.next().and_then(|first| said.strip_prefix(first)) else {
        return false;
    };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn plain(line: &str) -> String {
    let mut plain = String::new();
    for c in line.trim_end().chars() {
        if !(c == ' ' && plain.ends_with(' ')) {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_stand_for_anything_and_nothing_else_does() {
        let fits = |expected: &str, said: &str| {
            let expected: Vec<String> = expected.lines().map(str::to_owned).collect();
            fits(&expected, said)
        };
        assert!(fits("a  b", "a b  \n"));
        assert!(fits("a ... c", "a b  b c\n"));
        assert!(fits("...\nb\n...", "a\na\nb\n"));
        assert!(fits("a ...", "a b\n"));
        assert!(!fits("a ...", "b a\n"));
        assert!(!fits("a", "a\nb\n"));
        assert!(!fits("a\n...\nc", "a\nb\n"));
        assert!(!fits("a ... b ... c", "a b d\n"));
    }
}
