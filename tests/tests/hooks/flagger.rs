//! Flagger's webhooks, called as the words for them promise: before and after each share of a canary and the
//! flip that ends it, and when all is over.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use switcher_harness::Stand;
use switcher_harness::config::GROUP;
use switcher_harness::privilege::run;
use switcher_tests::hooks::Hooks;

use crate::site::{hook, hooked, web};

/// In the order of the configuration.
const WORDS: [&str; 4] = [
    "rollout",
    "pre-rollout",
    "confirm-promotion",
    "post-rollout",
];
/// Statuses are Flagger's: 200 to 202.
const CREATED: u16 = 201;
const NOT_QUITE: u16 = 203;

#[test]
fn flaggers_receivers_hear_of_a_canary_and_its_end() {
    run("flaggers_receivers_hear_of_a_canary_and_its_end", || {
        let mut receiver = None;
        let stand = hooked(|stand| {
            let receiver = receiver.insert(Hooks::listen(&stand.topology.switch, CREATED)?);
            let each = WORDS.map(|word| {
                let metadata = format!("metadata = {{ word = \"{word}\" }}\nretries = 0");
                hook(
                    word,
                    format!("{}\nformat = \"flagger\"\n{metadata}", web(&receiver.url())),
                )
            });
            let steps =
                "steps = [{ percent = 20, hold = \"500ms\" }, { percent = 50, hold = \"500ms\" }]";
            Ok(format!("\n[groups.{GROUP}.canary]\n{steps}\n") + &each.concat())
        })?;
        let receiver = receiver.context("it listens")?;
        stand
            .agent
            .cli(&["stage", GROUP, "green", "--version", "v2"])?
            .expect(0)?;
        only_its_own_statuses_pass(&stand, &receiver)?;
        by_hand(&stand, &receiver)?;
        back(&stand, &receiver)?;
        by_policy(&stand, &receiver)
    });
}

/// 203 is a success of HTTP and none of Flagger's; what was asked first says so, and nobody else is asked.
fn only_its_own_statuses_pass(stand: &Stand, receiver: &Hooks) -> Result<()> {
    receiver.answer(NOT_QUITE);
    let words = ["canary", GROUP, "green", "10", "--json"];
    let refused = stand.agent.cli(&words)?.expect(5)?.problem()?;
    let blockers = refused["blockers"].to_string();
    ensure!(
        blockers.contains("pre-rollout") && blockers.contains("HTTP 203"),
        "{refused:#}"
    );
    receiver.answer(CREATED);
    heard(receiver, &[("pre-rollout", "Progressing")])?;
    ensure!(receiver.is_empty(), "somebody else was asked");
    Ok(())
}

/// A canary's share, and a flip of the rest that drains.
fn by_hand(stand: &Stand, receiver: &Hooks) -> Result<()> {
    let words = ["canary", GROUP, "green", "10"];
    stand.agent.cli(&words)?.expect(0)?;
    heard(receiver, &SWITCHED)?;
    let flip = [
        "flip",
        GROUP,
        "green",
        "--wait",
        "drained",
        "--timeout",
        "50s",
    ];
    stand.agent.cli(&flip)?.expect(0)?;
    heard(receiver, &SWITCHED)?;
    heard(receiver, &[("post-rollout", "Succeeded")])?;
    ensure!(receiver.is_empty(), "once is enough");
    Ok(())
}

/// It failed, and that is told once, not again when green has drained.
fn back(stand: &Stand, receiver: &Hooks) -> Result<()> {
    stand.agent.cli(&["rollback", GROUP])?.expect(0)?;
    let idle = ["wait", GROUP, "--for", "idle", "--timeout", "50s"];
    stand.agent.cli(&idle)?.expect(0)?;
    heard(receiver, &[("post-rollout", "Failed")])?;
    std::thread::sleep(Duration::from_millis(500));
    ensure!(receiver.is_empty(), "once is enough");
    Ok(())
}

/// Each step is asked about and told, as if somebody had ordered it.
fn by_policy(stand: &Stand, receiver: &Hooks) -> Result<()> {
    let words = ["canary", GROUP, "green", "--policy"];
    stand.agent.cli(&words)?.expect(0)?;
    for _share in ["20 %", "50 %", "all"] {
        heard(receiver, &SWITCHED)?;
    }
    heard(receiver, &[("post-rollout", "Succeeded")])?;
    ensure!(stand.agent.live()? == "green", "it went live");
    ensure!(receiver.is_empty(), "once is enough");
    Ok(())
}

/// Around a store.
const SWITCHED: [(&str, &str); 3] = [
    ("pre-rollout", "Progressing"),
    ("rollout", "Waiting"),
    ("confirm-promotion", "Waiting"),
];

/// These, in this order, each in Flagger's words and about the same release.
fn heard(receiver: &Hooks, expected: &[(&str, &str)]) -> Result<()> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname")?;
    for (word, phase) in expected {
        let request = receiver.next()?;
        let mut body = request.body;
        let checksum = body["checksum"].take();
        let is_hex = |it: &str| it.len() == 16 && it.bytes().all(|byte| byte.is_ascii_hexdigit());
        ensure!(checksum.as_str().is_some_and(is_hex), "{checksum}");
        let payload = json!({
            "name": GROUP, "namespace": host.trim(), "phase": phase, "checksum": Value::Null,
            "metadata": { "word": word },
        });
        ensure!(body == payload, "{body:#} is not {payload:#}");
        let media = "content-type: application/json";
        ensure!(request.headers.contains(media), "{}", request.headers);
    }
    Ok(())
}
