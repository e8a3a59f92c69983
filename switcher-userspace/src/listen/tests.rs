//! What is read, by hand.

mod questions;

use std::collections::BTreeSet;

use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::agent::tests::stand::asked;
use crate::agent::tests::{Stand, config};
use crate::agent::{Asked, Verb};
use crate::api::model::{ChangeRequest, MasqueradeStatus, OutboxStatus};
use crate::datapath::{Attachment, Hold};
use crate::journal::Who;

#[tokio::test]
async fn metrics_follow_a_flip() {
    let (stand, public) = start().await;
    let (head, before) = get(public, "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("openmetrics-text"), "{head}");
    let has =
        |text: &str, line: &str| assert!(text.contains(&format!("\n{line}\n")), "{line}:\n{text}");
    has(
        &before,
        r#"switcher_group_live{group="shop",colour="blue"} 1.0"#,
    );
    has(
        &before,
        r#"switcher_group_live{group="shop",colour="green"} 0.0"#,
    );
    has(
        &before,
        r#"switcher_group_phase{group="shop",phase="idle"} 1.0"#,
    );
    has(&before, r#"switcher_drift{kind="kernel"} 0.0"#);
    has(&before, r#"switcher_drops_total{reason="paused"} 0"#);
    assert!(before.ends_with("# EOF\n"), "{before}");
    stand.flip().await.expect("flips");
    stand.phase("idle").await;
    tokio::time::sleep(KEEPS).await;
    let (_, after) = get(public, "/metrics").await;
    has(
        &after,
        r#"switcher_group_live{group="shop",colour="green"} 1.0"#,
    );
    has(&after, r#"switcher_rollback_eligible{group="shop"} 1.0"#);
    has(
        &after,
        r#"switcher_cutovers_total{group="shop",kind="flip",result="succeeded"} 1"#,
    );
    has(&after, "switcher_store_to_settled_seconds_count 1");
    well_formed(&after);
}

#[tokio::test]
async fn hooks_are_counted() {
    let hooks = r#"
        [[groups.shop.hooks]]
        on = "stage"
        name = "copy"
        exec = ["/bin/false"]
        [[groups.shop.hooks]]
        on = "event"
        name = "ci"
        url = "http://127.0.0.1:1/"
    "#;
    let (stand, public) = start_with(&(config(&[8001], &[8002]) + hooks)).await;
    let staged = Asked {
        group: "shop".into(),
        verb: Verb::Stage,
        request: ChangeRequest {
            version: Some("v2".into()),
            ..ChangeRequest::default()
        },
        who: Who::default(),
    };
    let staged = stand.agent.ask(move |runner| runner.note(&staged)).await;
    staged.expect("answers").expect("stages");
    let expected = [
        r#"switcher_hooks_total{group="shop",hook="copy",moment="stage",result="failed"} 1"#,
        // That it was staged, and that the program has failed.
        r#"switcher_hook_outbox{group="shop",hook="ci"} 2.0"#,
        r#"switcher_group_degraded{group="shop"} 0.0"#,
    ];
    let mut text = String::new();
    for _ in 0..100 {
        (_, text) = get(public, "/metrics").await;
        if expected.iter().all(|line| text.contains(line)) {
            well_formed(&text);
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("{text}");
}

/// Metrics of an agent that has a sample of each, and the names of all families.
pub(crate) async fn everything() -> (String, BTreeSet<String>) {
    let (stand, _public) = confirming().await;
    let mut shown = shown(&stand.agent).await.expect("is shown");
    let now = jiff::Timestamp::now();
    shown.status.masquerade = Some(MasqueradeStatus {
        flows: 1,
        capacity: 2,
        ports: Vec::new(),
        exhausted: 0,
        full: 0,
    });
    shown.meters.hook("shop", "copy", "stage", "failed");
    for group in &mut shown.status.groups {
        group.outbox = vec![OutboxStatus {
            hook: "ci".into(),
            waiting: 2,
            since: Some(now),
            failures: 1,
            reason: None,
        }];
        for colour in group.colours.values_mut() {
            colour.flows = Some(1);
            colour.last_packet_at = Some(now);
            for endpoint in &mut colour.endpoints {
                endpoint.healthy = Some(true);
            }
        }
    }
    let registry = metrics::registry(&shown);
    (metrics::encode(&shown), registered(&registry))
}

/// Names of families, with samples and without: the library tells them to those who debug alone.
fn registered(registry: &Registry) -> BTreeSet<String> {
    let told = format!("{registry:?}");
    let families = told.split("Descriptor { name: \"").skip(1);
    let names = families.map(|it| {
        let (name, rest) = it.split_once('"').expect("a name");
        match rest.contains("unit: Some(Seconds)") {
            true => format!("switcher_{name}_seconds"),
            false => format!("switcher_{name}"),
        }
    });
    names.collect()
}

#[tokio::test]
async fn balancers_are_told_who_is_live() {
    let (stand, public) = start().await;
    let status = async |path| get(public, path).await.0[9..12].to_owned();
    assert_eq!(status("/live/shop/blue").await, "200");
    assert_eq!(status("/live/shop/green").await, "503");
    assert_eq!(status("/live/shop/mauve").await, "404");
    assert_eq!(status("/live/shoes/blue").await, "404");
    stand.flip().await.expect("flips");
    assert_eq!(status("/live/shop/blue").await, "503");
    assert_eq!(status("/live/shop/green").await, "200");
    assert_eq!(status("/v1/status").await, "404");
    let (head, _) = ask(public, "POST", "/live/shop/blue", "\r\n").await;
    assert!(head.starts_with("HTTP/1.1 405"), "{head}");
}

/// What Flagger sends: <https://docs.flagger.app/usage/webhooks>.
fn flagger(name: &str, metadata: &str) -> String {
    let body = format!(
        r#"{{"name":"{name}","namespace":"test","phase":"Progressing","checksum":"85d557f47b","metadata":{metadata}}}"#
    );
    let length = body.len();
    format!("content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
}

#[tokio::test]
async fn controllers_poll_gates() {
    let gates = "gates = { qa = {}, ops = { default = \"open\" }, rollback = {} }";
    let initial = "initial = \"blue\"\n";
    let text = config(&[8001], &[8002]).replace(initial, &format!("{initial}{gates}\n"));
    let (stand, public) = start_with(&text).await;
    let get = async |path| get(public, path).await.0[9..12].to_owned();
    let post = async |path, name, metadata| {
        let (head, body) = ask(public, "POST", path, &flagger(name, metadata)).await;
        (head[9..12].to_owned(), body)
    };
    let said = |status: &str, body: &str| (status.to_owned(), body.to_owned());
    let open = async |name: &str, open| {
        let who = Who {
            actor: "anna".into(),
            reason: None,
        };
        let mut decision = asked("shop", Verb::Gate, who);
        decision.request.gate = Some(name.into());
        decision.request.open = Some(open);
        let noted = stand.agent.ask(move |runner| runner.note(&decision)).await;
        noted.expect("answers").expect("is noted");
    };
    assert_eq!(get("/gate/shop/qa").await, "403");
    assert_eq!(get("/gate/shop/ops").await, "200");
    assert_eq!(get("/gate/shop").await, "403");
    assert_eq!(get("/gate/shop/dev").await, "404");
    assert_eq!(get("/gate/shoes").await, "404");
    assert_eq!(get("/rollback/shop").await, "403");
    let gate = post("/gate/shop/qa", "podinfo", "{}").await;
    assert_eq!(gate, said("403", "gate qa\n"));
    let gate = post("/gate/check", "shop", "null").await;
    assert_eq!(gate, said("403", "gate qa\n"));
    let qa = r#"{"group":"shop","gate":"qa"}"#;
    assert_eq!(post("/gate/check", "podinfo", qa).await.0, "403");
    assert_eq!(post("/gate/check", "podinfo", "{}").await.0, "404");
    assert_eq!(post("/rollback/check", "shop", "{}").await.0, "403");

    open("qa", true).await;
    assert_eq!(get("/gate/shop/qa").await, "200");
    let gate = post("/gate/check", "shop", "{}").await;
    assert_eq!(gate, said("200", "approved\n"));
    open("rollback", true).await;
    assert_eq!(get("/rollback/shop").await, "200");
    assert_eq!(post("/rollback/check", "shop", "{}").await.0, "200");
    assert_eq!(get("/gate/shop").await, "200", "a flip does not ask it");
    stand.flip().await.expect("flips");
    stand.phase("idle").await;
    assert_eq!(get("/gate/shop/qa").await, "403", "it was for that flip");
    assert_eq!(get("/rollback/shop").await, "403");

    assert_eq!(get("/gate/approve").await, "200");
    assert_eq!(get("/gate/halt").await, "403");
    assert_eq!(get("/gate/check").await, "405");
    let head = async |path, body: &str| ask(public, "POST", path, body).await.0[9..12].to_owned();
    let body = "content-length: 2\r\n\r\n[]";
    assert_eq!(head("/gate/check", body).await, "400");
    for path in ["/gate/open", "/gate/close", "/rollback/open"] {
        let (status, _) = post(path, "shop", qa).await;
        assert_eq!(status, "404", "{path}: this is for reading");
    }
}

#[tokio::test]
async fn what_is_missing_is_not_ready() {
    let (stand, public) = start().await;
    assert!(get(public, "/readyz").await.0.starts_with("HTTP/1.1 200"));
    attach(&stand, Hold::Absent);
    let (head, body) = get(public, "/readyz").await;
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    assert!(body.contains("eth7: its traffic is not steered"), "{body}");
    assert_eq!(get(public, "/healthz").await.1, "ok\n");
    let _left = stand.stop();
    assert!(get(public, "/healthz").await.0.starts_with("HTTP/1.1 503"));
}

#[tokio::test]
async fn the_page_is_there_if_it_is_wanted_and_changes_nothing() {
    let (stand, other) = start().await;
    for path in ["/", "/page.js", "/v1/status", "/v1/history", "/v1/whoami"] {
        let (head, _) = get(other, path).await;
        assert!(head.starts_with("HTTP/1.1 404"), "{path}: {head}");
    }
    let listener = bind(([127, 0, 0, 1], 0).into()).await.expect("is free");
    let public = listener.local_addr().expect("is bound");
    tokio::spawn(serve(listener, stand.agent.clone(), true));
    let (head, html) = get(public, "/").await;
    assert!(
        head.starts_with("HTTP/1.1 200") && html.starts_with("<!doctype html>"),
        "{head}"
    );
    let (_, who) = get(public, "/v1/whoami").await;
    assert_eq!(who, r#"{"name":"anybody","role":"viewer","may":[]}"#);
    let (_, status) = get(public, "/v1/status").await;
    assert!(status.contains(r#""live":"blue""#), "{status}");
    stand.flip().await.expect("flips");
    stand.phase("idle").await;
    tokio::time::sleep(KEEPS).await;
    let (_, history) = get(public, "/v1/history").await;
    let history: Value = serde_json::from_str(&history).expect("JSON");
    let id = history["cutovers"][0]["id"].as_str().expect("an id");
    let (_, record) = get(public, &format!("/v1/cutovers/{id}")).await;
    assert!(record.contains(r#""result":"succeeded""#), "{record}");
    let (head, _) = get(public, "/v1/cutovers/nonsense").await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    for path in ["/v1/groups/shop/flip", "/v1/status", "/"] {
        let (head, _) = ask(public, "POST", path, "\r\n").await;
        assert!(head.starts_with("HTTP/1.1 40"), "{path}: {head}");
    }
}

#[tokio::test]
async fn silent_connections_leave_room_for_others() {
    let (_stand, public) = start().await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS - 1 {
        silent.push(TcpStream::connect(public).await.expect("connects"));
    }
    let (head, _) = get(public, "/healthz").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let taken = bind(([127, 0, 0, 1], 0).into()).await.expect("is free");
    let address = taken.local_addr().expect("is bound");
    let error = bind(address).await.expect_err("is taken");
    let said = format!("{error:#}");
    assert!(
        said.contains("agent.listen") && said.contains("in use"),
        "{said}"
    );
}

/// Every sample has its family's name before it, and comes once.
fn well_formed(text: &str) {
    let mut families = BTreeSet::new();
    let mut samples = BTreeSet::new();
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, _) = family.split_once(' ').expect("a name and a type");
            assert!(families.insert(name), "twice: {name}");
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').expect("a series and a value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(samples.insert(series), "twice: {line}");
            let name = series.split('{').next().unwrap_or(series);
            let family = families.iter().any(|family| name.starts_with(family));
            assert!(family && name.starts_with("switcher_"), "{line}");
        }
    }
}

fn attach(stand: &Stand, hold: Hold) {
    stand.kernel.lock().attachments = vec![Attachment {
        interface: "eth7".into(),
        xdp: "native".into(),
        hold,
    }];
}

/// An agent whose second flip waits to be confirmed: there is a sample of much.
async fn confirming() -> (Stand, SocketAddr) {
    let (stand, public) = start().await;
    attach(&stand, Hold::Attached);
    stand.flip().await.expect("flips");
    stand.phase("idle").await;
    let confirmed = ChangeRequest {
        confirm_within: Some("1h".into()),
        ..ChangeRequest::default()
    };
    stand.order(Verb::Flip, confirmed).await.expect("flips");
    stand.phase("confirming").await;
    (stand, public)
}

async fn start() -> (Stand, SocketAddr) {
    start_with(&config(&[8001], &[8002])).await
}

async fn start_with(text: &str) -> (Stand, SocketAddr) {
    let stand = Stand::new(text);
    let listener = bind(([127, 0, 0, 1], 0).into()).await.expect("is free");
    let address = listener.local_addr().expect("is bound");
    tokio::spawn(serve(listener, stand.agent.clone(), false));
    (stand, address)
}

async fn get(public: SocketAddr, path: &str) -> (String, String) {
    ask(public, "GET", path, "\r\n").await
}

/// Sends a request that ends with `rest`: more headers, an empty line, a body.
async fn ask(public: SocketAddr, method: &str, path: &str, rest: &str) -> (String, String) {
    let mut stream = TcpStream::connect(public).await.expect("connects");
    let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{rest}");
    stream.write_all(request.as_bytes()).await.expect("writes");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("reads");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}
