//! `switcher man [DIRECTORY]`.

use std::io::{self, ErrorKind, Write};
use std::path::Path;

use clap::CommandFactory;
use clap_mangen::Man;

use crate::cli::Cli;
use crate::exit::{Exit, Failure};

pub(super) fn run(directory: Option<&Path>) -> Result<Exit, Failure> {
    let command = Cli::command().disable_help_subcommand(true);
    let done = match directory {
        Some(directory) => clap_mangen::generate_to(command, directory),
        None => print(command),
    };
    match done {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let tried = "write manual pages";
            let failure = Failure::new(Exit::Unexpected, tried, error.to_string());
            Err(failure.advise("name a directory that is there and can be written"))
        }
        _ => Ok(Exit::Done),
    }
}

fn print(command: clap::Command) -> io::Result<()> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    io::stdout().write_all(&page)
}
