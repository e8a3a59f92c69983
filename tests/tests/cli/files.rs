//! Configuration files: check, plan, apply.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::{Load, Mode, Place, Plan, Stand};

use crate::{run, stand};

#[test]
fn check_prints_all_errors_with_their_lines() {
    let check = || -> Result<()> {
        let place = Place::new()?;
        let file = place.config();
        std::fs::write(&file, GOOD)?;
        let output = check_file(&file)?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        for (what, with, words) in WRONG {
            ensure!(GOOD.contains(what), "{what:?} is not in the file");
            std::fs::write(&file, GOOD.replace(what, with))?;
            let output = check_file(&file)?;
            let said =
                String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            ensure!(
                output.status.code() == Some(2),
                "{with}: {} {said}",
                output.status
            );
            for word in *words {
                ensure!(said.contains(word), "{with}: no {word:?} in {said}");
            }
        }
        Ok(())
    };
    check().unwrap_or_else(|error| panic!("{error:#}"));
}

const GOOD: &str = r#"[agent]
interfaces = ["eth0"]

[groups.shop]
initial = "blue"

[groups.shop.services.web]
vip = "203.0.113.10:443/tcp"
forward = "local"

[groups.shop.services.web.endpoints]
blue = ["203.0.113.10:8443"]
green = ["203.0.113.10:9443"]
"#;

/// A part of the file, what stands there instead, and words that the message must have.
const WRONG: &[(&str, &str, &[&str])] = &[
    ("initial = \"blue\"", "initial = \"mauve\"", &["mauve", "5"]),
    (
        "initial = \"blue\"",
        "initial = \"blue\"\ncolor = 1",
        &["color", "6"],
    ),
    ("\"local\"", "\"dsr\"", &["dsr", "9"]),
    ("443/tcp", "443/sctp", &["sctp", "8"]),
    (
        "\"203.0.113.10:9443\"",
        "\"127.0.0.1:9443\"",
        &["127.0.0.1"],
    ),
    ("green = [\"203.0.113.10:9443\"]", "green = []", &["green"]),
    (
        "[groups.shop]\ninitial = \"blue\"",
        "[groups.shop]\ninitial = \"x\"\nfoo = 1",
        &["foo", "\"x\""],
    ),
    (
        "[agent]\n",
        "[agent]\nxdp = \"fast\"\n",
        &["xdp", "native", "generic"],
    ),
    ("[agent]", "[agent", &["1"]),
];

#[test]
fn plan_is_11_until_applied() {
    run("plan_is_11_until_applied", || {
        let stand = stand()?;
        stand.agent.cli(&["plan"])?.expect(0)?;
        let load = Load::start(
            &stand.topology,
            &Plan {
                download: Duration::from_secs(1),
                ..Plan::default()
            },
        )?;
        write(
            &stand,
            &Settings {
                learn: Duration::from_millis(300),
                ..stand.settings.clone()
            },
        )?;
        let planned = stand.agent.cli(&["plan"])?.expect(11)?;
        ensure!(!planned.stdout.trim().is_empty(), "plan says nothing");
        stand.agent.cli(&["apply"])?.expect(0)?;
        stand.agent.cli(&["plan"])?.expect(0)?;
        let failures = load.stop()?.failures();
        ensure!(failures.is_empty(), "{failures:?}");
        Ok(())
    });
}

/// More and fewer servers of the live colour, by a file: flows finish where they began.
#[test]
fn endpoints_come_and_go_and_break_nothing() {
    run("endpoints_come_and_go_and_break_nothing", || {
        let both = Settings {
            servers: 2,
            ..Settings::default()
        };
        let stand = Stand::new(Mode::Local, true, both, &binary()?)?;
        let load = Load::start(&stand.topology, &Plan::passing())?;
        for servers in [1, 2, 1, 2] {
            write(
                &stand,
                &Settings {
                    servers,
                    ..stand.settings.clone()
                },
            )?;
            stand.agent.cli(&["apply"])?.expect(0)?;
            stand
                .agent
                .cli(&["wait", GROUP, "--for", "idle", "--timeout", "20s"])?
                .expect(0)?;
            std::thread::sleep(Duration::from_millis(300));
        }
        stand.agent.cli(&["flip", GROUP])?.expect(0)?;
        std::thread::sleep(Duration::from_millis(300));
        let report = load.stop()?;
        println!("endpoints come and go: {}", report.summary());
        let failures = report.failures();
        ensure!(failures.is_empty(), "{failures:?}");
        Ok(())
    });
}

#[test]
fn a_bad_file_is_2_and_changes_nothing() {
    run("a_bad_file_is_2_and_changes_nothing", || {
        let stand = stand()?;
        let before = stand.agent.status()?;
        stand.agent.write_config("[agent]\ninterfaces = 1\n")?;
        let output = stand.agent.cli(&["apply"])?.expect(2)?;
        ensure!(output.stderr.contains("interfaces"), "{}", output.stderr);
        ensure!(stand.agent.status()?["live"] == before["live"]);
        Ok(())
    });
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    run("an_interface_that_is_not_there_is_named", || {
        let stand = Stand::without_agent(Mode::Local, true, Settings::default(), &binary()?)?;
        let config = stand
            .settings
            .render(&stand.topology, stand.agent.place())
            .replace("\"eth0\"", "\"eth7\"");
        stand.agent.write_config(&config)?;
        let path = stand.agent.place().config().display().to_string();
        let output = stand.agent.cli(&["agent", "--config", &path])?;
        ensure!(
            output.code != 0 && output.stderr.contains("eth7"),
            "{} {}",
            output.code,
            output.stderr
        );
        Ok(())
    });
}

fn write(stand: &Stand, settings: &Settings) -> Result<()> {
    stand
        .agent
        .write_config(&settings.render(&stand.topology, stand.agent.place()))
}

fn check_file(file: &PathBuf) -> Result<std::process::Output> {
    Ok(Command::new(binary()?).arg("check").arg(file).output()?)
}
