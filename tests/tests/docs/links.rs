//! Links between pages, and from the README to them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// Every link to a file of the project leads to one, and to a heading of it.
pub(crate) fn check(docs: &Path) -> Result<()> {
    let mut pages = vec![docs.join("../README.md"), docs.join("../ARCHITECTURE.md")];
    collect(docs, &mut pages)?;
    let mut broken = Vec::new();
    let mut count = 0;
    for page in &pages {
        let text = std::fs::read_to_string(page).with_context(|| page.display().to_string())?;
        let directory = page.parent().unwrap_or(docs);
        for link in links(&text).filter(|it| !it.contains("://")) {
            count += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => page.clone(),
                file => directory.join(file),
            };
            let found = match anchor {
                "" => target.exists(),
                anchor => {
                    std::fs::read_to_string(&target).is_ok_and(|it| anchors(&it).contains(anchor))
                }
            };
            if !found {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    ensure!(broken.is_empty(), "links lead nowhere: {broken:#?}");
    ensure!(count > 40, "only {count} links were found");
    Ok(())
}

fn collect(directory: &Path, pages: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, pages)?;
        } else if path.extension().is_some_and(|it| it == "md") {
            pages.push(path);
        }
    }
    Ok(())
}

/// What is in the brackets of `[...](...)`, but for code.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    let prose = text.lines().filter(move |line| {
        if line.starts_with("```") {
            in_code = !in_code;
        }
        !in_code
    });
    prose.flat_map(|line| {
        let after = line.split("](").skip(1);
        after.filter_map(|it| it.split_once(')').map(|(link, _)| link))
    })
}

/// As forges make anchors of headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut in_code = false;
    let headings = text.lines().filter(move |line| {
        if line.starts_with("```") {
            in_code = !in_code;
        }
        !in_code && line.starts_with('#')
    });
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}
