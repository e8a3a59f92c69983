//! The server that tests ask.

use std::path::PathBuf;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::super::model::{ChangeAnswer, ChangeRequest};
use super::super::*;
use crate::agent::tests::{Stand, config};
use crate::client::Client;

pub(super) const FLIP: &str = "/v1/groups/shop/flip";

/// An agent's server on a socket of its own.
pub(super) struct Server {
    pub(super) stand: Stand,
    pub(super) client: Client,
    pub(super) socket: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(super) async fn new() -> Self {
        Self::over(Stand::new(&config(&[8001], &[8002]))).await
    }

    pub(super) async fn over(stand: Stand) -> Self {
        let socket = stand.directory.path().join("run/switcher.sock");
        let listener = bind(&socket).expect("listens");
        let own_uid = nix::unistd::getuid().as_raw();
        let api = Api::new(stand.agent.clone(), own_uid);
        let task = tokio::spawn(serve(listener, api));
        Self {
            client: Client::at(&socket),
            socket,
            stand,
            task,
        }
    }

    pub(super) async fn restart(self) -> Self {
        self.restart_with(&config(&[8001], &[8002])).await
    }

    pub(super) async fn restart_with(self, text: &str) -> Self {
        self.task.abort();
        let _aborted = self.task.await;
        Self::over(self.stand.restart(text)).await
    }

    pub(super) async fn flip(&self, request: &ChangeRequest) -> Result<ChangeAnswer, Failure> {
        self.client.post(FLIP, request).await
    }

    /// A request as curl would send it: the head of the answer, and its body.
    pub(super) async fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> (String, Value) {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\
             {headers}\r\n{body}"
        );
        let answer = self.exchange(&request).await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let json = serde_json::from_str(body);
        // What controllers poll is text.
        let body = json.unwrap_or_else(|_| Value::String(body.to_owned()));
        (head.to_owned(), body)
    }

    /// The same, of what is no JSON.
    pub(super) async fn text(&self, method: &str, path: &str, headers: &str) -> (String, String) {
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
        let answer = self.exchange(&request).await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        (head.to_owned(), body.to_owned())
    }

    /// The head of the answer alone: some go on until somebody leaves.
    pub(super) async fn head(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).await.expect("connects");
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.expect("writes");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("reads"));
        }
        String::from_utf8(head).expect("is text")
    }

    pub(super) async fn exchange(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).await.expect("connects");
        stream.write_all(request.as_bytes()).await.expect("writes");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("reads");
        answer
    }
}
