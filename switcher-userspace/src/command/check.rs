//! `switcher check FILE`: all that is wrong with a file, without an agent.

use std::fmt::{self, Display, Formatter};
use std::path::Path;

use crate::config::{self, Config, ConfigError};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Output};

/// What a good file holds.
struct Summary {
    file: String,
    groups: usize,
    services: usize,
    endpoints: usize,
}

/// People get a line or the errors; scripts get the list of errors, empty for a good file.
pub(super) fn run(file: &Path, output: &Output) -> Result<Exit, Failure> {
    match config::load(file) {
        Ok(config) => {
            let none: &[ConfigError] = &[];
            output.print(none, |_| Summary::new(file, &config).to_string())?;
            Ok(Exit::Done)
        }
        Err(errors) if output.format == Format::Table => {
            eprintln!("{errors}\nsee {}", config::PAGE);
            Ok(Exit::Usage)
        }
        Err(errors) => {
            output.print(&errors, |_| String::new())?;
            Ok(Exit::Usage)
        }
    }
}

impl Summary {
    fn new(file: &Path, config: &Config) -> Self {
        let services = || {
            config
                .groups
                .values()
                .flat_map(|group| group.services.values())
        };
        let endpoints = services().flat_map(|service| service.endpoints.values());
        Self {
            file: file.display().to_string(),
            groups: config.groups.len(),
            services: services().count(),
            endpoints: endpoints.map(Vec::len).sum(),
        }
    }
}

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let groups = counted(self.groups, "group");
        let services = counted(self.services, "service");
        let endpoints = counted(self.endpoints, "endpoint");
        write!(f, "{}: ok: {groups}, {services}, {endpoints}", self.file)
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = include_str!("../config/tests/full.toml");

    #[test]
    fn a_good_file_is_summed_up() {
        let config = config::parse("a.toml", GOOD.as_bytes()).expect("good");
        let summary = Summary::new(Path::new("a.toml"), &config).to_string();
        assert_eq!(summary, "a.toml: ok: 2 groups, 3 services, 7 endpoints");
    }

    #[test]
    fn the_exit_says_whether_a_file_is_good() {
        let quiet = Output {
            format: Format::Table,
            colour: false,
            quiet: true,
        };
        let directory = tempfile::tempdir().expect("a directory");
        let exit = |text: &str| {
            let file = directory.path().join("switcher.toml");
            std::fs::write(&file, text).expect("written");
            run(&file, &quiet).expect("checked")
        };
        assert_eq!(exit(GOOD), Exit::Done);
        assert_eq!(exit("[groups"), Exit::Usage);
        assert_eq!(run(Path::new("/nonexistent"), &quiet), Ok(Exit::Usage));
    }
}
