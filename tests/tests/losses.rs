//! What the agent needs is taken away: programs, interfaces, pins, records, disk space, healthy servers.

#[path = "losses/behind.rs"]
mod behind;
#[path = "losses/boots.rs"]
mod boots;
#[path = "losses/clock.rs"]
mod clock;
#[path = "losses/disk.rs"]
mod disk;

use std::fs;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use switcher::datapath::pins::Pins;
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::load::Connection;
use switcher_harness::privilege::run;
use switcher_harness::topology::INTERFACE;
use switcher_harness::{Load, Mode, Plan, Stand};

use behind::{
    an_emergency_beside_a_living_agent_is_found,
    entries_that_somebody_changed_are_put_right_three_times,
};
use boots::a_boot_in_the_middle_of_something_ends_it;
use clock::a_clock_that_is_set_back_moves_no_deadline;
use disk::{
    a_full_disk_blocks_flips_and_nothing_else, a_record_that_is_damaged_inside_moves_no_traffic,
    a_state_directory_that_was_removed_moves_no_traffic,
    an_agent_that_starts_on_a_full_disk_goes_back, on_a_full_disk_people_confirm_and_abort,
    what_a_full_disk_did_not_take_is_recorded_once_there_is_room,
};

/// For what the agent notices by itself. It looks every two seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ways to servers that lose different things with an interface or with pins.
const MODES: [Mode; 3] = [Mode::Local, Mode::Routed, Mode::Masquerade];

macro_rules! losses {
    ($($name:ident;)+) => {
        mod test {$(
            #[test]
            fn $name() {
                super::run(stringify!($name), super::$name);
            }
        )+}
    };
}

losses! {
    programs_that_were_taken_off_come_back;
    a_client_that_sees_an_endpoint_is_told_of;
    an_interface_that_was_made_anew_is_steered;
    pins_that_were_removed_are_made_anew;
    after_a_boot_all_is_as_it_was;
    a_boot_in_the_middle_of_something_ends_it;
    entries_that_somebody_changed_are_put_right_three_times;
    an_emergency_beside_a_living_agent_is_found;
    from_the_configuration_alone_initial_is_live;
    a_lost_record_leaves_the_kernel_in_charge;
    a_record_that_cannot_be_read_is_named;
    a_full_disk_blocks_flips_and_nothing_else;
    an_agent_that_starts_on_a_full_disk_goes_back;
    on_a_full_disk_people_confirm_and_abort;
    what_a_full_disk_did_not_take_is_recorded_once_there_is_room;
    a_record_that_is_damaged_inside_moves_no_traffic;
    a_state_directory_that_was_removed_moves_no_traffic;
    nobody_healthy_changes_nothing;
    servers_that_flap_harm_nobody;
    a_link_that_was_down_moves_no_connection;
    a_clock_that_is_set_back_moves_no_deadline;
}

fn programs_that_were_taken_off_come_back() -> Result<()> {
    let stand = stand()?;
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    let pins = Pins::new(stand.agent.place().bpffs());
    for pin in [pins.xdp(INTERFACE), pins.egress(INTERFACE)] {
        fs::remove_file(&pin).context("a link's pin")?;
        let drift = stand.agent.cli(&["drift"])?.expect(11)?;
        ensure!(drift.stdout.contains("taken the programs off"), "{drift:?}");
        until_reached(&stand, "green")?;
        stand.agent.cli(&["drift"])?.expect(0)?;
    }
    // The sockets of this host are looked at when programs are.
    fs::remove_file(pins.client("connect4")).context("a hook's pin")?;
    let status = stand.agent.json(&["status"])?;
    ensure!(status["local_clients"]["state"] == "lost", "{status}");
    stand.agent.cli(&["apply"])?.expect(0)?;
    let status = stand.agent.json(&["status"])?;
    ensure!(status["local_clients"]["state"] == "on", "{status}");
    let audit = stand.agent.cli(&["audit"])?.expect(0)?;
    let repairs = audit.stdout.matches("repair what was changed").count();
    ensure!(repairs == 2, "{}", audit.stdout);
    Ok(())
}

/// Nobody translates what servers say, until the agent has looked.
fn a_client_that_sees_an_endpoint_is_told_of() -> Result<()> {
    let stand = stand()?;
    let web = stand.topology.web();
    let pin = Pins::new(stand.agent.place().bpffs()).egress(INTERFACE);
    until("the agent tells", || {
        let _there_already = fs::remove_file(&pin);
        let client = &stand.topology.client;
        let _in_vain =
            client.inside(|| TcpStream::connect_timeout(&web, Duration::from_millis(300)))?;
        let log = stand.agent.log();
        Ok(log.contains("a client saw this endpoint's own address"))
    })
}

fn an_interface_that_was_made_anew_is_steered() -> Result<()> {
    for mode in MODES {
        interface_made_anew(mode).with_context(|| format!("{mode}"))?;
    }
    Ok(())
}

fn interface_made_anew(mode: Mode) -> Result<()> {
    let mut stand = stand_in(mode)?;
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    stand.topology.remove_link()?;
    let status = stand.agent.json(&["status"])?;
    let reason = status["interfaces"][0]["reason"].as_str();
    ensure!(
        reason.is_some_and(|it| it.contains("no such interface")),
        "{status}"
    );
    // Neither does it keep an agent from starting.
    stand.agent.kill()?;
    stand.agent.start()?;
    stand.topology.renew_link(mode == Mode::Local)?;
    until_reached(&stand, "green")?;
    stand.agent.cli(&["rollback", GROUP])?.expect(0)?;
    reached(&stand, "blue")
}

fn pins_that_were_removed_are_made_anew() -> Result<()> {
    for mode in MODES {
        pins_removed(mode).with_context(|| format!("{mode}"))?;
    }
    Ok(())
}

fn pins_removed(mode: Mode) -> Result<()> {
    let stand = stand_in(mode)?;
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    let before = stand.agent.status()?;
    fs::remove_dir_all(stand.agent.place().bpffs())?;
    let noticed = || Ok(stand.agent.log().contains("the pins have been removed"));
    until("the agent notices", noticed)?;
    until_reached(&stand, "green")?;
    until("the agent answers", || Ok(stand.agent.status().is_ok()))?;
    let after = stand.agent.status()?;
    ensure!(before["revision"] == after["revision"], "{before}\n{after}");
    ensure!(after["previous"] == "blue", "{after}");
    let pid = stand.agent.json(&["status"])?["agent"]["pid"].as_u64();
    ensure!(pid == stand.agent.pid().map(u64::from), "another process");
    stand.agent.cli(&["rollback", GROUP])?.expect(0)?;
    reached(&stand, "blue")
}

fn after_a_boot_all_is_as_it_was() -> Result<()> {
    let mut stand = stand()?;
    let staged = ["stage", GROUP, "green", "--version", "v2"];
    stand.agent.cli(&staged)?.expect(0)?;
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    stand
        .agent
        .cli(&["apply", "--source", "4e1f\n0"])?
        .expect(0)?;
    let before = stand.agent.status()?;
    let chosen = choices(&stand)?;
    boot(&mut stand)?;
    reached(&stand, "green")?;
    let after = stand.agent.status()?;
    for field in ["live", "previous", "revision", "since", "by", "rollback"] {
        ensure!(before[field] == after[field], "{field}: {before}\n{after}");
    }
    let source = stand.agent.json(&["status"])?["agent"]["config_source"].clone();
    ensure!(source == "4e1f 0", "{source}");
    ensure!(after["colours"]["green"]["version"] == "v2", "{after}");
    ensure!(choices(&stand)? == chosen, "clients go to other servers");
    stand.agent.cli(&["audit", "verify"])?.expect(0)?;
    Ok(())
}

fn from_the_configuration_alone_initial_is_live() -> Result<()> {
    let mut stand = stand()?;
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    stand.agent.kill()?;
    lose_pins(&stand)?;
    fs::remove_dir_all(stand.agent.place().state())?;
    let log = stand.agent.log().len();
    stand.agent.start()?;
    reached(&stand, "blue")?;
    let said = stand.agent.log().split_off(log);
    ensure!(said.contains("blue is live, as `initial` says"), "{said}");
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    reached(&stand, "green")
}

fn a_lost_record_leaves_the_kernel_in_charge() -> Result<()> {
    let mut stand = stand()?;
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    let chosen = choices(&stand)?;
    stand.agent.kill()?;
    fs::remove_dir_all(stand.agent.place().state())?;
    reached(&stand, "green")?;
    stand.agent.start()?;
    reached(&stand, "green")?;
    ensure!(choices(&stand)? == chosen, "clients go to other servers");
    stand.agent.cli(&["flip", GROUP, "blue"])?.expect(0)?;
    reached(&stand, "blue")
}

fn a_record_that_cannot_be_read_is_named() -> Result<()> {
    let mut stand = stand()?;
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    stand.agent.stop()?;
    let file = stand.agent.place().state().join("state.db");
    let good = fs::read(&file)?;
    // The version that has written it stands at offset 60 (sqlite.org/fileformat.html, 1.3).
    let mut newer = good.clone();
    newer[60..64].copy_from_slice(&1000_u32.to_be_bytes());
    for (content, advice) in [
        (&newer[..], "a newer version of switcher has written it"),
        (&b"no database"[..].repeat(100)[..], "move it away"),
    ] {
        fs::write(&file, content)?;
        let refused = format!("{:#}", stand.agent.start().expect_err("it can't be read"));
        ensure!(refused.contains(advice), "{refused}");
        ensure!(refused.contains("state.db"), "{refused}");
        reached(&stand, "green")?;
    }
    fs::write(&file, good)?;
    stand.agent.start()?;
    ensure!(stand.agent.status()?["revision"] == 1, "it was harmed");
    reached(&stand, "green")
}

fn nobody_healthy_changes_nothing() -> Result<()> {
    let stand = stand()?;
    let load = Load::start(&stand.topology, &Plan::default())?;
    for colour in ["blue", "green"] {
        stand.servers.set_healthy(colour, false);
    }
    until("status shows both colours as unhealthy", || {
        let status = stand.agent.status()?;
        let colours = &status["colours"];
        Ok(["blue", "green"]
            .iter()
            .all(|it| colours[it]["healthy"] == false))
    })?;
    let refused = stand.agent.cli(&["flip", GROUP])?.expect(6)?;
    let said = &refused.stderr;
    ensure!(
        said.contains("not healthy") && said.contains("8012"),
        "{said}"
    );
    reached(&stand, "blue")?;
    let status = stand.agent.cli(&["status"])?.expect(0)?;
    ensure!(
        status.stdout.contains("no endpoint of blue is healthy"),
        "{}",
        status.stdout
    );
    for colour in ["blue", "green"] {
        stand.servers.set_healthy(colour, true);
    }
    stand
        .agent
        .cli(&["wait", GROUP, "--for", "healthy=green", "--timeout", "20s"])?
        .expect(0)?;
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    reached(&stand, "green")?;
    unharmed(load)
}

fn servers_that_flap_harm_nobody() -> Result<()> {
    let stand = stand()?;
    let load = Load::start(&stand.topology, &Plan::default())?;
    for turn in 0..40_u16 {
        let (server, healthy) = (turn % 2 + 1, turn % 3 == 0);
        stand.servers.set_server_healthy("blue", server, healthy);
        std::thread::sleep(Duration::from_millis(70));
    }
    for server in [1, 2] {
        stand.servers.set_server_healthy("blue", server, true);
    }
    unharmed(load)?;
    until("all buckets are back", || {
        Ok(choices(&stand)?.len() == 2 && stand.agent.status()?["phase"] == "idle")
    })?;
    ensure!(
        stand.agent.live()? == "blue",
        "something was switched by itself"
    );
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    reached(&stand, "green")
}

/// Nobody who could not be asked is taken for dead: what comes back first would get the buckets of all others.
fn a_link_that_was_down_moves_no_connection() -> Result<()> {
    let stand = Stand::new(Mode::Dsr, false, settings(), &binary()?)?;
    let healthy = ["wait", GROUP, "--for", "healthy=blue", "--timeout", "20s"];
    stand.agent.cli(&healthy)?.expect(0)?;
    let web = stand.topology.web();
    let open = || (0..12).map(|_| Connection::open(web)).collect();
    let open: Result<Vec<_>> = stand.topology.client.inside(open)?;
    let mut open = open?;
    for turn in 0..3 {
        for connection in &mut open {
            let colour = connection
                .colour()
                .with_context(|| format!("turn {turn}"))?;
            ensure!(colour == "blue", "{colour} answers");
        }
        let switch = &stand.topology.switch;
        switch.ip(&format!("link set {INTERFACE} down"))?;
        until("nobody can be reached", || {
            let status = stand.agent.status()?;
            Ok(status["colours"]["blue"]["healthy"] == false)
        })?;
        switch.ip(&format!("link set {INTERFACE} up"))?;
        stand.agent.cli(&healthy)?.expect(0)?;
    }
    let log = stand.agent.log();
    ensure!(!log.contains("to endpoints that are alive"), "{log}");
    Ok(())
}

/// With its memory the kernel loses what is pinned.
fn boot(stand: &mut Stand) -> Result<()> {
    stand.agent.kill()?;
    lose_pins(stand)?;
    stand.agent.start()
}

/// The kernel takes programs off moments after the last pin of their links has gone.
fn lose_pins(stand: &Stand) -> Result<()> {
    fs::remove_dir_all(stand.agent.place().bpffs())?;
    until("programs are off", || {
        let links = stand.topology.switch.ip("link show")?;
        Ok(!links.contains("xdp"))
    })
}

/// Servers that some clients would meet now, and how many of them each.
fn choices(stand: &Stand) -> Result<std::collections::BTreeMap<String, usize>> {
    let mut chosen = std::collections::BTreeMap::new();
    for port in 0..16 {
        let source = format!("10.77.0.2:{}", 30_000 + port);
        let vip = stand.topology.web().to_string();
        let words = ["explain", GROUP, "tcp", &source, &vip, "--syn"];
        let said = stand.agent.json(&words)?;
        let endpoint = said["endpoint"].to_string();
        *chosen.entry(endpoint).or_default() += 1;
    }
    Ok(chosen)
}

fn other(colour: &str) -> &'static str {
    match colour {
        "blue" => "green",
        _ => "blue",
    }
}

/// What kinds of cut-overs there were, the newest first.
fn kinds(stand: &Stand) -> Result<Vec<String>> {
    let history = stand.agent.json(&["history", GROUP])?;
    let cutovers = history.as_array().context("a history")?;
    let kind = |it: &Value| it["kind"].as_str().unwrap_or_default().to_owned();
    Ok(cutovers.iter().map(kind).collect())
}

fn reached(stand: &Stand, colour: &str) -> Result<()> {
    let found = answer(stand)?;
    ensure!(found == colour, "{found} answers, not {colour}");
    Ok(())
}

fn until_reached(stand: &Stand, colour: &str) -> Result<()> {
    let reached = || Ok(answer(stand).is_ok_and(|found| found == colour));
    until(&format!("{colour} answers"), reached)
}

fn answer(stand: &Stand) -> Result<String> {
    let web = stand.topology.web();
    let connection = stand.topology.client.inside(|| Connection::open(web))?;
    connection?.colour()
}

fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn unharmed(load: Load) -> Result<()> {
    let report = load.stop()?;
    let failures = report.failures();
    println!("{}", report.summary());
    ensure!(failures.is_empty(), "{:?}", failures.first());
    Ok(())
}

fn settings() -> Settings {
    Settings {
        servers: 2,
        learn: Duration::from_millis(50),
        interval: Duration::from_millis(50),
        ..Settings::default()
    }
}

fn stand() -> Result<Stand> {
    stand_in(Mode::Local)
}

fn stand_in(mode: Mode) -> Result<Stand> {
    let stand = Stand::new(mode, mode == Mode::Local, settings(), &binary()?)?;
    let healthy = ["wait", GROUP, "--for", "healthy=green", "--timeout", "20s"];
    stand.agent.cli(&healthy)?.expect(0)?;
    Ok(stand)
}
