//! The `switcher` binary.

use std::process::ExitCode;

use clap::Parser;
use switcher::{cli::Cli, command, output::Output};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(&cli.globals);
    match command::run(cli, &output) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprint!("{}", output.failure(&failure));
            failure.exit.into()
        }
    }
}
