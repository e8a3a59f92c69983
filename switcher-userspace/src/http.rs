//! Requests to receivers: one connection each, no pool, no redirections, no proxy.

use std::path::PathBuf;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::tls;

/// What is kept of an answer, in bytes.
const KEPT: usize = 1024;

/// Sends a request to where a URL leads, and takes the answer's head. With `https` an authority of the file
/// has to vouch for the receiver, or one of the system's.
pub(crate) async fn send(
    url: &Uri,
    request: Request<Full<Bytes>>,
    ca_file: Option<PathBuf>,
) -> Result<Response<Incoming>, String> {
    let host = url.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let secure = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let connected = TcpStream::connect((host, port)).await;
    let stream = connected.map_err(|error| format!("{host}:{port}: {error}"))?;
    if !secure {
        return exchange(stream, request).await;
    }
    let config = tokio::task::spawn_blocking(move || {
        let ca_file = ca_file.as_deref();
        tls::client(ca_file.map(|file| tls::Named("ca_file", file)), None)
    });
    let config = config.await.map_err(|error| format!("TLS: {error}"))??;
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|error| format!("{host}: {error}"))?;
    let stream = TlsConnector::from(config).connect(name, stream).await;
    let stream = stream.map_err(|error| format!("TLS with {host}: {error}"))?;
    exchange(stream, request).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, String> {
    let said = |error: hyper::Error| format!("HTTP: {error}");
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
        .await
        .map_err(said)?;
    // It ends with the request, or with whoever waits for the answer.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(said)
}

/// The beginning of an answer's body, as text.
pub(crate) async fn beginning(mut body: Incoming) -> String {
    let mut kept = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let data = frame.into_data().unwrap_or_default();
        let room = KEPT.saturating_sub(kept.len()).min(data.len());
        kept.extend_from_slice(&data[..room]);
        if kept.len() == KEPT {
            break;
        }
    }
    let text = String::from_utf8_lossy(&kept);
    let plain = text.chars().filter(|c| *c == '\n' || !c.is_control());
    plain.collect::<String>().trim().to_owned()
}
