//! The inputs that fuzzing has found worth keeping, through the fuzz targets' bodies.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use switcher_tests::fuzz;

#[test]
fn pipeline() -> Result<()> {
    replay("pipeline", fuzz::pipeline)
}

#[test]
fn rewrite() -> Result<()> {
    replay("rewrite", fuzz::rewrite)
}

#[test]
fn the_cases_themselves() {
    let [(_, frames), (_, edits)] = fuzz::seeds();
    frames.iter().for_each(|input| fuzz::pipeline(input));
    edits.iter().for_each(|input| fuzz::rewrite(input));
    assert!(frames.len() > 20 && edits.len() == frames.len());
}

fn replay(target: &str, body: fn(&[u8])) -> Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let mut inputs = 0;
    for entry in
        std::fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))?
    {
        let path = entry?.path();
        // On a panic the test's output says which one it was.
        println!("{}", path.display());
        body(&std::fs::read(&path)?);
        inputs += 1;
    }
    ensure!(inputs > 0, "{} is empty", directory.display());
    Ok(())
}
