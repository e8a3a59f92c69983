//! Ends programs that tests have started.

use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a program may take to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(2);

/// Ends a program, and what it has started: asked to end, it ends that, too; killed, it leaves it behind.
pub fn end(child: &mut Child) {
    let deadline = Instant::now() + PATIENCE;
    let pid = Pid::from_raw(child.id().cast_signed());
    let mut asked = false;
    while matches!(child.try_wait(), Ok(None)) {
        if !asked {
            asked = kill(pid, Signal::SIGTERM).is_ok();
        }
        if Instant::now() > deadline {
            let _killed = child.kill();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
