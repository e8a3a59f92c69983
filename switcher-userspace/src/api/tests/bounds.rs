//! How much one may ask for.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::limits::Limits;
use super::town::{Pair, ROLES, Town};
use crate::tls::{self, Named};

const LOOK: &str = "GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn too_many_requests_are_put_off() {
    let few = |count| NonZeroU32::new(count).expect("above zero");
    let limits = Limits {
        rate: few(1),
        burst: few(4),
        ..Limits::default()
    };
    let town = Town::new(ROLES, limits).await;
    let pair = town.signed("ci.internal");
    let mut stream = connect(&town, &pair).await;
    for _ in 0..4 {
        let answer = ask(&mut stream, LOOK).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let answer = ask(&mut stream, LOOK).await;
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
    assert!(
        answer.contains("more than 1 requests a second of ci.internal"),
        "{answer}"
    );
    let mut other = connect(&town, &town.signed("grafana")).await;
    assert!(ask(&mut other, LOOK).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn too_many_connections_are_told_so_and_come_free() {
    let limits = Limits {
        connections_each: 2,
        ..Limits::default()
    };
    let town = Town::new(ROLES, limits).await;
    let pair = town.signed("ci.internal");
    let first = connect(&town, &pair).await;
    let _second = connect(&town, &pair).await;
    let mut third = connect(&town, &pair).await;
    let answer = ask(&mut third, LOOK).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
    assert_eq!(third.read(&mut [0]).await.expect("ends"), 0, "it is closed");
    drop((first, third));
    for _ in 0..500 {
        if ask(&mut connect(&town, &pair).await, LOOK)
            .await
            .starts_with("HTTP/1.1 200 ")
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no place comes free");
}

#[tokio::test]
async fn who_says_nothing_or_too_much_is_let_go() {
    let limits = Limits {
        silence: Duration::from_millis(200),
        body: Duration::from_millis(200),
        ..Limits::default()
    };
    let town = Town::new(ROLES, limits).await;
    let pair = town.signed("ci.internal");
    let mut silent = TcpStream::connect(town.address).await.expect("connects");
    assert_eq!(
        silent.read(&mut [0]).await.expect("ends"),
        0,
        "no handshake"
    );
    let mut idle = connect(&town, &pair).await;
    ask(&mut idle, LOOK).await;
    // Without a word.
    let ended = idle.read(&mut [0]).await;
    assert!(!matches!(ended, Ok(1)), "no further request: {ended:?}");
    let mut slow = connect(&town, &pair).await;
    let head = "POST /v1/groups/shop/flip HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{";
    let answer = ask(&mut slow, head).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let mut long = connect(&town, &pair).await;
    let head = format!(
        "GET /v1/status HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
        "y".repeat(80 << 10)
    );
    let answer = ask(&mut long, &head).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let mut large = connect(&town, &pair).await;
    let head = "POST /v1/groups/shop/flip HTTP/1.1\r\nhost: x\r\ncontent-length: 200000\r\n\r\n";
    let answer = ask(&mut large, head).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let town = Town::new(ROLES, Limits::default()).await;
    let mut stream = connect(&town, &town.signed("ci.internal")).await;
    let flip =
        "POST /v1/groups/shop/flip HTTP/1.1\r\nhost: x\r\norigin: https://evil.example\r\n\r\n";
    let answer = ask(&mut stream, flip).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(town.stand.status().await.live, "blue");
}

pub(super) async fn connect(town: &Town, pair: &Pair) -> TlsStream<TcpStream> {
    let ca = town.directory.path().join("ca.crt");
    let own = (Named("cert", &pair.cert), Named("key", &pair.key));
    let config = tls::client(Some(Named("ca", &ca)), Some(own)).expect("the files are good");
    let stream = TcpStream::connect(town.address).await.expect("connects");
    let name = "127.0.0.1".try_into().expect("a name");
    let connector = TlsConnector::from(Arc::clone(&config));
    connector.connect(name, stream).await.expect("shakes hands")
}

/// The head and the body of the answer.
pub(super) async fn ask(stream: &mut TlsStream<TcpStream>, request: &str) -> String {
    // Of what is too long not all is taken.
    let _cut = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |it| it.parse().expect("a number"));
            if body.len() >= length {
                return text.into_owned();
            }
        }
        let mut more = [0; 4096];
        let count = stream.read(&mut more).await.expect("reads");
        assert!(count > 0, "it ends after {text:?}");
        answer.extend_from_slice(&more[..count]);
    }
}
