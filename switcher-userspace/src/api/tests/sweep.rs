//! Everything there is to ask for, one after the other.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::model::{ChangeRequest, History};
use super::super::openapi;
use super::super::routes::{Route, Taken, routes};
use super::Server;
use crate::agent::Verb;
use crate::agent::tests::{Stand, config};

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
