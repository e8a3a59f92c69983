//! Everything there is to ask for, one after the other.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;
use switcher_common::word::Word;

use super::super::limits::Limits;
use super::super::model::{ChangeRequest, History};
use super::super::openapi;
use super::super::routes::{Route, Taken, routes};
use super::bounds::{ask, connect};
use super::server::Server;
use super::town::{ROLES, Town};
use crate::agent::Verb;
use crate::agent::tests::{Stand, config};
use crate::config::Role;

/// What needs programs in the kernel, which a test has not.
const IN_THE_KERNEL: [&str; 2] = ["/v1/explain", "/v1/trace"];

/// What the document promises of entity tags is so, whatever one asks for.
#[tokio::test]
async fn answers_carry_their_tag_where_the_document_says_so() {
    let document: Value = serde_json::from_str(&openapi::text()).expect("JSON");
    let (idle, confirming) = (idle().await, confirming().await);
    let mut untagged = BTreeSet::new();
    for route in routes() {
        let (method, path, body) = sample(&route);
        let path = path.replace("{id}", &idle.cutover);
        let server = match route.doc.taken {
            Taken::Change(verb) if ends(verb) => &confirming.server,
            _ => &idle.server,
        };
        // Flagger's own document says nothing of them.
        let described = !route.doc.id.is_empty();
        let answered = &document["paths"][&route.path][method.to_lowercase()]["responses"]["200"];
        assert_eq!(answered.is_object(), described, "{}", route.path);
        let promised = &answered["headers"]["ETag"];
        assert!(
            promised.is_null() || promised["required"] == true,
            "{promised}"
        );
        if promised.is_null() && described {
            untagged.insert(route.path.clone());
        }
        if IN_THE_KERNEL.contains(&&*route.path) {
            continue;
        }
        let head = server.head(method, &path, &body).await;
        assert!(head.starts_with("HTTP/1.1 20"), "{path}: {head}");
        let tag = head.lines().find_map(|line| line.strip_prefix("etag: "));
        let revision = tag.map(|tag| tag.trim_matches('"').parse::<u64>());
        assert_eq!(
            revision.is_some_and(|it| it.is_ok()),
            promised.is_object() || !described,
            "{path}: {head}"
        );
    }
    // Streams, and the document itself.
    let expected = ["/openapi.json", "/v1/events", "/v1/trace"];
    assert_eq!(untagged, expected.map(str::to_owned).into());
}

/// Nobody with less is let in, and nobody needs more.
#[tokio::test]
async fn everything_takes_its_role_and_no_more() {
    let document: Value = serde_json::from_str(&openapi::text()).expect("JSON");
    let town = Town::new(ROLES, Limits::default()).await;
    let peers = [
        ("stranger", None),
        ("grafana", Some(Role::Viewer)),
        ("ci.internal", Some(Role::Operator)),
        ("Chief of the shop", Some(Role::Admin)),
    ];
    for (name, role) in peers {
        let pair = town.signed(name);
        for route in routes() {
            let (method, path, body) = sample(&route);
            let length = body.len();
            let request = format!(
                "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            // Some would go on, so each has a connection of its own.
            let answer = ask(&mut connect(&town, &pair).await, &request).await;
            let refused =
                answer.starts_with("HTTP/1.1 403 ") && answer.contains("\"exit_code\":13");
            let needed = needed(&route.path);
            assert_eq!(refused, role < Some(needed), "{name}: {path}: {answer}");
            let described = format!("Takes the role {needed}.");
            let said = &document["paths"][&route.path][method.to_lowercase()]["description"];
            assert!(
                *said == described || route.doc.id.is_empty(),
                "{path}: {said}"
            );
        }
    }
}

/// As the documentation has it: viewers look, operators switch and see clients' packets, admins configure.
fn needed(path: &str) -> Role {
    let of_a_group = path.strip_prefix("/v1/groups/{group}/");
    match path {
        "/v1/apply" => Role::Admin,
        "/v1/trace" => Role::Operator,
        _ if of_a_group.is_some_and(|it| it != "wait") => Role::Operator,
        _ if path.starts_with("/gate/") || path.starts_with("/rollback/") => Role::Operator,
        _ => Role::Viewer,
    }
}

#[tokio::test]
async fn a_dry_run_changes_nothing_whatever_it_is_of() {
    let mut told = BTreeSet::new();
    for Flipped { server, .. } in [idle().await, confirming().await] {
        let before = server.all_that_changes().await;
        for route in routes() {
            let (method, path, body) = sample(&route);
            if !path.ends_with("?dry_run=true") {
                continue;
            }
            let (head, answer) = server.raw(method, &path, "", &body).await;
            // What can't be done now would say nothing of what is done.
            if head.starts_with("HTTP/1.1 20") {
                let dry = answer["dry_run"] == true || answer["applied"] == false;
                assert!(dry, "{path}: {answer}");
                told.insert(route.path);
            }
            assert_eq!(server.all_that_changes().await, before, "{path}");
        }
    }
    let verbs = Verb::ALL.map(|verb| format!("/v1/groups/{{group}}/{}", verb.name()));
    let others = [
        "/v1/apply",
        "/gate/open",
        "/gate/close",
        "/rollback/open",
        "/rollback/close",
    ];
    let all = verbs.into_iter().chain(others.map(str::to_owned)).collect();
    assert_eq!(told, all);
}

impl Server {
    /// What is, what was, who did it, and what the kernel has.
    async fn all_that_changes(&self) -> (Vec<Value>, Word) {
        let mut said = Vec::new();
        for path in ["/v1/status", "/v1/history", "/v1/audit", "/v1/drift"] {
            let (head, answer) = self.raw("GET", path, "", "").await;
            assert!(head.starts_with("HTTP/1.1 200"), "{path}: {answer}");
            said.push(to_the_second(answer));
        }
        (said, self.stand.kernel.word())
    }
}

/// Deadlines are kept by the time since boot: as times of day they differ by microseconds from answer to answer.
fn to_the_second(value: Value) -> Value {
    match value {
        Value::String(text) => {
            let at = text.parse::<Timestamp>().map(|at| format!("{at:.0}"));
            Value::String(at.unwrap_or(text))
        }
        Value::Array(all) => all.into_iter().map(to_the_second).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter();
            fields.map(|(key, it)| (key, to_the_second(it))).collect()
        }
        other => other,
    }
}

/// A group that somebody has flipped, with something to ask for.
struct Flipped {
    server: Server,
    /// That flip.
    cutover: String,
}

/// Nothing is going on.
async fn idle() -> Flipped {
    let gates = "gates = { qa = { default = \"open\" }, rollback = {} }";
    let initial = "initial = \"blue\"\n";
    let text = config(&[8001], &[8002]).replace(initial, &format!("{initial}{gates}\n"));
    let server = Server::over(Stand::new(&text)).await;
    server.flip(&ChangeRequest::default()).await.expect("flips");
    server.stand.phase("idle").await;
    let history: History = server.client.get("/v1/history").await.expect("answers");
    Flipped {
        cutover: history.cutovers[0].id.clone(),
        server,
    }
}

/// The second flip waits for somebody, new connections wait, and nobody is to flip.
async fn confirming() -> Flipped {
    let flipped = idle().await;
    let timed = ChangeRequest {
        confirm_within: Some("1h".into()),
        ..ChangeRequest::default()
    };
    flipped.server.flip(&timed).await.expect("flips");
    flipped.server.stand.phase("confirming").await;
    for verb in [Verb::Freeze, Verb::Pause] {
        let path = format!("/v1/groups/shop/{}", verb.name());
        let (head, answer) = flipped.server.raw("POST", &path, "", said(verb)).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    }
    flipped
}

/// Whether it is about what is going on.
fn ends(verb: Verb) -> bool {
    matches!(
        verb,
        Verb::Abort | Verb::Confirm | Verb::Extend | Verb::Resume | Verb::Unfreeze
    )
}

/// A request that changes nothing: its method, its path, and its body. The id of a cut-over is left to fill in.
fn sample(route: &Route) -> (&'static str, String, String) {
    let path = route.path.replace("{group}", "shop");
    let flagger = route.doc.id.is_empty();
    let method = if route.is_post || flagger {
        "POST"
    } else {
        "GET"
    };
    let (query, body) = match (&route.doc.taken, &*path) {
        (Taken::Change(verb), _) => ("?dry_run=true", said(*verb)),
        (_, "/v1/apply") => ("?dry_run=true", ""),
        (_, "/v1/groups/shop/wait") => ("?for=idle&timeout=1s", ""),
        // What goes to the kernel is not understood, so that it never gets there.
        (_, "/v1/explain" | "/v1/trace") => ("", "[]"),
        _ if flagger => (
            "?dry_run=true",
            r#"{"name":"shop","namespace":"test","metadata":{"gate":"qa"}}"#,
        ),
        _ => ("", ""),
    };
    (method, path + query, body.to_owned())
}

/// What a change has to be told.
fn said(verb: Verb) -> &'static str {
    match verb {
        Verb::Canary => r#"{"to":"blue","percent":10}"#,
        Verb::Extend | Verb::Pause => r#"{"for":"1m"}"#,
        Verb::Stage => r#"{"version":"v2"}"#,
        Verb::Schema => r#"{"applied":3}"#,
        Verb::Freeze => r#"{"reason":"sale"}"#,
        Verb::Gate => r#"{"gate":"qa","open":false}"#,
        Verb::Flip
        | Verb::Rollback
        | Verb::Drill
        | Verb::Abort
        | Verb::Confirm
        | Verb::Resume
        | Verb::Unfreeze => "",
    }
}
