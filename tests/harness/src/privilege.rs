//! Whether this process may do what the tests need. A skip must prove that it is due.

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
