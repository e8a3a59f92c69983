//! Changes that are sent again.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use super::server::{FLIP, Server};

#[tokio::test]
async fn a_key_is_good_for_one_change() {
    let server = Server::new().await;
    let key = "idempotency-key: ci-7\r\n";
    let (_, first) = server.raw("POST", FLIP, key, "").await;
    let (_, second) = server.raw("POST", FLIP, key, "").await;
    assert_eq!(first, second);
    assert_eq!(first["revision"], 1);
    let (head, _) = server
        .raw("POST", "/v1/groups/shop/rollback", key, "")
        .await;
    assert!(head.starts_with("HTTP/1.1 422 "), "{head}");
    let server = server.restart().await;
    let (_, third) = server.raw("POST", FLIP, key, "").await;
    assert_eq!(first, third, "also after a restart");
    let (_, fourth) = server.raw("POST", FLIP, "", "").await;
    assert_eq!(fourth["revision"], 2);
    let stage = "/v1/groups/shop/stage";
    let (key, body) = ("idempotency-key: ci-8\r\n", r#"{"version": "v3"}"#);
    let (_, first) = server.raw("POST", stage, key, body).await;
    let (head, _) = server.raw("POST", stage, key, r#"{"version": "v4"}"#).await;
    assert!(head.starts_with("HTTP/1.1 422 "), "{head}");
    let server = server.restart().await;
    let (_, second) = server.raw("POST", stage, key, body).await;
    assert_eq!((&first, &first["unchanged"]), (&second, &false.into()));
}

#[tokio::test]
async fn who_gives_up_waiting_or_goes_away_asks_for_the_same_change() {
    let server = Server::new().await;
    let (key, again) = ("idempotency-key: ci-9\r\n", "idempotency-key: ci-10\r\n");
    // One is left on blue.
    let kernel = &server.stand.kernel;
    kernel.set_flows(&[(kernel.endpoint(8001), 1)]);
    let impatient = format!("{FLIP}?wait=drained&timeout=30ms");
    for _ in 0..2 {
        let (head, problem) = server.raw("POST", &impatient, key, "").await;
        assert!(head.starts_with("HTTP/1.1 504 "), "{head}: {problem}");
    }
    let (_, answer) = server.raw("POST", FLIP, key, "").await;
    assert_eq!(
        (&answer["to"], &answer["revision"]),
        (&"green".into(), &1.into())
    );
    let request = format!("POST {FLIP} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n{again}\r\n");
    let mut gone = UnixStream::connect(&server.socket).await.expect("connects");
    gone.write_all(request.as_bytes()).await.expect("writes");
    while server.stand.status().await.revision < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(gone);
    // It is carried out nevertheless, and is under way until then.
    let mut said = server.raw("POST", FLIP, again, "").await;
    for _ in 0..400 {
        if !said.0.starts_with("HTTP/1.1 409 ") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        said = server.raw("POST", FLIP, again, "").await;
    }
    let (_, answer) = said;
    assert_eq!(
        (&answer["to"], &answer["revision"]),
        (&"blue".into(), &2.into())
    );
}

#[tokio::test]
async fn a_refused_change_may_be_sent_again() {
    let server = Server::new().await;
    let key = "idempotency-key: ci-11\r\n";
    let frozen = r#"{"reason": "audit"}"#;
    server
        .raw("POST", "/v1/groups/shop/freeze", "", frozen)
        .await;
    let (head, _) = server.raw("POST", FLIP, key, "").await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    server.raw("POST", "/v1/groups/shop/unfreeze", "", "").await;
    let (head, answer) = server.raw("POST", FLIP, key, "").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}: {answer}");
}
