//! Commands that change nothing.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::json;
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::load::Connection;
use switcher_harness::{Mode, Stand, python};

use crate::{fields, run, stand};

#[test]
fn metrics_are_read_from_another_host() {
    run("metrics_are_read_from_another_host", || {
        let settings = Settings {
            agent: "listen = \"10.77.0.1:9464\"",
            ..Settings::default()
        };
        let mut stand = Stand::new(Mode::Local, true, settings, &binary()?)?;
        stand.agent.cli(&["flip", GROUP])?.expect(0)?;
        let web = stand.topology.web();
        let answer = stand
            .topology
            .client
            .inside(|| Connection::open(web))??
            .colour()?;
        ensure!(answer == "green", "{answer} answers");
        let metrics = public(&stand, "/metrics")?;
        for line in [
            "switcher_group_live{group=\"shop\",colour=\"green\"} 1.0",
            "switcher_connections_total{group=\"shop\",colour=\"green\"} 1",
            "switcher_interface_attached{interface=\"eth0\",xdp=\"native\"} 1.0",
        ] {
            ensure!(metrics.contains(line), "{line} is not in\n{metrics}");
        }
        let families = as_prometheus_reads(&metrics)?;
        for family in ["switcher_group_live gauge", "switcher_connections counter"] {
            ensure!(families.lines().any(|it| it == family), "{families}");
        }
        ensure!(public(&stand, "/live/shop/green")?.starts_with("HTTP/1.1 200"));
        ensure!(public(&stand, "/live/shop/blue")?.starts_with("HTTP/1.1 503"));
        ensure!(public(&stand, "/readyz")?.starts_with("HTTP/1.1 200"));
        stand.agent.kill()?;
        let taken = || TcpListener::bind("10.77.0.1:9464");
        let _taken = stand.topology.switch.inside(taken)??;
        let refused = format!("{:#}", stand.agent.start().expect_err("the port is taken"));
        ensure!(refused.contains("10.77.0.1:9464"), "{refused}");
        Ok(())
    });
}

/// Name and type of each family, by Prometheus' own parser of OpenMetrics, which takes nothing that is not valid.
fn as_prometheus_reads(answer: &str) -> Result<String> {
    const PARSE: &str = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.documentation and family.samples, family
    print(family.name, family.type)
";
    let (head, body) = answer.split_once("\r\n\r\n").context("no body")?;
    ensure!(!head.contains("chunked"), "{head}");
    let mut child = Command::new(python::environment()?.join("python"))
        .args(["-c", PARSE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().context("a pipe")?;
    input.write_all(body.as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{output:?}\n{body}");
    Ok(String::from_utf8(output.stdout)?)
}

/// What a client is answered at `agent.listen`.
fn public(stand: &Stand, path: &str) -> Result<String> {
    let connect = || TcpStream::connect("10.77.0.1:9464");
    let mut stream = stand.topology.client.inside(connect)??;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn status_has_the_promised_fields() {
    run("status_has_the_promised_fields", || {
        let mut stand = stand()?;
        stand
            .agent
            .cli(&["wait", GROUP, "--for", "healthy=green", "--timeout", "10s"])?
            .expect(0)?;
        let status = stand.agent.json(&["status"])?;
        fields(&status, &["agent", "interfaces", "groups", "reasons"])?;
        fields(
            &status["agent"],
            &["version", "pid", "started_at", "config", "config_digest"],
        )?;
        let interface = &status["interfaces"][0];
        fields(interface, &["name", "xdp", "attached"])?;
        ensure!(
            interface["name"] == "eth0"
                && interface["xdp"] == "native"
                && interface["attached"] == true
        );
        ensure!(
            status["agent"]["pid"].as_u64() == stand.agent.pid().map(u64::from),
            "{}",
            status["agent"]
        );
        let group = &status["groups"][0];
        let of_group = [
            "name", "live", "previous", "phase", "revision", "epoch", "since", "by", "next",
            "window", "colours", "rollback", "cutover",
        ];
        fields(group, &of_group)?;
        ensure!(
            group["name"] == GROUP && group["live"] == "blue" && group["phase"] == "idle",
            "{group:#}"
        );
        ensure!(
            group["window"].is_null(),
            "nothing is being switched: {}",
            group["window"]
        );
        fields(&group["rollback"], &["eligible", "to", "blockers"])?;
        ensure!(
            group["rollback"]["eligible"] == false,
            "there is no previous colour: {}",
            group["rollback"]
        );
        let green = &group["colours"]["green"];
        let of_colour = [
            "role",
            "version",
            "healthy",
            "endpoints",
            "packets",
            "bytes",
            "connections",
            "resets",
            "flows",
        ];
        fields(green, &of_colour)?;
        ensure!(
            green["role"] == "staging" && green["healthy"] == true,
            "{green:#}"
        );
        ensure!(group["colours"]["blue"]["role"] == "live", "{group:#}");
        fields(
            &green["endpoints"][0],
            &["service", "address", "weight", "healthy", "reason"],
        )?;
        counts(&mut stand)
    });
}

/// Resets are their colour's, and what is not forwarded is counted by its reason.
fn counts(stand: &mut Stand) -> Result<()> {
    let web = stand.topology.web();
    let connects = || TcpStream::connect_timeout(&web, Duration::from_millis(500));
    stand.servers.end_web("blue", 1);
    let refused = stand.topology.client.inside(connects)?;
    ensure!(
        refused
            .as_ref()
            .is_err_and(|it| it.kind() == ErrorKind::ConnectionRefused),
        "nobody listens: {refused:?}"
    );
    let group = stand.agent.status()?;
    let resets = |colour: &str| group["colours"][colour]["resets"].as_u64();
    ensure!(
        resets("blue") >= Some(1) && resets("green") == Some(0),
        "{:#}",
        group["colours"]
    );
    let pause = ["pause", GROUP, "--for", "60s"];
    stand.agent.cli(&pause)?.expect(0)?;
    let held = stand.topology.client.inside(connects)?;
    ensure!(held.is_err(), "it is paused: {held:?}");
    let status = stand.agent.json(&["status"])?;
    let paused = status["reasons"]["paused"].as_u64();
    ensure!(paused >= Some(1), "{}", status["reasons"]);
    let said = stand.agent.cli(&["status"])?.expect(0)?.stdout;
    ensure!(
        said.contains("counted ever: ") && said.contains(" paused"),
        "{said}"
    );
    Ok(())
}

#[test]
fn status_after_a_flip_tells_it() {
    run("status_after_a_flip_tells_it", || {
        let stand = stand()?;
        let before = stand.agent.status()?;
        stand
            .agent
            .cli(&["flip", GROUP, "--reason", "because"])?
            .expect(0)?;
        let after = stand.agent.status()?;
        ensure!(
            after["live"] == "green" && after["previous"] == "blue",
            "{after:#}"
        );
        ensure!(
            after["revision"].as_u64() > before["revision"].as_u64(),
            "{after:#}"
        );
        ensure!(
            after["rollback"]["eligible"] == true && after["rollback"]["to"] == "blue",
            "{after:#}"
        );
        ensure!(after["colours"]["blue"]["role"] == "previous", "{after:#}");
        let window = &after["window"];
        fields(window, &["phase", "flows_on_old", "flow_map_used"])?;
        fields(&after["next"], &["at", "what"])?;
        fields(
            &after["cutover"],
            &["id", "kind", "from", "to", "stage", "deadline"],
        )?;
        let table = stand.agent.cli(&["status"])?.expect(0)?.stdout;
        for word in [GROUP, "green", "blue"] {
            ensure!(table.contains(word), "no {word} in\n{table}");
        }
        let yaml = stand
            .agent
            .cli(&["status", "-o", "yaml"])?
            .expect(0)?
            .stdout;
        ensure!(yaml.contains("live: green"), "{yaml}");
        Ok(())
    });
}

#[test]
fn a_rollback_is_eligible_while_the_colour_before_is_healthy() {
    run(
        "a_rollback_is_eligible_while_the_colour_before_is_healthy",
        || {
            let stand = stand()?;
            stand.until(|it| it["colours"]["green"]["healthy"] == true)?;
            stand.agent.cli(&["flip", GROUP])?.expect(0)?;
            stand.servers.set_healthy("blue", false);
            stand.until(|it| it["rollback"]["eligible"] == false)?;
            it_is_said_why(&stand)?;
            let eligible = ["wait", GROUP, "--for", "rollback-eligible"];
            let wait = |time| {
                stand
                    .agent
                    .cli(&[&eligible[..], &["--timeout", time]].concat())
            };
            let in_vain = wait("300ms")?.expect(8)?.stderr;
            ensure!(in_vain.contains("503"), "{in_vain}");
            let words = [&eligible[..], &["--timeout", "30s"]].concat();
            let waits = stand.agent.cli_in_background(&words);
            std::thread::sleep(Duration::from_millis(500));
            ensure!(!waits.is_finished(), "blue is not healthy yet");
            stand.servers.set_healthy("blue", true);
            waits
                .join()
                .map_err(|_| anyhow!("it panicked"))??
                .expect(0)?;
            let rollback = &stand.agent.status()?["rollback"];
            ensure!(
                *rollback == json!({ "eligible": true, "to": "blue", "blockers": [] }),
                "{rollback:#}"
            );
            // Nobody is kept from going back to what is not well.
            stand.servers.set_healthy("blue", false);
            stand.until(|it| it["rollback"]["eligible"] == false)?;
            stand.agent.cli(&["rollback", GROUP])?.expect(0)?;
            ensure!(stand.agent.live()? == "blue", "it is not back");
            Ok(())
        },
    );
}

/// To programs and people: which server is not well, and what it answers.
fn it_is_said_why(stand: &Stand) -> Result<()> {
    let rollback = &stand.agent.status()?["rollback"];
    let blockers = rollback["blockers"].as_array().context("no list")?;
    ensure!(
        rollback["to"] == "blue" && blockers.len() == 1,
        "{rollback:#}"
    );
    let blocker = blockers[0].as_str().unwrap_or_default();
    for part in ["web", "10.77.1.1:8011", "503"] {
        ensure!(blocker.contains(part), "no {part} in {blocker:?}");
    }
    let said = stand.agent.cli(&["status"])?.expect(0)?.stdout;
    ensure!(said.contains(blocker), "no {blocker:?} in {said}");
    Ok(())
}

#[test]
fn unknown_names_are_3() {
    run("unknown_names_are_3", || {
        let stand = stand()?;
        let unknown: [&[&str]; 6] = [
            &["status", "shoes"],
            &["flip", "shoes"],
            &["flip", GROUP, "mauve"],
            &["rollback", "shoes"],
            &["show", "no-such-cut-over"],
            &["wait", "shoes", "--for", "idle"],
        ];
        for words in unknown {
            let output = stand.agent.cli(words)?.expect(3)?;
            let name = words
                .iter()
                .find(|word| ["shoes", "mauve", "no-such-cut-over"].contains(word));
            let name = name.copied().unwrap_or_default();
            ensure!(
                output.stderr.contains(name),
                "{words:?} does not name {name}: {}",
                output.stderr
            );
        }
        let problem = stand
            .agent
            .cli(&["flip", "shoes", "--json"])?
            .expect(3)?
            .problem()?;
        fields(&problem, &["type", "title", "status", "detail", "blockers"])?;
        Ok(())
    });
}

#[test]
fn waiting_ends_or_times_out() {
    run("waiting_ends_or_times_out", || {
        let stand = stand()?;
        stand
            .agent
            .cli(&["wait", GROUP, "--for", "idle", "--timeout", "5s"])?
            .expect(0)?;
        let waiting = stand.agent.cli(&[
            "wait",
            GROUP,
            "--for",
            "rollback-eligible",
            "--timeout",
            "300ms",
        ])?;
        ensure!(
            waiting.took().as_millis() >= 300,
            "it waited only {:?}",
            waiting.took()
        );
        waiting.expect(8)?;
        stand
            .agent
            .cli(&["wait", GROUP, "--for", "nonsense"])?
            .expect(2)?;
        Ok(())
    });
}

#[test]
fn history_and_show_tell_what_was_done() {
    run("history_and_show_tell_what_was_done", || {
        let stand = stand()?;
        let flip = stand
            .agent
            .json(&["flip", GROUP, "--reason", "release 42"])?;
        stand.agent.cli(&["rollback", GROUP])?.expect(0)?;
        let history = stand.agent.json(&["history", GROUP])?.to_string();
        for part in ["release 42", "rollback", "flip"] {
            ensure!(history.contains(part), "no {part} in {history}");
        }
        let id = flip["id"].as_str().unwrap_or_default();
        let shown = stand.agent.json(&["show", id])?;
        ensure!(
            shown["id"] == flip["id"] && shown["to"] == "green",
            "{shown:#}"
        );
        let table = stand.agent.cli(&["history"])?.expect(0)?.stdout;
        ensure!(table.contains("green"), "{table}");
        Ok(())
    });
}

#[test]
fn explain_names_the_endpoint_and_leaves_no_trace() {
    run("explain_names_the_endpoint_and_leaves_no_trace", || {
        let stand = stand()?;
        let packet = ["tcp", "10.77.0.2:40000", "10.77.1.1:80", "--syn"];
        let mut words = vec!["explain", GROUP];
        words.extend(packet);
        let before = stand.agent.status()?;
        let blue = stand.agent.json(&words)?.to_string();
        ensure!(
            blue.contains("blue") && blue.contains("10.77.1.1:8011"),
            "{blue}"
        );
        stand.agent.cli(&["flip", GROUP])?.expect(0)?;
        let green = stand.agent.json(&words)?.to_string();
        ensure!(green.contains("10.77.1.1:8012"), "{green}");
        let all = stand
            .agent
            .json(&["explain", "--all", "udp", "10.77.0.2:9", "10.77.0.9:9"])?
            .to_string();
        ensure!(
            !all.contains("10.77.1.1:5"),
            "nobody's packet was given an endpoint: {all}"
        );
        let flows = |status: &serde_json::Value| {
            status["colours"]["blue"]["flows"]
                .as_u64()
                .unwrap_or_default()
        };
        ensure!(
            flows(&stand.agent.status()?) <= flows(&before),
            "explain left a flow"
        );
        Ok(())
    });
}

#[test]
fn doctor_checks_this_host() {
    run("doctor_checks_this_host", || {
        let stand = stand()?;
        let config = stand.agent.place().config().display().to_string();
        let output = stand.agent.cli(&["doctor", "--config", &config])?;
        let said = output.stdout.to_lowercase();
        for part in ["kernel", "eth0"] {
            ensure!(
                said.contains(part),
                "doctor does not speak of {part}: {said}\n{}",
                output.stderr
            );
        }
        ensure!(
            [0, 1, 11].contains(&output.code),
            "doctor ended with {}",
            output.code
        );
        Ok(())
    });
}

#[test]
fn without_an_agent_it_is_9_and_usage_is_2() {
    let switcher = |words: &[&str]| -> Result<_> {
        let mut command = Command::new(binary()?);
        command
            .args(words)
            .env("SWITCHER_SOCKET", "/nonexistent/switcher.sock");
        Ok(command.output()?)
    };
    let check = || -> Result<()> {
        for words in [&["status"][..], &["flip", "shop"], &["history"]] {
            let output = switcher(words)?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(
                output.status.code() == Some(9),
                "{words:?}: {} {said}",
                output.status
            );
            ensure!(
                said.contains("/nonexistent/switcher.sock"),
                "{words:?}: {said}"
            );
        }
        for words in [
            &["flip"][..],
            &["frobnicate"],
            &["status", "--frobnicate"],
            &["flip", "shop", "--timeout", "5"],
        ] {
            ensure!(switcher(words)?.status.code() == Some(2), "{words:?}");
        }
        for words in [&["--help"][..], &["--version"], &["flip", "--help"]] {
            ensure!(switcher(words)?.status.code() == Some(0), "{words:?}");
        }
        for shell in ["bash", "zsh", "fish"] {
            let output = switcher(&["completion", shell])?;
            ensure!(
                output.status.success()
                    && String::from_utf8_lossy(&output.stdout).contains("rollback"),
                "{shell}"
            );
        }
        let page = switcher(&["man"])?;
        ensure!(String::from_utf8_lossy(&page.stdout).contains(".TH switcher 1"));
        let directory = tempfile::tempdir()?;
        let at = directory.path().display().to_string();
        ensure!(switcher(&["man", &at])?.status.success());
        ensure!(directory.path().join("switcher-flip.1").exists());
        let nowhere = switcher(&["man", "/nowhere"])?;
        ensure!(nowhere.status.code() == Some(1), "{nowhere:?}");
        Ok(())
    };
    check().unwrap_or_else(|error| panic!("{error:#}"));
}
