//! `examples/flagger`: Flagger's side polls Switcher's gates, and Switcher asks a receiver of Flagger's webhooks.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use switcher_harness::Agent;

use crate::site::{Group, HEALTH, LISTEN, Site, until};
use crate::{example, yaml};

const PAGE: &str = include_str!("../../../docs/recipes/flagger.md");
/// Types of webhooks that are asked before something is done (Flagger's `api/v1beta1`).
const TYPES: [&str; 9] = [
    "rollout",
    "pre-rollout",
    "post-rollout",
    "confirm-rollout",
    "confirm-traffic-increase",
    "confirm-promotion",
    "rollback",
    "event",
    "skip",
];

/// The group of the example's configuration, with addresses of the site.
pub(crate) fn config(group: &Group, loadtester: &str, agent: &Agent) -> Result<String> {
    let text = example("flagger/switcher.toml")?;
    let start = text.find("[groups.shop]").context("the group")?;
    let [blue, green] = group.endpoints;
    let text = text[start..]
        .replace("groups.shop", "groups.flagger")
        .replace("http://flagger-loadtester.test", loadtester)
        .replace("203.0.113.10:80", &group.service.to_string())
        .replace("203.0.113.10:8443", &blue.to_string())
        .replace("203.0.113.10:9444", &green.to_string());
    let health = "[groups.flagger.health]\nkind = \"http\"\npath = \"/healthz\"\n";
    ensure!(text.contains(health), "{text}");
    let quick = text.replace(health, "");
    let initial = "initial = \"blue\"\n";
    let quick = quick.replacen(initial, &format!("{initial}health = {HEALTH}\n"), 1);
    Ok(quick + &advised(agent)?)
}

/// The hook that the page advises: it opens gate `rollback` when the group goes back.
fn advised(agent: &Agent) -> Result<String> {
    let hook = PAGE.split("```toml\n").nth(1).context("the hook")?;
    let hook = hook.split("```").next().unwrap_or_default();
    let here = json!([
        agent.binary(),
        "--socket",
        agent.place().socket(),
        "gate",
        "flagger"
    ]);
    let here = here.to_string().replace(']', "");
    let advised = r#"["/usr/bin/switcher", "gate", "shop""#;
    ensure!(hook.contains(advised), "{hook}");
    let hook = hook.replace("groups.shop", "groups.flagger");
    Ok(format!("\n{}", hook.replace(advised, &here)))
}

pub(crate) fn run(site: &Site) -> Result<()> {
    let home = site.directory("flagger")?;
    let file = home.join("switcher.toml");
    std::fs::write(&file, example("flagger/switcher.toml")?)?;
    let check = ["switcher", "check", "switcher.toml"];
    site.run(&home, &check, &[])?.expect(0)?;
    polled(site)?;
    asks(site)
}

/// Each webhook of the canary, sent as Flagger sends it.
fn polled(site: &Site) -> Result<()> {
    let canary = example("flagger/canary.yaml")?
        .replace("gate/shop/", "gate/flagger/")
        .replace("group: shop", "group: flagger");
    let canary = yaml(&canary)?;
    let webhooks = canary["spec"]["analysis"]["webhooks"].as_array();
    let webhooks = webhooks.context("webhooks")?;
    let all = |expected: [u16; 3]| -> Result<()> {
        for (webhook, expected) in webhooks.iter().zip(expected) {
            let status = call(site, &canary, webhook)?;
            ensure!(status == expected, "{webhook}: {status}, not {expected}");
        }
        Ok(())
    };
    ensure!(webhooks.len() == 3, "{webhooks:?}");
    all([403, 403, 403])?;
    let gate = |name: &str, way: &str| -> Result<()> {
        let words = ["gate", "flagger", name, way];
        site.stand.agent.cli(&words)?.expect(0).map(drop)
    };
    // As the page has it opened.
    let socket = site.stand.agent.place().socket().display().to_string();
    let command = PAGE.split("$ curl ").nth(1).context("the command")?;
    let command = command.split("```").next().unwrap_or_default();
    let command = command
        .replace("/run/switcher/switcher.sock", &socket)
        .replace("\"name\": \"shop\"", "\"name\": \"flagger\"");
    let command = format!("curl --silent --fail-with-body {command}");
    let home = site.directory("flagger")?;
    let opened = site.run(&home, &["sh", "-c", &command], &[])?.expect(0)?;
    ensure!(opened.said.contains("\"open\":true"), "{}", opened.said);
    all([200, 200, 403])?;
    gate("rollback", "open")?;
    all([200, 200, 200])?;
    gate("rollback", "close")?;
    all([200, 200, 403])
}

/// What Flagger does with a webhook: POST, JSON, and only the status counts.
fn call(site: &Site, canary: &Value, webhook: &Value) -> Result<u16> {
    let kind = webhook["type"].as_str().context("a type")?;
    ensure!(TYPES.contains(&kind), "{kind}");
    let url = webhook["url"].as_str().context("a URL")?;
    let rest = url.strip_prefix("http://").context("http")?;
    let (host, path) = rest.split_once('/').context("a path")?;
    let body = json!({
        "name": canary["metadata"]["name"],
        "namespace": canary["metadata"]["namespace"],
        "phase": "Waiting",
        "checksum": "85d557f47b",
        "metadata": webhook["metadata"],
    });
    let body = body.to_string();
    let request = format!(
        "POST /{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: {}\r\n\
         Content-Type: application/json\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = site
        .stand
        .topology
        .switch
        .inside(|| TcpStream::connect(LISTEN))??;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).context("a status")?;
    Ok(status.parse()?)
}

/// A flip waits for the receiver's word, and goes back when that says so.
fn asks(site: &Site) -> Result<()> {
    let agent = &site.stand.agent;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    let canary = format!("flagger.{}", host.trim());
    let refused = agent.cli(&["flip", "flagger", "--json"])?.expect(5)?;
    let blockers = refused.problem()?["blockers"].to_string();
    ensure!(blockers.contains("HTTP 403: Forbidden"), "{blockers}");

    site.loadtester.set(&canary, true);
    agent.cli(&["flip", "flagger"])?.expect(0)?;
    let live = || -> Result<Value> { Ok(site.status("flagger")?["live"].clone()) };
    ensure!(live()? == "green", "it was let through");
    site.loadtester.set(&format!("rollback.{canary}"), true);
    until("the receiver to be heard", || Ok(live()? == "blue"))?;
    site.loadtester.set(&format!("rollback.{canary}"), false);
    let ask = json!({ "type": "rollback", "url": "http://edge1:9464/rollback/flagger" });
    let canary = json!({ "metadata": { "name": "podinfo", "namespace": "test" } });
    until("controllers to be told", || {
        Ok(call(site, &canary, &ask)? == 200)
    })?;

    let told = |phase: &str| {
        let tasks = site.loadtester.tasks();
        tasks.iter().any(|task| {
            let message = task["metadata"]["eventMessage"].as_str();
            task["name"] == "flagger"
                && task["phase"] == phase
                && message.is_some_and(|it| !it.is_empty())
        })
    };
    until("events", || Ok(told("Waiting") && told("Failed")))
}
