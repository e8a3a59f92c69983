//! Who gets in over TCP, and what they may do.

use serde_json::Value;

use super::super::limits::Limits;
use super::super::model::{
    Audit, ChangeAnswer, ChangeRequest, ConfigAnswer, ConfigRequest, SecureStatus, Status, WhoAmI,
};
use super::bounds::{ask, connect};
use super::town::{Authority, Pair, ROLES, Town};
use crate::client::Client;
use crate::config::Role;
use crate::exit::{Exit, Failure};

const FLIP: &str = "/v1/groups/shop/flip";

#[tokio::test]
async fn roles_decide_what_a_certificate_is_good_for() {
    let town = Town::new(ROLES, Limits::default()).await;
    let [viewer, operator, admin] =
        ["grafana", "ci.internal", "Chief of the shop"].map(|name| town.client(&town.signed(name)));
    let status: Status = viewer.get("/v1/status").await.expect("may look");
    assert_eq!(status.groups[0].live, "blue");
    let refused = flip(&viewer, &ChangeRequest::default()).await;
    let refused = refused.expect_err("may only look");
    assert_eq!(refused.exit, Exit::NotPermitted);
    assert_eq!(
        refused.why,
        "grafana (certificate, from 127.0.0.1) is viewer; to flip takes operator"
    );
    let answer = flip(&operator, &ChangeRequest::default()).await;
    assert_eq!(answer.expect("may flip").to, "green");
    let force = ChangeRequest {
        force: true,
        ..ChangeRequest::default()
    };
    let refused = flip(&operator, &force).await.expect_err("may not force");
    assert!(
        refused
            .why
            .ends_with("is operator; to force a switch takes admin"),
        "{refused}"
    );
    assert_eq!(flip(&admin, &force).await.expect("may").to, "blue");
    let hard = ChangeRequest {
        hard: true,
        ..ChangeRequest::default()
    };
    let back: ChangeAnswer = operator
        .post("/v1/groups/shop/rollback", &hard)
        .await
        .expect("may go back, whatever it takes");
    assert_eq!(back.to, "green");
    let apply = ConfigRequest::default();
    let refused = operator.post::<ConfigAnswer>("/v1/apply", &apply).await;
    assert_eq!(refused.expect_err("may not").exit, Exit::NotPermitted);
    admin
        .post::<ConfigAnswer>("/v1/apply", &apply)
        .await
        .expect("may apply");
    let audit: Audit = viewer.get("/v1/audit?group=shop").await.expect("may look");
    let actors: Vec<&str> = audit.records.iter().map(|it| &*it.entry.actor).collect();
    assert!(
        actors.contains(&"ci.internal (certificate, from 127.0.0.1)"),
        "{actors:?}"
    );
    assert!(
        actors.contains(&"Chief of the shop (certificate, from 127.0.0.1)"),
        "{actors:?}"
    );
}

#[tokio::test]
async fn whoever_has_a_role_is_told_which_and_may_see_the_page() {
    let town = Town::new(ROLES, Limits::default()).await;
    let page = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    for (name, role) in [
        ("grafana", Role::Viewer),
        ("ci.internal", Role::Operator),
        ("Chief of the shop", Role::Admin),
    ] {
        let pair = town.signed(name);
        let who: WhoAmI = town.client(&pair).get("/v1/whoami").await.expect("answers");
        assert_eq!(who.role, role);
        assert_eq!(who.name, format!("{name} (certificate, from 127.0.0.1)"));
        let may = if role == Role::Viewer { 0 } else { 14 };
        assert_eq!(who.may.len(), may, "{who:?}");
        let answer = ask(&mut connect(&town, &pair).await, page).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{name}: {answer}");
        assert!(answer.contains("<!doctype html>"), "{name}: {answer}");
    }
    let stranger = town.signed("stranger");
    let answer = ask(&mut connect(&town, &stranger).await, page).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[tokio::test]
async fn who_has_no_good_certificate_or_no_role_is_refused() {
    let town = Town::new(ROLES, Limits::default()).await;
    let ask = async |pair: &Pair| town.client(pair).get::<Value>("/v1/status").await;
    let refused = async |pair: &Pair| {
        let failure = ask(pair).await.expect_err("is refused");
        assert_eq!(failure.exit, Exit::NotPermitted, "{failure}");
        failure.why
    };
    let unknown = refused(&town.signed("stranger")).await;
    assert_eq!(
        unknown,
        "stranger (certificate, from 127.0.0.1) has no role; to look takes viewer"
    );
    let sign = |authority: &Authority, ends| {
        authority.sign(town.directory.path(), &["ci.internal"], "late", ends)
    };
    let expired = refused(&sign(&town.authority, 2020)).await;
    assert!(
        expired.ends_with("it has expired, or is not valid yet"),
        "{expired}"
    );
    // The name of an authority is nothing: it has the same.
    let other = refused(&sign(&Authority::new("clients"), 2100)).await;
    assert!(other.contains("does not accept the certificate"), "{other}");
    ask(&sign(&town.authority, 2100))
        .await
        .expect("by its DNS name");
    let nobody = Pair {
        key: town.signed("ci.internal").key,
        ..town.signed("grafana")
    };
    let wrong = Client::new(&town.globals(&nobody)).expect_err("another one's key");
    assert_eq!(wrong.exit, Exit::Usage);
}

#[tokio::test]
async fn without_a_certificate_or_without_tls_there_is_nothing() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let town = Town::new(ROLES, Limits::default()).await;
    let mut stream = tokio::net::TcpStream::connect(town.address)
        .await
        .expect("connects");
    stream
        .write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("writes");
    let mut answer = Vec::new();
    let _closed = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    let ca = town.directory.path().join("ca.crt");
    let config = crate::tls::client(Some(crate::tls::Named("ca", &ca)), None).expect("is good");
    let stream = tokio::net::TcpStream::connect(town.address)
        .await
        .expect("connects");
    let name = "127.0.0.1".try_into().expect("a name");
    let stream = tokio_rustls::TlsConnector::from(config)
        .connect(name, stream)
        .await;
    // With TLS 1.3 the alert comes after this side's handshake.
    if let Ok(mut stream) = stream {
        let _refused = stream
            .write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n")
            .await;
        let mut answer = Vec::new();
        let error = stream
            .read_to_end(&mut answer)
            .await
            .expect_err("is refused");
        assert!(error.to_string().contains("CertificateRequired"), "{error}");
        assert_eq!(answer, b"");
    }
}

#[tokio::test]
async fn who_is_no_agent_of_ours_is_told_apart() {
    let town = Town::new(ROLES, Limits::default()).await;
    let pair = town.signed("ci.internal");
    let other = town.directory.path().join("other.crt");
    std::fs::write(&other, Authority::new("other").pem()).expect("writes");
    let mut globals = town.globals(&pair);
    globals.ca = Some(other);
    let client = Client::new(&globals).expect("the files are good");
    let failure = client
        .get::<Value>("/v1/status")
        .await
        .expect_err("another authority");
    assert_eq!(failure.exit, Exit::Unreachable);
    assert!(failure.advice.contains("--ca"), "{failure}");
    for url in ["http://127.0.0.1:1", "https://127.0.0.1/v1", "127.0.0.1"] {
        globals.url = Some(url.to_owned());
        let failure = Client::new(&globals).expect_err("is no URL of an agent");
        assert_eq!(failure.exit, Exit::Usage, "{url}");
    }
}

#[tokio::test]
async fn a_new_certificate_is_taken_with_a_configuration_and_a_broken_one_is_not() {
    let town = Town::new(ROLES, Limits::default()).await;
    let pair = town.signed("Chief of the shop");
    let client = town.client(&pair);
    let before = secure(&client).await;
    assert_eq!(before.problem, None);
    std::fs::write(&town.agent.cert, "not a certificate").expect("writes");
    let apply = ConfigRequest::default();
    client
        .post::<ConfigAnswer>("/v1/apply", &apply)
        .await
        .expect("applies");
    let broken = until(&client, |it| it.problem.is_some()).await;
    let problem = broken.problem.expect("is said");
    assert!(
        problem.starts_with("cert ") && problem.contains("agent.crt"),
        "{problem}"
    );
    assert_eq!(broken.expires, before.expires, "what it had before");
    // The whole of the new one: another authority for clients, too.
    let next = Authority::new("next");
    let directory = town.directory.path();
    next.sign(directory, &["127.0.0.1"], "agent", 2101);
    std::fs::write(directory.join("ca.crt"), next.pem()).expect("writes");
    client
        .post::<ConfigAnswer>("/v1/apply", &apply)
        .await
        .expect("applies");
    let other = async || {
        client
            .get::<Value>("/v1/status")
            .await
            .err()
            .map(|it| it.exit)
    };
    while other().await != Some(Exit::Unreachable) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let chief = next.sign(directory, &[], "Chief of the shop", 2100);
    let after = secure(&town.client(&chief)).await;
    assert_eq!(after.problem, None);
    assert!(after.expires > before.expires, "{after:?}");
}

#[tokio::test]
async fn roles_follow_the_configuration_at_once() {
    let town = Town::new(ROLES, Limits::default()).await;
    let [viewer, admin] =
        ["grafana", "Chief of the shop"].map(|name| town.client(&town.signed(name)));
    viewer.get::<Value>("/v1/status").await.expect("may look");
    let request = ConfigRequest {
        text: Some(town.text().replace("cert:grafana", "cert:prometheus")),
        ..ConfigRequest::default()
    };
    let answer: ConfigAnswer = admin.post("/v1/apply", &request).await.expect("applies");
    assert!(
        answer.summary[0].starts_with("agent: roles viewer cert:grafana"),
        "{answer:?}"
    );
    let failure = viewer
        .get::<Value>("/v1/status")
        .await
        .expect_err("no more");
    assert_eq!(failure.exit, Exit::NotPermitted);
}

async fn flip(client: &Client, request: &ChangeRequest) -> Result<ChangeAnswer, Failure> {
    client.post(FLIP, request).await
}

async fn secure(client: &Client) -> SecureStatus {
    until(client, |_| true).await
}

/// It is read beside the answer to `apply`.
async fn until(client: &Client, holds: impl Fn(&SecureStatus) -> bool) -> SecureStatus {
    for _ in 0..500 {
        let status: Status = client.get("/v1/status").await.expect("answers");
        match status.agent.api {
            Some(api) if holds(&api) => return api,
            _ => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    }
    panic!("it does not become so");
}
