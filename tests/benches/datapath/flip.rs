//! How long a flip takes, from the command line to settled, and what the agent takes meanwhile.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::Value;
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::topology::COLOURS;
use switcher_harness::{Agent, Mode, Stand};

use crate::packets::median;
use crate::report::Report;

const MIB: f64 = 1024.0;

pub(crate) fn measure(flips: u32, report: &mut Report) -> anyhow::Result<()> {
    let settings = Settings {
        // Nothing is in flight here, so nothing has to be waited for.
        arm: Duration::ZERO,
        ..Settings::default()
    };
    let stand = Stand::new(Mode::Local, false, settings, &binary()?)?;
    let (mut commands, mut stores) = (Vec::new(), Vec::new());
    let mut begun = Vec::new();
    for turn in 0..flips as usize {
        let target = COLOURS[(turn + 1) % COLOURS.len()];
        begun.push(Timestamp::now());
        let (took, output) = command(&stand, &["flip", GROUP, target, "--json"])?;
        commands.push(took);
        let answer: Value = serde_json::from_slice(&output)?;
        let settled = answer.get("store_to_settled_us").and_then(Value::as_f64);
        stores.push(settled.with_context(|| format!("no store_to_settled_us in {answer}"))?);
    }
    let mut until = until_stored(&stand, &begun)?;
    report.figure(
        "flip, command line to the store, p50",
        median(&mut until) / 1e3,
        "ms",
        Some(4.0),
    );
    report.figure(
        "flip, command line to settled, p50",
        median(&mut commands),
        "ms",
        Some(20.0),
    );
    report.figure(
        "flip, command line to settled, p99",
        late(&commands),
        "ms",
        None,
    );
    report.figure(
        "flip, store to settled, p50",
        median(&mut stores),
        "us",
        None,
    );
    report.figure("flip, store to settled, p99", late(&stores), "us", None);
    let asked = (0..flips).map(|_| by_connection(&stand));
    let begun: Vec<_> = asked.collect::<anyhow::Result<_>>()?;
    let mut until = until_stored(&stand, &begun)?;
    report.figure(
        "flip, over an open connection to the store, p50",
        median(&mut until) / 1e3,
        "ms",
        Some(0.2),
    );
    let others = (0..flips).map(|_| Ok(command(&stand, &["status"])?.0));
    let mut others: Vec<f64> = others.collect::<anyhow::Result<_>>()?;
    report.figure(
        "status, command line, p50",
        median(&mut others),
        "ms",
        Some(5.0),
    );
    let resident = resident(&stand.agent)?;
    report.figure("agent's resident memory", resident, "MiB", Some(30.0));
    Ok(())
}

/// Milliseconds that a command takes, and what it prints. Started from here, not inside a namespace: a process that has
/// to go elsewhere first starts slower.
fn command(stand: &Stand, arguments: &[&str]) -> anyhow::Result<(f64, Vec<u8>)> {
    let mut command = Command::new(binary()?);
    command.args(arguments).arg("--socket");
    command.arg(stand.agent.place().socket());
    let begun = Instant::now();
    let output = command.output()?;
    let took = begun.elapsed().as_secs_f64() * 1e3;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{arguments:?}: {said}");
    Ok((took, output.stdout))
}

/// Microseconds from these instants to the stores of the flips that began then, which are the last ones.
fn until_stored(stand: &Stand, begun: &[Timestamp]) -> anyhow::Result<Vec<f64>> {
    let limit = begun.len().to_string();
    let history = stand.agent.json(&["history", GROUP, "-n", &limit])?;
    let history = history.as_array().context("a list of cut-overs")?;
    let stored = history.iter().rev().map(|cutover| {
        let stored = cutover["stored"].as_str().context("it was stored")?;
        Ok(stored.parse::<Timestamp>()?)
    });
    let stored = stored.collect::<anyhow::Result<Vec<_>>>()?;
    let times = begun.iter().zip(stored);
    Ok(times
        .map(|(begun, stored)| stored.duration_since(*begun).as_secs_f64() * 1e6)
        .collect())
}

/// Asks for a flip by a connection that is there already. Returns when it was asked.
fn by_connection(stand: &Stand) -> anyhow::Result<Timestamp> {
    let mut connection = UnixStream::connect(stand.agent.place().socket())?;
    // The server has taken it once it answers.
    ask(&mut connection, "GET", "/v1/status", "")?;
    let begun = Timestamp::now();
    ask(
        &mut connection,
        "POST",
        &format!("/v1/groups/{GROUP}/flip"),
        "{}",
    )?;
    Ok(begun)
}

/// One request over a connection that stays open.
pub(crate) fn ask(
    connection: &mut UnixStream,
    verb: &str,
    path: &str,
    body: &str,
) -> anyhow::Result<()> {
    let request = format!(
        "{verb} {path} HTTP/1.1\r\nHost: switcher\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    // In one piece, as clients do: the agent would begin with the first one.
    connection.write_all(request.as_bytes())?;
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    anyhow::ensure!(line.contains(" 200 "), "{verb} {path}: {line}");
    let mut length = 0;
    while line.trim() != "" {
        line.clear();
        reader.read_line(&mut line)?;
        let value = line.to_lowercase();
        if let Some(value) = value.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut answer = vec![0; length];
    Ok(reader.read_exact(&mut answer)?)
}

/// The 99th percentile of sorted values.
fn late(sorted: &[f64]) -> f64 {
    let index = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

pub(crate) fn resident(agent: &Agent) -> anyhow::Result<f64> {
    let pid = agent.pid().context("the agent has gone")?;
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path)?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let value = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: f64 = value
        .with_context(|| format!("no VmRSS in {path}"))?
        .parse()?;
    Ok(kib / MIB)
}
