//! Long commands, shown as one line that moves.

use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::process::Command;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// How often a log that is not a terminal hears that the command is still at it.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How much of a failed command's output is repeated.
const TAIL: usize = 40;
/// Columns that the moving line may take; the narrowest terminal in use.
const WIDTH: usize = 79;

/// Runs `command`, showing `what` it does, its latest line of output and the time it took.
///
/// # Errors
/// With the last lines of output when the command fails.
pub(crate) fn run(what: &str, command: &mut Command) -> anyhow::Result<()> {
    let started = Instant::now();
    let (reader, writer) = std::io::pipe().context("making a pipe")?;
    let mut child = command
        .stdin(std::process::Stdio::null())
        .stdout(writer.try_clone().context("sharing a pipe")?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("starting {}", command.get_program().display()))?;
    // Until our copies of the writing end are closed the output has no end.
    command.stdout(std::process::Stdio::null());
    command.stderr(std::process::Stdio::null());
    let (send, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    let output = show(what, started, &lines);
    let status = child
        .wait()
        .with_context(|| format!("waiting for: {what}"))?;
    if !status.success() {
        let tail = &output[output.len().saturating_sub(TAIL)..];
        bail!(
            "{what}: failed ({status}); its last words were\n{}",
            tail.join("\n")
        );
    }
    eprintln!("  {what}: done in {}", elapsed(started));
    Ok(())
}

/// Shows lines until there are no more, and returns them.
fn show(what: &str, started: Instant, lines: &Receiver<String>) -> Vec<String> {
    let terminal = std::io::stderr().is_terminal();
    if !terminal {
        eprintln!("  {what} ...");
    }
    let patience = if terminal {
        Duration::from_secs(1)
    } else {
        HEARTBEAT
    };
    let mut shown = Instant::now();
    let mut output: Vec<String> = Vec::new();
    loop {
        match lines.recv_timeout(patience) {
            Ok(line) => output.push(line),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let latest = output.last().map_or("", |line| line.trim());
        if terminal {
            let line = format!("  {what} ({}): {latest}", elapsed(started));
            eprint!("\r\x1b[2K{}", line.chars().take(WIDTH).collect::<String>());
            // A terminal that cannot be written to has nobody to tell.
            let _ = std::io::stderr().flush();
        } else if shown.elapsed() >= HEARTBEAT {
            eprintln!("    {}: {latest}", elapsed(started));
            shown = Instant::now();
        }
    }
    if terminal {
        eprint!("\r\x1b[2K");
    }
    output
}

fn elapsed(since: Instant) -> String {
    format!("{:.0} s", since.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_repeats_the_last_words() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let error = run("trying", &mut command)
            .expect_err("exit 3 is a failure")
            .to_string();
        assert!(error.contains("trying: failed (exit status: 3)"), "{error}");
        assert!(error.ends_with("out\nerr"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error =
            run("trying", &mut Command::new("/no/such/program")).expect_err("it is missing");
        assert!(error.to_string().contains("/no/such/program"));
    }
}
