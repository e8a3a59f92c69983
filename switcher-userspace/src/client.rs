//! The command line's side of the API.

use std::path::Path;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cli::Globals;
use crate::exit::{Exit, Failure, Problem};

mod way;

use way::Way;

/// Asks the agent.
#[derive(Clone, Debug)]
pub struct Client {
    way: Way,
}

impl Client {
    /// By the way that the options name.
    ///
    /// # Errors
    /// When they make no sense, or name files that don't.
    pub fn new(globals: &Globals) -> Result<Self, Failure> {
        Ok(Self {
            way: Way::new(globals)?,
        })
    }

    /// At this socket.
    #[must_use]
    pub fn at(socket: &Path) -> Self {
        Self {
            way: Way::Socket(socket.to_owned()),
        }
    }

    /// Reads.
    ///
    /// # Errors
    /// When the agent can't be reached, and what it answers otherwise.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    /// Changes.
    ///
    /// # Errors
    /// When the agent can't be reached, and what it answers otherwise.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|error| odd(&error))?;
        self.send(Method::POST, path, body.into()).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, Failure> {
        let (response, _connection) = self.request(method, path, body).await?;
        let status = response.status();
        let body = response.into_body().collect().await;
        let body = body.map_err(|error| cut_off(&error))?.to_bytes();
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| odd(&error));
        }
        Err(refusal(status, &body))
    }

    /// Asks for lines, and gives each that is not empty to `each`, until it wants no more or there are none.
    /// `begun` is called when the agent has agreed.
    ///
    /// # Errors
    /// When the agent can't be reached, and what it answers instead.
    pub async fn lines(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
        begun: impl FnOnce(),
        mut each: impl FnMut(&str) -> bool,
    ) -> Result<(), Failure> {
        let body = serde_json::to_vec(body).map_err(|error| odd(&error))?;
        let (response, _connection) = self.request(Method::POST, path, body.into()).await?;
        let status = response.status();
        let mut body = response.into_body();
        if !status.is_success() {
            let body = body.collect().await.map_err(|error| cut_off(&error))?;
            return Err(refusal(status, &body.to_bytes()));
        }
        begun();
        let mut text = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| cut_off(&error))?;
            text.extend(frame.into_data().unwrap_or_default());
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                let line = String::from_utf8_lossy(line.trim_ascii());
                if !line.is_empty() && !each(&line) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Sends a request; its connection makes progress beside the answer's reader.
    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(hyper::Response<hyper::body::Incoming>, Connection), Failure> {
        let stream = TokioIo::new(self.way.connect().await?);
        let handshake = hyper::client::conn::http1::handshake(stream).await;
        let (mut sender, connection) = handshake.map_err(|error| odd(&error))?;
        let connection = Connection(tokio::spawn(async move {
            let _ended = connection.await;
        }));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.way.host())
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| odd(&error))?;
        let response = sender.send_request(request).await;
        Ok((response.map_err(|error| cut_off(&error))?, connection))
    }
}

/// What the agent says instead of an answer.
fn refusal(status: hyper::StatusCode, body: &[u8]) -> Failure {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => problem.into(),
        Err(_) => odd(&format!("HTTP status {status}")),
    }
}

/// Closed when dropped.
struct Connection(tokio::task::JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs one conversation with the agent on this thread.
///
/// # Errors
/// What the conversation comes to.
pub fn converse<T>(talk: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build();
    let unexpected = |error| Failure::new(Exit::Unexpected, "start", format!("{error}"));
    runtime.map_err(unexpected)?.block_on(talk)
}

/// A path segment or query value, percent-encoded (RFC 3986, 2.3).
#[must_use]
pub fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encoded = text.bytes().map(|byte| match byte {
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    encoded.collect()
}

/// The agent went away in the middle of it, or does not want the certificate that it was shown.
fn cut_off(error: &hyper::Error) -> Failure {
    if let Some(refused) = way::refused_certificate(error) {
        return refused;
    }
    Failure::new(
        Exit::Unreachable,
        "ask the agent",
        format!("it went away before it answered: {error}"),
    )
    .advise(
        "what was begun is finished or undone when it starts again; then look at `switcher status`",
    )
}

fn odd(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Unexpected, "talk to the agent", error.to_string())
        .advise("are the command and the agent of the same version?")
}
