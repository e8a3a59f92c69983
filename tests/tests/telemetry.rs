//! What a real agent tells of its cut-overs: by its log in each form, and by traces.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::{Mode, Stand, netns, privilege};
use switcher_tests::hooks::Hooks;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a flip that was undone exits with, and one that is refused.
const ROLLED_BACK: i32 = 7;
const REFUSED: i32 = 5;
/// What a hook says that wants to be mistaken for the agent.
const FORGED: &str = "not well\u{1b}[2J\r2026-01-01T00:00:00Z ERROR forged";

/// One agent: a cut-over that hooks undo, one that people undo while it is watched, one that is refused.
#[test]
fn telemetry() {
    if !privilege::is_root("telemetry") {
        return;
    }
    netns::sweep();
    let run = || -> Result<()> {
        let settings = Settings {
            deadline: Duration::from_secs(60),
            ..Settings::default()
        };
        let mut stand = Stand::without_agent(Mode::Local, true, settings, &binary()?)?;
        let collector = Hooks::listen(&stand.topology.switch, 200)?;
        configure(
            &stand,
            &format!("log = \"json\"\ntraces = \"{}\"", collector.url()),
        )?;
        stand.agent.start()?;
        let begun = lines(&stand)?.len();
        let undone = undone_by_hooks(&stand)?;
        let watched = undone_while_it_is_watched(&stand)?;
        refused(&stand)?;
        // What it has still to say is said when it ends.
        stand.agent.stop()?;
        every_line_has_its_id(&lines(&stand)?[begun..], &undone, &watched)?;
        let raw = fs::read(stand.agent.place().log())?;
        let controls = raw
            .iter()
            .filter(|byte| byte.is_ascii_control() && **byte != b'\n');
        ensure!(controls.count() == 0, "control characters reached the log");
        one_trace_each(&collector, &undone, &watched)?;
        the_journal_gets_fields(&mut stand)
    };
    run().unwrap_or_else(|error| panic!("{error:#}"));
}

fn configure(stand: &Stand, agent: &str) -> Result<()> {
    let settings = Settings {
        agent: agent.to_owned().leak(),
        ..stand.settings.clone()
    };
    let place = stand.agent.place();
    let home = place.directory();
    for hook in ["pre-flip", "post-flip"] {
        fs::write(home.join(hook), "exit 0")?;
    }
    let hooks = ["pre-flip", "post-flip"].map(|on| {
        let argv = json!(["/bin/sh", home.join(on)]);
        format!("\n[[groups.{GROUP}.hooks]]\non = \"{on}\"\nname = \"{on}\"\nexec = {argv}\n")
    });
    let gates = format!(
        "\n[groups.{GROUP}.gates]\nqa = {{ default = \"open\" }}\n\n[groups.{GROUP}.bake]\nfor = \"10m\"\n"
    );
    stand
        .agent
        .write_config(&(settings.render(&stand.topology, place) + &gates + &hooks.concat()))
}

fn hook(stand: &Stand, on: &str, script: &str) -> Result<()> {
    let file = stand.agent.place().directory().join(on);
    Ok(fs::write(file, script)?)
}

fn cli(stand: &Stand, words: &[&str], code: i32) -> Result<()> {
    stand.agent.cli(words)?.expect(code).map(drop)
}

fn idle(stand: &Stand) -> Result<()> {
    cli(
        stand,
        &["wait", GROUP, "--for", "idle", "--timeout", "50s"],
        0,
    )
}

/// The newest flip of the history.
fn newest_flip(stand: &Stand) -> Result<String> {
    let history = stand.agent.json(&["history", GROUP])?;
    let mut all = history.as_array().into_iter().flatten();
    let flip = all.find(|it| it["kind"] == "flip").context("a flip")?;
    Ok(flip["id"].as_str().context("an id")?.to_owned())
}

fn undone_by_hooks(stand: &Stand) -> Result<String> {
    hook(stand, "post-flip", &format!("printf '{FORGED}\\n'; exit 1"))?;
    cli(stand, &["flip", GROUP], ROLLED_BACK)?;
    hook(stand, "post-flip", "exit 0")?;
    idle(stand)?;
    newest_flip(stand)
}

fn undone_while_it_is_watched(stand: &Stand) -> Result<String> {
    cli(stand, &["flip", GROUP, "--reason", "for a look"], 0)?;
    let id = newest_flip(stand)?;
    let deadline = Instant::now() + PATIENCE;
    // Hooks first, then the watch.
    while stand.agent.status()?["phase"] != "baking" {
        ensure!(
            Instant::now() < deadline,
            "never watched: {}",
            stand.agent.status()?
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let trace = stand.agent.json(&["show", &id])?["receipt"]["trace_id"].clone();
    ensure!(
        trace.as_str().is_some_and(|it| it.len() == 32),
        "the receipt names its trace: {trace}"
    );
    cli(stand, &["rollback", GROUP], 0)?;
    idle(stand)?;
    Ok(id)
}

fn refused(stand: &Stand) -> Result<()> {
    cli(stand, &["gate", GROUP, "qa", "close"], 0)?;
    cli(stand, &["flip", GROUP], REFUSED)?;
    cli(stand, &["gate", GROUP, "qa", "open"], 0)
}

/// What the agent has logged: objects, one a line.
fn lines(stand: &Stand) -> Result<Vec<Value>> {
    let log = stand.agent.log();
    let parsed = log.lines().map(|line| {
        serde_json::from_str::<Value>(line).with_context(|| format!("a line of the log: {line}"))
    });
    parsed.collect()
}

fn every_line_has_its_id(lines: &[Value], undone: &str, watched: &str) -> Result<()> {
    for line in lines {
        for field in ["timestamp", "level", "target", "message"] {
            ensure!(line[field].is_string(), "no {field}: {line}");
        }
        // What is said of a group is about a cut-over, or of endpoints' health, or what people decide.
        let target = line["target"].as_str().unwrap_or_default();
        let others = line.get("endpoint").is_some() || target == "switcher::agent::notes";
        let concerns = line.get("group").is_some() && !others;
        ensure!(
            !concerns || line["cutover"].is_string(),
            "whose is this? {line}"
        );
        ensure!(
            concerns || line.get("cutover").is_none(),
            "of which group? {line}"
        );
    }
    let said = |id: &str| -> Vec<&str> {
        let of = lines.iter().filter(|line| line["cutover"] == id);
        of.filter_map(|line| line["message"].as_str()).collect()
    };
    let expected = [
        "preparing",
        "calling hooks",
        "passed: ",
        "is live",
        "failed: ",
        "rolled-back",
    ];
    tells(&said(undone), &expected)?;
    tells(
        &said(&format!("{undone}-back")),
        &["preparing", "is live", "succeeded"],
    )?;
    tells(
        &said(watched),
        &[
            "preparing",
            "calling hooks",
            "is live",
            "passed: ",
            "rolled-back",
        ],
    )?;
    let known = |line: &&Value| [undone, watched].iter().any(|it| line["cutover"] == *it);
    for line in lines.iter().filter(known) {
        ensure!(line["colour"] == "green", "which colour? {line}");
        ensure!(
            line["trace_id"].as_str().is_some_and(|it| it.len() == 32),
            "{line}"
        );
    }
    let refusals = lines.iter().filter(|line| line["code"] == REFUSED);
    let refusals: Vec<&Value> = refusals.collect();
    ensure!(
        refusals.len() == 1 && refusals[0]["cutover"].is_string(),
        "an order that comes to nothing has an id, too: {refusals:?}"
    );
    Ok(())
}

/// Whether lines say all this, in whatever order.
fn tells(said: &[&str], expected: &[&str]) -> Result<()> {
    for part in expected {
        ensure!(
            said.iter().any(|it| it.contains(part)),
            "{part:?} is not among {said:#?}"
        );
    }
    Ok(())
}

/// What the collector was sent.
fn one_trace_each(collector: &Hooks, undone: &str, watched: &str) -> Result<()> {
    let mut spans: Vec<Value> = Vec::new();
    let mut roots = BTreeSet::new();
    let wanted = [
        undone.to_owned(),
        format!("{undone}-back"),
        watched.to_owned(),
    ];
    while !wanted.iter().all(|id| roots.contains(id)) {
        let request = collector.next()?;
        ensure!(
            request.headers.starts_with("post /hooks/v1/traces "),
            "{}",
            request.headers
        );
        ensure!(
            request.headers.contains("content-type: application/json"),
            "{}",
            request.headers
        );
        let of = &request.body["resourceSpans"][0];
        let name = json!({ "key": "service.name", "value": { "stringValue": "switcher" } });
        let resource = of["resource"]["attributes"]
            .as_array()
            .context("a resource")?;
        ensure!(resource.contains(&name), "{resource:?}");
        let new = of["scopeSpans"][0]["spans"].as_array().context("spans")?;
        roots.extend(
            new.iter()
                .filter_map(|span| attribute(span, "switcher.cutover")),
        );
        spans.extend(new.iter().cloned());
    }
    let of = |id: &str| -> Result<(Value, Vec<&Value>)> {
        let root = spans
            .iter()
            .find(|it| attribute(it, "switcher.cutover").as_deref() == Some(id));
        let root = root.context("a root")?;
        ensure!(root.get("parentSpanId").is_none(), "{root}");
        let parts = spans
            .iter()
            .filter(|it| it["parentSpanId"] == root["spanId"]);
        let parts: Vec<&Value> = parts.collect();
        for part in &parts {
            ensure!(
                part["traceId"] == root["traceId"],
                "{part} is not of {root}"
            );
            ensure!(
                nanoseconds(part, "start") <= nanoseconds(part, "end"),
                "{part}"
            );
            ensure!(
                nanoseconds(root, "start") <= nanoseconds(part, "start"),
                "{part} {root}"
            );
        }
        Ok((root.clone(), parts))
    };
    let (root, parts) = of(undone)?;
    ensure!(root["name"] == "flip", "{root}");
    ensure!(
        attribute(&root, "switcher.result").as_deref() == Some("rolled-back"),
        "{root}"
    );
    let names = |parts: &[&Value]| -> BTreeSet<String> {
        let names = parts.iter().filter_map(|it| it["name"].as_str());
        names.map(ToOwned::to_owned).collect()
    };
    let all = names(&parts);
    for name in [
        "hooks",
        "hook pre-flip",
        "hook post-flip",
        "store",
        "settle",
        "switch",
        "bake",
    ] {
        ensure!(all.contains(name), "{name} is not among {all:?}");
    }
    let failed = parts
        .iter()
        .find(|it| it["name"] == "hook post-flip")
        .context("a hook")?;
    ensure!(failed["status"]["code"] == 2, "{failed}");
    let (back, _) = of(&format!("{undone}-back"))?;
    ensure!(
        back["links"][0]["traceId"] == root["traceId"],
        "{back} undid {root}"
    );
    ensure!(back["traceId"] != root["traceId"], "each has its own");
    let (root, parts) = of(watched)?;
    ensure!(names(&parts).contains("bake"), "{parts:?}");
    ensure!(
        attribute(&root, "switcher.reason").as_deref() == Some("for a look"),
        "{root}"
    );
    Ok(())
}

fn attribute(span: &Value, key: &str) -> Option<String> {
    let mut all = span["attributes"].as_array()?.iter();
    let found = all.find(|it| it["key"] == key)?;
    Some(found["value"]["stringValue"].as_str()?.to_owned())
}

fn nanoseconds(span: &Value, which: &str) -> u128 {
    let text = span[format!("{which}TimeUnixNano")].as_str();
    text.and_then(|it| it.parse().ok()).unwrap_or_default()
}

/// Started by systemd, as far as the agent can tell: standard error is the journal's stream, and the journal's
/// socket is there.
fn the_journal_gets_fields(stand: &mut Stand) -> Result<()> {
    let home = stand.agent.place().directory().to_owned();
    let socket = home.join("journal.sock");
    let journal = UnixDatagram::bind(&socket)?;
    journal.set_read_timeout(Some(PATIENCE))?;
    let wrapper = wrap(&home, &socket)?;
    configure(stand, "")?;
    let said = stand.agent.log().len();
    stand.agent.set_binary(&wrapper);
    stand.agent.start()?;
    cli(stand, &["flip", GROUP], 0)?;
    stand.agent.set_binary(&binary()?);
    let id = newest_flip(stand)?;
    loop {
        let entry = entry(&journal).context("the journal has not heard that green is live")?;
        let has = |name: &str, value: &str| {
            entry
                .iter()
                .any(|it| *it == (name.to_owned(), value.to_owned()))
        };
        ensure!(has("SYSLOG_IDENTIFIER", "switcher"), "{entry:?}");
        if has("MESSAGE", "green is live") {
            ensure!(has("PRIORITY", "6") && has("GROUP", GROUP), "{entry:?}");
            ensure!(has("CUTOVER", &id) && has("COLOUR", "green"), "{entry:?}");
            break;
        }
    }
    let log = stand.agent.log();
    ensure!(log.len() == said, "said twice: {}", &log[said..]);
    Ok(())
}

/// A program that starts the agent where the journal's socket is ours.
fn wrap(home: &Path, socket: &Path) -> Result<std::path::PathBuf> {
    let path = home.join("journaled");
    let script = format!(
        "#!/bin/sh\nexec unshare --mount sh -c '\
         mkdir -p /run/systemd && mount -t tmpfs none /run/systemd && mkdir /run/systemd/journal && \
         ln -s {} /run/systemd/journal/socket && \
         export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) && exec {} \"$@\"' sh \"$@\"\n",
        socket.display(),
        binary()?.display()
    );
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// The fields of the next entry: a name, a line feed, eight bytes of length, the value, a line feed.
fn entry(journal: &UnixDatagram) -> Result<Vec<(String, String)>> {
    let mut bytes = vec![0; 65_536];
    let length = journal.recv(&mut bytes)?;
    let mut rest = &bytes[..length];
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let end = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .context("a name")?;
        let name = String::from_utf8(rest[..end].to_vec())?;
        let (length, value) = rest[end + 1..].split_at_checked(8).context("a length")?;
        let length = u64::from_le_bytes(length.try_into()?);
        let (value, end) = value
            .split_at_checked(length.try_into()?)
            .context("a value")?;
        fields.push((name, String::from_utf8(value.to_vec())?));
        rest = end.strip_prefix(b"\n").context("the value's end")?;
    }
    Ok(fields)
}
