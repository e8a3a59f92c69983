//! `cargo xtask setup`: look at what the host has, do what is missing, look again.

mod have;
mod next;
mod step;

use anyhow::bail;

use have::Have;
pub(crate) use have::{TOOLS, candidates, cargo_deb, in_path, is_root, libraries};
pub(crate) use next::Need;
use step::Step;

/// Rounds of looking and doing: package lists, compiler, linker, and one to see that all is there.
const ROUNDS: usize = 4;

/// Makes the host fit for every task.
pub(crate) fn run() -> anyhow::Result<()> {
    if !install(Need::Run)? {
        println!("setup: nothing to do");
    }
    Ok(())
}

/// Makes the host fit for `need`; silent if it is.
pub(crate) fn ensure(need: Need) -> anyhow::Result<()> {
    install(need).map(drop)
}

/// Installs Debian packages that only one task needs.
pub(crate) fn install_packages(packages: &[&str]) -> anyhow::Result<()> {
    Step::Packages(packages.iter().map(|&package| package.to_owned()).collect()).take()
}

/// Whether anything had to be done.
fn install(need: Need) -> anyhow::Result<bool> {
    for round in 0..ROUNDS {
        let have = Have::look();
        let steps = next::steps(&have, need);
        if steps.is_empty() {
            if round > 0 {
                eprintln!("setup: done");
            }
            return Ok(round > 0);
        }
        refuse_what_needs_a_person(&have, &steps)?;
        if round == 0 {
            eprintln!("setup: installing what is missing");
        }
        steps.iter().try_for_each(Step::take)?;
    }
    let have = Have::look();
    bail!(
        "all steps succeeded, yet this is still missing:\n{}",
        by_hand(&have, &next::steps(&have, need))
    )
}

/// Nothing is half done: if a step is not ours to take, none is.
fn refuse_what_needs_a_person(have: &Have, steps: &[Step]) -> anyhow::Result<()> {
    if steps.iter().all(|step| step.possible(have)) {
        return Ok(());
    }
    bail!(
        "setup cannot install what is missing here ({}). Do this, then run it again:\n{}",
        have.obstacle(),
        by_hand(have, steps)
    )
}

fn by_hand(have: &Have, steps: &[Step]) -> String {
    let lines: Vec<_> = steps
        .iter()
        .map(|step| format!("  - {}", step.by_hand(have)))
        .collect();
    lines.join("\n")
}
