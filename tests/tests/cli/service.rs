//! The agent as a service: what its manager is told, and what it may do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::load::Connection;
use switcher_harness::{Mode, Stand};

use crate::run;

const UNIT: &str = include_str!("../../../packaging/switcher.service");
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_service_manager_is_told() {
    run("a_service_manager_is_told", || {
        let mut stand = Stand::without_agent(Mode::Local, true, Settings::default(), &binary()?)?;
        let path = stand.agent.place().directory().join("notify.sock");
        let manager = Manager::listen(&path)?;
        let wrapper = wrap(
            &stand,
            &format!(
                "env NOTIFY_SOCKET={} WATCHDOG_USEC=400000 WATCHDOG_PID=$$",
                path.display()
            ),
        )?;
        stand.agent.set_binary(&wrapper);
        stand.agent.start()?;
        manager.until("READY=1")?;
        manager.until("STATUS=shop: blue")?;
        manager.until("WATCHDOG=1")?;
        manager.until("WATCHDOG=1")?;
        stand.agent.cli(&["flip", GROUP])?.expect(0)?;
        manager.until("STATUS=shop: green")?;
        let pid = stand.agent.pid().context("it runs")?;
        kill(Pid::from_raw(pid.try_into()?), Signal::SIGHUP)?;
        manager.until("RELOADING=1")?;
        manager.until("READY=1")?;
        stand.agent.stop()?;
        manager.until("STOPPING=1")
    });
}

#[test]
fn the_units_capabilities_are_enough() {
    run("the_units_capabilities_are_enough", || {
        let mut stand = Stand::without_agent(Mode::Local, true, Settings::default(), &binary()?)?;
        let line = UNIT
            .lines()
            .find_map(|it| it.strip_prefix("CapabilityBoundingSet="));
        let names = line.context("the unit has capabilities")?.split(' ');
        let names: Vec<String> = names
            .map(|it| it.trim_start_matches("CAP_").to_lowercase())
            .collect();
        let kept = format!("-all,+{}", names.join(",+"));
        let wrapper = wrap(
            &stand,
            &format!("setpriv --bounding-set={kept} --inh-caps=-all --no-new-privs"),
        )?;
        stand.agent.set_binary(&wrapper);
        stand.agent.start()?;
        let pid = stand.agent.pid().context("it runs")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let effective = status.lines().find_map(|it| it.strip_prefix("CapEff:"));
        let effective = u64::from_str_radix(effective.context("CapEff")?.trim(), 16)?;
        ensure!(
            effective.count_ones() as usize == names.len(),
            "{effective:#x} is not {names:?}"
        );
        stand.agent.cli(&["flip", GROUP])?.expect(0)?;
        let web = stand.topology.web();
        let answer = stand
            .topology
            .client
            .inside(|| Connection::open(web))??
            .colour()?;
        ensure!(answer == "green", "{answer} answers");
        let status = stand.agent.json(&["status"])?;
        ensure!(status["local_clients"]["state"] == "on", "{status}");
        stand.agent.cli(&["rollback", GROUP, "--hard"])?.expect(0)?;
        stand.agent.cli(&["drift"])?.expect(0)?;
        let log = stand.agent.log();
        ensure!(!log.contains("not permitted"), "{log}");
        Ok(())
    });
}

/// A program that starts the agent's binary with something before it.
fn wrap(stand: &Stand, before: &str) -> Result<PathBuf> {
    let path = stand.agent.place().directory().join("wrapper");
    let binary = binary()?;
    let script = format!("#!/bin/sh\nexec {before} {} \"$@\"\n", binary.display());
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// Hears what a service says of itself.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(path: &std::path::Path) -> Result<Self> {
        let socket = UnixDatagram::bind(path).context("the manager's socket")?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        Ok(Self(socket))
    }

    /// Until a line is heard; others before it do not matter.
    fn until(&self, wanted: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = Vec::new();
        while Instant::now() < deadline {
            let mut message = [0; 4096];
            let Ok(length) = self.0.recv(&mut message) else {
                continue;
            };
            let message = String::from_utf8_lossy(&message[..length]).into_owned();
            if message.lines().any(|line| line.starts_with(wanted)) {
                return Ok(());
            }
            heard.push(message);
        }
        anyhow::bail!("{wanted} was not heard within {PATIENCE:?}, but {heard:?}")
    }
}
