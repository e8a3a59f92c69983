//! Changes of a group: releases, what may stand in their way, and switches.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{ChangeArgs, WaitArgs, duration};
use crate::release::SchemaRange;

/// Arguments of `stage`.
#[derive(Clone, Debug, Args)]
pub struct StageArgs {
    /// The group
    pub group: String,
    /// The colour that has the release [default: the idle one, if there is one]
    pub colour: Option<String>,
    /// What the release is called
    #[arg(long = "version", value_name = "V", id = "release")]
    pub version: String,
    /// Which versions of the database's schema it can live with, such as 12..14 [default: any]
    #[arg(long, value_name = "A..B")]
    pub schema: Option<SchemaRange>,
    /// What every change takes.
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// Arguments of `schema`.
#[derive(Clone, Debug, Args)]
pub struct SchemaArgs {
    /// The group
    pub group: String,
    /// The version that is applied now
    #[arg(long, value_name = "N")]
    pub applied: u64,
    /// The previous release can't live with it, and needn't: there will be no rollback
    #[arg(long)]
    pub close_rollback: bool,
    /// What every change takes.
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// Arguments of `freeze`.
#[derive(Clone, Debug, Args)]
pub struct FreezeArgs {
    /// The group
    pub group: String,
    /// It ends by itself after this long [default: `unfreeze` ends it]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub time: Option<Duration>,
    /// What every change takes; here `--reason` is needed.
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// Arguments of `gate`.
#[derive(Clone, Debug, Args)]
pub struct GateArgs {
    /// The group
    pub group: String,
    /// The gate, as the configuration names it [default: show all]
    #[arg(requires = "way")]
    pub name: Option<String>,
    /// What to do with it
    pub way: Option<Way>,
    /// What every change takes.
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// What to do with a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// Let flips through
    Open,
    /// Let none through
    Close,
}

/// Arguments of `flip`.
#[derive(Clone, Debug, Args)]
pub struct FlipArgs {
    /// The group
    pub group: String,
    /// The colour that is to be live [default: the other one, if there are two]
    pub colour: Option<String>,
    /// Don't ask for the colour's health; this is recorded
    #[arg(long)]
    pub force: bool,
    /// Switch at this instant, and not as soon as possible: +5s, or such as 2026-11-28T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Go back after this long, agent or no agent, unless it is confirmed [default: the group's]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub confirm_within: Option<Duration>,
    /// Don't wait to be confirmed, whatever the group's default is
    #[arg(long, conflicts_with = "confirm_within")]
    pub no_confirm: bool,
    /// Don't watch the colour afterwards, whatever the group's default is; neither does --force
    #[arg(long)]
    pub no_bake: bool,
    /// What every change takes.
    #[command(flatten)]
    pub change: ChangeArgs,
    /// What changes that take time also take.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Arguments of `rollback`.
#[derive(Clone, Debug, Args)]
pub struct RollbackArgs {
    /// The group
    pub group: String,
    /// Move existing connections back, too: those that began on the bad colour break
    #[arg(long)]
    pub hard: bool,
    /// What every change takes.
    #[command(flatten)]
    pub change: ChangeArgs,
    /// What changes that take time also take.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Arguments of `canary`.
#[derive(Clone, Debug, Args)]
pub struct CanaryArgs {
    /// The group
    pub group: String,
    /// The colour that is to have a share
    pub colour: String,
    /// Its share of new connections, in percent: 1 to 99
    #[arg(value_parser = clap::value_parser!(u8).range(1..=99), required_unless_present = "policy")]
    pub percent: Option<u8>,
    /// Let the share grow by itself as the configuration says, up to the flip, while the colour does well
    #[arg(long, conflicts_with = "percent")]
    pub policy: bool,
    /// Don't ask for the colour's health; this is recorded
    #[arg(long)]
    pub force: bool,
    /// What every change takes.
    #[command(flatten)]
    pub change: ChangeArgs,
    /// What changes that take time also take.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Arguments of `drill`.
#[derive(Clone, Debug, Args)]
pub struct DrillArgs {
    /// The group
    pub group: String,
    /// The colour that is to be live meanwhile [default: the other one, if there are two]
    pub colour: Option<String>,
    /// For how long [default: 10s]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub time: Option<Duration>,
    /// What every change takes.
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// Arguments of `abort`.
#[derive(Clone, Debug, Args)]
pub struct AbortArgs {
    /// The group
    pub group: String,
    /// What every change takes.
    #[command(flatten)]
    pub change: ChangeArgs,
    /// What changes that take time also take.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Arguments of `confirm` and `resume`.
#[derive(Clone, Debug, Args)]
pub struct GroupArgs {
    /// The group
    pub group: String,
    /// What every change takes.
    #[command(flatten)]
    pub change: ChangeArgs,
}
