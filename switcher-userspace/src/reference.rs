//! The reference under `docs/reference`: made of the code by these tests, which fail where a page has fallen
//! behind. `cargo xtask docs` writes the pages anew.

mod api;
mod cli;
mod config;
mod exits;
mod metrics;
mod schema;

use std::path::{Path, PathBuf};

/// What is set where pages are to be written, not compared.
const WRITE: &str = "SWITCHER_DOCS_WRITE";

/// Compares a page with the one that is kept, or writes it.
fn keep(name: &str, text: &str) {
    let directory = directory();
    let path = directory.join(name);
    if std::env::var_os(WRITE).is_some() {
        std::fs::create_dir_all(&directory).expect("a directory");
        std::fs::write(&path, text).expect("is written");
        return;
    }
    let kept = kept(name);
    let differs = kept
        .lines()
        .zip(text.lines())
        .find(|(kept, made)| kept != made);
    assert!(
        kept == text,
        "docs/reference/{name} is not what the code says now (first difference: {differs:?}). \
         `cargo xtask docs` writes it anew"
    );
}

/// A page as it is kept.
fn kept(name: &str) -> String {
    std::fs::read_to_string(directory().join(name)).unwrap_or_default()
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference")
}

/// The head of a page.
fn head(title: &str, about: &str) -> String {
    format!("# {title}\n\n{about}\n\nMade of the code by `cargo xtask docs`.\n")
}

/// Pages that failures and checks send people to.
#[test]
fn every_page_that_is_named_is_there() {
    let exits = (0..).map_while(crate::exit::Exit::from_code);
    let pages = exits.filter_map(crate::exit::Exit::page).map(str::to_owned);
    let topics = crate::doctor::TOPICS.map(|topic| format!("docs/doctor.md#{topic}"));
    let others = crate::exit::PAGES.map(str::to_owned);
    let named = pages.chain(topics).chain(others);
    for page in named {
        let (file, wanted) = page.split_once('#').unwrap_or((&page, ""));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        let headings = text.lines().filter(|it| it.starts_with('#'));
        let found = headings.map(anchor).any(|it| it == wanted);
        assert!(
            found || wanted.is_empty(),
            "{file} has no heading for #{wanted}"
        );
    }
}

/// As forges make anchors of headings.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// A table's cell: one line, and no bar that would end it.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}
