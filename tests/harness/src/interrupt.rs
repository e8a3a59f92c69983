//! Ctrl-C and SIGTERM as something to ask for, so that everything is cleaned up on the way out.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static SEEN: AtomicBool = AtomicBool::new(false);

/// How soon an interrupted sleep ends.
const STEP: Duration = Duration::from_millis(20);

/// Someone wants an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// From now on SIGINT and SIGTERM do not end the process; [`check`] tells.
///
/// # Errors
/// When the kernel refuses.
pub fn install() -> Result<()> {
    let action = SigAction::new(
        SigHandler::Handler(note),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler only stores an atomic, which is safe at any point of any thread.
        unsafe { sigaction(signal, &action) }.with_context(|| format!("catching {signal}"))?;
    }
    Ok(())
}

/// Fails once a signal came.
///
/// # Errors
/// With [`Interrupted`].
pub fn check() -> Result<(), Interrupted> {
    if SEEN.load(Ordering::Relaxed) {
        Err(Interrupted)
    } else {
        Ok(())
    }
}

/// Sleeps until `instant`, or until a signal comes.
///
/// # Errors
/// With [`Interrupted`].
pub fn sleep_until(instant: Instant) -> Result<(), Interrupted> {
    loop {
        check()?;
        let left = instant.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(STEP));
    }
}

extern "C" fn note(_signal: nix::libc::c_int) {
    SEEN.store(true, Ordering::Relaxed);
}
