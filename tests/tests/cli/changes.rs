//! Commands that change something, or refuse to.

use std::time::Duration;

use anyhow::{Result, ensure};
use switcher_harness::agent::{Output, binary};
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::{Load, Mode, Plan, Stand};

use crate::{fields, run, stand};

#[test]
fn flip_prints_its_receipt() {
    run("flip_prints_its_receipt", || {
        let stand = stand()?;
        let flip = stand.agent.json(&["flip", GROUP])?;
        fields(
            &flip,
            &[
                "id",
                "from",
                "to",
                "result",
                "store_to_settled_us",
                "revision",
            ],
        )?;
        ensure!(
            flip["from"] == "blue" && flip["to"] == "green" && flip["result"] == "switched",
            "{flip:#}"
        );
        ensure!(flip["store_to_settled_us"].is_number(), "{flip:#}");
        ensure!(
            flip["revision"] == stand.agent.status()?["revision"],
            "{flip:#}"
        );
        let said = stand.agent.cli(&["rollback", GROUP])?.expect(0)?.stdout;
        ensure!(said.contains("blue"), "{said}");
        let quiet = stand.agent.cli(&["flip", GROUP, "--quiet"])?.expect(0)?;
        ensure!(
            quiet.stdout.is_empty() && quiet.stderr.is_empty(),
            "{quiet:?}"
        );
        Ok(())
    });
}

#[test]
fn flip_to_the_live_colour_changes_nothing() {
    run("flip_to_the_live_colour_changes_nothing", || {
        let stand = stand()?;
        let before = stand.agent.status()?;
        stand.agent.cli(&["flip", GROUP, "blue"])?.expect(0)?;
        same(&before, &stand)
    });
}

#[test]
fn rollback_without_a_previous_colour_is_5() {
    run("rollback_without_a_previous_colour_is_5", || {
        let stand = stand()?;
        let output = stand.agent.cli(&["rollback", GROUP])?.expect(5)?;
        ensure!(output.stderr.contains("blue"), "{}", output.stderr);
        ensure!(stand.agent.live()? == "blue");
        Ok(())
    });
}

#[test]
fn hard_rollback_takes_every_flow_back() {
    run("hard_rollback_takes_every_flow_back", || {
        let stand = stand()?;
        let plan = Plan {
            downloads: 0,
            idle: 0,
            ..Plan::default()
        };
        let load = Load::start(&stand.topology, &plan)?;
        stand.agent.cli(&["flip", GROUP])?.expect(0)?;
        std::thread::sleep(Duration::from_millis(300));
        let back = stand.agent.cli(&["rollback", GROUP, "--hard"])?.expect(0)?;
        std::thread::sleep(Duration::from_millis(500));
        let answers = load.recorder().from(0);
        drop(load);
        let late = answers.iter().filter(|answer| answer.begun > back.ended);
        let green = late
            .filter(|answer| answer.outcome.as_deref() == Ok("green"))
            .count();
        ensure!(green == 0, "{green} answers of green after a hard rollback");
        Ok(())
    });
}

#[test]
fn unhealthy_target_is_6_with_blockers() {
    run("unhealthy_target_is_6_with_blockers", || {
        let stand = stand()?;
        stand.servers.set_healthy("green", false);
        unhealthy(&stand, "green")?;
        let output = stand.agent.cli(&["flip", GROUP, "--json"])?.expect(6)?;
        let problem = output.problem()?;
        let blockers = problem["blockers"].as_array().cloned().unwrap_or_default();
        ensure!(
            blockers
                .iter()
                .any(|blocker| blocker.to_string().contains("503")),
            "{problem:#}"
        );
        ensure!(
            stand.agent.live()? == "blue",
            "an unhealthy colour went live"
        );
        let said = stand.agent.cli(&["flip", GROUP])?.expect(6)?.stderr;
        ensure!(said.contains("8012") && said.contains("--force"), "{said}");
        let forced = stand.agent.json(&["flip", GROUP, "--force"])?;
        ensure!(stand.agent.live()? == "green", "{forced:#}");
        let id = forced["id"].as_str().unwrap_or_default();
        ensure!(
            stand.agent.json(&["show", id])?["forced"] == true,
            "that it was forced is not recorded"
        );
        stand.agent.cli(&["rollback", GROUP])?.expect(0)?;
        Ok(())
    });
}

#[test]
fn preconditions_that_do_not_hold_are_4() {
    run("preconditions_that_do_not_hold_are_4", || {
        let stand = stand()?;
        let before = stand.agent.status()?;
        let revision = before["revision"].as_u64().unwrap_or_default();
        let other = (revision + 7).to_string();
        let output = stand
            .agent
            .cli(&["flip", GROUP, "--if-revision", &other])?
            .expect(4)?;
        ensure!(output.stderr.contains(&other), "{}", output.stderr);
        stand
            .agent
            .cli(&["flip", GROUP, "--if-live", "green"])?
            .expect(4)?;
        same(&before, &stand)?;
        stand
            .agent
            .cli(&["flip", GROUP, "--if-revision", &revision.to_string()])?
            .expect(0)?;
        stand
            .agent
            .cli(&["rollback", GROUP, "--if-live", "green"])?
            .expect(0)?;
        ensure!(stand.agent.live()? == "blue");
        Ok(())
    });
}

#[test]
fn one_operation_at_a_time() {
    run("one_operation_at_a_time", || {
        let settings = Settings {
            arm: Duration::from_secs(2),
            ..Settings::default()
        };
        // Only flows of endpoints elsewhere are tagged, so only there has a flip something to prepare.
        let stand = Stand::new(Mode::Routed, false, settings, &binary()?)?;
        let slow = stand.agent.cli_in_background(&["flip", GROUP]);
        std::thread::sleep(Duration::from_millis(700));
        ensure!(
            stand.agent.status()?["phase"] == "preparing",
            "{}",
            stand.agent.status()?
        );
        stand.agent.cli(&["flip", GROUP, "green"])?.expect(4)?;
        let slow = slow
            .join()
            .map_err(|_| anyhow::anyhow!("the flip's thread panicked"))??;
        slow.expect(0)?;
        ensure!(stand.agent.live()? == "green");
        Ok(())
    });
}

#[test]
fn dry_run_changes_nothing() {
    run("dry_run_changes_nothing", || {
        let stand = stand()?;
        let before = stand.agent.status()?;
        let flip = stand.agent.cli(&["flip", GROUP, "--dry-run"])?.expect(0)?;
        ensure!(flip.stdout.contains("green"), "{}", flip.stdout);
        let left =
            "no flow is left on blue, 0 flows now, for at most 10m; then reset its connections";
        ensure!(flip.stdout.contains(left), "{}", flip.stdout);
        stand.agent.cli(&["apply", "--dry-run"])?.expect(0)?;
        same(&before, &stand)?;
        ensure!(
            stand
                .agent
                .json(&["history", GROUP])?
                .to_string()
                .find("dry")
                .is_none(),
            "it was recorded"
        );
        Ok(())
    });
}

#[test]
fn the_same_key_is_carried_out_once() {
    run("the_same_key_is_carried_out_once", || {
        let stand = stand()?;
        let words = ["flip", GROUP, "--idempotency-key", "deploy-42"];
        let first = stand.agent.json(&words)?;
        stand.agent.cli(&["rollback", GROUP])?.expect(0)?;
        let second = stand.agent.json(&words)?;
        ensure!(first["id"] == second["id"], "{first:#}\n{second:#}");
        ensure!(stand.agent.live()? == "blue", "it was carried out twice");
        Ok(())
    });
}

#[test]
fn detach_refuses_while_traffic_would_break() {
    run("detach_refuses_while_traffic_would_break", || {
        let stand = stand()?;
        let pins = stand.agent.place().bpffs().display().to_string();
        stand.agent.cli(&["flip", GROUP])?.expect(0)?;
        let refused = stand.agent.cli(&["detach", "--bpffs", &pins])?;
        ensure!(attached(&stand)?, "it detached all the same");
        refused.expect(5)?;
        stand.agent.cli(&["detach", "--force", "--bpffs", &pins])?;
        let mut stand = stand;
        stand.agent.stop()?;
        stand
            .agent
            .cli(&["detach", "--force", "--bpffs", &pins])?
            .expect(0)?;
        ensure!(!attached(&stand)?, "XDP is still attached");
        let left = std::fs::read_dir(&pins)
            .map(Iterator::count)
            .unwrap_or_default();
        ensure!(left == 0, "{left} pins are left");
        Ok(())
    });
}

fn attached(stand: &Stand) -> Result<bool> {
    Ok(stand
        .topology
        .switch
        .run("ip", &["link", "show", "eth0"])?
        .contains("xdp"))
}

fn unhealthy(stand: &Stand, colour: &str) -> Result<()> {
    for _ in 0..100 {
        if stand.agent.status()?["colours"][colour]["healthy"] == false {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    anyhow::bail!(
        "{colour} does not become unhealthy: {:#}",
        stand.agent.status()?
    )
}

/// Neither the live colour nor the revision has changed.
fn same(before: &serde_json::Value, stand: &Stand) -> Result<()> {
    let after = stand.agent.status()?;
    for field in ["live", "previous", "revision", "epoch", "phase"] {
        ensure!(
            before[field] == after[field],
            "{field}: {before:#}\n{after:#}"
        );
    }
    Ok(())
}

#[test]
fn help_and_answers_have_no_colours_in_a_pipe() {
    run("help_and_answers_have_no_colours_in_a_pipe", || {
        let stand = stand()?;
        let commands: [&[&str]; 3] = [&["--help"], &["status"], &["history"]];
        let outputs: Vec<Output> = commands
            .iter()
            .map(|words| stand.agent.cli(words))
            .collect::<Result<_>>()?;
        for output in outputs {
            ensure!(!output.stdout.contains('\x1b'), "{:?}", output.stdout);
        }
        Ok(())
    });
}
