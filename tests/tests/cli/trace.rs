//! `trace`: real packets are told of, and the programs that tell of them go when nobody listens any more.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use switcher_harness::Stand;
use switcher_harness::config::{GROUP, Settings};

use crate::{run, stand};

/// The verifier takes its time, more on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn traces_show_decisions_and_leave_the_programs_as_they_were() {
    run("traces_show_decisions", || {
        let mut stand = stand()?;
        let plain = programs(&stand)?;
        told(&stand, &plain, "xdp")?;
        refused(&stand)?;
        interrupted(&stand, &plain)?;
        outlived(&mut stand, &plain)?;
        stand.agent.stop()?;
        let settings = Settings {
            xdp: "tc",
            ..stand.settings.clone()
        };
        let config = settings.render(&stand.topology, stand.agent.place());
        stand.agent.write_config(&config)?;
        stand.agent.start()?;
        told(&stand, &programs(&stand)?, "tc")
    });
}

fn told(stand: &Stand, plain: &[u32], hook: &str) -> Result<()> {
    let client = "10.77.0.2/32";
    let words = [
        "trace", GROUP, client, "tcp", "-n", "8", "--for", "90s", "--json",
    ];
    let trace = stand.agent.cli_in_background(&words);
    until("the programs are replaced", || replaced(stand, plain))?;
    while !trace.is_finished() {
        connect(stand)?;
    }
    let output = trace.join().expect("it does not panic")?.expect(0)?;
    ensure!(programs(stand)? == plain, "the plain programs are not back");
    let lines: Vec<Value> = output
        .stdout
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let [first, others @ .., end] = &*lines else {
        anyhow::bail!("packets and an end, not {lines:#?}");
    };
    let web = stand.topology.web().to_string();
    ensure!(end["told"] == 8 && others.len() == 7, "{end}");
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
    ensure!(first["hook"] == hook, "{first:#}");
    ensure!(first["endpoint"]["colour"] == "blue", "{first:#}");
    // Its answer leaves from there, and gets the service's address.
    let mut answers = others.iter().filter(|it| it["hook"] == "egress");
    let answer = answers.next();
    let answer = answer.with_context(|| format!("no answer: {others:#?}"))?;
    ensure!(
        answer["kind"] == "reply" && answer["action"] == "send",
        "{answer:#}"
    );
    ensure!(
        answer["source"] == first["endpoint"]["address"] && answer["endpoint"] == first["endpoint"],
        "{answer:#}\n{first:#}"
    );
    ensure!(
        answer["destination"] == first["source"] && answer["service"] == first["service"],
        "{answer:#}\n{first:#}"
    );
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
fn interrupted(stand: &Stand, plain: &[u32]) -> Result<()> {
    let mut child = tracing(stand)?;
    until("the programs are replaced", || replaced(stand, plain))?;
    stand.agent.cli(&["trace", "--all"])?.expect(4)?;
    // As Ctrl-C would, but whoever runs the tests in the background may have SIGINT ignored.
    kill(Pid::from_raw(child.id().try_into()?), Signal::SIGTERM)?;
    child.wait()?;
    until("the plain programs are back", || {
        Ok(programs(stand)? == plain)
    })
}

/// A killed agent leaves traffic served, and the next one puts the plain programs back.
fn outlived(stand: &mut Stand, plain: &[u32]) -> Result<()> {
    let mut child = tracing(stand)?;
    until("the programs are replaced", || replaced(stand, plain))?;
    stand.agent.kill()?;
    child.wait()?;
    ensure!(replaced(stand, plain)?, "nobody was there to replace them");
    connect(stand).context("nobody serves")?;
    stand.agent.start()?;
    ensure!(programs(stand)? == plain, "the plain programs are not back");
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

/// The programs at the interface: of XDP, if there is one, and at both hooks of tc.
fn programs(stand: &Stand) -> Result<Vec<u32>> {
    let shown = stand.topology.switch.ip("-json link show eth0")?;
    let shown: Value = serde_json::from_str(&shown)?;
    let xdp = shown[0]["xdp"]["prog"]["id"].as_u64();
    let mut programs: Vec<u32> = xdp.map(u32::try_from).transpose()?.into_iter().collect();
    for hook in [TcAttachType::Ingress, TcAttachType::Egress] {
        let query = || SchedClassifier::query_tcx("eth0", hook);
        let (_, found) = stand.topology.switch.inside(query)??;
        programs.extend(found.iter().map(ProgramInfo::id));
    }
    ensure!(programs.len() == 2, "two programs, not {shown}");
    Ok(programs)
}

/// Whether other programs are at the hooks, at all of them.
fn replaced(stand: &Stand, plain: &[u32]) -> Result<bool> {
    let programs = programs(stand)?;
    Ok(programs.iter().all(|program| !plain.contains(program)))
}

fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !holds()? {
        ensure!(Instant::now() < end, "not after {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
