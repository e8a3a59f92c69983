//! How connections are dealt out: weights, hashes, canaries, and endpoints that come and go.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::load::{Answer, Connection};
use switcher_harness::privilege::alone;
use switcher_harness::{Load, Mode, Plan, Stand};

macro_rules! tables {
    ($($name:ident: $test:ident($mode:ident);)+) => {$(
        #[test]
        fn $name() {
            alone(stringify!($name), || $test(Mode::$mode));
        }
    )+};
}

tables! {
    weights_are_kept_local: weights_are_kept(Local);
    a_client_keeps_its_server_routed: a_client_keeps_its_server(Routed);
    changes_of_endpoints_and_weights_lose_nothing_local: changes_lose_nothing(Local);
    changes_of_endpoints_and_weights_lose_nothing_routed: changes_lose_nothing(Routed);
    a_dead_server_is_relieved_and_comes_back_local: a_dead_server_is_relieved(Local);
    a_dead_server_is_relieved_and_comes_back_routed: a_dead_server_is_relieved(Routed);
    a_canary_is_stepped_and_finished_local: a_canary_is_finished(Local);
    a_canary_is_stepped_and_finished_routed: a_canary_is_finished(Routed);
    a_canary_is_aborted_routed: a_canary_is_aborted(Routed);
}

fn weights_are_kept(mode: Mode) -> Result<()> {
    let stand = stand(
        mode,
        Settings {
            weights: &[1, 3],
            ..settings()
        },
    )?;
    let dealt = servers(&connect(&stand, 600)?)?;
    println!("weights 1 and 3: {dealt:?}");
    let light = dealt.get("blue-1").copied().unwrap_or_default();
    // A quarter of 600, give or take four standard deviations.
    ensure!(light.abs_diff(150) < 43, "{dealt:?}");
    ensure!(dealt.len() == 2, "{dealt:?}");
    Ok(())
}

fn a_client_keeps_its_server(mode: Mode) -> Result<()> {
    let stand = stand(
        mode,
        Settings {
            web: "hash = \"source\"\n",
            ..settings()
        },
    )?;
    let mut all = BTreeMap::new();
    for client in 2..18 {
        if client > 2 {
            stand
                .topology
                .client
                .ip(&format!("addr add 10.77.0.{client}/24 dev eth0"))?;
        }
        let source = format!("default via 10.77.0.1 src 10.77.0.{client}");
        stand
            .topology
            .client
            .ip(&format!("route replace {source}"))?;
        let dealt = servers(&connect(&stand, 6)?)?;
        ensure!(
            dealt.len() == 1,
            "client {client} was spread over {dealt:?}"
        );
        let server = dealt.into_keys().next().unwrap_or_default();
        *all.entry(server).or_insert(0) += 1;
    }
    println!("sixteen clients: {all:?}");
    ensure!(all.len() == 2, "all clients have one server: {all:?}");
    Ok(())
}

/// The live colour gets a server more, other weights, and loses it again, under load.
fn changes_lose_nothing(mode: Mode) -> Result<()> {
    let mut stand = stand(
        mode,
        Settings {
            servers: 3,
            ..settings()
        },
    )?;
    let all = stand.settings.render(&stand.topology, stand.agent.place());
    let two = without_third(&all);
    stand.agent.write_config(&two)?;
    stand.agent.cli(&["apply"])?.expect(0)?;
    idle(&stand)?;
    let short = Plan {
        keep_alive: 0,
        idle: 0,
        udp_flows: 0,
        udp_new: 0,
        ..plan()
    };
    let load = Load::start(&stand.topology, &short)?;
    pause();
    let weighted = all.replace("weight = 1 }]", "weight = 5 }]");
    ensure!(weighted != all, "no weight to change in {all}");
    for config in [&all, &weighted, &two] {
        stand.agent.write_config(config)?;
        stand.agent.cli(&["apply"])?.expect(0)?;
        pause();
        let mut mine = connect(&stand, 40)?;
        for connection in &mut mine {
            connection.colour().context("a connection from before")?;
        }
        let dealt = servers(&mine)?;
        println!("{mode}: {dealt:?}");
        ensure!(
            dealt.contains_key("blue-3") == (config != &two),
            "{dealt:?}"
        );
        drop(mine);
        until_closed(&stand)?;
    }
    unharmed(&load)?;
    load.stop()?;
    stand.agent.stop()?;
    Ok(())
}

fn a_dead_server_is_relieved(mode: Mode) -> Result<()> {
    let mut stand = stand(mode, settings())?;
    let mut before = connect(&stand, 24)?;
    let word = stand.agent.status()?["epoch"].clone();
    stand.servers.end_web("blue", 1);
    stand.until(|group| first(group)["handed_over"] == true)?;
    ensure!(
        stand.agent.status()?["epoch"] == word,
        "a window was opened"
    );
    before.retain(|it| it.server().is_some_and(|server| server.contains("blue-2")));
    ensure!(!before.is_empty(), "nobody was on blue-2");
    let mut since = connect(&stand, 40)?;
    let dealt = servers(&since)?;
    ensure!(
        dealt.len() == 1 && dealt.contains_key("blue-2"),
        "{dealt:?}"
    );

    // Whoever comes after the agent finds it so.
    stand.agent.kill()?;
    since.extend(connect(&stand, 10)?);
    stand.agent.start()?;
    stand.until(|group| first(group)["healthy"] == false)?;
    ensure!(
        stand.agent.status()?["epoch"] == word,
        "a window was opened"
    );

    stand.servers.start_web(&stand.topology, "blue", 1)?;
    stand.until(|group| first(group)["handed_over"] == false)?;
    for connection in before.iter_mut().chain(&mut since) {
        connection.colour().context("a connection from before")?;
    }
    let dealt = servers(&connect(&stand, 60)?)?;
    ensure!(dealt.len() == 2, "{dealt:?}");
    for connection in before.iter_mut().chain(&mut since) {
        connection.colour().context("a connection from before")?;
    }
    Ok(())
}

fn a_canary_is_finished(mode: Mode) -> Result<()> {
    let mut stand = stand(mode, settings())?;
    let load = Load::start(&stand.topology, &plan())?;
    pause();
    for percent in [10_u32, 50] {
        let share = percent.to_string();
        let output = stand
            .agent
            .cli(&["canary", GROUP, "green", &share, "--json"])?
            .expect(0)?;
        ensure!(output.json()?["percent"] == percent, "{}", output.stdout);
        let since = Instant::now();
        std::thread::sleep(Duration::from_secs(2));
        let group = stand.agent.status()?;
        ensure!(
            group["phase"] == "holding" && group["live"] == "blue",
            "{group}"
        );
        ensure!(group["canary"]["percent"] == percent, "{group}");
        let (green, all) = share_of(&load, since);
        let measured = green as f64 / all as f64 * 100.0;
        println!("{mode}: {percent} % asked for, {measured:.1} % of {all} new connections");
        // Four standard deviations.
        let p = f64::from(percent) / 100.0;
        let off = 400.0 * (p * (1.0 - p) / all as f64).sqrt();
        ensure!(
            (measured - f64::from(percent)).abs() < off + 1.0,
            "{measured} of {all}"
        );
        if percent == 10 {
            stand.agent.kill()?;
            stand.agent.start()?;
            ensure!(
                stand.agent.status()?["phase"] == "holding",
                "it was lost with the agent"
            );
        }
    }
    let flip = stand.agent.cli(&["flip", GROUP, "--json"])?.expect(0)?;
    ensure!(flip.json()?["to"] == "green", "{}", flip.stdout);
    let since = Instant::now();
    pause();
    let (green, all) = share_of(&load, since);
    ensure!(green == all && all > 0, "{green} of {all} after the flip");
    unharmed(&load)?;
    load.stop()?;
    Ok(())
}

fn a_canary_is_aborted(mode: Mode) -> Result<()> {
    let stand = stand(mode, settings())?;
    let load = Load::start(&stand.topology, &plan())?;
    pause();
    stand
        .agent
        .cli(&["canary", GROUP, "green", "50"])?
        .expect(0)?;
    stand
        .agent
        .cli(&["canary", GROUP, "blue", "5"])?
        .expect(4)?;
    stand
        .agent
        .cli(&["canary", GROUP, "mauve", "5"])?
        .expect(3)?;
    stand
        .agent
        .cli(&["canary", GROUP, "green", "100"])?
        .expect(2)?;
    stand.agent.cli(&["flip", GROUP, "blue"])?.expect(4)?;
    pause();
    stand.agent.cli(&["abort", GROUP])?.expect(0)?;
    let since = Instant::now();
    pause();
    let (green, all) = share_of(&load, since);
    ensure!(green == 0 && all > 0, "{green} of {all} after the abort");
    unharmed(&load)?;
    load.stop()?;
    let group = stand.agent.status()?;
    ensure!(
        group["canary"].is_null() && group["live"] == "blue",
        "{group}"
    );
    ensure!(group["phase"] != "holding", "{group}");
    Ok(())
}

/// New connections and flows that began since an instant: those of green, and all.
fn share_of(load: &Load, since: Instant) -> (usize, usize) {
    let answers = load.recorder().from(0);
    let new =
        |answer: &&Answer| answer.kind.is_new() && answer.begun >= since && answer.outcome.is_ok();
    let new: Vec<&Answer> = answers.iter().filter(new).collect();
    let green = new
        .iter()
        .filter(|answer| answer.outcome.as_deref() == Ok("green"));
    (green.count(), new.len())
}

fn unharmed(load: &Load) -> Result<()> {
    let answers = load.recorder().from(0);
    let failed: Vec<String> = answers
        .iter()
        .filter_map(|answer| {
            Some(format!(
                "{}: {}",
                answer.kind,
                answer.outcome.as_ref().err()?
            ))
        })
        .collect();
    ensure!(
        failed.is_empty(),
        "{} failures: {:?}",
        failed.len(),
        &failed[..failed.len().min(5)]
    );
    Ok(())
}

fn settings() -> Settings {
    Settings {
        servers: 2,
        interval: Duration::from_millis(100),
        ..Settings::default()
    }
}

fn plan() -> Plan {
    Plan {
        new: 6,
        downloads: 0,
        pause: Duration::from_millis(3),
        ..Plan::default()
    }
}

fn stand(mode: Mode, settings: Settings) -> Result<Stand> {
    let stand = Stand::new(mode, false, settings, &binary()?)?;
    stand.until(|group| group["colours"]["blue"]["healthy"] == true)?;
    Ok(stand)
}

/// Open connections, each of which has been answered once.
fn connect(stand: &Stand, number: usize) -> Result<Vec<Connection>> {
    let web: SocketAddr = stand.topology.web();
    stand.topology.client.inside(move || {
        (0..number)
            .map(|_| {
                let mut connection = Connection::open(web)?;
                connection.colour()?;
                Ok(connection)
            })
            .collect()
    })?
}

/// How many connections each server has.
fn servers(connections: &[Connection]) -> Result<BTreeMap<String, usize>> {
    let mut all = BTreeMap::new();
    for connection in connections {
        let server = connection.server().context("nobody answered")?;
        let host = server
            .split("host=")
            .nth(1)
            .context("an answer without a host")?;
        *all.entry(host.to_owned()).or_insert(0) += 1;
    }
    Ok(all)
}

/// The configuration without the third server of each colour.
fn without_third(config: &str) -> String {
    let lines = config
        .lines()
        .map(|line| match line.match_indices(", { address").nth(1) {
            Some((place, _)) => format!("{}]", &line[..place]),
            None => line.to_owned(),
        });
    lines.map(|line| line + "\n").collect()
}

/// The first endpoint of blue's web service.
fn first(group: &Value) -> &Value {
    let endpoints = group["colours"]["blue"]["endpoints"].as_array();
    let mut endpoints = endpoints.into_iter().flatten();
    endpoints
        .find(|it| it["service"] == "web")
        .unwrap_or(&Value::Null)
}

fn until_closed(stand: &Stand) -> Result<()> {
    // Clients of the load stay: what matters is that no window forbids the next change.
    stand.until(|group| group["window"].is_null())
}

fn idle(stand: &Stand) -> Result<()> {
    stand.until(|group| group["phase"] == "idle")
}

fn pause() {
    std::thread::sleep(Duration::from_millis(600));
}
