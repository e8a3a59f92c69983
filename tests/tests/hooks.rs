//! Hooks of a real agent: programs and receivers in its namespace, with the agent killed at the worst moments.

#[path = "hooks/flagger.rs"]
mod flagger;
#[path = "hooks/late.rs"]
mod late;
#[path = "hooks/outbox.rs"]
mod outbox;
#[path = "hooks/site.rs"]
mod site;
#[path = "hooks/told.rs"]
mod told;

use anyhow::{Context as _, Result, ensure};
use ring::hmac;
use serde_json::{Value, json};
use switcher_harness::config::GROUP;
use switcher_harness::privilege::run;
use switcher_tests::hooks::Request;

use site::{SECRET, Site, lives, until};

/// What a flip that was undone exits with.
const ROLLED_BACK: i32 = 7;

/// One agent, verified and started once; each part leaves it idle, with blue live.
#[test]
fn hooks() {
    run("hooks", || {
        let mut site = Site::new()?;
        events_survive_a_kill(&mut site)?;
        a_failure_refuses_or_undoes(&site)?;
        what_hangs_keeps_nobody_waiting(&site)?;
        killed_before_the_store(&mut site)?;
        killed_before_the_decision(&mut site)
    });
}

/// Events that wait are delivered by the next agent, in order, signed, as CloudEvents.
fn events_survive_a_kill(site: &mut Site) -> Result<()> {
    site.cli(&["stage", GROUP, "green", "--version", "v2"], 0)?;
    site.cli(&["flip", GROUP, "--reason", "test"], 0)?;
    site.idle()?;
    ensure!(site.line("drained")? == "blue", "what has drained is blue");
    let refused = site.events.next()?;
    site.stand.agent.kill()?;
    site.events.forget();
    site.events.answer(202);
    site.stand.agent.start()?;
    let mut told: Vec<Value> = Vec::new();
    while told
        .last()
        .is_none_or(|body| body["data"]["customData"]["event"] != "succeeded")
    {
        told.push(cloudevent(&site.events.next()?)?);
    }
    ensure!(
        told[0]["id"] == refused.body["id"],
        "the first is told again: {told:?}"
    );
    let types: Vec<&str> = told.iter().filter_map(|it| it["type"].as_str()).collect();
    let expected = [
        "dev.cdevents.service.deployed.0.2.0",
        "switcher.started",
        "dev.cdevents.service.published.0.2.0",
        "dev.cdevents.environment.modified.0.2.0",
        "dev.cdevents.service.upgraded.0.2.0",
    ];
    ensure!(types == expected, "{types:?}");
    let upgraded = &told[4]["data"];
    let artifact = &upgraded["subject"]["content"]["artifactId"];
    ensure!(artifact == "pkg:generic/shop@v2", "{upgraded}");
    ensure!(upgraded["customData"]["reason"] == "test", "{upgraded}");
    site.events.forget();
    site.cli(&["rollback", GROUP, "--reason", "late"], 0)?;
    site.idle()?;
    ensure!(site.line("rolled-back")? == "green", "green was left");
    rolled_back(site)
}

/// The rollback is told, too: in which environment the service is again, and what it is there.
fn rolled_back(site: &Site) -> Result<()> {
    let started = cloudevent(&site.events.next()?)?;
    ensure!(started["type"] == "switcher.started", "{started:#}");
    let told = cloudevent(&site.events.next()?)?;
    let kind = &told["type"];
    ensure!(*kind == "dev.cdevents.service.rolledback.0.2.0", "{told:#}");
    let content = &told["data"]["subject"]["content"];
    ensure!(content["environment"]["id"] == "shop/blue", "{told:#}");
    ensure!(content["artifactId"] == "pkg:generic/shop", "{told:#}");
    let custom = &told["data"]["customData"];
    let said = ["event", "from", "to", "from_version", "kind", "reason"].map(|it| &custom[it]);
    let expected = ["rolled-back", "green", "blue", "v2", "rollback", "late"];
    ensure!(said == expected, "{told:#}");
    Ok(())
}

/// The attributes that CloudEvents 1.0 requires, structured mode's media type, and the signature.
fn cloudevent(
    Request {
        headers,
        text,
        body,
        at: _,
    }: &Request,
) -> Result<Value> {
    ensure!(
        headers.contains("content-type: application/cloudevents+json"),
        "{headers}"
    );
    for required in ["id", "source", "specversion", "type"] {
        let value = body[required].as_str().unwrap_or_default();
        ensure!(!value.is_empty(), "{required} is missing: {body}");
    }
    ensure!(body["specversion"] == "1.0", "{body}");
    let delivery = format!(
        "x-switcher-delivery: {}",
        body["id"].as_str().unwrap_or_default()
    );
    ensure!(headers.contains(&delivery), "{headers}");
    let tag = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()),
        text.as_bytes(),
    );
    let hex: String = tag
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let signed = format!("x-switcher-signature-256: sha256={hex}");
    ensure!(headers.contains(&signed), "{headers}");
    Ok(body.clone())
}

fn a_failure_refuses_or_undoes(site: &Site) -> Result<()> {
    site.set("pre-flip", "fail")?;
    let refused = site
        .stand
        .agent
        .cli(&["flip", GROUP, "--json"])?
        .expect(5)?;
    let blockers = &refused.problem()?["blockers"];
    let expected = json!(["hook smoke: it failed; exit code 1: not well"]);
    ensure!(*blockers == expected, "{blockers}");
    site.set("pre-flip", "pass")?;
    let before = site.stand.agent.status()?;
    site.set("post-flip", "fail")?;
    site.cli(&["flip", GROUP], ROLLED_BACK)?;
    shown(site)?;
    let after = site.stand.agent.status()?;
    ensure!(
        (&before["live"], &after["live"]) == (&json!("blue"), &json!("blue")),
        "{after}"
    );
    ensure!(
        site.line("rolled-back")? == "green",
        "what was undone is green"
    );
    let by = after["by"].as_str().unwrap_or_default();
    ensure!(by == "agent", "{after}");
    site.set("post-flip", "pass")?;
    site.idle()
}

/// The receipt of a flip that was undone lists its hooks.
fn shown(site: &Site) -> Result<()> {
    let history = site.stand.agent.json(&["history", GROUP])?;
    let mut all = history.as_array().into_iter().flatten();
    let undone = all.find(|it| it["kind"] == "flip").context("a flip")?;
    let id = undone["id"].as_str().context("an id")?;
    let record = site.stand.agent.json(&["show", id])?;
    let hooks = record["hooks"].as_array().into_iter().flatten();
    let came_out = |moment: &str, outcome: &str| {
        let mut same = hooks.clone().filter(|it| it["moment"] == moment);
        same.any(|it| it["outcome"] == outcome)
    };
    ensure!(
        came_out("pre-flip", "passed") && came_out("post-flip", "failed"),
        "{record}"
    );
    let told = site.stand.agent.cli(&["show", id])?.expect(0)?.stdout;
    let lines: Vec<&str> = told.lines().filter(|it| it.contains("hook")).collect();
    ensure!(
        lines
            .iter()
            .any(|it| it.contains("post-flip") && it.contains("failed")),
        "{told}"
    );
    Ok(())
}

/// A receiver that takes the request and never answers, and a program that sleeps: another group flips, this
/// one rolls back, and nothing is left running.
fn what_hangs_keeps_nobody_waiting(site: &Site) -> Result<()> {
    site.decision.answer(0);
    site.decision.forget();
    site.set("post-flip", "hang")?;
    let flip = site.stand.agent.cli_in_background(&["flip", GROUP]);
    site.decision.next()?;
    let status = site.stand.agent.status()?;
    ensure!(
        (&status["live"], &status["phase"]) == (&json!("blue"), &json!("preparing")),
        "{status}"
    );
    site.cli(&["flip", "zoo"], 0)?;
    site.cli(&["abort", GROUP], 0)?;
    flip.join().expect("ends")?.expect(4)?;

    site.decision.answer(200);
    let flip = site.stand.agent.cli_in_background(&["flip", GROUP]);
    let child = site.line("hanging")?;
    ensure!(site.stand.agent.live()? == "green", "it was switched");
    site.cli(&["flip", "zoo"], 0)?;
    site.cli(&["rollback", GROUP], 0)?;
    flip.join().expect("ends")?.expect(ROLLED_BACK)?;
    until("the program's child to be ended", || Ok(!lives(&child)))?;
    site.set("post-flip", "pass")?;
    site.idle()
}

/// What was being prepared is called off, and can be asked for again.
fn killed_before_the_store(site: &mut Site) -> Result<()> {
    site.decision.answer(0);
    site.decision.forget();
    let flip = site.stand.agent.cli_in_background(&["flip", GROUP]);
    site.decision.next()?;
    site.stand.agent.kill()?;
    let lost = flip.join().expect("ends")?;
    ensure!(lost.code == 9, "{lost:?}");
    site.decision.answer(200);
    site.stand.agent.start()?;
    ensure!(site.stand.agent.live()? == "blue", "nothing was switched");
    let history = site.stand.agent.json(&["history", GROUP])?;
    let newest = history.get(0).or_else(|| history["cutovers"].get(0));
    let newest = newest.context("a record")?;
    ensure!(newest["result"] == "aborted", "{newest}");
    site.cli(&["flip", GROUP], 0)?;
    site.cli(&["rollback", GROUP], 0)?;
    site.idle()
}

/// Who had to decide whether a flip stays is asked again, and is heard.
fn killed_before_the_decision(site: &mut Site) -> Result<()> {
    site.set("post-flip", "hang")?;
    let flip = site.stand.agent.cli_in_background(&["flip", GROUP]);
    let first = site.line("hanging")?;
    site.stand.agent.kill()?;
    let lost = flip.join().expect("ends")?;
    ensure!(lost.code == 9, "{lost:?}");
    site.set("post-flip", "fail")?;
    site.stand.agent.start()?;
    until("the flip to be undone", || {
        Ok(site.stand.agent.live()? == "blue")
    })?;
    // A killed agent ends nobody.
    let _gone = std::process::Command::new("kill")
        .args(["-9", &first])
        .status();
    site.idle()
}
