//! Programs of the operator's: no shell, bounded in time and words, ended with their children.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, User};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::config::Program;

/// What is kept of the beginning and of the end of a stream, in bytes.
const HEAD: usize = 1024;
const TAIL: usize = 2048;

/// What a program came to.
#[derive(Debug)]
pub(crate) struct Ended {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// What it wrote.
    pub(crate) out: Kept,
    /// What it wrote to its standard error.
    pub(crate) err: Kept,
}

/// The beginning and the end of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    head: Vec<u8>,
    tail: Vec<u8>,
    /// Bytes in between that were let go.
    lost: u64,
}

/// Runs a program until it ends, at most for so long.
///
/// # Errors
/// In words: when there is no such program or user, and when it did not end in time.
pub(crate) async fn run(
    program: &Program,
    environment: impl IntoIterator<Item = (&'static str, String)>,
    patience: Duration,
) -> Result<Ended, String> {
    let Some((path, arguments)) = program.argv.split_first() else {
        return Err("no program is named".to_owned());
    };
    let mut command = Command::new(path);
    command
        .args(arguments)
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(name) = &program.user {
        // The standard library gives up the agent's other groups on the way.
        let user = user(name.clone()).await?;
        command
            .uid(user.uid.as_raw())
            .gid(user.gid.as_raw())
            .env("HOME", &user.dir)
            .env("USER", name)
            .env("LOGNAME", name);
    }
    let child = command.spawn();
    let child = child.map_err(|error| format!("{path}: {error}"))?;
    let mut group = Group(child);
    let ended = timeout(patience, group.outcome()).await;
    let late = || {
        let patience = humantime::format_duration(patience);
        format!("{path}: still running after {patience}")
    };
    ended.map_err(|_| late())?
}

/// How a program ended that did not pass, for people.
pub(crate) fn how(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit code {code}"),
        None => "ended by a signal".to_owned(),
    }
}

/// Looked up when it is needed: it may be made after the agent has started.
async fn user(name: String) -> Result<User, String> {
    let wanted = name.clone();
    let found = tokio::task::spawn_blocking(move || User::from_name(&wanted)).await;
    match found {
        Ok(Ok(Some(user))) => Ok(user),
        Ok(Ok(None)) => Err(format!("there is no user {name} on this host")),
        Ok(Err(error)) => Err(format!("user {name} can't be looked up: {error}")),
        Err(error) => Err(format!("user {name} can't be looked up: {error}")),
    }
}

/// A program and whatever it has started: none of it outlives the wait for it.
struct Group(Child);

impl Group {
    async fn outcome(&mut self) -> Result<Ended, String> {
        let (out, err) = (self.0.stdout.take(), self.0.stderr.take());
        let (out, err) = tokio::join!(Kept::of(out), Kept::of(err));
        let status = self.0.wait().await.map_err(|error| error.to_string())?;
        Ok(Ended { status, out, err })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Reaped already: the number may be somebody else's by now.
        if let Some(pid) = self.0.id() {
            let _gone = killpg(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
    }
}

impl Kept {
    /// Reads all: a program that can't write would wait for ever.
    async fn of(stream: Option<impl AsyncRead + Unpin>) -> Self {
        let (mut kept, mut buffer) = (Self::default(), [0; HEAD]);
        if let Some(mut stream) = stream {
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                kept.push(&buffer[..count]);
            }
        }
        kept
    }

    fn push(&mut self, bytes: &[u8]) {
        let room = HEAD.saturating_sub(self.head.len()).min(bytes.len());
        let (first, rest) = bytes.split_at(room);
        self.head.extend_from_slice(first);
        self.tail.extend_from_slice(rest);
        let over = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..over);
        self.lost += over as u64;
    }

    /// The first line, for people.
    pub(crate) fn first_line(&self) -> String {
        let text = String::from_utf8_lossy(&self.head);
        let line = text.lines().next().unwrap_or_default().trim();
        line.chars().filter(|c| !c.is_control()).take(200).collect()
    }

    /// All that was kept; line breaks are the only control characters left.
    pub(crate) fn text(&self) -> String {
        let lost = match self.lost {
            0 => String::new(),
            lost => format!("\n[{lost} bytes left out]\n"),
        };
        let (head, tail) = (
            String::from_utf8_lossy(&self.head),
            String::from_utf8_lossy(&self.tail),
        );
        let text = format!("{head}{lost}{tail}");
        let plain = text.chars().filter(|c| *c == '\n' || !c.is_control());
        plain.collect::<String>().trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_talks_much_is_heard_out_and_the_ends_are_kept() {
        let ended = sh("seq 1 20000", None).await.expect("ends");
        assert!(ended.status.success());
        let text = ended.out.text();
        assert!(text.starts_with("1\n2\n3\n"), "{text}");
        assert!(text.ends_with("\n19999\n20000"), "{text}");
        assert!(text.contains(" bytes left out]"), "{text}");
        assert!(text.len() < HEAD + TAIL + 100);
        assert_eq!(ended.out.first_line(), "1");
    }

    #[tokio::test]
    async fn another_user_has_its_own_groups_and_home() {
        let script = "id -un; id -G; echo $HOME $USER";
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root can become somebody else");
            return;
        }
        let ended = sh(script, Some("nobody")).await.expect("ends");
        let nobody = User::from_name("nobody").expect("asked").expect("is there");
        let home = nobody.dir.display();
        let said = format!("nobody\n{}\n{home} nobody", nobody.gid);
        assert_eq!(ended.out.text(), said, "{}", ended.err.text());
        let failed = sh(script, Some("no-such-user")).await.expect_err("fails");
        assert_eq!(failed, "there is no user no-such-user on this host");
    }

    async fn sh(script: &str, user: Option<&str>) -> Result<Ended, String> {
        let program = Program {
            argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            user: user.map(str::to_owned),
        };
        run(&program, [], Duration::from_secs(60)).await
    }
}
