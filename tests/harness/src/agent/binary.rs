//! Which `switcher` is tested.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

/// The binary that `SWITCHER_BIN` names, else the one beside this test's own.
///
/// # Errors
/// When there is none; says how to get one.
pub fn find() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SWITCHER_BIN") {
        let path = PathBuf::from(path);
        ensure!(
            path.is_file(),
            "SWITCHER_BIN names {}, which is no file",
            path.display()
        );
        return Ok(path);
    }
    let own = std::env::current_exe().context("finding this test's own binary")?;
    // target/PROFILE/deps/TEST, target/PROFILE/xtask
    let beside = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join("switcher"));
    beside.into_iter().find(|path| path.is_file()).context(
        "no `switcher` binary to test: run `cargo build --package switcher-userspace`, or set SWITCHER_BIN",
    )
}
