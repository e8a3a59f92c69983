//! `cargo xtask inspect`: instruction counts, so that a change in them is seen in review.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::cargo::{cargo, output};
use crate::setup::{self, Need};

/// Where `--save` writes.
const SAVED: &str = "docs/instructions.md";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also write the tables to docs/instructions.md
    #[arg(long)]
    save: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    setup::ensure(if setup::is_root() {
        Need::Run
    } else {
        Need::Build
    })?;
    let tables = inspect(&kernel_object()?)?;
    print!("{tables}");
    if args.save {
        save(&tables)?;
    }
    Ok(())
}

/// Builds the agent and finds the object that it embeds, which is the same in every profile.
fn kernel_object() -> anyhow::Result<PathBuf> {
    let messages = output(&mut cargo([
        "build",
        "--package",
        "switcher-userspace",
        "--message-format=json-render-diagnostics",
    ]))?;
    let directory = messages
        .lines()
        .find_map(out_dir)
        .context("cargo did not say where the build script of switcher-userspace writes")?;
    Ok(directory.join("switcher"))
}

/// The output directory, if `message` is about the build script that builds the kernel object.
fn out_dir(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let ours = message["reason"] == "build-script-executed"
        && message["package_id"]
            .as_str()?
            .contains("switcher-userspace");
    ours.then(|| message["out_dir"].as_str().map(PathBuf::from))?
}

fn inspect(object: &Path) -> anyhow::Result<String> {
    output(cargo(["run", "--quiet", "--package", "switcher-inspect", "--"]).arg(object))
}

fn save(tables: &str) -> anyhow::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(SAVED);
    let text = format!(
        "# Instructions of the kernel programs\n\n<!-- nothing to run: made by a task -->\n\nWritten by `cargo xtask inspect --save`.\n\n{tables}"
    );
    std::fs::create_dir_all(path.parent().unwrap_or(&path))
        .and_then(|()| std::fs::write(&path, text))
        .with_context(|| format!("writing {SAVED}"))?;
    println!("saved to {SAVED}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_script_is_told_apart() {
        let message = |reason: &str, package: &str| {
            format!(
                r#"{{"reason":"{reason}","package_id":"path+file:///x/{package}#0.1.0","out_dir":"/out"}}"#
            )
        };
        let found = |reason, package| out_dir(&message(reason, package));
        assert_eq!(
            found("build-script-executed", "switcher-userspace"),
            Some("/out".into())
        );
        assert_eq!(found("build-script-executed", "libc"), None);
        assert_eq!(found("compiler-artifact", "switcher-userspace"), None);
        assert_eq!(out_dir("warning: not json"), None);
    }
}
