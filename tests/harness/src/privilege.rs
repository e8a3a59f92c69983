//! Whether this process may do what the tests need. A skip must prove that it is due.

use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use crate::netns;

/// Runs a test for which one has to be root, once what dead ones have left is removed.
///
/// # Panics
/// When it fails, or is skipped where nothing may be.
pub fn run(name: &str, test: impl FnOnce() -> Result<()>) {
    if !is_root(name) {
        return;
    }
    netns::sweep();
    test().unwrap_or_else(|error| panic!("{error:#}"));
}

/// The same, one at a time in this process: for those that have as many clients as the processors bear.
///
/// # Panics
/// As for [`run`].
pub fn alone(name: &str, test: impl FnOnce() -> Result<()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    run(name, test);
}

/// Whether we may make network namespaces and load programs. Says so on stderr when not, and why.
///
/// # Panics
/// When root is required (`SWITCHER_TESTS_REQUIRE_ROOT`) and missing: a test run that must not skip.
#[must_use]
pub fn is_root(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(
        std::env::var_os("SWITCHER_TESTS_REQUIRE_ROOT").is_none(),
        "{test}: SWITCHER_TESTS_REQUIRE_ROOT is set, but the effective user is {}",
        nix::unistd::geteuid()
    );
    eprintln!("skipped: {test} makes network namespaces, for which it must run as root");
    false
}
