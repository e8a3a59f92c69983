//! Pages of recipes: what is in their blocks is in the recipe, or a test takes it from there, or it is said why not.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use crate::page::{Block, Page};

/// Blocks that no test can run, over all pages.
const NOT_RUN_MAX: usize = 3;

/// Checks every page below a directory.
pub(crate) fn check(recipes: &Path) -> Result<()> {
    let (mut blocks, mut not_run) = (0, 0);
    for entry in std::fs::read_dir(recipes)? {
        let path = entry?.path();
        let page = Page::read(&path)?;
        for block in &page.blocks {
            let checked = is_known(block, &path);
            checked.with_context(|| format!("{}:{}", path.display(), block.line))?;
            blocks += 1;
            not_run += usize::from(block.not_run.is_some());
        }
    }
    ensure!(blocks > 8, "only {blocks} blocks were found");
    ensure!(not_run <= NOT_RUN_MAX, "{not_run} blocks are not run");
    Ok(())
}

fn is_known(block: &Block, page: &Path) -> Result<()> {
    let text = std::fs::read_to_string(page)?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    match (&block.not_run, &block.run_by) {
        (Some(reason), None) => {
            ensure!(reason.len() > 10, "`not run: {reason}` is no reason");
            return Ok(());
        }
        (None, Some(test)) => {
            let file = root.join(test);
            let test = std::fs::read_to_string(&file);
            let test = test.with_context(|| file.display().to_string())?;
            let name = page.file_name().unwrap_or_default().to_string_lossy();
            let takes = test.contains(&format!("docs/recipes/{name}\")"));
            ensure!(takes, "{} does not take this page", file.display());
            return Ok(());
        }
        (Some(_), Some(_)) => bail!("either `not run` or `run by`"),
        (None, None) => {}
    }
    let known = examples(&text, &root)?;
    for line in &block.lines {
        let line = line.strip_prefix("$ ").unwrap_or(line);
        ensure!(
            known
                .lines()
                .any(|it| it.trim_start_matches(['#', ' ']) == line),
            "no example that the page names has this line: {line}\nPut it there, have a test take it from the page \
             (`<!-- run by: tests/tests/recipes/… -->`), or say why it is not run (`<!-- not run: … -->`)"
        );
    }
    Ok(())
}

/// All files of the recipes that a page names.
fn examples(page: &str, root: &Path) -> Result<String> {
    let mut found = String::new();
    for named in page.split("](../../examples/").skip(1) {
        let (directory, _) = named.split_once('/').context("a file of a recipe")?;
        for entry in std::fs::read_dir(root.join("examples").join(directory))? {
            found += &std::fs::read_to_string(entry?.path())?;
            found += "\n";
        }
    }
    Ok(found)
}
