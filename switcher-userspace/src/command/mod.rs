//! One verb a file.

mod check;
mod completion;

use crate::cli::{Cli, Command};
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Does what was asked for.
///
/// # Errors
///
/// The failure that the process ends with; it has not been printed.
pub fn run(cli: Cli, output: &Output) -> Result<Exit, Failure> {
    match cli.command {
        Command::Check { file } => check::run(&file, output),
        Command::Completion { shell } => completion::run(shell),
        Command::Agent { .. }
        | Command::Plan { .. }
        | Command::Apply(_)
        | Command::Status { .. }
        | Command::Flip(_)
        | Command::Rollback(_)
        | Command::Abort(_)
        | Command::Wait { .. }
        | Command::History { .. }
        | Command::Show { .. }
        | Command::Explain(_)
        | Command::Doctor { .. }
        | Command::Emergency(_)
        | Command::Detach(_) => Err(Failure::new(
            Exit::Unexpected,
            "",
            "this command is not available in this version",
        )),
    }
}
