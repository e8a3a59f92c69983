//! The agent as a service: what its manager is told, and what it may do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, User};
use serde_json::json;
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
        let manager = managed(&mut stand)?;
        stand.agent.start()?;
        manager.until("READY=1")?;
        manager.until("STATUS=shop: blue")?;
        manager.until("WATCHDOG=1")?;
        manager.until("WATCHDOG=1")?;
        stand.agent.cli(&["flip", GROUP])?.expect(0)?;
        manager.until("STATUS=shop: green")?;
        reloads(&stand, &manager)?;
        stand.agent.stop()?;
        manager.until("STOPPING=1").map(drop)
    });
}

/// With the time at which it began, by which systemd tells this reload from others (sd_notify(3)).
fn reloads(stand: &Stand, manager: &Manager) -> Result<()> {
    let now = || -> Result<u128> {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
        Ok(Duration::from(now).as_micros())
    };
    let pid = stand.agent.pid().context("it runs")?;
    let before = now()?;
    kill(Pid::from_raw(pid.try_into()?), Signal::SIGHUP)?;
    let said = manager.until("RELOADING=1")?;
    manager.until("READY=1")?;
    let mut lines = said.lines();
    let at = lines.find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    let at: u128 = at.with_context(|| format!("when? {said}"))?.parse()?;
    let after = now()?;
    ensure!(
        (before..=after).contains(&at),
        "{at} is not between {before} and {after}"
    );
    Ok(())
}

/// Whatever is started after it finds everything there: programs, the agent's answers, and traffic that is steered.
#[test]
fn ready_is_said_when_all_is_in_the_kernel() {
    run("ready_is_said_when_all_is_in_the_kernel", || {
        let mut stand = Stand::without_agent(Mode::Local, true, Settings::default(), &binary()?)?;
        let manager = managed(&mut stand)?;
        steered(&stand, false)?;
        stand.agent.spawn()?;
        manager.until("READY=1")?;
        steered(&stand, true)?;
        stand.agent.cli(&["status"])?.expect(0)?;
        ensure!(answers(&stand)? == "blue", "blue is live");
        // The next agent finds a service more in its configuration.
        stand.agent.kill()?;
        let (web, other) = (stand.topology.web(), 8099);
        let config = fs::read_to_string(stand.agent.place().config())?;
        let shop = format!("vip = \"{web}/tcp\"");
        let moved = format!("vip = \"{}:{other}/tcp\"", web.ip());
        ensure!(config.contains(&shop), "{config}");
        stand.agent.write_config(&config.replace(&shop, &moved))?;
        manager.forget();
        stand.agent.spawn()?;
        manager.until("READY=1")?;
        let client = &stand.topology.client;
        let moved = (web.ip(), other).into();
        let answer = client.inside(|| Connection::open(moved))??.colour()?;
        ensure!(answer == "blue", "{answer} answers");
        stand.agent.cli(&["status"])?.expect(0).map(drop)
    });
}

/// Whether each interface has its program.
fn steered(stand: &Stand, expected: bool) -> Result<()> {
    for interface in stand.topology.interfaces() {
        let shown = stand
            .topology
            .switch
            .ip(&format!("link show {interface}"))?;
        ensure!(shown.contains("prog/xdp") == expected, "{shown}");
    }
    Ok(())
}

/// The colour that a client gets an answer from.
fn answers(stand: &Stand) -> Result<String> {
    let web = stand.topology.web();
    stand
        .topology
        .client
        .inside(|| Connection::open(web))??
        .colour()
}

#[test]
fn the_units_capabilities_are_enough() {
    run("the_units_capabilities_are_enough", || {
        let mut stand = Stand::without_agent(Mode::Local, true, Settings::default(), &binary()?)?;
        let names = confine(&mut stand)?;
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
        let answer = answers(&stand)?;
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

/// To become somebody else, and to end what somebody else runs.
#[test]
fn the_units_capabilities_are_enough_for_hooks_of_other_users() {
    const NAME: &str = "the_units_capabilities_are_enough_for_hooks_of_other_users";
    run(NAME, || {
        let mut stand = Stand::without_agent(Mode::Local, true, Settings::default(), &binary()?)?;
        let place = stand.agent.place();
        let open = place.directory().join("open");
        fs::create_dir(&open)?;
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777))?;
        let script = format!(
            "cd {}; id -u > user; [ ! -e hang ] || {{ sleep 600 & echo $! > child; wait; }}",
            open.display()
        );
        let hook = format!(
            "[[groups.{GROUP}.hooks]]\non = \"pre-flip\"\nname = \"check\"\nuser = \"nobody\"\n\
             timeout = \"2s\"\nexec = {}\n",
            json!(["/bin/sh", "-c", script])
        );
        let config = stand.settings.render(&stand.topology, place) + &hook;
        stand.agent.write_config(&config)?;
        confine(&mut stand)?;
        stand.agent.start()?;
        stand.agent.cli(&["flip", GROUP])?.expect(0)?;
        let nobody = User::from_name("nobody")?.context("there is a nobody")?;
        let user = fs::read_to_string(open.join("user"))?;
        ensure!(user.trim() == nobody.uid.to_string(), "it ran as {user}");
        stand.agent.cli(&["rollback", GROUP])?.expect(0)?;
        fs::write(open.join("hang"), "")?;
        let refused = stand.agent.cli(&["flip", GROUP, "--json"])?.expect(5)?;
        let expected = json!(["hook check: it failed; /bin/sh: still running after 2s"]);
        let problem = refused.problem()?;
        ensure!(problem["blockers"] == expected, "{problem:#}");
        let child = fs::read_to_string(open.join("child"))?;
        has_ended(child.trim())
    });
}

/// What a hook has started goes with it.
fn has_ended(pid: &str) -> Result<()> {
    let begun = Instant::now();
    let stat = PathBuf::from(format!("/proc/{pid}/stat"));
    while fs::read_to_string(&stat).is_ok_and(|it| !it.contains(") Z")) {
        ensure!(begun.elapsed() < PATIENCE, "{pid} still runs");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// In a root of its own, where all is there that it names. A word that systemd does not know is not ignored.
#[test]
fn systemd_understands_the_unit() -> Result<()> {
    let root = tempfile::tempdir()?;
    let unit = root.path().join("etc/systemd/system/switcher.service");
    for program in ["usr/bin/switcher", "bin/kill"] {
        let program = root.path().join(program);
        fs::create_dir_all(program.parent().context("a directory")?)?;
        fs::write(&program, "#!/bin/sh\n")?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    }
    fs::create_dir_all(unit.parent().context("a directory")?)?;
    fs::write(&unit, UNIT)?;
    let option = format!("--root={}", root.path().display());
    let words = [
        "verify",
        "--man=no",
        "--recursive-errors=no",
        &option,
        "switcher.service",
    ];
    let (passed, said) = analyze(&words)?;
    ensure!(passed && said.is_empty(), "{said}");
    Ok(())
}

/// How exposed it may be, in tenths of what `systemd-analyze security` says. It is never raised without a reason.
const EXPOSURE: u32 = 50;

#[test]
fn the_unit_is_no_more_exposed_than_it_has_to_be() -> Result<()> {
    let unit = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../packaging/switcher.service");
    let (unit, threshold) = (
        unit.display().to_string(),
        format!("--threshold={EXPOSURE}"),
    );
    let words = [
        "security",
        "--no-pager",
        "--offline=true",
        &threshold,
        &unit,
    ];
    let (passed, said) = analyze(&words)?;
    ensure!(passed, "{said}");
    Ok(())
}

/// Whether `systemd-analyze` is content, and what it says.
fn analyze(words: &[&str]) -> Result<(bool, String)> {
    let output = Command::new("systemd-analyze").args(words).output();
    let output = output.context("starting systemd-analyze")?;
    let said = [output.stdout, output.stderr].concat();
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    ))
}

/// Has the agent tell somebody how it is.
fn managed(stand: &mut Stand) -> Result<Manager> {
    let path = stand.agent.place().directory().join("notify.sock");
    let manager = Manager::listen(&path)?;
    let told = format!(
        "env NOTIFY_SOCKET={} WATCHDOG_USEC=400000 WATCHDOG_PID=$$",
        path.display()
    );
    let wrapper = wrap(stand, &told)?;
    stand.agent.set_binary(&wrapper);
    Ok(manager)
}

/// Has the agent start with the unit's capabilities and no others. Their names.
fn confine(stand: &mut Stand) -> Result<Vec<String>> {
    let mut lines = UNIT.lines();
    let line = lines.find_map(|it| it.strip_prefix("CapabilityBoundingSet="));
    let names = line.context("the unit has capabilities")?.split(' ');
    let names = names.map(|it| it.trim_start_matches("CAP_").to_lowercase());
    let names: Vec<String> = names.collect();
    let kept = format!("-all,+{}", names.join(",+"));
    let before = format!("setpriv --bounding-set={kept} --inh-caps=-all --no-new-privs");
    let wrapper = wrap(stand, &before)?;
    stand.agent.set_binary(&wrapper);
    Ok(names)
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

    /// Forgets what it has heard so far.
    fn forget(&self) {
        while self.0.recv(&mut [0; 4096]).is_ok() {}
    }

    /// Until a line is heard; others before it do not matter. All that was said with it.
    fn until(&self, wanted: &str) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = Vec::new();
        while Instant::now() < deadline {
            let mut message = [0; 4096];
            let Ok(length) = self.0.recv(&mut message) else {
                continue;
            };
            let message = String::from_utf8_lossy(&message[..length]).into_owned();
            if message.lines().any(|line| line.starts_with(wanted)) {
                return Ok(message);
            }
            heard.push(message);
        }
        anyhow::bail!("{wanted} was not heard within {PATIENCE:?}, but {heard:?}")
    }
}
