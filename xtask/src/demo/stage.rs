//! What the demo plays on.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use switcher_harness::config::Settings;
use switcher_harness::{Mode, Stand};

/// How long a flip prepares: every connection attempt in flight is known afterwards.
pub(super) const ARM: Duration = Duration::from_millis(500);

/// How long the kernel learns which connections are the old colour's.
const LEARN: Duration = Duration::from_secs(2);

/// Network, servers and agent.
pub(super) fn build(mode: Mode, binary: &Path) -> Result<Stand> {
    // As on a wire: a frame that XDP sends on must carry its whole checksum.
    let offloads = mode == Mode::Local;
    let settings = Settings {
        arm: ARM,
        learn: LEARN,
        ..Settings::default()
    };
    Stand::new(mode, offloads, settings, binary)
}
