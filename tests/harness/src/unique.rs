//! Names that no other run has, and that tell which process they belong to.

use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// `PREFIX-<pid>-<n>`; see [`owner`].
#[must_use]
pub fn name(prefix: &str) -> String {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{}-{number}", std::process::id())
}

/// The process that made `name` with this prefix; `None` if it is not such a name.
#[must_use]
pub fn owner(prefix: &str, name: &str) -> Option<u32> {
    let rest = name.strip_prefix(prefix)?.strip_prefix('-')?;
    let (pid, number) = rest.split_once('-')?;
    number
        .starts_with(|digit: char| digit.is_ascii_digit())
        .then_some(())?;
    pid.parse().ok()
}

/// Whether the process that made `name` is gone, so that nobody will clean up behind it.
#[must_use]
pub fn is_orphan(prefix: &str, name: &str) -> bool {
    owner(prefix, name).is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_owner() {
        let name = name("sw");
        assert_eq!(owner("sw", &name), Some(std::process::id()));
        assert_eq!(
            owner("sw", &format!("{name}-client")),
            Some(std::process::id())
        );
        assert!(!is_orphan("sw", &name));
    }

    #[test]
    fn foreign_names_have_no_owner() {
        for foreign in ["sw", "sw-", "sw-x-1", "sw-12", "sw-12-x", "other-12-1"] {
            assert_eq!(owner("sw", foreign), None, "{foreign}");
        }
    }

    #[test]
    fn names_of_dead_processes_are_orphans() {
        // Beyond the largest pid that Linux gives out (2^22).
        assert!(is_orphan("sw", "sw-4194305-0-client"));
    }
}
