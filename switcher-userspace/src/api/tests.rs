//! The server on a real socket, asked by the client and by hand.

mod bounds;
mod events;
mod once;
mod secure;
mod server;
mod sweep;
mod town;

use serde_json::Value;
use tempfile::TempDir;

use super::model::{
    Audit, ChangeAnswer, ChangeRequest, ConfigAnswer, ConfigRequest, History, Status, WhoAmI,
};
use super::*;
use crate::agent::tests::{Stand, config};
use crate::client::Client;
use crate::journal::Verified;
use crate::release::End;
use server::{FLIP, Server};

#[tokio::test]
async fn status_is_as_promised() {
    let server = Server::new().await;
    let (head, status) = server.raw("GET", "/v1/status?group=shop", "", "").await;
    assert!(head.contains("\r\netag: \"0\"\r\n"), "{head}");
    let group = &status["groups"][0];
    let keys = |value: &Value| {
        value
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    let expected = [
        "blockers",
        "by",
        "canary",
        "colours",
        "cutover",
        "degraded",
        "epoch",
        "frozen",
        "gates",
        "live",
        "name",
        "next",
        "outbox",
        "paused_until",
        "phase",
        "previous",
        "revision",
        "rollback",
        "schema",
        "since",
        "warnings",
        "window",
    ];
    assert_eq!(keys(group), expected);
    let expected = [
        "bytes",
        "connections",
        "endpoints",
        "flows",
        "healthy",
        "last_packet_at",
        "packets",
        "resets",
        "role",
        "schema",
        "version",
    ];
    assert_eq!(keys(&group["colours"]["blue"]), expected);
    let expected = [
        "address",
        "handed_over",
        "healthy",
        "reason",
        "service",
        "weight",
    ];
    assert_eq!(keys(&group["colours"]["blue"]["endpoints"][0]), expected);
    assert_eq!(keys(&group["rollback"]), ["blockers", "eligible", "to"]);
    for key in ["version", "pid", "started_at", "config", "config_digest"] {
        assert!(!status["agent"][key].is_null(), "{key}");
    }
}

#[tokio::test]
async fn bodies_may_be_as_large_as_configurations() {
    let server = Server::new().await;
    let (head, _) = server
        .raw("POST", "/v1/plan", "", &" ".repeat(BODY_MAX))
        .await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let (head, problem) = server
        .raw("POST", "/v1/plan", "", &" ".repeat(BODY_MAX + 1))
        .await;
    assert!(head.starts_with("HTTP/1.1 413"), "{head}");
    let why = problem["detail"].as_str().unwrap_or_default();
    assert!(why.contains("more than 33554432 bytes"), "{problem}");
}

#[tokio::test]
async fn a_flip_and_what_is_recorded_of_it() {
    let server = Server::new().await;
    let request = ChangeRequest {
        reason: Some("v42\nforged".into()),
        ..ChangeRequest::default()
    };
    let answer: ChangeAnswer = server
        .client
        .post("/v1/groups/shop/flip", &request)
        .await
        .expect("flips");
    assert_eq!(
        (answer.to.as_str(), answer.result),
        ("green", End::Switched)
    );
    let history: History = server
        .client
        .get("/v1/history?group=shop")
        .await
        .expect("answers");
    let record = &history.cutovers[0];
    assert_eq!(Some(&record.id), answer.id.as_ref());
    assert_eq!(record.reason.as_deref(), Some("v42 forged"));
    assert!(
        record
            .actor
            .contains(&format!("pid {}", std::process::id())),
        "{}",
        record.actor
    );
    let path = format!("/v1/cutovers/{}", record.id);
    let one: crate::journal::CutoverRecord = server.client.get(&path).await.expect("answers");
    assert_eq!(one.id, record.id);
}

#[tokio::test]
async fn preconditions_come_in_the_body_or_as_a_header() {
    let server = Server::new().await;
    let (head, problem) = server.raw("POST", FLIP, "if-match: \"7\"\r\n", "").await;
    assert!(head.starts_with("HTTP/1.1 412 "), "{head}");
    assert!(head.contains("application/problem+json"), "{head}");
    assert_eq!(
        (&problem["exit_code"], &problem["status"]),
        (&4.into(), &412.into())
    );
    assert_eq!(problem["detail"], "the revision is 0, not 7");
    let (head, answer) = server.raw("POST", FLIP, "if-match: \"0\"\r\n", "").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(answer["revision"], 1);
    let request = ChangeRequest {
        if_live: Some("blue".into()),
        ..ChangeRequest::default()
    };
    let failure = server.flip(&request).await.expect_err("green is live");
    assert_eq!(failure.exit, Exit::Precondition);
}

#[tokio::test]
async fn the_audit_is_read_and_checked_and_nobody_forges_a_line() {
    let server = Server::new().await;
    let forged = "tested\n12:00 root flipped\u{1b}[2K\u{202e}";
    let request = ChangeRequest {
        reason: Some(forged.into()),
        to: Some("green\nred".into()),
        ..ChangeRequest::default()
    };
    let failure = server.flip(&request).await.expect_err("there is none");
    assert!(!failure.why.contains('\n'), "{failure}");
    let audit: Audit = server
        .client
        .get("/v1/audit?group=shop")
        .await
        .expect("answers");
    let entry = &audit.records[0].entry;
    assert_eq!(
        entry.reason.as_deref(),
        Some("tested 12:00 root flipped [2K ")
    );
    assert_eq!(entry.what, "flip shop to green red");
    assert_eq!(entry.exit, Some(3));
    let pid = format!("pid {}", std::process::id());
    for part in ["uid ", "gid ", &pid] {
        assert!(entry.actor.contains(part), "{part}: {}", entry.actor);
    }
    let verified: Verified = server.client.get("/v1/audit/verify").await.expect("checks");
    assert_eq!(verified.records, audit.records[0].id);
    assert_eq!(
        (verified.head, verified.bad),
        (audit.records[0].hash.clone(), None)
    );
}

#[tokio::test]
async fn gates_are_opened_as_flagger_has_it() {
    let gates = "gates = { qa = { expires = \"1h\" }, rollback = {} }";
    let initial = "initial = \"blue\"\n";
    let text = config(&[8001], &[8002]).replace(initial, &format!("{initial}{gates}\n"));
    let server = Server::over(Stand::new(&text)).await;
    let post = async |server: &Server, path: &str, metadata: &str| {
        let body = format!(
            r#"{{"name":"shop","namespace":"test","phase":"Waiting","metadata":{metadata}}}"#
        );
        let (head, body) = server.raw("POST", path, "", &body).await;
        (head[9..12].to_owned(), body)
    };
    assert_eq!(post(&server, "/gate/check", "{}").await.0, "403");
    let (status, answer) = post(&server, "/gate/open", r#"{"reason":"tested"}"#).await;
    assert_eq!(
        (status.as_str(), &answer["gates"]["qa"]["open"]),
        ("202", &true.into())
    );
    assert_eq!(post(&server, "/rollback/open", "{}").await.0, "202");
    let audit: Audit = server.client.get("/v1/audit").await.expect("answers");
    let said = |at: usize| {
        (
            &*audit.records[at].entry.what,
            audit.records[at].entry.reason.as_deref(),
        )
    };
    assert_eq!(said(1), ("decide on gate qa of shop", Some("tested")));
    assert_eq!(said(0), ("decide on gate rollback of shop", None));

    let server = server.restart_with(&text).await;
    assert_eq!(
        post(&server, "/gate/check", "{}").await.0,
        "200",
        "it is kept"
    );
    assert_eq!(post(&server, "/rollback/check", "{}").await.0, "200");
    let status: Status = server.client.get("/v1/status").await.expect("answers");
    let qa = &status.groups[0].gates["qa"];
    let pid = format!("pid {}", std::process::id());
    assert!(qa.by.as_ref().is_some_and(|by| by.contains(&pid)), "{qa:?}");
    assert!(qa.until.is_some(), "{qa:?}");
    assert_eq!(post(&server, "/rollback/close", "{}").await.0, "202");
    assert_eq!(post(&server, "/rollback/check", "{}").await.0, "403");
    let qa = r#"{"gate":"qa"}"#;
    assert_eq!(post(&server, "/gate/close", qa).await.0, "202");
    assert_eq!(post(&server, "/gate/check", qa).await.0, "403");
    assert_eq!(
        post(&server, "/gate/open", r#"{"gate":"dev"}"#).await.0,
        "404"
    );
    assert_eq!(post(&server, "/gate/open?dry_run=true", qa).await.0, "202");
    assert_eq!(post(&server, "/gate/check", qa).await.0, "403", "said only");
    let (head, _) = server.raw("POST", "/gate/open", "", "{}").await;
    assert!(head.starts_with("HTTP/1.1 400 "), "of which group? {head}");
}

#[tokio::test]
async fn a_dry_run_by_query_changes_nothing() {
    let server = Server::new().await;
    let (_, answer) = server
        .raw("POST", "/v1/groups/shop/flip?dry_run=true", "", "")
        .await;
    assert_eq!(
        (&answer["dry_run"], &answer["id"]),
        (&true.into(), &Value::Null)
    );
    assert!(
        answer["steps"]
            .as_array()
            .is_some_and(|steps| steps.len() > 3)
    );
    let status: Status = server.client.get("/v1/status").await.expect("answers");
    assert_eq!(status.groups[0].revision, 0);
}

#[tokio::test]
async fn waiting_ends_when_it_holds_or_in_time() {
    let server = Server::new().await;
    let blue = server.stand.kernel.endpoint(8001);
    server.stand.kernel.set_flows(&[(blue, 1)]);
    let wait = async |condition: &str, timeout: &str| {
        let path = format!("/v1/groups/shop/wait?for={condition}&timeout={timeout}");
        server.client.get::<Value>(&path).await
    };
    wait("healthy%3Dgreen", "1s")
        .await
        .expect("nobody asks for its health");
    let failure = wait("rollback-eligible", "30ms")
        .await
        .expect_err("nothing to go back to");
    assert_eq!(failure.exit, Exit::TimedOut);
    server.flip(&ChangeRequest::default()).await.expect("flips");
    wait("settled", "1s").await.expect("it is");
    wait("rollback-eligible", "1s").await.expect("it is now");
    let failure = wait("drained", "30ms").await.expect_err("a flow is left");
    assert!(failure.why.contains("the group is draining"), "{failure}");
    let (drained, ()) = tokio::join!(wait("drained", "10s"), async {
        server.stand.kernel.set_flows(&[]);
    });
    assert_eq!(drained.expect("is drained")["phase"], "idle");
    assert_eq!(
        wait("fine", "1s").await.expect_err("is no condition").exit,
        Exit::Usage
    );
}

#[tokio::test]
async fn who_waits_hears_of_a_rollback() {
    let server = Server::new().await;
    let blue = server.stand.kernel.endpoint(8001);
    server.stand.kernel.set_flows(&[(blue, 1)]);
    let flip = server.raw(
        "POST",
        "/v1/groups/shop/flip?wait=drained&timeout=10s",
        "",
        "",
    );
    let back = async {
        server.stand.phase("draining").await;
        server.raw("POST", "/v1/groups/shop/abort", "", "").await
    };
    let ((head, problem), (_, answer)) = tokio::join!(flip, back);
    assert!(head.starts_with("HTTP/1.1 409 "), "{head}");
    assert_eq!(problem["exit_code"], 7);
    assert_eq!(
        (&answer["kind"], &answer["to"]),
        (&"rollback".into(), &"blue".into())
    );
}

#[tokio::test]
async fn plan_and_apply() {
    let server = Server::new().await;
    let text = Some(config(&[8003], &[8002]));
    let request = ConfigRequest {
        text,
        ..ConfigRequest::default()
    };
    let plan: ConfigAnswer = server
        .client
        .post("/v1/plan", &request)
        .await
        .expect("plans");
    assert!(!plan.changes.is_empty() && !plan.applied);
    let applied: ConfigAnswer = server
        .client
        .post("/v1/apply", &request)
        .await
        .expect("applies");
    assert!(applied.applied);
    assert_eq!(applied.changes, plan.changes);
    assert_eq!(applied.revision, plan.revision + 1);
    let stale = ConfigRequest {
        if_revision: Some(plan.revision),
        ..request
    };
    let failure = server
        .client
        .post::<ConfigAnswer>("/v1/apply", &stale)
        .await;
    assert_eq!(failure.expect_err("another one").exit, Exit::Precondition);
}

#[tokio::test]
async fn what_makes_no_sense_is_said() {
    let server = Server::new().await;
    let cases = [
        ("GET", "/v1/nonsense", "", 404, 3),
        ("DELETE", FLIP, "", 405, 2),
        ("POST", FLIP, "{", 400, 2),
        ("POST", FLIP, r#"{"colour": "green"}"#, 400, 2),
        ("POST", FLIP, "[]", 400, 2),
        ("POST", "/v1/groups/shop/flip?dryrun=true", "", 400, 2),
        ("GET", "/v1/groups/%FF", "", 400, 2),
        ("GET", "/v1/history?limit=0", "", 400, 2),
        ("POST", FLIP, r#"{"hard": true}"#, 422, 2),
        ("POST", FLIP, r#"{"to": "red"}"#, 404, 3),
        ("POST", "/v1/groups/other/flip", "", 404, 3),
        ("POST", "/v1/groups/shop/rollback", "", 403, 5),
        ("POST", "/v1/groups/shop/abort", "", 412, 4),
        ("GET", "/v1/groups/shop/wait", "", 400, 2),
        ("POST", "/v1/explain", r#"{"protocol": "sctp"}"#, 400, 2),
        ("GET", "/v1/status?group=other", "", 404, 3),
        ("GET", "/v1/cutovers/nonsense", "", 404, 3),
    ];
    for (method, path, body, status, code) in cases {
        let (head, problem) = server.raw(method, path, "", body).await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{method} {path} {body}: {head}"
        );
        assert_eq!(problem["exit_code"], code, "{method} {path} {body}");
        assert!(
            problem["detail"].as_str().is_some_and(|it| !it.is_empty()),
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn the_page_loads_nothing_but_its_own_files() {
    let server = Server::new().await;
    let (head, html) = server.text("GET", "/", "").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    for line in [
        "content-type: text/html",
        "content-security-policy: default-src 'none';",
        "x-content-type-options: nosniff",
        "x-frame-options: DENY",
    ] {
        assert!(
            head.to_lowercase().contains(&line.to_lowercase()),
            "{line}: {head}"
        );
    }
    for word in ["<style", "style=", " onclick", "<script>", "http"] {
        assert!(!html.contains(word), "{word}");
    }
    let mut loaded = 0;
    for name in html
        .split(['"'])
        .filter(|it| it.ends_with(".css") || it.ends_with(".js") || it.ends_with(".svg"))
    {
        let (head, text) = server.text("GET", &format!("/{name}"), "").await;
        assert!(
            head.starts_with("HTTP/1.1 200") && !text.is_empty(),
            "{name}: {head}"
        );
        loaded += 1;
    }
    assert_eq!(loaded, 3);
}

#[tokio::test]
async fn who_asks_is_told_what_they_may() {
    let server = Server::new().await;
    let who: WhoAmI = server.client.get("/v1/whoami").await.expect("answers");
    assert_eq!(who.role, crate::config::Role::Admin);
    assert!(who.name.contains("uid "), "{}", who.name);
    for verb in &who.may {
        let path = format!("/v1/groups/other/{verb}");
        let (head, problem) = server.raw("POST", &path, "", r#"{"reason": "x"}"#).await;
        assert!(!head.starts_with("HTTP/1.1 405"), "{verb}: {head}");
        assert!(
            !problem["detail"].to_string().contains("nothing at"),
            "{verb}: {problem}"
        );
    }
}

#[tokio::test]
async fn other_sites_pages_change_nothing() {
    let server = Server::new().await;
    let json = "content-type: application/json\r\n";
    let other = format!("origin: http://evil.example\r\n{json}");
    let (head, problem) = server.raw("POST", FLIP, &other, "{}").await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert_eq!(problem["exit_code"], 13);
    let (head, _) = server.raw("POST", FLIP, "origin: http://x\r\n", "{}").await;
    assert!(head.starts_with("HTTP/1.1 403"), "a form: {head}");
    let renamed = "GET /v1/status HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
    let answer = server.exchange(renamed).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let status: Status = server.client.get("/v1/status").await.expect("answers");
    assert_eq!(status.groups[0].revision, 0);
    let own = format!("origin: http://x\r\nsec-fetch-site: same-origin\r\n{json}");
    let (head, _) = server.raw("POST", FLIP, &own, "{}").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

#[tokio::test]
async fn without_an_agent_the_client_says_what_to_do() {
    let directory = TempDir::new().expect("a directory");
    let client = Client::at(&directory.path().join("none.sock"));
    let failure = client
        .get::<Value>("/v1/status")
        .await
        .expect_err("nobody is there");
    assert_eq!(failure.exit, Exit::Unreachable);
    assert!(
        failure.advice.contains("switcher agent --config"),
        "{failure}"
    );
}
