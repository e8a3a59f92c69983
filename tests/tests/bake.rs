//! Switches that are watched: a new colour that does badly goes back by itself, with real connections.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};
use serde_json::Value;
use switcher_harness::agent::{Output, binary};
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::privilege::run;
use switcher_harness::{Load, Mode, Plan, Stand};

/// Longer than anything here takes, should it have to be cut short.
const BAKE: &str = "
[groups.shop.bake]
for = \"60s\"
sample = 10
";

#[test]
fn what_does_badly_goes_back_by_itself() {
    run("what_does_badly_goes_back_by_itself", || {
        let settings = Settings {
            agent: BAKE,
            interval: Duration::from_millis(100),
            ..Settings::default()
        };
        let mut stand = Stand::new(Mode::Local, true, settings, &binary()?)?;
        stand.ask(20)?;
        resets(&stand)?;
        checks(&stand)?;
        killed(&mut stand)?;
        degraded(&stand)?;
        well(&stand)
    });
}

#[test]
fn resets_of_other_hosts_count_too() {
    run("resets_of_other_hosts_count_too", || {
        let settings = Settings {
            agent: BAKE,
            ..Settings::default()
        };
        let stand = Stand::new(Mode::Routed, false, settings, &binary()?)?;
        stand.ask(20)?;
        resets(&stand)
    });
}

#[test]
fn who_does_not_answer_is_no_colour_to_stay_with() {
    run("who_does_not_answer_is_no_colour_to_stay_with", || {
        let settings = Settings {
            agent: BAKE,
            health: "none",
            // Whom the deaf server has taken stays with it.
            deadline: Duration::from_secs(2),
            ..Settings::default()
        };
        let mut stand = Stand::new(Mode::Local, true, settings, &binary()?)?;
        stand.ask(20)?;
        let endpoint = stand.topology.endpoints(1);
        let green = endpoint.iter().find(|it| it.colour == "green");
        let green = green.context("there is a green server")?.web;
        stand.servers.end_web("green", 1);
        let deaf = stand.topology.switch.inside(|| deaf(green))??;
        let flip = flip(&stand)?;
        stand.until(|it| it["phase"] == "baking")?;
        let web = stand.topology.web();
        // Nobody answers them; some will have been let in before that queue was full.
        let knock = || {
            let knocks = (0..16).map(|_| {
                let knock = move || TcpStream::connect_timeout(&web, Duration::from_millis(200));
                stand.topology.client.spawn("knock", move || drop(knock()))
            });
            let knocks = knocks.collect::<Result<Vec<_>>>()?;
            knocks.into_iter().for_each(|it| drop(it.join()));
            Ok(())
        };
        let undone = rolled_back(&stand, flip, knock)?;
        let why = undone["receipt"]["bake"]["why"].to_string();
        ensure!(why.contains("failed handshakes"), "{undone:#}");
        drop(deaf);
        Ok(())
    });
}

/// Who resets connections as the one before did is no reason to go back.
#[test]
fn who_does_no_worse_than_before_stays() {
    run("who_does_no_worse_than_before_stays", || {
        let settings = Settings {
            agent: "\n[groups.shop.bake]\nfor = \"4s\"\nsample = 10\n",
            ..Settings::default()
        };
        let stand = Stand::new(Mode::Local, true, settings, &binary()?)?;
        stand.until(|it| it["colours"]["green"]["healthy"] == true)?;
        for colour in ["blue", "green"] {
            stand.servers.set_resetting(colour, true);
        }
        (0..10).try_for_each(|_| stand.ask_in_vain())?;
        let flip = flip(&stand)?;
        while !flip.is_finished() {
            stand.ask_in_vain()?;
            std::thread::sleep(Duration::from_millis(50));
        }
        let kept = flip.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
        let id = id(&kept.expect(0)?.json()?)?;
        let shown = stand.agent.json(&["show", &id])?;
        let bake = &shown["receipt"]["bake"];
        ensure!(bake["verdict"] == "passed", "{shown:#}");
        let resets = |of: &str| bake[of]["resets"].as_u64().unwrap_or_default();
        ensure!(resets("before") >= 10 && resets("seen") >= 10, "{shown:#}");
        ensure!(stand.agent.live()? == "green");
        Ok(())
    });
}

/// What connections it has cost is in its report, and it has failed.
#[test]
fn a_drill_that_costs_something_says_how_much() {
    run("a_drill_that_costs_something_says_how_much", || {
        let settings = Settings {
            agent: BAKE,
            ..Settings::default()
        };
        let stand = Stand::new(Mode::Local, true, settings, &binary()?)?;
        for colour in ["blue", "green"] {
            stand.until(|it| it["colours"][colour]["healthy"] == true)?;
        }
        stand.ask(20)?;
        stand.servers.set_resetting("green", true);
        let words = ["drill", GROUP, "--for", "30s", "--json"];
        let drill = stand.agent.cli_in_background(&words);
        stand.until(|it| it["live"] == "green")?;
        while !drill.is_finished() {
            stand.ask_in_vain()?;
            std::thread::sleep(Duration::from_millis(50));
        }
        let drill = drill.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
        let failed = drill.expect(7)?;
        ensure!(stand.agent.live()? == "blue", "{failed:?}");
        let history = stand.agent.json(&["history", GROUP])?;
        let mut records = history.as_array().into_iter().flatten();
        let record = records.find(|it| it["kind"] == "flip");
        let drill = &record.context("the drill")?["receipt"]["drill"];
        ensure!(drill["verdict"] == "failed", "{drill:#}");
        ensure!(drill["lost"]["resets"].as_u64() >= Some(10), "{drill:#}");
        let why = drill["why"][0].as_str().unwrap_or_default();
        ensure!(why.starts_with("resets: "), "{drill:#}");
        Ok(())
    });
}

/// Its share is taken back when it does badly; when it does well it grows, also under another agent.
#[test]
fn a_canary_grows_by_itself_or_is_taken_back() {
    run("a_canary_grows_by_itself_or_is_taken_back", || {
        let settings = Settings {
            agent: CANARY,
            interval: Duration::from_millis(100),
            ..Settings::default()
        };
        let mut stand = Stand::new(Mode::Local, true, settings, &binary()?)?;
        stand.ask(20)?;
        stand.until(|it| it["colours"]["green"]["healthy"] == true)?;
        stand.servers.set_resetting("green", true);
        let rollout = by_policy(&stand);
        stand.until(|it| it["canary"]["percent"] == 50)?;
        for _ in 0..200 {
            if rollout.is_finished() {
                break;
            }
            stand.ask_in_vain()?;
        }
        let rollout = rollout
            .join()
            .map_err(|_| anyhow::anyhow!("it panicked"))??;
        rollout.expect(7)?;
        stand.ask(20)?;
        let history = stand.agent.json(&["history", GROUP])?;
        let reason = history[0]["reason"].as_str().unwrap_or_default();
        ensure!(
            history[0]["actor"] == "agent" && reason.contains("resets: "),
            "{history:#}"
        );
        stand.servers.set_resetting("green", false);
        stand.until(|it| it["phase"] == "idle")?;

        let config = std::fs::read_to_string(stand.agent.place().config())?;
        stand.agent.write_config(&config.replace("60s", "700ms"))?;
        stand.agent.cli(&["apply"])?.expect(0)?;
        let begun = stand.agent.cli(&["canary", GROUP, "green", "--policy"])?;
        begun.expect(0)?;
        stand.agent.kill()?;
        stand.agent.start()?;
        let wait = ["wait", GROUP, "--for", "baked", "--timeout", "50s"];
        stand.agent.cli(&wait)?.expect(0)?;
        ensure!(stand.agent.live()? == "green");
        stand.ask(5)?;
        let history = stand.agent.json(&["history", GROUP])?;
        let shares: Vec<&Value> = (0..3).map(|it| &history[it]["percent"]).collect();
        ensure!(
            history[0]["kind"] == "flip" && shares[1..] == [90, 50],
            "{history:#}"
        );
        Ok(())
    });
}

/// There and back under load, also if the agent dies in between.
#[test]
fn a_drill_costs_nothing() {
    run("a_drill_costs_nothing", || {
        let mut stand = Stand::new(Mode::Local, true, Settings::default(), &binary()?)?;
        stand.until(|it| it["colours"]["green"]["healthy"] == true)?;
        stand.until(|it| it["colours"]["blue"]["healthy"] == true)?;
        // UDP flows are remembered for a minute, and would be waited for.
        let plan = Plan {
            downloads: 0,
            udp_flows: 0,
            udp_new: 0,
            ..Plan::default()
        };
        let load = Load::start(&stand.topology, &plan)?;
        let words = [
            "drill", GROUP, "--for", "700ms", "--json", "--reason", "monthly",
        ];
        let first = stand.agent.cli(&words)?.expect(0)?.json()?;
        let drill = &first["receipt"]["drill"];
        ensure!(drill["verdict"] == "passed", "{first:#}");
        ensure!(
            drill["lost"]["connections"].as_u64() > Some(10),
            "{first:#}"
        );
        ensure!(
            drill["lost"]["dropped"] == serde_json::json!({}),
            "{first:#}"
        );
        ensure!(first["reason"] == "monthly" && first["result"] == "rolled-back");
        ensure!(stand.agent.live()? == "blue");

        let report = load.stop()?;
        let failures = report.failures();
        ensure!(failures.is_empty(), "{failures:?}");
        stand.until(|it| it["phase"] == "idle")?;

        let words = ["drill", GROUP, "--for", "3s"];
        let second = stand.agent.cli_in_background(&words);
        stand.until(|it| it["phase"] == "confirming")?;
        stand.agent.kill()?;
        stand.agent.start()?;
        let second = second
            .join()
            .map_err(|_| anyhow::anyhow!("it panicked"))??;
        let said = second.expect(0)?.stdout;
        ensure!(
            said.contains("passed, the agent was started anew"),
            "{said}"
        );
        ensure!(stand.agent.live()? == "blue");

        stand.until(|it| it["phase"] == "idle")?;
        stand.servers.set_healthy("blue", false);
        stand.until(|it| it["colours"]["blue"]["healthy"] == false)?;
        let refused = stand.agent.cli(&["drill", GROUP])?.expect(5)?.stderr;
        ensure!(
            refused.contains("no way back") && refused.contains("503"),
            "{refused}"
        );
        Ok(())
    });
}

const CANARY: &str = "
[groups.shop.bake]
for = \"300ms\"
sample = 10

[groups.shop.canary]
steps = [{ percent = 50, hold = \"60s\" }, { percent = 90, hold = \"60s\" }]
";

fn by_policy(stand: &Stand) -> JoinHandle<Result<Output>> {
    let words = [
        "canary",
        GROUP,
        "green",
        "--policy",
        "--wait",
        "baked",
        "--timeout",
        "50s",
    ];
    stand.agent.cli_in_background(&words)
}

/// Listens, and takes nobody but the first.
fn deaf(address: SocketAddr) -> Result<std::os::fd::OwnedFd> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&socket, Backlog::new(0)?)?;
    Ok(socket)
}

fn resets(stand: &Stand) -> Result<()> {
    stand.servers.set_resetting("green", true);
    let flip = flip(stand)?;
    let undone = rolled_back(stand, flip, || stand.ask_in_vain())?;
    stand.servers.set_resetting("green", false);
    let bake = &undone["receipt"]["bake"];
    ensure!(bake["verdict"] == "rolled-back", "{undone:#}");
    let why = bake["why"][0].as_str().unwrap_or_default();
    ensure!(why.starts_with("resets: "), "{undone:#}");
    let counted = |of: &str, what: &str| bake[of][what].as_u64().unwrap_or_default();
    ensure!(counted("seen", "connections") >= 10, "{undone:#}");
    ensure!(counted("seen", "resets") >= 10, "{undone:#}");
    ensure!(counted("before", "connections") >= 20, "{undone:#}");
    ensure!(counted("before", "resets") == 0, "{undone:#}");
    let history = stand.agent.json(&["history", GROUP])?;
    let back = &history[0];
    ensure!(
        back["kind"] == "rollback" && back["actor"] == "agent",
        "{history:#}"
    );
    let shown = id(&undone)?;
    let shown = stand.agent.cli(&["show", &shown])?.expect(0)?.stdout;
    ensure!(
        shown.contains("rolled-back") && shown.contains(why),
        "{shown}"
    );
    Ok(())
}

fn checks(stand: &Stand) -> Result<()> {
    let flip = flip(stand)?;
    stand.until(|it| it["phase"] == "baking")?;
    let status = stand.agent.status()?;
    let next = status["next"]["what"].as_str().unwrap_or_default();
    ensure!(next.contains("blue is live again if"), "{status:#}");
    stand.agent.cli(&["flip", GROUP, "blue"])?.expect(4)?;
    stand.servers.set_healthy("green", false);
    let undone = rolled_back(stand, flip, || Ok(()))?;
    stand.servers.set_healthy("green", true);
    stand.until(|it| it["colours"]["green"]["healthy"] == true)?;
    let why = undone["receipt"]["bake"]["why"].to_string();
    ensure!(why.contains("503"), "{undone:#}");
    Ok(())
}

/// The next agent goes on watching.
fn killed(stand: &mut Stand) -> Result<()> {
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    stand.agent.kill()?;
    stand.agent.start()?;
    ensure!(stand.agent.status()?["phase"] == "baking");
    stand.servers.set_resetting("green", true);
    let wait = ["wait", GROUP, "--for", "drained", "--timeout", "50s"];
    let wait = stand.agent.cli_in_background(&wait);
    rolled_back(stand, wait, || stand.ask_in_vain())?;
    stand.servers.set_resetting("green", false);
    Ok(())
}

/// Nothing goes back to what is no better; once it is, it does.
fn degraded(stand: &Stand) -> Result<()> {
    let flip = flip(stand)?;
    stand.until(|it| it["phase"] == "baking")?;
    stand.servers.set_healthy("blue", false);
    stand.until(|it| it["colours"]["blue"]["healthy"] == false)?;
    stand.servers.set_healthy("green", false);
    stand.until(|it| it["phase"] == "degraded")?;
    let status = stand.agent.status()?;
    let why = status["cutover"]["bake"]["why"].to_string();
    ensure!(
        status["live"] == "green" && why.contains("no way back"),
        "{status:#}"
    );
    stand.servers.set_healthy("blue", true);
    rolled_back(stand, flip, || Ok(()))?;
    stand.servers.set_healthy("green", true);
    stand.until(|it| it["colours"]["green"]["healthy"] == true)
}

/// What does well stays. With a shorter time.
fn well(stand: &Stand) -> Result<()> {
    let config = std::fs::read_to_string(stand.agent.place().config())?;
    stand.agent.write_config(&config.replace("60s", "1500ms"))?;
    let applied = stand.agent.cli(&["apply"])?.expect(0)?.stdout;
    ensure!(applied.contains("bake 1m"), "{applied}");
    let said = stand.agent.cli(&["flip", GROUP, "--dry-run"])?.expect(0)?;
    ensure!(
        said.stdout.contains("watch green for 1s 500ms"),
        "{}",
        said.stdout
    );
    let flip = flip(stand)?;
    stand.until(|it| it["live"] == "green")?;
    stand.ask(12)?;
    let kept = flip.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
    let id = id(&kept.expect(0)?.json()?)?;
    let shown = stand.agent.json(&["show", &id])?;
    ensure!(shown["receipt"]["bake"]["verdict"] == "passed", "{shown:#}");
    stand.until(|it| it["phase"] == "idle")?;
    let shown = stand.agent.json(&["show", &id])?;
    let receipt = &shown["receipt"];
    for field in [
        "first_packet_at",
        "last_packet_to_old_at",
        "drained",
        "word_after",
    ] {
        ensure!(receipt[field].is_string(), "no {field}: {shown:#}");
    }
    ensure!(receipt["word_before"] != receipt["word_after"], "{shown:#}");
    let count = |colour: &str, when: &str| {
        let counted = &receipt["traffic"][colour][when]["connections"];
        counted.as_u64().unwrap_or_default()
    };
    let green = count("green", "after") - count("green", "before");
    ensure!(green >= 12, "{shown:#}");
    let table = stand.agent.cli(&["show", &id])?.expect(0)?.stdout;
    for part in ["health: all of 2 endpoints", "word  ", "green: "] {
        ensure!(table.contains(part), "no {part} in {table}");
    }
    ensure!(stand.agent.live()? == "green");
    Ok(())
}

fn flip(stand: &Stand) -> Result<JoinHandle<Result<Output>>> {
    stand.until(|it| it["phase"] == "idle")?;
    let words = [
        "flip",
        GROUP,
        "green",
        "--json",
        "--wait",
        "baked",
        "--timeout",
        "50s",
    ];
    Ok(stand.agent.cli_in_background(&words))
}

/// Whoever waits hears of it, and blue is live. The record of what was undone.
fn rolled_back(
    stand: &Stand,
    wait: JoinHandle<Result<Output>>,
    meanwhile: impl Fn() -> Result<()>,
) -> Result<Value> {
    for _ in 0..200 {
        if wait.is_finished() {
            break;
        }
        if matches!(
            stand.agent.status()?["phase"].as_str(),
            Some("baking" | "degraded")
        ) {
            meanwhile()?;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let waited = wait.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
    waited.expect(7)?;
    ensure!(stand.agent.live()? == "blue");
    stand.ask(1)?;
    stand.until(|it| it["phase"] == "idle")?;
    let history = stand.agent.json(&["history", GROUP])?;
    let undone = history.as_array().context("no list")?.iter();
    let mut undone = undone.filter(|it| it["kind"] == "flip");
    let undone = undone.next().context("no flip")?;
    ensure!(undone["result"] == "rolled-back", "{history:#}");
    Ok(undone.clone())
}

fn id(record: &Value) -> Result<String> {
    record["id"].as_str().map(str::to_owned).context("no id")
}
