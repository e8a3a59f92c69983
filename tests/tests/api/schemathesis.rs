//! schemathesis: does the API do what its document says, whatever it is asked?

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use switcher_harness::python;

use super::{Abroad, URL};

/// Asks everything of everything, as an administrator.
pub(super) fn run(abroad: &Abroad) -> Result<()> {
    let admin = abroad.signed("ops")?;
    let program = python::environment()?.join("schemathesis");
    let directory = abroad.stand.agent.place().directory();
    let config = directory.join("schemathesis.toml");
    std::fs::write(&config, include_str!("schemathesis.toml"))?;
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    let mut command = abroad.stand.topology.client.command("timeout");
    let output = command
        .args(["--kill-after=5", "300"])
        .arg(program)
        .arg("--config-file")
        .arg(&config)
        .args(["run", document, "--url", URL])
        .args([
            "--request-cert",
            &admin.cert,
            "--request-cert-key",
            &admin.key,
        ])
        .args(["--tls-verify", &abroad.ca])
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .context("starting schemathesis")?;
    ensure!(
        output.status.success(),
        "schemathesis has found something:\n{}\n{}\nthe agent's log:\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        abroad.stand.agent.log()
    );
    Ok(())
}
