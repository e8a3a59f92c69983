//! One check by a program of the operator's.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::Target;
use super::probe::Fault;

/// What is kept of a program's words, in bytes.
const KEPT: usize = 1024;

/// Runs the program, which passes the endpoint by ending with 0 in time. Whoever fails may have connections
/// to lose: a program does not say that nothing answers there.
pub(super) async fn run(argv: &[String], target: &Target, patience: Duration) -> Result<(), Fault> {
    let fault = |reason| Fault {
        reason,
        connected: true,
    };
    let Some((program, arguments)) = argv.split_first() else {
        return Err(fault("no program is named".to_owned()));
    };
    let Target {
        group,
        service,
        colour,
        address,
    } = target;
    let child = Command::new(program)
        .args(arguments)
        .env("SWITCHER_GROUP", group)
        .env("SWITCHER_SERVICE", service)
        .env("SWITCHER_COLOUR", colour)
        .env("SWITCHER_ADDRESS", address.to_string())
        .env("SWITCHER_IP", address.ip().to_string())
        .env("SWITCHER_PORT", address.port().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let child = child.map_err(|error| fault(format!("{program}: {error}")))?;
    let mut ended = Group(child);
    let outcome = timeout(patience, ended.outcome()).await;
    let late = || {
        format!(
            "{program}: still running after {}",
            humantime::format_duration(patience)
        )
    };
    let (status, said) = outcome.map_err(|_| fault(late()))?.map_err(fault)?;
    if status.success() {
        return Ok(());
    }
    let said = if said.is_empty() {
        said
    } else {
        format!(": {said}")
    };
    Err(fault(format!("{program}: {}{said}", how(status))))
}

/// A program and whatever it has started: none of it outlives the check.
struct Group(Child);

impl Group {
    async fn outcome(&mut self) -> Result<(ExitStatus, String), String> {
        let (out, err) = (self.0.stdout.take(), self.0.stderr.take());
        let (out, err) = tokio::join!(first_line(out), first_line(err));
        let status = self.0.wait().await.map_err(|error| error.to_string())?;
        Ok((status, if err.is_empty() { out } else { err }))
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

/// Reads all, keeps the first line: a program that can't write would wait for ever.
async fn first_line(stream: Option<impl AsyncRead + Unpin>) -> String {
    let (mut kept, mut buffer) = (Vec::new(), [0; KEPT]);
    if let Some(mut stream) = stream {
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            let room = KEPT.saturating_sub(kept.len()).min(count);
            kept.extend_from_slice(&buffer[..room]);
        }
    }
    let text = String::from_utf8_lossy(&kept);
    let line = text.lines().next().unwrap_or_default().trim();
    line.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn how(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit code {code}"),
        None => "ended by a signal".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_decides_and_says_why() {
        assert_eq!(sh("exit 0").await, Ok(()));
        let failed = sh("echo one; echo \"$SWITCHER_COLOUR $SWITCHER_ADDRESS\" >&2; exit 3").await;
        let reason = "/bin/sh: exit code 3: green 10.0.0.1:8002";
        assert_eq!(failed.map_err(|it| it.reason), Err(reason.to_owned()));
        let silent = sh("exit 1").await.map_err(|it| (it.reason, it.connected));
        assert_eq!(silent, Err(("/bin/sh: exit code 1".to_owned(), true)));
        let killed = sh("kill -9 $$").await.map_err(|it| it.reason);
        assert_eq!(killed, Err("/bin/sh: ended by a signal".to_owned()));
    }

    #[tokio::test]
    async fn who_talks_much_is_heard_out_and_not_kept() {
        let failed =
            sh("i=0; while [ $i -lt 20000 ]; do echo nonsense; i=$((i+1)); done; exit 2").await;
        let reason = failed.expect_err("fails").reason;
        assert_eq!(reason, "/bin/sh: exit code 2: nonsense");
    }

    #[tokio::test]
    async fn who_hangs_is_ended_with_all_its_children() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", file.display());
        let argv = ["/bin/sh", "-c", &script].map(str::to_owned);
        let hung = run(&argv, &target(), Duration::from_secs(2)).await;
        assert!(
            hung.expect_err("hangs")
                .reason
                .contains("still running after 2s")
        );
        let pid = std::fs::read_to_string(&file)
            .expect("it ran")
            .trim()
            .to_owned();
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        for _ in 0..500 {
            if state().is_empty() || state().contains(") Z") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("its child goes on: {}", state());
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let argv = ["/nonexistent/check".to_owned()];
        let failed = run(&argv, &target(), Duration::from_secs(5)).await;
        assert!(
            failed
                .expect_err("is not there")
                .reason
                .starts_with("/nonexistent/check: ")
        );
    }

    async fn sh(script: &str) -> Result<(), Fault> {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned);
        run(&argv, &target(), Duration::from_secs(60)).await
    }

    fn target() -> Target {
        Target {
            group: "shop".into(),
            service: "web".into(),
            colour: "green".into(),
            address: ([10, 0, 0, 1], 8002).into(),
        }
    }
}
