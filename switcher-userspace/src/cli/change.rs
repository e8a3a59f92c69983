//! What changes have in common.

use std::time::Duration;

use clap::Args;

use super::{WaitCondition, duration};

/// What every change takes.
#[derive(Clone, Debug, Default, Args)]
pub struct ChangeArgs {
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Only if the group (for `apply`: the configuration) is at this revision
    #[arg(long, value_name = "N")]
    pub if_revision: Option<u64>,
    /// Only if this colour is live
    #[arg(long, value_name = "COLOUR", conflicts_with = "if_revision")]
    pub if_live: Option<String>,
    /// Carry this out once, however often it is sent
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

/// What changes that take time also take.
#[derive(Clone, Debug, Default, Args)]
pub struct WaitArgs {
    /// Return when this holds: scheduled, switched, settled, baked, drained, idle, healthy=COLOUR, rollback-eligible
    #[arg(long, value_name = "CONDITION")]
    pub wait: Option<WaitCondition>,
    /// Stop waiting after this long, with exit code 8 [default: never]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
}
