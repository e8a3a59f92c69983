//! The API over TCP, from another host: the command line with certificates, and what schemathesis makes of it.

#[path = "api/schemathesis.rs"]
mod schemathesis;

use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use switcher_harness::config::GROUP;
use switcher_harness::{Stand, netns, privilege};
use switcher_tests::authority::{Authority, Pair};

const LISTEN: &str = "10.77.0.1:9465";
const URL: &str = "https://10.77.0.1:9465";

const ROLES: &str =
    "viewer = [\"cert:grafana\"]\noperator = [\"cert:ci.internal\"]\nadmin = [\"cert:ops\"]";

/// A stand whose agent can be asked from its client's host.
struct Abroad {
    stand: Stand,
    authority: Authority,
    ca: String,
}

#[test]
fn everything_works_from_another_host_by_certificate() {
    if !privilege::is_root("everything_works_from_another_host_by_certificate") {
        return;
    }
    netns::sweep();
    let test = || -> Result<()> {
        let mut abroad = Abroad::new()?;
        abroad.roles_have_exit_codes()?;
        abroad.bad_certificates_are_refused()?;
        abroad.a_broken_certificate_is_said_and_not_taken()?;
        schemathesis::run(&abroad)?;
        let operator = abroad.signed("ci.internal")?;
        abroad.stand.agent.kill()?;
        let gone = abroad.ask(&operator, &["status"])?;
        ensure!(code(&gone) == 9, "{gone:?}");
        Ok(())
    };
    test().unwrap_or_else(|error| panic!("{error:#}"));
}

impl Abroad {
    fn new() -> Result<Self> {
        let (stand, authority) = Authority::stand(LISTEN.parse()?, ROLES)?;
        let ca = authority.file().display().to_string();
        Ok(Self {
            stand,
            authority,
            ca,
        })
    }

    fn signed(&self, name: &str) -> Result<Pair> {
        self.authority.sign(name, name, &[], 2100)
    }

    /// Runs the command line on the client's host.
    fn ask(&self, pair: &Pair, words: &[&str]) -> Result<Output> {
        let mut command = self.stand.topology.client.command("timeout");
        command
            .args(["--kill-after=5", "60"])
            .arg(self.stand.agent.binary())
            .args(words)
            .env("SWITCHER_URL", URL)
            .env("SWITCHER_CERT", &pair.cert)
            .env("SWITCHER_KEY", &pair.key)
            .env("SWITCHER_CA", &self.ca);
        command.output().context("starting the command line")
    }

    fn expect(&self, pair: &Pair, words: &[&str], expected: i32) -> Result<Output> {
        let output = self.ask(pair, words)?;
        ensure!(
            code(&output) == expected,
            "{words:?}, not {expected}: {output:?}"
        );
        Ok(output)
    }

    fn roles_have_exit_codes(&self) -> Result<()> {
        let [viewer, operator, admin] =
            ["grafana", "ci.internal", "ops"].map(|name| self.signed(name));
        let (viewer, operator, admin) = (viewer?, operator?, admin?);
        let healthy = ["wait", GROUP, "--for", "healthy=green", "--timeout", "30s"];
        self.expect(&viewer, &healthy, 0)?;
        let status = self.expect(&viewer, &["status", "--json"], 0)?;
        let status: Value = serde_json::from_slice(&status.stdout)?;
        ensure!(status["groups"][0]["live"] == "blue", "{status}");
        ensure!(status["agent"]["api"]["listen"] == LISTEN, "{status}");
        let refused = self.expect(&viewer, &["flip", GROUP, "--json"], 13)?;
        let problem: Value = serde_json::from_slice(&refused.stderr)?;
        let detail = problem["detail"].as_str().unwrap_or_default();
        ensure!(
            problem["status"] == 403 && detail.ends_with("is viewer; to flip takes operator"),
            "{problem}"
        );
        self.expect(&operator, &["flip", GROUP, "--if-live", "green"], 4)?;
        self.expect(&operator, &["rollback", GROUP], 5)?;
        self.expect(&operator, &["flip", "other"], 3)?;
        self.expect(&operator, &["flip", GROUP, "--force"], 13)?;
        self.expect(
            &operator,
            &["flip", GROUP, "--wait", "drained", "--timeout", "30s"],
            0,
        )?;
        self.expect(&viewer, &["wait", GROUP, "--for", "healthy=red"], 3)?;
        self.expect(&operator, &["freeze", GROUP, "--reason", "tea"], 0)?;
        self.expect(&operator, &["flip", GROUP], 5)?;
        self.expect(&operator, &["unfreeze", GROUP], 0)?;
        self.expect(&operator, &["apply"], 13)?;
        self.expect(&admin, &["apply"], 0)?;
        self.expect(&viewer, &["plan"], 0)?;
        self.expect(&viewer, &["drift"], 0)?;
        let audit = self.expect(&viewer, &["audit", "--json"], 0)?;
        let audit = String::from_utf8(audit.stdout)?;
        ensure!(
            audit.contains("ci.internal (certificate, from 10.77.0.2)"),
            "{audit}"
        );
        Ok(())
    }

    fn bad_certificates_are_refused(&self) -> Result<()> {
        let stranger = self.signed("stranger")?;
        let output = self.expect(&stranger, &["status"], 13)?;
        ensure!(said(&output).contains("has no role"), "{output:?}");
        let expired = self.authority.sign("expired", "ops", &[], 2020)?;
        let output = self.expect(&expired, &["status"], 13)?;
        ensure!(said(&output).contains("expired"), "{output:?}");
        let directory = self.stand.agent.place().directory();
        let other = Authority::new(directory, "other")?.sign("forged", "ops", &[], 2100)?;
        let output = self.expect(&other, &["status"], 13)?;
        ensure!(
            said(&output).contains("does not accept the certificate"),
            "{output:?}"
        );
        Ok(())
    }

    /// SIGHUP reads it again.
    fn a_broken_certificate_is_said_and_not_taken(&self) -> Result<()> {
        let viewer = self.signed("grafana")?;
        let file = self.stand.agent.place().directory().join("agent.crt");
        let good = std::fs::read(&file)?;
        std::fs::write(&file, "rubbish")?;
        self.hang_up()?;
        self.until_problem(&viewer, true)?;
        std::fs::write(&file, good)?;
        self.hang_up()?;
        self.until_problem(&viewer, false)
    }

    fn hang_up(&self) -> Result<()> {
        let pid = self.stand.agent.pid().context("it runs")?;
        Ok(kill(Pid::from_raw(pid.try_into()?), Signal::SIGHUP)?)
    }

    fn until_problem(&self, viewer: &Pair, expected: bool) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            let status = self.expect(viewer, &["status", "--json"], 0)?;
            let status: Value = serde_json::from_slice(&status.stdout)?;
            if status["agent"]["api"]["problem"].is_string() == expected {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        anyhow::bail!("no problem is {} after a minute", !expected)
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
