//! `trace`: real packets are told of, and the programs that tell of them go when nobody listens any more.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use switcher_harness::Stand;
use switcher_harness::config::GROUP;

use crate::{run, stand};

/// The verifier takes its time, more on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn traces_show_decisions_and_leave_the_programs_as_they_were() {
    run("traces_show_decisions", || {
        let mut stand = stand()?;
        let plain = program(&stand)?;
        told(&stand, plain)?;
        refused(&stand)?;
        interrupted(&stand, plain)?;
        outlived(&mut stand, plain)
    });
}

fn told(stand: &Stand, plain: u64) -> Result<()> {
    let client = "10.77.0.2/32";
    let words = [
        "trace", GROUP, client, "tcp", "-n", "2", "--for", "90s", "--json",
    ];
    let trace = stand.agent.cli_in_background(&words);
    until("the programs are replaced", || Ok(program(stand)? != plain))?;
    while !trace.is_finished() {
        connect(stand)?;
    }
    let output = trace.join().expect("it does not panic")?.expect(0)?;
    ensure!(program(stand)? == plain, "the plain programs are not back");
    let lines: Vec<Value> = output
        .stdout
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let [first, _, end] = &*lines else {
        anyhow::bail!("two packets and an end, not {lines:#?}");
    };
    let web = stand.topology.web().to_string();
    ensure!(end["told"] == 2, "{end}");
    ensure!(
        first["kind"] == "request" && first["destination"] == web,
        "{first:#}"
    );
    ensure!(
        first["group"] == GROUP && first["service"].is_string(),
        "{first:#}"
    );
    ensure!(
        first["phase"] == "steady" && first["how"] == "table",
        "{first:#}"
    );
    ensure!(
        first["action"] == "deliver" && first["interface"] == "eth0",
        "{first:#}"
    );
    ensure!(first["endpoint"]["colour"] == "blue", "{first:#}");
    // What is told of a real packet is what would be said of a made-up one.
    let source = first["source"].as_str().context("a source")?;
    let words = ["explain", GROUP, "tcp", source, &web];
    let explained = stand.agent.json(&words)?;
    for fact in ["service", "phase", "action", "bucket", "kind"] {
        ensure!(
            explained[fact] == first[fact],
            "{fact}: {explained:#}\n{first:#}"
        );
    }
    let address = &explained["endpoint"]["address"];
    ensure!(
        *address == first["endpoint"]["address"],
        "{explained:#}\n{first:#}"
    );
    Ok(())
}

fn refused(stand: &Stand) -> Result<()> {
    stand.agent.cli(&["trace", "shoes"])?.expect(3)?;
    stand.agent.cli(&["trace", ":http"])?.expect(2)?;
    stand.agent.cli(&["trace"])?.expect(2)?;
    Ok(())
}

/// To end the command is enough, and meanwhile nobody else can trace.
fn interrupted(stand: &Stand, plain: u64) -> Result<()> {
    let mut child = tracing(stand)?;
    until("the programs are replaced", || Ok(program(stand)? != plain))?;
    stand.agent.cli(&["trace", "--all"])?.expect(4)?;
    // As Ctrl-C would, but whoever runs the tests in the background may have SIGINT ignored.
    kill(Pid::from_raw(child.id().try_into()?), Signal::SIGTERM)?;
    child.wait()?;
    until("the plain programs are back", || {
        Ok(program(stand)? == plain)
    })
}

/// A killed agent leaves traffic served, and the next one puts the plain programs back.
fn outlived(stand: &mut Stand, plain: u64) -> Result<()> {
    let mut child = tracing(stand)?;
    until("the programs are replaced", || Ok(program(stand)? != plain))?;
    stand.agent.kill()?;
    child.wait()?;
    ensure!(program(stand)? != plain, "nobody was there to replace it");
    connect(stand).context("nobody serves")?;
    stand.agent.start()?;
    ensure!(program(stand)? == plain, "the plain programs are not back");
    connect(stand)
}

fn tracing(stand: &Stand) -> Result<Child> {
    let mut command = Command::new(stand.agent.binary());
    command.arg("--socket").arg(stand.agent.place().socket());
    command.args(["trace", "--all", "--for", "10m"]);
    Ok(command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?)
}

fn connect(stand: &Stand) -> Result<()> {
    let web = stand.topology.web();
    let connects = || TcpStream::connect_timeout(&web, Duration::from_secs(5));
    stand.topology.client.inside(connects)??;
    Ok(())
}

/// The program at the interface.
fn program(stand: &Stand) -> Result<u64> {
    let shown = stand.topology.switch.ip("-json link show eth0")?;
    let shown: Value = serde_json::from_str(&shown)?;
    let id = shown[0]["xdp"]["prog"]["id"].as_u64();
    id.with_context(|| format!("no program: {shown}"))
}

fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !holds()? {
        ensure!(Instant::now() < end, "not after {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
