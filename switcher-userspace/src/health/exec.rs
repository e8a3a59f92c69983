//! One check by a program of the operator's.

use std::time::Duration;

use super::Target;
use super::probe::{CameTo, Fault};
use crate::config::Program;
use crate::program::{self, how};

/// Runs the program, which passes the endpoint by ending with 0 in time. Whoever fails may have connections
/// to lose: a program does not say that nothing answers there.
pub(super) async fn run(check: &Program, target: &Target, patience: Duration) -> Result<(), Fault> {
    let fault = |reason| Fault {
        reason,
        came_to: CameTo::Answer,
    };
    let Target {
        group,
        service,
        colour,
        address,
    } = target;
    let environment = [
        ("SWITCHER_GROUP", group.clone()),
        ("SWITCHER_SERVICE", service.clone()),
        ("SWITCHER_COLOUR", colour.clone()),
        ("SWITCHER_ADDRESS", address.to_string()),
        ("SWITCHER_IP", address.ip().to_string()),
        ("SWITCHER_PORT", address.port().to_string()),
    ];
    let ended = program::run(check, environment, patience).await;
    let ended = ended.map_err(fault)?;
    if ended.status.success() {
        return Ok(());
    }
    let said = [&ended.err, &ended.out].map(program::Kept::first_line);
    let said = said.into_iter().find(|it| !it.is_empty());
    let said = said.map_or_else(String::new, |it| format!(": {it}"));
    let program = check.argv.first().map_or("", String::as_str);
    Err(fault(format!("{program}: {}{said}", how(ended.status))))
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
        let failed = sh("exit 1").await.map_err(|it| (it.reason, it.came_to));
        assert_eq!(
            failed,
            Err(("/bin/sh: exit code 1".to_owned(), CameTo::Answer))
        );
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
        let hung = run(&shell(&script), &target(), Duration::from_secs(2)).await;
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
        let program = Program {
            argv: vec!["/nonexistent/check".to_owned()],
            user: None,
        };
        let failed = run(&program, &target(), Duration::from_secs(5)).await;
        assert!(
            failed
                .expect_err("is not there")
                .reason
                .starts_with("/nonexistent/check: ")
        );
    }

    async fn sh(script: &str) -> Result<(), Fault> {
        run(&shell(script), &target(), Duration::from_secs(60)).await
    }

    fn shell(script: &str) -> Program {
        Program {
            argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            user: None,
        }
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
