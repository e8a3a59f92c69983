//! The host's clock is set while things are under way. The agent alone sees that, by libfaketime: the host has others
//! to look after.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use switcher_harness::agent::binary;
use switcher_harness::config::GROUP;
use switcher_harness::{Load, Mode, Plan, Stand};

use super::{kinds, reached, settings, unharmed, until, until_reached};

/// A clock on the wall that is set by this file; what counts from the boot is the host's.
struct Wall(PathBuf);

pub(super) fn a_clock_that_is_set_back_moves_no_deadline() -> Result<()> {
    let mut stand = Stand::without_agent(Mode::Local, true, settings(), &binary()?)?;
    let wall = Wall::hang(&mut stand)?;
    stand.agent.start()?;
    let healthy = ["wait", GROUP, "--for", "healthy=green", "--timeout", "20s"];
    stand.agent.cli(&healthy)?.expect(0)?;
    let load = Load::start(&stand.topology, &Plan::default())?;
    stand.agent.cli(&["flip", GROUP, "green"])?.expect(0)?;

    let words = ["flip", GROUP, "blue", "--confirm-within", "4s"];
    stand.agent.cli(&words)?.expect(0)?;
    wall.set("-1d")?;
    until("the agent says so", || {
        Ok(stand.agent.log().contains("clock was set back by"))
    })?;
    until_reached(&stand, "green")?;
    until("it is recorded", || {
        Ok(kinds(&stand)? == ["rollback", "flip", "flip"])
    })?;

    // Everything goes on by the clock as it is now, for the next agent, too.
    let freeze = ["freeze", GROUP, "--for", "2s", "--reason", "tea"];
    stand.agent.cli(&freeze)?.expect(0)?;
    stand.agent.cli(&["flip", GROUP, "blue"])?.expect(5)?;
    stand.agent.kill()?;
    stand.agent.start()?;
    until("the freeze ends", || {
        Ok(stand.agent.cli(&["flip", GROUP, "blue"])?.code == 0)
    })?;
    reached(&stand, "blue")?;
    ensure!(kinds(&stand)? == ["flip", "rollback", "flip", "flip"]);
    stand.agent.cli(&["audit", "verify"])?.expect(0)?;

    wall.set("+0")?;
    until("the agent says so", || {
        Ok(stand.agent.log().contains("clock was set forward by"))
    })?;
    stand.agent.cli(&["rollback", GROUP])?.expect(0)?;
    reached(&stand, "green")?;
    unharmed(load)
}

/// What was done, the newest first.
impl Wall {
    /// Where the agent that is started next will look.
    fn hang(stand: &mut Stand) -> Result<Self> {
        let directory = stand.agent.place().directory().to_owned();
        let wall = Self(directory.join("clock"));
        wall.set("+0")?;
        let wrapper = directory.join("by-the-clock");
        let script = format!(
            "#!/bin/sh\nexport FAKETIME_TIMESTAMP_FILE={} FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 \
             NO_FAKE_STAT=1\nexport LD_PRELOAD='/usr/$LIB/faketime/libfaketimeMT.so.1'\nexec {} \"$@\"\n",
            wall.0.display(),
            binary()?.display()
        );
        fs::write(&wrapper, script)?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
        stand.agent.set_binary(&wrapper);
        Ok(wall)
    }

    /// As far as it is away from the host's.
    fn set(&self, offset: &str) -> Result<()> {
        fs::write(&self.0, offset).context("setting the clock")
    }
}
