//! A shell on a host: a network namespace with directories of its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use switcher_harness::{Namespace, agent};
use tempfile::TempDir;

use crate::page;
use crate::said::fits;

/// How long a command may take, and what is started may take to say that it is ready.
const PATIENCE: Duration = Duration::from_secs(90);
/// Ends a command's output, before its exit code.
const END: &str = "-=end of output=-";

/// A fresh host: its own processes, and nothing of this machine's in the directories that Switcher and the pages
/// write to. All of it goes with the shell.
const FRESH: &str = r#"
set -e
new() { mkdir -p "$1" && mount -t tmpfs fresh "$1"; }
new /run/switcher-docs
cp -a /etc /run/switcher-docs/etc
mount --bind /run/switcher-docs/etc /etc
rm -rf /etc/switcher /etc/switcher.toml
for directory in /var/lib /var/log /srv /usr/local/bin; do new "$directory"; done
new /run
mount -t bpf fresh /sys/fs/bpf
ln -s "$SWITCHER" /usr/local/bin/switcher
export PATH=/usr/local/bin:$PATH
unset SWITCHER SWITCHER_SOCKET SWITCHER_BPFFS
cd /srv
set +e
"#;

/// A shell that stays between commands.
#[derive(Debug)]
pub(crate) struct Shell {
    child: Child,
    input: ChildStdin,
    output: Receiver<String>,
    /// What is said in the background, a file for each.
    logs: TempDir,
    background: usize,
}

impl Shell {
    /// A shell on a fresh host.
    pub(crate) fn new(namespace: &Namespace) -> Result<Self> {
        let mut child = Command::new("nsenter")
            .arg(format!("--net={}", namespace.path().display()))
            .args([
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ])
            .args(["bash", "--noprofile", "--norc"])
            .env("SWITCHER", agent::binary()?)
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("starting a shell")?;
        let input = child.stdin.take().context("its input is piped")?;
        let output = child.stdout.take().context("its output is piped")?;
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut shell = Self {
            child,
            input,
            output: receiver,
            logs: tempfile::tempdir()?,
            background: 0,
        };
        shell.send(FRESH)?;
        let (exit, said) = shell.run("true")?;
        ensure!(exit == 0, "the host can't be made: {said}");
        Ok(shell)
    }

    /// Types a command of a page, and compares.
    pub(crate) fn type_in(&mut self, command: &page::Command) -> Result<()> {
        let page::Command {
            text, says, exit, ..
        } = command;
        if text.trim_end().ends_with('&') {
            return self.start(text, says);
        }
        let (ended, said) = self.run(text)?;
        ensure!(
            ended == *exit,
            "`{text}` ended with {ended}, not {exit}:\n{said}"
        );
        ensure!(
            says.is_empty() || fits(says, &said),
            "`{text}` said\n{said}\nand not\n{}",
            says.join("\n")
        );
        Ok(())
    }

    /// The last lines of what was said in the background.
    pub(crate) fn background(&self) -> String {
        let logs = (1..=self.background).map(|number| {
            let log = std::fs::read_to_string(self.logs.path().join(number.to_string()));
            let log = log.unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            lines[lines.len().saturating_sub(15)..].join("\n") + "\n"
        });
        logs.collect::<Vec<_>>().join("---\n")
    }

    /// Runs a command to its end: its exit code, and what it said.
    pub(crate) fn run(&mut self, text: &str) -> Result<(i32, String)> {
        self.send(&format!(
            "{{ {text}\n}} </dev/null 2>&1; printf '\\n{END}%d\\n' $?"
        ))?;
        let deadline = Instant::now() + PATIENCE;
        let mut said = String::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(line) => match line.strip_prefix(END) {
                    // The line end before the mark is ours.
                    Some(code) => {
                        return Ok((code.parse()?, said.trim_end_matches('\n').to_owned() + "\n"));
                    }
                    None => said.extend([&line, "\n"]),
                },
                Err(RecvTimeoutError::Timeout) => bail!("`{text}` has not ended:\n{said}"),
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("`{text}` has ended the shell:\n{said}")
                }
            }
        }
    }

    /// Starts what goes on in the background. What it says is kept apart, and waited for if the page shows it.
    fn start(&mut self, text: &str, says: &[String]) -> Result<()> {
        self.background += 1;
        let log = self.logs.path().join(self.background.to_string());
        let log = log.display();
        self.run(&format!("{{ {text}\n}} >{log} 2>&1"))?;
        let deadline = Instant::now() + PATIENCE;
        let mut more = says.to_vec();
        // Whatever else it says later.
        more.push("...".to_owned());
        loop {
            let (_, said) = self.run(&format!("cat {log}"))?;
            if says.is_empty() || fits(&more, &said) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "`{text}` said\n{said}\nand not\n{}",
                says.join("\n")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn send(&mut self, text: &str) -> Result<()> {
        writeln!(self.input, "{text}")
            .and_then(|()| self.input.flush())
            .context("typing")
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Its children go with it: it is the first process of its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
