//! Argument definitions; nothing is done here.

mod change;
mod condition;
mod explain;
mod init;
mod release;
mod trace;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub use change::{ChangeArgs, WaitArgs};
pub use condition::WaitCondition;
pub use explain::{ExplainArgs, MadeUpPacket};
pub use init::InitArgs;
pub use release::{
    AbortArgs, CanaryArgs, DrillArgs, FlipArgs, FreezeArgs, GateArgs, GroupArgs, RollbackArgs,
    SchemaArgs, StageArgs, Way,
};
pub use trace::TraceArgs;

use crate::config::{DEFAULT_BPFFS, DEFAULT_SOCKET};
use crate::exit::Exit;
use crate::log::{self, LogFormat};
use crate::output::Format;

/// Blue-green traffic switching in the kernel.
///
/// The agent keeps a program on the host's network interfaces that sends clients to one colour or
/// the other. The remaining commands talk to the agent, unless they say otherwise.
#[derive(Debug, Parser)]
#[command(name = "switcher", version, max_term_width = 100, after_long_help = exit_codes())]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The codes that every command ends with, for the help.
fn exit_codes() -> String {
    let codes = (0..).map_while(Exit::from_code);
    let lines = codes.map(|exit| format!("\n  {:>2}  {}", exit.code(), exit.title()));
    format!("Exit codes:{}", lines.collect::<String>())
}

/// What the agent says of what it does, and how.
#[derive(Clone, Debug, Args)]
pub struct Log {
    /// How the log looks [default: as the configuration says; else journald where standard error is systemd's
    /// journal, human elsewhere]
    #[arg(long, value_name = "FORMAT")]
    pub log: Option<LogFormat>,
    /// What is logged: error, warn, info, debug, trace or off; or for parts of it, info,switcher::agent=debug
    #[arg(long, value_name = "LEVEL", env = "SWITCHER_LOG", value_parser = directives, default_value = "info")]
    pub log_level: String,
}

fn directives(text: &str) -> Result<String, String> {
    log::filter(text).map(|_| text.to_owned())
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// The agent's Unix socket
    #[arg(long, global = true, value_name = "PATH", env = "SWITCHER_SOCKET", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
    /// The agent's API over TCP instead, such as `https://switch.internal:9465`; needs --cert and --key
    #[arg(long, global = true, value_name = "URL", env = "SWITCHER_URL", requires_all = ["cert", "key"])]
    pub url: Option<String>,
    /// The certificate to show there (PEM)
    #[arg(long, global = true, value_name = "FILE", env = "SWITCHER_CERT")]
    pub cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "SWITCHER_KEY",
        hide_env_values = true
    )]
    pub key: Option<PathBuf>,
    /// The authority that vouches for the agent (PEM) [default: those of this system]
    #[arg(long, global = true, value_name = "FILE", env = "SWITCHER_CA")]
    pub ca: Option<PathBuf>,
    /// How to print: table, json or yaml; field names of the latter are stable
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "table",
        hide_possible_values = true
    )]
    pub output: Format,
    /// Short for `-o json`
    #[arg(long, global = true)]
    pub json: bool,
    /// Print nothing but errors, and what was asked for as JSON or YAML
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// No colours; also with NO_COLOR set, or when the output is no terminal
    #[arg(long, global = true)]
    pub no_color: bool,
}

impl Globals {
    /// The format asked for, by either option.
    #[must_use]
    pub fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }
}

/// One verb each. Nouns read, verbs change.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent in the foreground
    ///
    /// SIGTERM stops the agent; traffic goes on as it is. SIGHUP takes the file anew, like `apply`.
    Agent {
        /// The configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        #[command(flatten)]
        /// What is said meanwhile
        log: Log,
    },
    /// Write a configuration for this host, from its interfaces and a few answers
    ///
    /// Asks for what options don't say, on a terminal only. Nothing is written that `check` would not take.
    Init(InitArgs),
    /// Check a configuration file, without an agent
    Check {
        /// The configuration file
        #[arg(default_value = crate::config::DEFAULT_CONFIG)]
        file: PathBuf,
    },
    /// Show what `apply` would change, in order; exit code 11 if anything
    Plan {
        /// The configuration file [default: the one the agent was started with]
        file: Option<PathBuf>,
    },
    /// Make the agent take a configuration file
    Apply(ApplyArgs),
    /// Show groups: live colour, roles, health, flows left, whether rollback is possible
    Status {
        /// Only this group
        group: Option<String>,
        /// Keep showing it as it changes
        #[arg(short, long)]
        watch: bool,
    },
    /// Record what is on the idle colour; the preview leads there
    ///
    /// On the colour that was live before, this gives up the rollback to what was there.
    Stage(StageArgs),
    /// Record a change of the database's schema
    ///
    /// Refused while a release serves clients that can't live with it.
    Schema(SchemaArgs),
    /// Let nobody flip for a while; rollback still works
    ///
    /// A flip that is being prepared is called off, unless it is forced.
    Freeze(FreezeArgs),
    /// Let people flip again
    Unfreeze(GroupArgs),
    /// Show a group's manual gates, open or close one
    Gate(GateArgs),
    /// Switch a group's new connections to another colour
    ///
    /// Returns when no CPU can act on the old colour any more, unless --wait says otherwise.
    /// Connections that exist finish where they began.
    Flip(FlipArgs),
    /// Go back to the previous colour, at once; no health is asked
    Rollback(RollbackArgs),
    /// Send a share of a group's new connections to another colour
    ///
    /// Repeat it to step. `flip` finishes a canary; `abort` and `rollback` end it. Connections that exist
    /// finish where they began.
    Canary(CanaryArgs),
    /// Flip, watch, and flip back: does it work, and what does it cost?
    ///
    /// The kernel goes back, agent or no agent. Refused where there would be no way back. Ends with 7 if
    /// something was not well, and prints the cut-over's record.
    Drill(DrillArgs),
    /// Stop a flip that is being prepared; after the switch this means rollback
    ///
    /// Ends a canary: new connections go to the live colour alone.
    Abort(AbortArgs),
    /// Keep a switch that would undo itself
    Confirm(GroupArgs),
    /// Give more time to confirm a switch
    Extend {
        /// The group
        group: String,
        /// How much longer than it would be
        #[arg(value_parser = duration)]
        duration: Duration,
        /// What every change takes.
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Hold new connections for a while; those that exist go on
    ///
    /// For the seconds in which a database changes hands. Clients try again by themselves.
    Pause {
        /// The group
        group: String,
        /// For how long at most
        #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
        time: Duration,
        /// What every change takes.
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Let new connections in again
    Resume(GroupArgs),
    /// Wait until something holds for a group
    Wait {
        /// The group
        group: String,
        /// What to wait for: scheduled, switched, settled, baked, drained, idle, healthy=COLOUR, rollback-eligible
        #[arg(long = "for", value_name = "CONDITION")]
        condition: WaitCondition,
        /// Give up after this long, with exit code 8 [default: never]
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        timeout: Option<Duration>,
    },
    /// List cut-overs, the newest first
    History {
        /// Only this group's
        group: Option<String>,
        /// At most this many
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
        limit: u32,
    },
    /// Show who did what, the newest first; or check that the records are as they were written
    Audit(AuditArgs),
    /// Compare kernel, record and configuration; exit code 11 if they differ
    ///
    /// Looks only. The agent repairs by itself what somebody else has changed, a few times an hour.
    Drift,
    /// Show one cut-over with its receipt
    Show {
        /// Its id, as `history` lists it
        id: String,
    },
    /// Say where a packet would go, and why; leaves no trace
    Explain(ExplainArgs),
    /// Show live traffic by group and colour, what is going on and what comes next
    ///
    /// Keys flip, roll back and confirm; each shows first what it would do, or what is in its way.
    Top(TopArgs),
    /// Show decisions about real packets, live
    ///
    /// While it runs, packets that come in meet programs that tell what they do. Ctrl-C ends it.
    Trace(TraceArgs),
    /// Check this host: kernel, capabilities, interfaces, drivers, pins
    Doctor {
        /// Check what this configuration file needs, too
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Switch a group without the agent, by storing into the pinned map
    ///
    /// For when the agent is dead or hangs. The agent records the switch when it is back.
    Emergency(EmergencyArgs),
    /// Remove all programs and pins from the kernel, without the agent
    ///
    /// Refuses if that would break live traffic.
    Detach(DetachArgs),
    /// Print the API as an OpenAPI 3.1 document
    Openapi,
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write those of all commands into a directory
    Man {
        /// A directory that is there
        directory: Option<PathBuf>,
    },
}

/// Arguments of `apply`.
#[derive(Clone, Debug, Args)]
pub struct ApplyArgs {
    /// The configuration file [default: the one the agent was started with]
    pub file: Option<PathBuf>,
    /// Which revision of its source the file is, such as a commit; for `status` and the record
    #[arg(long, value_name = "TEXT")]
    pub source: Option<String>,
    /// What every change takes.
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// Arguments of `top`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub struct TopArgs {
    /// How often the agent is asked, 100ms at the least
    #[arg(long, value_name = "DURATION", value_parser = interval, default_value = "1s")]
    pub interval: Duration,
    /// Print one frame as text, after two looks at the agent, and end
    #[arg(long)]
    pub snapshot: bool,
    /// The frame's width [default: the terminal's, or 80]
    #[arg(long, value_name = "COLUMNS", requires = "snapshot", value_parser = clap::value_parser!(u16).range(20..=1000))]
    pub width: Option<u16>,
    /// The frame's height [default: the terminal's, or 24]
    #[arg(long, value_name = "ROWS", requires = "snapshot", value_parser = clap::value_parser!(u16).range(5..=1000))]
    pub height: Option<u16>,
}

/// Arguments of `audit`.
#[derive(Clone, Debug, Args)]
pub struct AuditArgs {
    /// `verify`: check every record against those before it; exit code 11 names the first bad one
    pub action: Option<AuditAction>,
    /// Show only this group's
    #[arg(long, value_name = "GROUP", conflicts_with = "action")]
    pub group: Option<String>,
    /// Show at most this many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    pub limit: u32,
    /// Check the state directory itself, without an agent
    #[arg(long, value_name = "DIR", requires = "action")]
    pub state_dir: Option<PathBuf>,
}

/// What to do with the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AuditAction {
    /// Check every record against those before it
    Verify,
}

/// Arguments of `emergency`.
#[derive(Clone, Debug, Args)]
pub struct EmergencyArgs {
    /// The group
    pub group: String,
    /// The colour that is to be live
    pub colour: String,
    /// Where programs and maps are pinned
    #[arg(long, value_name = "DIR", default_value = DEFAULT_BPFFS, env = "SWITCHER_BPFFS")]
    pub bpffs: PathBuf,
}

/// Arguments of `detach`.
#[derive(Clone, Debug, Args)]
pub struct DetachArgs {
    /// Detach even if live traffic breaks, and end the agent first
    #[arg(long)]
    pub force: bool,
    /// Where programs and maps are pinned
    #[arg(long, value_name = "DIR", default_value = DEFAULT_BPFFS, env = "SWITCHER_BPFFS")]
    pub bpffs: PathBuf,
}

/// The pause between two looks at the agent.
fn interval(text: &str) -> Result<Duration, String> {
    let pause = duration(text)?;
    match (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&pause) {
        true => Ok(pause),
        false => Err("from 100ms to 1h".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "write a number with its unit, such as 300ms, 5s, 2m or 1h".to_owned())
}

#[cfg(test)]
mod tests;
