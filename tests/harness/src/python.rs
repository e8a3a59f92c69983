//! Python programs that tests run: in an environment of their own below `target/`, made once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Every package, with its version.
const REQUIREMENTS: &str = include_str!("../../python/requirements.txt");

/// The directory of the environment's programs, `python` among them. The first to ask installs what is listed in
/// `tests/python/requirements.txt`; others wait.
///
/// # Errors
/// When there is no Python with `venv` and `ensurepip`, or the packages can't be had.
pub fn environment() -> Result<PathBuf> {
    let own = std::env::current_exe().context("finding this test's own binary")?;
    // target/PROFILE/deps/TEST
    let target = own.ancestors().nth(3).context("the target directory")?;
    let home = target.join("python");
    let lock = File::create(target.join("python.lock"))?;
    lock.lock().context("waiting for who installs")?;
    let marker = home.join("requirements.txt");
    if fs::read_to_string(&marker).is_ok_and(|installed| installed == REQUIREMENTS) {
        return Ok(home.join("bin"));
    }
    make(&home)?;
    // Last: what was begun only is begun anew.
    fs::write(&marker, REQUIREMENTS)?;
    Ok(home.join("bin"))
}

fn make(home: &Path) -> Result<()> {
    let here = home.display();
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(home))
    .context("making an environment; `cargo xtask setup` installs what that needs")?;
    let list = home.join("listed.txt");
    fs::write(&list, REQUIREMENTS)?;
    let mut install = Command::new(home.join("bin/python"));
    install
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-compile",
            "--disable-pip-version-check",
        ])
        .args(["--no-deps", "--only-binary", ":all:", "--requirement"])
        .arg(&list);
    run(&mut install)
        .with_context(|| format!("installing tests/python/requirements.txt into {here}"))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(())
}
