//! What keeps a flip from being made, and what is on the colours: named, held against the database, given up.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use switcher::journal::FILE;
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::{Mode, Stand};

use crate::run;

/// A gate that is closed.
const GATE: &str = "
[groups.shop.gates.qa]
expires = \"1h\"
";

#[test]
fn gates_freezes_releases_and_the_database_have_a_say() {
    run("gates_freezes_releases_and_the_database_have_a_say", || {
        let settings = Settings {
            agent: GATE,
            ..Settings::default()
        };
        let stand = Stand::new(Mode::Local, true, settings, &binary()?)?;
        gates(&stand)?;
        releases(&stand)?;
        audit(&stand)?;
        drift(&stand)
    });
}

/// One refusal names a freeze, a closed gate and a sick server; each is cleared in turn.
fn gates(stand: &Stand) -> Result<()> {
    let cli = |words: &[&str]| stand.agent.cli(words);
    cli(&["freeze", GROUP])?.expect(2)?;
    cli(&["freeze", GROUP, "--reason", "audit", "--for", "1h"])?.expect(0)?;
    stand.servers.set_healthy("green", false);
    let sick = |it: &serde_json::Value| it["colours"]["green"]["healthy"] == false;
    stand.until(sick)?;
    let refused = cli(&["flip", GROUP, "--json"])?.expect(5)?.problem()?;
    let blockers = refused["blockers"].to_string();
    for part in ["freeze", "audit", "`unfreeze`", "`gate qa open`", "503"] {
        ensure!(blockers.contains(part), "no {part} in {blockers}");
    }
    let shown = cli(&["status"])?.expect(0)?.stdout;
    ensure!(shown.contains("in the way of a flip"), "{shown}");
    let called_off = stand.agent.json(&["history", GROUP])?.to_string();
    ensure!(!called_off.contains("flip"), "{called_off}");
    stand.servers.set_healthy("green", true);
    stand.until(|it| it["colours"]["green"]["healthy"] == true)?;
    cli(&["gate", GROUP, "dev", "open"])?.expect(3)?;
    cli(&["gate", GROUP, "qa", "open", "--reason", "tested"])?.expect(0)?;
    let listed = cli(&["gate", GROUP])?.expect(0)?.stdout;
    ensure!(listed.contains("qa: open, by root"), "{listed}");
    cli(&["flip", GROUP])?.expect(5)?;
    cli(&["unfreeze", GROUP])?.expect(0)?;
    let status = stand.agent.status()?;
    ensure!(status["blockers"] == serde_json::json!([]), "{status:#}");
    ensure!(stand.agent.live()? == "blue", "it was switched");
    Ok(())
}

/// All of the above is recorded, in a chain that can be checked with and without the agent.
fn audit(stand: &Stand) -> Result<()> {
    let cli = |words: &[&str]| stand.agent.cli(words);
    let forged = "nightly\n2026-01-01 root: flip\u{1b}[2K";
    cli(&["freeze", GROUP, "--reason", forged])?.expect(0)?;
    let records = stand.agent.json(&["audit", "-n", "500"])?;
    let records = records.as_array().cloned().unwrap_or_default();
    let last = &records[0];
    ensure!(
        last["reason"] == "nightly 2026-01-01 root: flip [2K",
        "{last:#}"
    );
    let actor = last["actor"].as_str().unwrap_or_default();
    ensure!(actor.starts_with("root (uid 0, gid 0, pid "), "{actor}");
    let what = |what: &str, exit: u64| {
        let found = |it: &&serde_json::Value| it["what"] == what && it["exit"] == exit;
        let found = records.iter().find(found);
        ensure!(found.is_some(), "no {what} with {exit} in {records:#?}");
        Ok(())
    };
    for (asked, exit) in [
        ("flip shop", 5),
        ("flip shop", 0),
        ("stage blue of shop", 5),
    ] {
        what(asked, exit)?;
    }
    ensure!(cli(&["audit"])?.expect(0)?.stdout.contains("freeze shop"));
    let said = cli(&["audit", "verify"])?.expect(0)?.stdout;
    let state = stand.agent.place().state().display().to_string();
    let alone = cli(&["audit", "verify", "--state-dir", &state])?
        .expect(0)?
        .stdout;
    ensure!(
        said == alone && said.contains("as it was written"),
        "{said}{alone}"
    );
    Ok(())
}

/// After all this the three agree; and a file that was edited is told from one that was taken.
fn drift(stand: &Stand) -> Result<()> {
    let cli = |words: &[&str]| stand.agent.cli(words);
    compared(stand)?;
    let agreed = cli(&["drift"])?.expect(0)?.stdout;
    ensure!(
        agreed == "kernel, record and configuration agree\n",
        "{agreed}"
    );
    let config = std::fs::read_to_string(stand.agent.place().config())?;
    stand.agent.write_config(&format!("{config}# edited\n"))?;
    let differs = cli(&["drift"])?.expect(11)?.stdout;
    ensure!(differs.starts_with("config: "), "{differs}");
    cli(&["apply"])?.expect(0)?;
    compared(stand)?;
    cli(&["drift"])?.expect(0)?;
    Ok(())
}

/// Waits until tables have followed the last window.
fn compared(stand: &Stand) -> Result<()> {
    for _ in 0..600 {
        let drift = stand.agent.cli(&["drift", "--json"])?.json()?;
        if drift["not_compared"].is_null() {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    anyhow::bail!("never compared")
}

/// With gate `qa` open.
fn releases(stand: &Stand) -> Result<()> {
    let cli = |words: &[&str]| stand.agent.cli(words);
    let stage = |colour: &str, version: &str, schema: &str| {
        cli(&[
            "stage",
            GROUP,
            colour,
            "--version",
            version,
            "--schema",
            schema,
        ])
    };
    stage("blue", "v41", "12..13")?.expect(0)?;
    stage("green", "v42", "13..14")?.expect(0)?;
    roles(stand, ["live", "staging"])?;
    cli(&["schema", GROUP, "--applied", "12"])?.expect(0)?;
    let refused = cli(&["flip", GROUP, "--force"])?.expect(5)?.stderr;
    ensure!(
        refused.contains("v42") && refused.contains("13..14"),
        "{refused}"
    );
    cli(&["schema", GROUP, "--applied", "13"])?.expect(0)?;
    cli(&["flip", GROUP, "--wait", "drained", "--timeout", "50s"])?.expect(0)?;
    roles(stand, ["previous", "live"])?;

    let closes = ["schema", GROUP, "--applied", "14"];
    let refused = cli(&closes)?.expect(5)?.stderr;
    ensure!(refused.contains("--close-rollback"), "{refused}");
    let said = cli(&[closes.as_slice(), &["--close-rollback"]].concat())?.expect(0)?;
    ensure!(said.stdout.contains("blue (v41)"), "{}", said.stdout);
    cli(&["rollback", GROUP])?.expect(5)?;
    stage("blue", "v43", "13")?.expect(5)?;
    let said = stage("blue", "v43", "14..15")?.expect(0)?.stdout;
    ensure!(said.contains("no rollback to blue (v41)"), "{said}");
    roles(stand, ["staging", "live"])?;
    let status = stand.agent.status()?;
    ensure!(status["schema"] == 14, "{status:#}");
    ensure!(status["colours"]["blue"]["version"] == "v43", "{status:#}");
    cli(&["stage", GROUP, "green", "--version", "v44"])?.expect(4)?;
    cli(&["stage", GROUP, "red", "--version", "v44"])?.expect(3)?;
    cli(&["stage", GROUP, "--version", "v44", "--schema", "9..3"])?.expect(2)?;
    let table = cli(&["status"])?.expect(0)?.stdout;
    ensure!(
        table.contains("v43") && table.contains("schema 14"),
        "{table}"
    );
    Ok(())
}

/// Of blue and green.
fn roles(stand: &Stand, expected: [&str; 2]) -> Result<()> {
    let colours = &stand.agent.status()?["colours"];
    for (colour, role) in ["blue", "green"].into_iter().zip(expected) {
        ensure!(colours[colour]["role"] == role, "{colour}: {colours:#}");
    }
    Ok(())
}

#[test]
fn an_audit_that_was_changed_is_found_out() {
    run("an_audit_that_was_changed_is_found_out", || {
        let mut stand = crate::stand()?;
        for reason in ["one", "two", "three"] {
            let freeze = ["freeze", GROUP, "--reason", reason];
            stand.agent.cli(&freeze)?.expect(0)?;
        }
        let records = stand.agent.json(&["audit", "-n", "500"])?;
        let records = records.as_array().cloned().unwrap_or_default();
        let second = records.iter().find(|it| it["reason"] == "two");
        let id = second.and_then(|it| it["id"].as_u64());
        let id = id.with_context(|| format!("no such record: {records:#?}"))?;
        stand.agent.stop()?;
        for (change, first, why) in [
            (
                format!("UPDATE audit SET entry = replace(entry, 'two', 'ten') WHERE id = {id}"),
                id,
                "changed",
            ),
            (format!("DELETE FROM audit WHERE id = {id}"), id, "missing"),
            (
                "DELETE FROM audit WHERE id = (SELECT max(id) FROM audit)".to_owned(),
                records.len() as u64,
                "missing at the end",
            ),
        ] {
            found_out(&stand, &change, first, why).with_context(|| change)?;
        }
        let state = stand.agent.place().state().display().to_string();
        let words = ["audit", "verify", "--state-dir", &state];
        stand.agent.cli(&words)?.expect(0)?;
        Ok(())
    });
}

/// In a copy of the state, by a command that needs no agent.
fn found_out(stand: &Stand, change: &str, first: u64, why: &str) -> Result<()> {
    const CHANGE: &str = "
import sqlite3, sys
file, change = sys.argv[1:]
with sqlite3.connect(file) as db:
    assert db.execute(change).rowcount == 1, change
";
    let copy = tempfile::tempdir()?;
    for file in std::fs::read_dir(stand.agent.place().state())? {
        let file = file?;
        if file.file_type()?.is_file() {
            std::fs::copy(file.path(), copy.path().join(file.file_name()))?;
        }
    }
    let at = copy.path().display().to_string();
    let verify = ["audit", "verify", "--state-dir", &at];
    stand.agent.cli(&verify)?.expect(0)?;
    let changed = Command::new("python3")
        .args(["-c", CHANGE])
        .args([&copy.path().join(FILE).display().to_string(), change])
        .output()?;
    ensure!(changed.status.success(), "{changed:?}");
    let said = stand.agent.cli(&verify)?.expect(11)?.stdout;
    let expected = format!("record {first}: ");
    ensure!(
        said.starts_with(&expected) && said.contains(why),
        "not {expected:?}: {said}"
    );
    let all = [&verify[..], &["--json"]].concat();
    let verified = stand.agent.cli(&all)?.expect(11)?.json()?;
    ensure!(
        verified["bad"]["id"] == first && verified["records"] == first - 1,
        "{verified:#}"
    );
    Ok(())
}
