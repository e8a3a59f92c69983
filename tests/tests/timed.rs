//! Switches that undo themselves, switches at an instant, and pauses: with real connections, and with the
//! agent alive or dead.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;
use switcher_harness::agent::{Output, binary};
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::load::{Answer, Connection, Kind, Report};
use switcher_harness::{Load, Mode, Plan, Stand, privilege};

/// Some time for the load to see what has changed.
const WHILE: Duration = Duration::from_millis(400);
/// How far apart the clock of a program and a glance at ours may be, on a busy machine.
const MARGIN: Duration = Duration::from_millis(40);

macro_rules! in_both_modes {
    ($($name:ident;)+) => {
        mod test {$(
            #[test]
            fn $name() {
                super::run(stringify!($name), super::$name);
            }
        )+}
    };
}

in_both_modes! {
    unconfirmed_it_comes_back;
    unconfirmed_it_comes_back_without_an_agent;
    extended_and_confirmed_it_stays;
    pending_it_can_be_aborted_or_forced_back;
    at_an_instant_without_an_agent;
    at_an_instant_the_command_waits;
    paused_nobody_is_lost_and_nobody_new_let_in;
    paused_it_flips_before_anybody_new_comes_in;
}

fn unconfirmed_it_comes_back(mode: Mode) -> Result<()> {
    let stand = stand(mode)?;
    let load = Load::start(&stand.topology, &plan())?;
    std::thread::sleep(WHILE);
    let flip = flip(&stand, &["--confirm-within", "1s"])?;
    ensure!(flip.json()?["confirm_by"].is_string(), "{}", flip.stdout);
    let waits =
        stand
            .agent
            .cli_in_background(&["wait", GROUP, "--for", "drained", "--timeout", "20s"]);
    let status = stand.agent.status()?;
    ensure!(status["phase"] == "confirming", "{status}");
    ensure!(
        status["next"]["what"]
            .as_str()
            .is_some_and(|it| it.contains("blue is live again")),
        "{status}"
    );
    stand.agent.cli(&["flip", GROUP, "blue"])?.expect(10)?;
    stand
        .agent
        .cli(&["wait", GROUP, "--for", "idle", "--timeout", "100ms"])?
        .expect(10)?;
    let back = flip.ended + Duration::from_secs(1);
    sleep_until(back + MARGIN + WHILE);
    let waited = waits.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
    waited.expect(7)?;
    let report = load.stop()?;
    begun_go_to(
        &report,
        "green",
        flip.ended,
        flip.begun + Duration::from_secs(1),
    )?;
    begun_go_to(&report, "blue", back + MARGIN, Instant::now())?;
    rolled_back_by_the_kernel(&stand)?;
    unharmed(mode, &report)
}

fn unconfirmed_it_comes_back_without_an_agent(mode: Mode) -> Result<()> {
    let mut stand = stand(mode)?;
    let load = Load::start(&stand.topology, &plan())?;
    std::thread::sleep(WHILE);
    let flip = flip(&stand, &["--confirm-within", "1500ms"])?;
    stand.agent.kill()?;
    let back = flip.ended + Duration::from_millis(1500);
    sleep_until(back + MARGIN + WHILE);
    let dead_until = Instant::now();
    stand.agent.start()?;
    rolled_back_by_the_kernel(&stand)?;
    std::thread::sleep(WHILE);
    let log = stand.agent.log();
    let told = log.contains("the program found the timed switch to be over");
    ensure!(told, "{mode}: the next agent was not told: {log}");
    let report = load.stop()?;
    let first = flip.begun + Duration::from_millis(1500);
    begun_go_to(&report, "green", flip.ended, first)?;
    begun_go_to(&report, "blue", back + MARGIN, dead_until)?;
    begun_go_to(&report, "blue", dead_until, Instant::now())?;
    unharmed(mode, &report)
}

fn extended_and_confirmed_it_stays(mode: Mode) -> Result<()> {
    let stand = stand(mode)?;
    let load = Load::start(&stand.topology, &plan())?;
    let flip = flip(&stand, &["--confirm-within", "1s"])?;
    let by = flip.json()?["confirm_by"].clone();
    let extended = stand.agent.json(&["extend", GROUP, "1s"])?;
    ensure!(
        extended["confirm_by"].as_str() > by.as_str(),
        "{by}: {extended}"
    );
    sleep_until(flip.ended + Duration::from_millis(1200));
    ensure!(
        stand.agent.status()?["phase"] == "confirming",
        "not prolonged"
    );
    let confirmed = stand.agent.json(&["confirm", GROUP, "--reason", "good"])?;
    ensure!(confirmed["id"] == flip.json()?["id"], "{confirmed}");
    stand.agent.cli(&["confirm", GROUP])?.expect(4)?;
    sleep_until(flip.ended + Duration::from_millis(2200));
    let report = load.stop()?;
    begun_go_to(&report, "green", flip.ended, Instant::now())?;
    let shown = stand.agent.json(&["show", &id(&flip)?])?;
    ensure!(
        shown["confirmed"].is_string() && shown["result"] == "switched",
        "{shown}"
    );
    unharmed(mode, &report)
}

fn pending_it_can_be_aborted_or_forced_back(mode: Mode) -> Result<()> {
    let stand = stand(mode)?;
    let load = Load::start(&stand.topology, &plan())?;
    std::thread::sleep(WHILE);
    let first = flip(&stand, &["--confirm-within", "30s"])?;
    std::thread::sleep(WHILE);
    let abort = stand.agent.cli(&["abort", GROUP, "--json"])?.expect(0)?;
    ensure!(abort.json()?["kind"] == "rollback", "{}", abort.stdout);
    std::thread::sleep(WHILE);
    let report = load.stop()?;
    begun_go_to(&report, "green", first.ended, abort.begun)?;
    begun_go_to(&report, "blue", abort.ended, Instant::now())?;
    let shown = stand.agent.json(&["show", &id(&first)?])?;
    ensure!(shown["result"] == "rolled-back", "{shown}");
    unharmed(mode, &report)?;

    let web = stand.topology.web();
    stand.topology.client.inside(|| -> Result<()> {
        let mut old = Connection::open(web)?;
        ensure!(old.colour()? == "blue", "blue is live");
        let _second = flip(&stand, &["--confirm-within", "30s"])?;
        let mut new = Connection::open(web)?;
        ensure!(new.colour()? == "green", "green is live");
        stand.agent.cli(&["rollback", GROUP, "--hard"])?.expect(0)?;
        ensure!(old.colour()? == "blue", "it is where it began");
        ensure!(
            new.colour().is_err(),
            "a connection of green outlived a hard rollback"
        );
        ensure!(Connection::open(web)?.colour()? == "blue", "not back");
        let status = stand.agent.status()?;
        ensure!(
            status["phase"] == "idle" && status["live"] == "blue",
            "{status}"
        );
        Ok(())
    })?
}

fn at_an_instant_without_an_agent(mode: Mode) -> Result<()> {
    let mut stand = stand(mode)?;
    let load = Load::start(&stand.topology, &plan())?;
    let set = flip(&stand, &["--at", "+1200ms", "--wait", "scheduled"])?;
    ensure!(set.json()?["result"] == "scheduled", "{}", set.stdout);
    let status = stand.agent.status()?;
    ensure!(
        status["live"] == "blue" && status["phase"] == "preparing",
        "{status}"
    );
    stand.agent.kill()?;
    let wait = Duration::from_millis(1200);
    let (first, last) = (set.begun + wait, set.ended + wait);
    sleep_until(last + MARGIN + WHILE);
    let dead_until = Instant::now();
    stand.agent.start()?;
    let status = stand.agent.status()?;
    ensure!(
        status["live"] == "green" && status["revision"] == 1,
        "{status}"
    );
    recorded_as_set(&stand, &set)?;
    let report = load.stop()?;
    begun_go_to(&report, "blue", set.ended, first - MARGIN)?;
    begun_go_to(&report, "green", last + MARGIN, dead_until)?;
    unharmed(mode, &report)
}

/// The agent that comes back finds the switch made, at the instant that it was set for, and says so.
fn recorded_as_set(stand: &Stand, set: &Output) -> Result<()> {
    let set = set.json()?;
    let history = stand.agent.json(&["history", GROUP])?;
    let records = history.as_array().context("no list")?;
    ensure!(records.len() == 1, "{history:#}");
    let record = &records[0];
    for (field, expected) in [
        ("id", &set["id"]),
        ("kind", &"flip".into()),
        ("from", &"blue".into()),
        ("to", &"green".into()),
        ("revision", &1.into()),
        ("result", &"switched".into()),
        ("at", &set["at"]),
    ] {
        ensure!(record[field] == *expected, "{field}: {record:#}, {set:#}");
    }
    // It is known to be stored since this agent has looked.
    let time = |field: &str| -> Result<Timestamp> {
        let time = record[field].as_str();
        Ok(time
            .with_context(|| format!("no {field}: {record:#}"))?
            .parse()?)
    };
    ensure!(time("started")? < time("at")?, "{record:#}");
    ensure!(time("at")? <= time("stored")?, "{record:#}");
    ensure!(time("stored")? <= time("settled")?, "{record:#}");
    Ok(())
}

fn at_an_instant_the_command_waits(mode: Mode) -> Result<()> {
    let stand = stand(mode)?;
    let load = Load::start(&stand.topology, &plan())?;
    let soon = wall_in(&stand, Duration::from_secs(2))?;
    let made = flip(&stand, &["--at", &soon, "--confirm-within", "500ms"])?;
    let answer = made.json()?;
    ensure!(
        answer["result"] == "switched" && answer["at"].is_string(),
        "{answer}"
    );
    ensure!(
        made.took() > Duration::from_millis(900),
        "it took {:?}",
        made.took()
    );
    std::thread::sleep(Duration::from_millis(500) + MARGIN + WHILE);
    let stray = stand
        .agent
        .cli(&["flip", GROUP, "--at", "+1ms", "--at", "x"])?;
    ensure!(stray.code == 2, "{}", stray.stderr);
    stand
        .agent
        .cli(&["flip", GROUP, "--at", "2001-01-01T00:00:00Z"])?
        .expect(2)?;
    let report = load.stop()?;
    begun_go_to(
        &report,
        "blue",
        made.begun,
        made.begun + Duration::from_millis(900),
    )?;
    rolled_back_by_the_kernel(&stand)?;
    unharmed(mode, &report)
}

fn paused_nobody_is_lost_and_nobody_new_let_in(mode: Mode) -> Result<()> {
    let mut stand = stand(mode)?;
    let load = Load::start(&stand.topology, &without_new_datagrams())?;
    std::thread::sleep(WHILE);
    let words = ["pause", GROUP, "--for", "900ms"];
    let pause = stand.agent.cli(&words)?.expect(0)?;
    ensure!(
        stand.agent.status()?["phase"] == "paused",
        "no pause in status"
    );
    held(&stand, &load, &pause)?;
    ensure!(
        stand.agent.status()?["phase"] == "idle",
        "the pause goes on"
    );
    // The program ends a pause by itself.
    let orphan = stand.agent.cli(&words)?.expect(0)?;
    stand.agent.kill()?;
    held(&stand, &load, &orphan)?;
    stand.agent.start()?;
    ensure!(
        stand.agent.status()?["phase"] == "idle",
        "the pause is back"
    );
    unharmed(mode, &load.stop()?)
}

/// Who comes during a pause is let in at its end, and who was there before goes on meanwhile.
fn held(stand: &Stand, load: &Load, pause: &Output) -> Result<()> {
    let over = pause.begun + Duration::from_millis(900);
    let web = stand.topology.web();
    let begun = Instant::now();
    let let_in = stand.topology.client.inside(|| -> Result<Instant> {
        let mut connection = Connection::open(web)?;
        connection.colour()?;
        Ok(Instant::now())
    })??;
    ensure!(begun < over, "the machine is too busy to be in time");
    ensure!(let_in >= over, "let in {:?} early", over - let_in);
    // A SYN is repeated after one second, and then after two.
    ensure!(
        let_in < begun + Duration::from_millis(3500),
        "it took {:?}",
        let_in - begun
    );
    let answers = load.recorder().from(0);
    for kind in [Kind::KeepAlive, Kind::UdpFlow, Kind::Idle] {
        let meanwhile = |answer: &&Answer| {
            answer.kind == kind && answer.begun >= pause.ended && answer.at < over
        };
        let done = answers.iter().filter(meanwhile).count();
        ensure!(done > 0, "{kind}: none during a pause");
    }
    Ok(())
}

/// For the seconds in which a database changes hands.
fn paused_it_flips_before_anybody_new_comes_in(mode: Mode) -> Result<()> {
    let stand = stand(mode)?;
    let load = Load::start(&stand.topology, &without_new_datagrams())?;
    std::thread::sleep(WHILE);
    let pause = stand
        .agent
        .cli(&["pause", GROUP, "--for", "10s"])?
        .expect(0)?;
    let _flip = flip(&stand, &[])?;
    std::thread::sleep(WHILE);
    let resume = stand.agent.cli(&["resume", GROUP])?.expect(0)?;
    std::thread::sleep(Duration::from_millis(1100));
    let report = load.stop()?;
    begun_go_to(&report, "green", pause.ended, Instant::now())?;
    let early = report.begun_between(pause.ended, resume.begun);
    ensure!(early == 0, "{mode}: {early} connections were let in");
    unharmed(mode, &report)
}

fn flip(stand: &Stand, words: &[&str]) -> Result<Output> {
    let all = [&["flip", GROUP, "--json"], words].concat();
    stand.agent.cli(&all)?.expect(0)
}

fn id(output: &Output) -> Result<String> {
    let answer = output.json()?;
    answer["id"].as_str().map(str::to_owned).context("no id")
}

/// The wall clock's time after a while, as the agent's host shows it.
fn wall_in(stand: &Stand, wait: Duration) -> Result<String> {
    let seconds = format!("{} seconds", wait.as_secs());
    let date = stand
        .topology
        .switch
        .command("date")
        .args(["--utc", "+%Y-%m-%dT%H:%M:%S.%3NZ", "--date", &seconds])
        .output()?;
    Ok(String::from_utf8(date.stdout)?.trim().to_owned())
}

/// The flip and what the kernel made of it, as the journal has them.
fn rolled_back_by_the_kernel(stand: &Stand) -> Result<()> {
    let history = stand.agent.json(&["history", GROUP])?;
    let results: Vec<(&Value, &Value)> = history
        .as_array()
        .context("no list")?
        .iter()
        .map(|cutover| (&cutover["kind"], &cutover["actor"]))
        .collect();
    ensure!(
        results.len() == 2 && results[0] == (&"rollback".into(), &"the kernel".into()),
        "{history}"
    );
    ensure!(history[1]["result"] == "rolled-back", "{history}");
    let status = stand.agent.status()?;
    ensure!(
        status["live"] == "blue" && status["revision"] == 2,
        "{status}"
    );
    Ok(())
}

/// New connections begun in this time are `colour`'s, and there are some.
fn begun_go_to(report: &Report, colour: &str, from: Instant, to: Instant) -> Result<()> {
    let strays = report.strays(colour, from, to);
    ensure!(strays.is_empty(), "{strays:?}");
    let begun = report.begun_between(from, to);
    ensure!(begun > 2, "only {begun} connections to {colour}");
    Ok(())
}

fn unharmed(mode: Mode, report: &Report) -> Result<()> {
    println!("{mode}: {}", report.summary());
    let failures = report.failures();
    ensure!(failures.is_empty(), "{mode}: {failures:?}");
    Ok(())
}

fn sleep_until(then: Instant) {
    std::thread::sleep(then.saturating_duration_since(Instant::now()));
}

fn stand(mode: Mode) -> Result<Stand> {
    let settings = Settings {
        servers: 2,
        ..Settings::default()
    };
    Stand::new(mode, mode == Mode::Local, settings, &binary()?)
}

fn plan() -> Plan {
    Plan {
        download: Duration::from_secs(1),
        idle_pause: Duration::from_millis(100),
        ..Plan::default()
    }
}

/// A dropped datagram is a lost one: nobody repeats it.
fn without_new_datagrams() -> Plan {
    Plan {
        udp_new: 0,
        ..plan()
    }
}

fn run(name: &str, test: fn(Mode) -> Result<()>) {
    privilege::run(name, || {
        let modes = [Mode::Local, Mode::Routed, Mode::Masquerade];
        modes
            .into_iter()
            .try_for_each(|mode| test(mode).with_context(|| mode.to_string()))
    });
}
