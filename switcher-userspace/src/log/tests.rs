use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tracing::{info, warn};

use super::*;

/// What somebody might say who wants to be mistaken for the agent.
const FORGED: &str = "well\n2026-11-28T18:00:00.000000Z ERROR gone\u{1b}[2J\u{202e}";

/// Has `say` said in a form; returns what was written.
fn written(form: Form, level: &str, say: impl FnOnce()) -> String {
    let written = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&written);
    let write = move |line: &[u8]| sink.lock().expect("no panics").extend_from_slice(line);
    let lines = Lines::new(form, Box::new(write));
    let registry = Registry::default();
    let subscriber = registry.with(filter(level).expect("a level")).with(lines);
    tracing::subscriber::with_default(subscriber, say);
    let written = written.lock().expect("no panics");
    String::from_utf8(written.clone()).expect("UTF-8")
}

fn objects(text: &str) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).expect("one object a line");
    text.lines().map(parse).collect()
}

#[test]
fn what_is_said_about_a_cutover_carries_its_id() {
    let text = written(Form::Json, "info", || {
        info!("nobody's");
        let outer = about("shop", "c-1", Some("green"), None);
        outer.in_scope(|| {
            info!(settled_us = 12, "green is live");
            about("shop", "c-1-back", None, None).in_scope(|| warn!("undone"));
            info!(cutover = "c-0", colour = "blue", "the other");
        });
    });
    let lines = objects(&text);
    assert_eq!(lines[0].get("cutover"), None);
    let of = |line: &Value, fields: [&str; 3]| fields.map(|field| line[field].clone());
    let fields = ["cutover", "colour", "message"];
    assert_eq!(of(&lines[1], fields), ["c-1", "green", "green is live"]);
    assert_eq!(lines[1]["settled_us"], 12);
    assert_eq!(of(&lines[2], fields), ["c-1-back", "green", "undone"]);
    assert_eq!(of(&lines[3], fields), ["c-0", "blue", "the other"]);
}

#[test]
fn warnings_keep_the_id_where_nothing_else_is_said() {
    for level in ["warn", "off,switcher=warn", "error,switcher::log=warn"] {
        let text = written(Form::Json, level, || {
            about("shop", "c-1", None, None).in_scope(|| {
                info!("not said");
                warn!("said");
            });
        });
        let lines = objects(&text);
        assert_eq!(lines.len(), 1, "{level}: {text}");
        assert_eq!(lines[0]["cutover"], "c-1", "{level}");
    }
    assert_eq!(written(Form::Json, "off", || warn!("not said")), "");
}

#[test]
fn json_has_what_every_line_has_first() {
    let text = written(Form::Json, "debug", || {
        tracing::debug!(level = "mine", at = ?Some(1), well = true, "said");
    });
    let start =
        text.find(",\"level\":\"debug\",\"target\":\"switcher::log::tests\",\"message\":\"said\"");
    assert!(start.is_some(), "{text}");
    assert!(text.starts_with("{\"timestamp\":\"2"), "{text}");
    let line = &objects(&text)[0];
    assert_eq!(
        (&line["level_"], &line["well"]),
        (&"mine".into(), &true.into())
    );
    assert_eq!(line["at"], "Some(1)");
}

#[test]
fn nobody_can_forge_a_line() {
    let say = || warn!(group = "shop", reason = FORGED, "failed: {FORGED}");
    let text = written(Form::Text { colours: false }, "info", say);
    assert_eq!(text.lines().count(), 1, "{text}");
    let end = "ERROR gone\\u{1b}[2J\\u{202e}\"\n";
    assert!(
        text.ends_with(end) && text.contains("failed: well; 2026"),
        "{text}"
    );

    let text = written(Form::Json, "info", say);
    assert_eq!(text.lines().count(), 1);
    let misleading = |c: char| c != '\n' && crate::api::misleads(c);
    assert!(!text.contains(misleading), "{text}");
    assert_eq!(objects(&text)[0]["reason"], FORGED);

    let (journal, sent) = listen();
    written(Form::Journald(journal), "info", say);
    let entry = entry(&sent);
    let names: Vec<&str> = entry.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "MESSAGE",
        "PRIORITY",
        "SYSLOG_IDENTIFIER",
        "TARGET",
        "GROUP",
        "REASON",
    ];
    assert_eq!(names, expected);
    assert!(!entry[5].1.contains(misleading), "{entry:?}");
}

#[test]
fn the_journal_gets_fields() {
    let (journal, sent) = listen();
    let said = written(Form::Journald(journal), "info", || {
        about("shop", "c-1", Some("green"), None).in_scope(|| {
            warn!(_odd.name = 7, "two\nlines");
        });
    });
    assert_eq!(
        said, "",
        "standard error is for what the journal does not take"
    );
    let expected = [
        ("MESSAGE", "two\nlines"),
        ("PRIORITY", "4"),
        ("SYSLOG_IDENTIFIER", "switcher"),
        ("TARGET", "switcher::log::tests"),
        ("GROUP", "shop"),
        ("CUTOVER", "c-1"),
        ("COLOUR", "green"),
        ("ODD_NAME", "7"),
    ];
    let owned = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(entry(&sent), owned);
}

#[test]
fn what_the_journal_does_not_take_goes_to_standard_error() {
    let nobody = Path::new("/nonexistent/journal");
    let text = written(Form::Journald(Journal::at(nobody)), "info", || {
        info!("said");
    });
    assert!(text.ends_with(" INFO said\n"), "{text}");
    let (journal, _sent) = listen();
    let long = "x".repeat(4 << 20);
    let text = written(Form::Journald(journal), "info", || info!("{long}"));
    assert!(text.len() > long.len(), "{}", text.len());
}

#[test]
fn the_journals_stream_is_known_by_device_and_inode() {
    let file = tempfile::tempfile().expect("a file");
    let stat = nix::sys::stat::fstat(&file).expect("it is open");
    let named = |inode| format!("{}:{inode}", stat.st_dev);
    assert!(leads_to(&named(stat.st_ino), &file));
    assert!(!leads_to(&named(stat.st_ino + 1), &file));
    for nonsense in ["", "1", ":", "a:b"] {
        assert!(!leads_to(nonsense, &file), "{nonsense}");
    }
}

#[test]
fn nonsense_is_no_level() {
    for good in ["info", "off", "warn,switcher::agent=debug"] {
        assert!(filter(good).is_ok(), "{good}");
    }
    let why = filter("switcher=loud").expect_err("no level");
    assert!(why.contains("write error, warn, info"), "{why}");
}

/// A journal, and what it was sent.
fn listen() -> (Journal, UnixDatagram) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.keep().join("socket");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let timeout = socket.set_read_timeout(Some(Duration::from_secs(20)));
    timeout.expect("a time");
    (Journal::at(&path), socket)
}

/// The fields of the next entry.
fn entry(sent: &UnixDatagram) -> Vec<(String, String)> {
    let mut bytes = vec![0; 65_536];
    let length = sent.recv(&mut bytes).expect("an entry");
    let mut rest = &bytes[..length];
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').expect("a name");
        let name = String::from_utf8(rest[..end].to_vec()).expect("UTF-8");
        rest = &rest[end + 1..];
        let (length, value) = rest.split_at(8);
        let length = u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize;
        let (value, end) = value.split_at(length);
        fields.push((name, String::from_utf8(value.to_vec()).expect("UTF-8")));
        rest = end.strip_prefix(b"\n").expect("the value's end");
    }
    fields
}
