//! `switcher init [FILE]`.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use crate::cli::InitArgs;
use crate::doctor::{self, State};
use crate::exit::{Exit, Failure};
use crate::init::{Host, Questions, Ready, draft, prepare};
use crate::output::Output;

const TRIED: &str = "write a configuration";
/// What systemd's unit starts.
const UNIT_FILE: &str = crate::config::DEFAULT_CONFIG;

/// What was done, and what is next.
#[derive(Debug, Serialize)]
struct Written {
    file: String,
    interfaces: Vec<String>,
    groups: Vec<String>,
    /// What `doctor` finds wrong on this host.
    problems: Vec<String>,
    next: Vec<String>,
}

pub(super) fn run(args: &InitArgs, output: &Output) -> Result<Exit, Failure> {
    let prints = args.file == Path::new("-");
    let replaces = args.force || says_nothing(&args.file);
    if !prints && !replaces && args.file.exists() {
        return Err(exists(&args.file));
    }
    let host = Host::read().context("look at this host's interfaces")?;
    let (mut from, mut to) = (io::stdin().lock(), io::stderr());
    let talks = from.is_terminal() && to.is_terminal();
    let mut questions = talks.then(|| Questions::new(&mut from, &mut to));
    let mut draft = draft(args, &host, questions.as_mut())?;
    let ready = prepare(&mut draft, &host)?;
    if prints {
        io::stdout()
            .write_all(ready.text.as_bytes())
            .context("write to standard output")?;
        return Ok(Exit::Done);
    }
    write(&args.file, &ready.text, replaces)?;
    let written = sum_up(&args.file, &ready);
    output.print(&written, |_| said(&written))?;
    Ok(Exit::Done)
}

/// A whole file or none; over another one only by force.
fn write(file: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let denied = |error: io::Error| {
        let why = format!("{}: {error}", file.display());
        let exit = match error.kind() {
            io::ErrorKind::PermissionDenied => Exit::NotPermitted,
            io::ErrorKind::AlreadyExists => return exists(file),
            _ => Exit::Unexpected,
        };
        Failure::new(exit, TRIED, why)
            .advise("run this as root, or name another file: `switcher init FILE`, `-` to print it")
    };
    if let Some(directory) = file.parent().filter(|it| !it.as_os_str().is_empty()) {
        fs::create_dir_all(directory).map_err(denied)?;
    }
    let beside = file.with_added_extension("new");
    let kept = (|| {
        let mut new = File::create(&beside)?;
        new.write_all(text.as_bytes())?;
        new.sync_all()?;
        match force {
            true => fs::rename(&beside, file),
            // Refuses where there is one by now.
            false => fs::hard_link(&beside, file),
        }
    })();
    let _renamed = fs::remove_file(&beside);
    kept.map_err(denied)
}

/// Whether a file has comments alone, as the one that the package brings.
fn says_nothing(file: &Path) -> bool {
    let text = fs::read_to_string(file).unwrap_or_else(|_| "?".to_owned());
    let lines = text.lines().map(str::trim);
    lines
        .into_iter()
        .all(|it| it.is_empty() || it.starts_with('#'))
}

fn exists(file: &Path) -> Failure {
    let why = format!("{} is there already, and was left as it is", file.display());
    Failure::new(Exit::Usage, TRIED, why).advise("name another file, or replace it with --force")
}

fn sum_up(file: &Path, ready: &Ready) -> Written {
    let name = file.display().to_string();
    let report = doctor::examine(Some(file));
    let problems = report.checks.iter().filter(|it| it.state == State::Problem);
    let problems = problems.map(|it| format!("{}: {}", it.name, it.found));
    let group = ready.config.groups.keys().next();
    let group = group.map_or("GROUP", String::as_str);
    let systemd = Path::new("/run/systemd/system").exists() && file == Path::new(UNIT_FILE);
    let start = match systemd {
        true => "systemctl enable --now switcher".to_owned(),
        false => format!("switcher agent --config {name}"),
    };
    Written {
        interfaces: ready
            .config
            .agent
            .interfaces
            .iter()
            .map(|it| it.name.clone())
            .collect(),
        groups: ready.config.groups.keys().cloned().collect(),
        problems: problems.collect(),
        next: vec![
            format!("switcher doctor --config {name}"),
            start,
            "switcher status".to_owned(),
            format!("switcher flip {group}"),
        ],
        file: name,
    }
}

fn said(written: &Written) -> String {
    let Written {
        file,
        problems,
        next,
        ..
    } = written;
    let mut text = format!("{file} is written. Read it, then:\n\n");
    let notes = [
        "is this host ready?",
        "runs in the foreground",
        "who is live, and is everybody well?",
        "blue -> green",
    ];
    for (command, note) in next.iter().zip(notes) {
        let note = if command.starts_with("systemctl") {
            "now, and at every boot"
        } else {
            note
        };
        text += &format!("  {command:<56} # {note}\n");
    }
    if !problems.is_empty() {
        text += "\nBefore that, `doctor` has something to say:\n";
    }
    for problem in problems {
        text += &format!("  {problem}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_there_stays_but_by_force() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("new/switcher.toml");
        write(&file, "one", false).expect("the directory is made");
        let failure = write(&file, "two", false).expect_err("it is there");
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(fs::read_to_string(&file).expect("still there"), "one");
        write(&file, "two", true).expect("by force");
        assert_eq!(fs::read_to_string(&file).expect("replaced"), "two");
        let names = fs::read_dir(directory.path().join("new")).expect("is there");
        assert_eq!(names.count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_the_package_brings_says_nothing() {
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
        assert!(says_nothing(&packaging.join("switcher.toml")));
        assert!(!says_nothing(&packaging.join("switcher.service")));
        assert!(!says_nothing(&packaging.join("none")));
    }

    #[test]
    fn problems_are_said_after_what_is_next() {
        let written = Written {
            file: "a.toml".into(),
            interfaces: vec!["eth0".into()],
            groups: vec!["shop".into()],
            problems: vec!["eth0: down".into()],
            next: vec!["switcher doctor --config a.toml".into()],
        };
        let text = said(&written);
        assert!(text.starts_with("a.toml is written."), "{text}");
        assert!(
            text.ends_with("has something to say:\n  eth0: down\n"),
            "{text}"
        );
    }
}
