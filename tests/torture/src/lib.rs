//! Everything that may happen to Switcher, in random order, beside clients that check every answer.
//!
//! A [`plan`] says what is done, [`acts`] does it, [`clients`] look on. What each may expect is what the
//! [`model`] says, to which both report: orders when they are given and when they have answered, clients
//! whom they have reached and what has become of it. What is not as it was promised is a finding.

pub mod acts;
pub mod clients;
pub mod counts;
pub mod endpoint;
pub mod judge;
mod junk;
pub mod model;
pub mod plan;
pub mod report;
mod share;
pub mod timeline;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::{Agent, Mode, Stand, flood, interrupt};
use switcher_tests::receiver::Receivers;

use acts::{Acts, endpoints};
use clients::Clients;
use judge::Judge;
use model::Model;
use plan::{Extent, Plan, Step};
use report::Report;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Run {
    /// Where the servers are.
    pub mode: Mode,
    /// Of the plan.
    pub seed: u64,
    /// For how long.
    pub time: Duration,
    /// The longest that a flow lives; windows last a little longer.
    pub life: Duration,
    /// These steps, and no others.
    pub steps: Option<Vec<Step>>,
    /// Where the plan is written.
    pub directory: PathBuf,
    /// The model is told that flips change nothing: promises will seem to be broken.
    pub sabotage: bool,
}

/// Time for clients to begin before anything is done.
const BEFORE: Duration = Duration::from_millis(500);
/// So much longer than flows live windows last.
const LONGER: Duration = Duration::from_secs(2);
/// Longer than an idle connection is silent, and than TCP is when a link was down.
const LEARN: Duration = Duration::from_secs(4);
/// In which everything has ended and the group is at rest.
const REST: &str = "60s";

/// Does it.
///
/// # Errors
/// When the test itself fails. Broken promises are no error here.
pub fn run(run: &Run) -> Result<Report> {
    let extent = extent(run);
    let (stand, _receivers) = stand(run.mode, &extent)?;
    flood::prepare(&stand.topology)?;
    fs::create_dir_all(&run.directory)
        .with_context(|| format!("making {}", run.directory.display()))?;
    let name = format!("{}-{}", run.mode, run.seed);
    let file = run.directory.join(format!("{name}.plan"));
    let mut file = File::create(&file).with_context(|| format!("making {}", file.display()))?;
    let blue = endpoints(&extent.layout(), extent.servers).of(0);
    let deadline = Duration::from_millis(extent.deadlines_ms.0);
    let learn = run.mode.is_tagged().then_some(LEARN);
    let judge = Arc::new(Judge::new(Model::new(blue, deadline).learning(learn)));
    let first = resident(&stand.agent)?;
    let clients = Clients::start(&stand.topology, &judge, run.seed, run.life)?;
    let mut acts = Acts::new(stand, Arc::clone(&judge), extent.layout(), run.sabotage);
    let steps: Box<dyn Iterator<Item = Step>> = match &run.steps {
        Some(steps) => Box::new(steps.iter().cloned()),
        None => Box::new(Plan::new(run.seed, extent)),
    };
    std::thread::sleep(BEFORE);
    let begun = Instant::now();
    let done = act_all(&mut acts, steps, begun + run.time, &mut file);
    clients.stop()?;
    if done.is_ok() {
        rest(&acts.stand, &judge)?;
    }
    judge.shares(judge.now(), None);
    let report = Report {
        mode: run.mode.to_string(),
        seed: run.seed,
        lasted: begun.elapsed().as_secs_f64(),
        counts: acts.counts.clone(),
        record: judge.record(),
        resident: (first, resident(&acts.stand.agent).unwrap_or(f64::NAN)),
    };
    // Whoever ended it early has said so as a broken promise; else it is the test that has failed.
    if !report.is_well() {
        keep(&acts.stand.agent, &run.directory.join(&name))?;
    }
    match done {
        Err(error) if report.is_well() => Err(error),
        _ => Ok(report),
    }
}

fn act_all(
    acts: &mut Acts,
    steps: impl Iterator<Item = Step>,
    end: Instant,
    file: &mut File,
) -> Result<()> {
    for step in steps {
        let due = Instant::now() + Duration::from_millis(step.pause_ms);
        let stopped = interrupt::sleep_until(due.min(end)).is_err();
        if stopped || Instant::now() >= end {
            return Ok(());
        }
        plan::write(file, &step)?;
        acts.act(&step.action)
            .with_context(|| format!("at {}", step.action))?;
    }
    Ok(())
}

/// With nobody there any more, everything comes to rest, and nothing is amiss.
fn rest(stand: &Stand, judge: &Judge) -> Result<()> {
    judge.doing("waiting until all is at rest".to_owned());
    // What is going on may wait for somebody.
    for words in [["confirm", GROUP], ["resume", GROUP], ["abort", GROUP]] {
        stand.agent.cli(&words)?;
    }
    for words in [
        &["wait", GROUP, "--for", "idle", "--timeout", REST][..],
        &["drift"],
        &["audit", "verify"],
    ] {
        let output = stand.agent.cli(words)?;
        if output.code != 0 {
            let seen = format!("{}: {}{}", output.code, output.stdout, output.stderr);
            judge.found(&format!("`{}` at the end", output.command), "0", seen);
        }
    }
    let log = stand.agent.log();
    if let Some(line) = log.lines().find(|line| line.contains("panicked")) {
        judge.found("the agent's log", "no panic", line);
    }
    Ok(())
}

/// What the agent has left, for whoever looks for the reason.
fn keep(agent: &Agent, directory: &Path) -> Result<()> {
    let mut copied = vec![agent.place().log(), agent.place().config()];
    let state = fs::read_dir(agent.place().state())?;
    copied.extend(state.flatten().map(|entry| entry.path()));
    fs::create_dir_all(directory)?;
    for path in copied.iter().filter(|path| path.is_file()) {
        let name = path.file_name().context("a file without a name")?;
        fs::copy(path, directory.join(name))?;
    }
    println!("what the agent has left is in {}", directory.display());
    Ok(())
}

fn extent(run: &Run) -> Extent {
    let mode = run.mode;
    let servers = if mode.keeps_vip() { 2 } else { 3 };
    Extent {
        servers,
        links: match mode {
            Mode::Routed | Mode::Masquerade => 3,
            Mode::Local | Mode::Dsr | Mode::Ipip => 1,
        },
        syns: match mode {
            // Each takes a port for some time.
            Mode::Masquerade => 2_000,
            _ => 20_000,
        },
        deadlines_ms: (millis(run.life + LONGER), millis(LEARN)),
    }
}

fn stand(mode: Mode, extent: &Extent) -> Result<(Stand, Receivers)> {
    let settings = Settings {
        servers: extent.servers,
        learn: LEARN,
        deadline: Duration::from_millis(extent.deadlines_ms.0),
        agent: match mode {
            Mode::Masquerade => "[agent.masquerade]\nports = \"10000-19999\"\nopening = \"5s\"",
            Mode::Local | Mode::Routed | Mode::Dsr | Mode::Ipip => "",
        },
        ..Settings::default()
    };
    let offloads = mode == Mode::Local;
    let mut stand = Stand::without_agent(mode, offloads, settings, &binary()?)?;
    let receivers = Receivers::attach(&stand.topology)?;
    stand.agent.start()?;
    for colour in ["blue", "green"] {
        let condition = format!("healthy={colour}");
        let words = ["wait", GROUP, "--for", &condition, "--timeout", REST];
        stand.agent.cli(&words)?.expect(0)?;
    }
    Ok((stand, receivers))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The agent's memory, in MiB.
fn resident(agent: &Agent) -> Result<f64> {
    let pid = agent.pid().context("the agent has gone")?;
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let value = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: f64 = value.context("no VmRSS")?.parse()?;
    Ok(kib / 1024.0)
}
