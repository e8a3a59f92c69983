//! Cases as data: edits of the base file, and all that is said of the result.
//!
//! `# name`, then edits (`-` lines are replaced by the `+` lines after them; `+` lines alone
//! come at the end of the file), then what is said, each line after `> `.

use super::{BASE, parse};

#[test]
fn shape() {
    run(include_str!("shape.txt"));
}

#[test]
fn values() {
    run(include_str!("values.txt"));
}

#[test]
fn meaning() {
    run(include_str!("meaning.txt"));
}

fn run(cases: &str) {
    for case in cases.split("\n\n") {
        let name = case.lines().next().unwrap_or_default();
        let file = edited(case, name);
        let expected: Vec<_> = case
            .lines()
            .filter_map(|line| line.strip_prefix("> "))
            .collect();
        let errors = parse("switcher.toml", file.as_bytes())
            .expect_err(name)
            .to_string();
        let errors: Vec<_> = errors
            .lines()
            .map(|line| line.trim_start_matches("switcher.toml:"))
            .collect();
        assert_eq!(errors, expected, "{name}\n{file}");
    }
}

fn edited(case: &str, name: &str) -> String {
    let mut file = BASE.to_owned();
    let (mut from, mut to) = (String::new(), String::new());
    // The last line, which says nothing, ends the last edit.
    for line in case.lines().chain(["> "]) {
        if let Some(line) = line.strip_prefix('+') {
            to += &format!("{}\n", line.strip_prefix(' ').unwrap_or(line));
            continue;
        }
        if !to.is_empty() {
            file = edit(
                &file,
                &std::mem::take(&mut from),
                &std::mem::take(&mut to),
                name,
            );
        }
        if let Some(line) = line.strip_prefix('-') {
            from += &format!("{}\n", line.strip_prefix(' ').unwrap_or(line));
        }
    }
    if from.is_empty() {
        file
    } else {
        edit(&file, &from, "", name)
    }
}

fn edit(file: &str, from: &str, to: &str, name: &str) -> String {
    if from.is_empty() {
        return format!("{file}{to}");
    }
    assert!(file.contains(from), "{name}: nothing to replace: {from}");
    file.replacen(from, to, 1)
}
