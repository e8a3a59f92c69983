//! Prints, for `cargo xtask inspect`, what a kernel object costs.
//!
//! A package of its own: the tasks themselves compile in seconds because they need no BPF loader.

mod compiled;
mod loaded;
mod states;

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let path = std::env::args_os()
        .nth(1)
        .context("usage: switcher-inspect OBJECT")?;
    let object = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    println!("{}", compiled::table(&compiled::functions(&object)?));
    match loaded::programs(&object) {
        Ok(programs) => print!("{}", loaded::table(&programs)),
        Err(error) => println!("Not loaded, so not verified: {error:#}."),
    }
    Ok(())
}
