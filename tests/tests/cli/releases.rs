//! What is on the colours: named, held against the database, given up.

use anyhow::{Result, ensure};
use switcher_harness::Stand;
use switcher_harness::config::GROUP;

use crate::{run, stand};

#[test]
fn releases_are_staged_and_the_database_has_a_say() {
    run("releases_are_staged_and_the_database_has_a_say", || {
        let stand = stand()?;
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
        roles(&stand, ["live", "staging"])?;
        cli(&["schema", GROUP, "--applied", "12"])?.expect(0)?;
        let refused = cli(&["flip", GROUP, "--force"])?.expect(5)?.stderr;
        ensure!(
            refused.contains("v42") && refused.contains("13..14"),
            "{refused}"
        );
        cli(&["schema", GROUP, "--applied", "13"])?.expect(0)?;
        cli(&["flip", GROUP, "--wait", "drained", "--timeout", "50s"])?.expect(0)?;
        roles(&stand, ["previous", "live"])?;

        let closes = ["schema", GROUP, "--applied", "14"];
        let refused = cli(&closes)?.expect(5)?.stderr;
        ensure!(refused.contains("--close-rollback"), "{refused}");
        let said = cli(&[closes.as_slice(), &["--close-rollback"]].concat())?.expect(0)?;
        ensure!(said.stdout.contains("blue (v41)"), "{}", said.stdout);
        cli(&["rollback", GROUP])?.expect(5)?;
        stage("blue", "v43", "13")?.expect(5)?;
        let said = stage("blue", "v43", "14..15")?.expect(0)?.stdout;
        ensure!(said.contains("no rollback to blue (v41)"), "{said}");
        roles(&stand, ["staging", "live"])?;
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
    });
}

/// Of blue and green.
fn roles(stand: &Stand, expected: [&str; 2]) -> Result<()> {
    let colours = &stand.agent.status()?["colours"];
    for (colour, role) in ["blue", "green"].into_iter().zip(expected) {
        ensure!(colours[colour]["role"] == role, "{colour}: {colours:#}");
    }
    Ok(())
}
