//! Events, as they happen and afterwards.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::super::limits::Limits;
use super::super::model::{ChangeRequest, ConfigAnswer, ConfigRequest};
use super::bounds::{ask, connect};
use super::server::Server;
use super::town::{ROLES, Town};

/// An event that was told.
#[derive(Debug)]
struct Event {
    id: String,
    event: String,
    data: Value,
}

/// Somebody who listens.
struct Listener<S> {
    stream: S,
    text: String,
}

#[tokio::test]
async fn what_happens_is_told_as_it_happens_and_again_to_who_comes_back() {
    let server = Server::new().await;
    let mut listener = listen(&server, "/v1/events?group=shop", "").await;
    let agent = listener.next().await;
    assert_eq!(
        (&*agent.event, &agent.data["config_revision"]),
        ("agent", &1.into())
    );
    let first = listener.next().await;
    assert_eq!(
        (&*first.event, &first.data["live"]),
        ("state", &"blue".into())
    );
    assert_eq!(first.data["colours"]["green"]["healthy"], true);
    server.flip(&ChangeRequest::default()).await.expect("flips");
    let (mut told, mut drained) = (Vec::new(), None);
    while told.last() != Some(&"succeeded".to_owned()) {
        let event = listener.next().await;
        match event.event.as_str() {
            "state" => assert_eq!(event.data["group"], "shop"),
            _ => {
                if event.event == "drained" {
                    drained = Some(event.data["to"].clone());
                }
                told.push(event.event);
            }
        }
    }
    assert_eq!(told, ["started", "switched", "drained", "succeeded"]);
    assert_eq!(drained, Some("green".into()));
    let state = listener
        .until(|it| it["phase"] == "idle" && it["live"] == "green")
        .await;
    assert_eq!(
        (&state["revision"], &state["previous"]),
        (&1.into(), &"blue".into())
    );
    drop(listener);

    let header = format!("last-event-id: {}\r\n", first.id);
    let mut again = listen(&server, "/v1/events?group=shop", &header).await;
    let told = [again.next().await, again.next_of("switched").await];
    assert_eq!(told[0].event, "started", "nothing was missed: {told:?}");
    again
        .until(|it| it["phase"] == "idle" && it["live"] == "green")
        .await;
}

#[tokio::test]
async fn what_was_missed_is_said_with_what_is_recorded_of_it() {
    let server = Server::new().await;
    let mut listener = listen(&server, "/v1/events", "").await;
    let id = listener.next_of("state").await.id;
    server.flip(&ChangeRequest::default()).await.expect("flips");
    let server = server.restart().await;
    let mut listener = listen(&server, "/v1/events", &format!("last-event-id: {id}\r\n")).await;
    let missed = listener.next().await;
    assert_eq!(
        (&*missed.event, &missed.data["why"]),
        ("missed", &"the agent was started anew".into())
    );
    let records = missed.data["records"].as_array().expect("a list");
    assert!(
        records.iter().any(|it| it["what"] == "flip shop"),
        "{records:?}"
    );
    assert_eq!(listener.next().await.event, "agent");
    let state = listener.next().await;
    assert_eq!(
        (&*state.event, &state.data["live"]),
        ("state", &"green".into())
    );
    for odd in ["nonsense", "7-7-7-7"] {
        let mut listener =
            listen(&server, "/v1/events", &format!("last-event-id: {odd}\r\n")).await;
        assert_eq!(listener.next().await.data["why"], "no event is called so");
    }
    // More than is kept.
    let first = listener_id(&server).await;
    let events = server.stand.agent.events();
    (0..2000).for_each(|number| events.tell("noise", None, &number));
    let mut listener = listen(
        &server,
        "/v1/events",
        &format!("last-event-id: {first}\r\n"),
    )
    .await;
    assert_eq!(
        listener.next().await.data["why"],
        "too much has happened since"
    );
    let (head, _) = server.raw("GET", "/v1/events?group=other", "", "").await;
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
}

#[tokio::test]
async fn only_so_many_listen_and_only_as_long_as_they_may() {
    let limits = Limits {
        subscribers_each: 1,
        ..Limits::default()
    };
    let town = Town::new(ROLES, limits).await;
    let pair = town.signed("grafana");
    let request = "GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut first = connect(&town, &pair).await;
    first.write_all(request.as_bytes()).await.expect("writes");
    let mut first = Listener::new(first);
    first.next_of("state").await;
    let answer = ask(&mut connect(&town, &pair).await, request).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\r\nretry-after: 10\r\n"), "{answer}");
    let admin = town.client(&town.signed("Chief of the shop"));
    let request = ConfigRequest {
        text: Some(town.text().replace("cert:grafana", "cert:prometheus")),
        ..ConfigRequest::default()
    };
    admin
        .post::<ConfigAnswer>("/v1/apply", &request)
        .await
        .expect("applies");
    let mut rest = Vec::new();
    // The last chunk (RFC 9112, 7.1).
    while !rest.ends_with(b"0\r\n\r\n") {
        let read = timeout(Duration::from_secs(30), first.stream.read_buf(&mut rest)).await;
        assert!(read.expect("it goes on listening").expect("reads") > 0);
    }
}

async fn listener_id(server: &Server) -> String {
    listen(server, "/v1/events", "").await.next().await.id
}

async fn listen(server: &Server, path: &str, headers: &str) -> Listener<UnixStream> {
    let mut stream = UnixStream::connect(&server.socket).await.expect("connects");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.expect("writes");
    Listener::new(stream)
}

impl<S: AsyncRead + Unpin> Listener<S> {
    fn new(stream: S) -> Self {
        Self {
            stream,
            text: String::new(),
        }
    }

    /// The next event; heartbeats are none.
    async fn next(&mut self) -> Event {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| {
                    let mut lines = block.lines();
                    lines.find_map(|line| line.strip_prefix(name).map(ToOwned::to_owned))
                };
                if let (Some(id), Some(event), Some(data)) =
                    (field("id: "), field("event: "), field("data: "))
                {
                    let data = serde_json::from_str(&data).expect("JSON");
                    return Event { id, event, data };
                }
                continue;
            }
            let mut more = [0; 4096];
            let read = timeout(Duration::from_secs(30), self.stream.read(&mut more)).await;
            let count = read.expect("something is told").expect("reads");
            assert!(count > 0, "it ends after {}", self.text);
            self.text += str::from_utf8(&more[..count]).expect("text");
        }
    }

    async fn next_of(&mut self, event: &str) -> Event {
        loop {
            let told = self.next().await;
            if told.event == event {
                return told;
            }
        }
    }

    /// The first state that is so.
    async fn until(&mut self, holds: impl Fn(&Value) -> bool) -> Value {
        loop {
            let state = self.next_of("state").await.data;
            if holds(&state) {
                return state;
            }
        }
    }
}
