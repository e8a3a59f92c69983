//! `cargo xtask torture`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use switcher_harness::{Mode, interrupt, netns, privilege};
use switcher_torture::{Run, plan, report, run};

/// Do everything that may happen to Switcher in random order, and check every promise to its clients
#[derive(Parser)]
#[command(name = "cargo xtask torture")]
struct Args {
    /// How long, in each mode: 90s, 10m, 2h
    #[arg(long = "for", value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    time: Duration,
    /// Do what was done with this seed
    #[arg(long)]
    seed: Option<u64>,
    /// Where the servers are
    #[arg(long, value_enum, default_value_t = Modes::All)]
    mode: Modes,
    /// Do what this file says, which a run has written into target/torture
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Where plans and reports go
    #[arg(long, value_name = "DIR", default_value = "target/torture")]
    directory: PathBuf,
    /// Expect something wrong, to see that it is noticed
    #[arg(long, hide = true)]
    sabotage: bool,
}

/// The longest that a flow lives.
const LIFE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, ValueEnum)]
enum Modes {
    Local,
    Routed,
    Masquerade,
    Dsr,
    Ipip,
    All,
}

impl Modes {
    fn each(self) -> Vec<Mode> {
        match self {
            Self::Local => vec![Mode::Local],
            Self::Routed => vec![Mode::Routed],
            Self::Masquerade => vec![Mode::Masquerade],
            Self::Dsr => vec![Mode::Dsr],
            Self::Ipip => vec![Mode::Ipip],
            Self::All => vec![
                Mode::Local,
                Mode::Routed,
                Mode::Masquerade,
                Mode::Dsr,
                Mode::Ipip,
            ],
        }
    }
}

fn main() -> ExitCode {
    match torture(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every promise was kept.
fn torture(args: &Args) -> Result<bool> {
    if !privilege::is_root("torture") {
        return Ok(false);
    }
    interrupt::install()?;
    netns::sweep();
    let seed = args.seed.unwrap_or_else(chosen);
    let steps = args.replay.as_deref().map(plan::read).transpose()?;
    let mut reports = Vec::new();
    for mode in args.mode.each() {
        if interrupt::check().is_err() {
            break;
        }
        println!("{mode}: seed {seed}, {:?}", args.time);
        let done = run(&Run {
            mode,
            seed,
            time: args.time,
            life: LIFE,
            steps: steps.clone(),
            directory: args.directory.clone(),
            sabotage: args.sabotage,
        });
        let report = done.with_context(|| format!("{mode}, seed {seed}"))?;
        print!("{}", report.markdown());
        reports.push(report);
        report::write(&args.directory, &reports)?;
    }
    println!("in {}: torture.md, torture.json", args.directory.display());
    Ok(reports.iter().all(report::Report::is_well))
}

/// By the clock.
fn chosen() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(1, |since| since.as_secs())
}
