//! The pages under `docs` and the README's first steps, followed to the letter: every command is run, on hosts
//! as the page says, and has to say what the page says. `docs/README.md` has the rules.

#[path = "docs/hosts.rs"]
mod hosts;
#[path = "docs/links.rs"]
mod links;
#[path = "docs/page.rs"]
mod page;
#[path = "docs/recipes.rs"]
mod recipes;
#[path = "docs/said.rs"]
mod said;
#[path = "docs/shell.rs"]
mod shell;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use switcher_harness::{netns, privilege};

use hosts::Hosts;
use page::{Page, Step};

/// Pages of one walk, in the order in which a reader has them before him: each begins where the one before has
/// ended.
const WALK: [&str; 6] = [
    "getting-started.md",
    "database-changes.md",
    "reference/api.md",
    "performance.md",
    "security.md",
    "runbook.md",
];
/// Pages that stand alone.
const ALONE: [&str; 2] = ["two-hosts.md", "doctor.md"];
/// Pages without commands, each with the reason in a comment.
const SILENT: [&str; 3] = ["README.md", "instructions.md", "coexistence.md"];
/// Blocks that no test can run, over all pages. They say why.
const NOT_RUN_MAX: usize = 8;

#[test]
fn the_walk_from_the_first_step_to_the_last() {
    follow("the_walk_from_the_first_step_to_the_last", || {
        let mut hosts = Hosts::default();
        for name in WALK {
            walk(&Page::read(&docs().join(name))?, &mut hosts)?;
        }
        Ok(())
    });
}

#[test]
fn pages_that_stand_alone() {
    follow("pages_that_stand_alone", || {
        for name in ALONE {
            walk(&Page::read(&docs().join(name))?, &mut Hosts::default())?;
        }
        Ok(())
    });
}

#[test]
fn ten_lines_to_a_real_setup() {
    follow("ten_lines_to_a_real_setup", || {
        let readme = Page::read(&docs().join("../README.md"))?;
        let section = readme.section("Ten lines to a real setup")?;
        walk(&section, &mut Hosts::default())
    });
}

/// No page is forgotten, and none is silent without a reason.
#[test]
fn every_page_has_commands_that_are_run() {
    let every = || -> Result<()> {
        let mut not_run = Vec::new();
        for path in pages()? {
            let page = Page::read(&path)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let within = |list: &[&str]| {
                list.contains(&&*name) || list.contains(&&*format!("reference/{name}"))
            };
            let listed = within(&WALK) || within(&ALONE);
            ensure!(
                listed || (SILENT.contains(&&*name) && page.silent.is_some()),
                "docs/{name}: no test follows it; add it to WALK or ALONE in tests/tests/docs.rs"
            );
            let run = page
                .steps
                .iter()
                .filter(|it| matches!(it, Step::Command(_)));
            ensure!(
                listed == (run.count() > 0),
                "docs/{name}: no command of it is run"
            );
            not_run.extend(
                page.not_run
                    .iter()
                    .map(|reason| format!("{name}: {reason}")),
            );
        }
        ensure!(
            not_run.len() <= NOT_RUN_MAX,
            "{} blocks are not run, which is too many: {not_run:#?}",
            not_run.len()
        );
        Ok(())
    };
    every().unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn recipes_say_nothing_that_is_not_tried() {
    recipes::check(&docs().join("recipes")).unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn links_lead_somewhere() {
    links::check(&docs()).unwrap_or_else(|error| panic!("{error:#}"));
}

/// Does what a page says.
fn walk(page: &Page, hosts: &mut Hosts) -> Result<()> {
    for step in &page.steps {
        hosts
            .step(step)
            .map_err(|error| error.context(format!("{}:{}", page.name, step.line())))?;
    }
    Ok(())
}

fn follow(name: &str, test: impl FnOnce() -> Result<()>) {
    if !privilege::is_root(name) {
        return;
    }
    netns::sweep();
    test().unwrap_or_else(|error| panic!("{error:#}"));
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// All pages for people; of the reference only what is not made of the code.
fn pages() -> Result<Vec<PathBuf>> {
    let mut found = vec![docs().join("reference/api.md")];
    for entry in std::fs::read_dir(docs())? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "md") {
            found.push(path);
        }
    }
    Ok(found)
}
