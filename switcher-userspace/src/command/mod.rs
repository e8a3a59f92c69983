//! One verb a file.

mod abort;
mod agent;
mod apply;
mod audit;
mod canary;
mod change;
mod check;
mod completion;
mod confirm;
mod detach;
mod doctor;
mod drift;
mod drill;
mod emergency;
mod explain;
mod flip;
mod history;
mod init;
mod man;
mod manager;
mod note;
mod openapi;
mod pause;
mod plan;
mod progress;
mod rollback;
mod show;
mod status;
mod top;
mod trace;
mod wait;

use crate::cli::{Cli, Command};
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Does what was asked for.
///
/// # Errors
///
/// The failure that the process ends with; it has not been printed.
pub fn run(cli: Cli, output: &Output) -> Result<Exit, Failure> {
    let Cli { globals, command } = cli;
    match command {
        Command::Agent { config, log } => agent::run(&config, &log),
        Command::Init(args) => init::run(&args, output),
        Command::Check { file } => check::run(&file, output),
        Command::Openapi => openapi::run(),
        Command::Completion { shell } => completion::run(shell),
        Command::Man { directory } => man::run(directory.as_deref()),
        Command::Plan { file } => plan::run(&globals, output, file.as_deref()),
        Command::Apply(args) => apply::run(&globals, output, args),
        Command::Status { group, watch } => status::run(&globals, output, group.as_deref(), watch),
        Command::Stage(args) => note::stage(&globals, output, args),
        Command::Schema(args) => note::schema(&globals, output, args),
        Command::Freeze(args) => note::freeze(&globals, output, args),
        Command::Unfreeze(args) => note::unfreeze(&globals, output, args),
        Command::Gate(args) => note::gate(&globals, output, args),
        Command::Flip(args) => flip::run(&globals, output, args),
        Command::Rollback(args) => rollback::run(&globals, output, args),
        Command::Canary(args) => canary::run(&globals, output, args),
        Command::Drill(args) => drill::run(&globals, output, args),
        Command::Abort(args) => abort::run(&globals, output, args),
        Command::Confirm(args) => confirm::run(&globals, output, args),
        Command::Extend {
            group,
            duration,
            change,
        } => confirm::extend(&globals, output, &group, duration, change),
        Command::Pause {
            group,
            time,
            change,
        } => pause::run(&globals, output, &group, time, change),
        Command::Resume(args) => pause::resume(&globals, output, args),
        Command::Wait {
            group,
            condition,
            timeout,
        } => wait::run(&globals, output, (&group, &condition), timeout),
        Command::History { group, limit } => {
            history::run(&globals, output, group.as_deref(), limit)
        }
        Command::Audit(args) => audit::run(&globals, output, &args),
        Command::Drift => drift::run(&globals, output),
        Command::Show { id } => show::run(&globals, output, &id),
        Command::Detach(args) => detach::run(&args, output),
        Command::Doctor { config } => doctor::run(config.as_deref(), output),
        Command::Emergency(args) => emergency::run(&args, output),
        Command::Explain(args) => explain::run(&globals, output, &args),
        Command::Top(args) => top::run(&globals, output, &args),
        Command::Trace(args) => trace::run(&globals, output, &args),
    }
}
