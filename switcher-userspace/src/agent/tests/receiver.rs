//! A receiver of requests, over TCP or TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// Answers requests, and tells of them.
pub(super) struct Receiver {
    scheme: &'static str,
    address: SocketAddr,
    status: Arc<AtomicU16>,
    requests: UnboundedReceiver<Request>,
    task: JoinHandle<()>,
}

/// A request that was answered.
#[derive(Debug)]
pub(super) struct Request {
    /// In lower case.
    pub(super) headers: String,
    pub(super) body: Value,
}

impl Receiver {
    /// Answers with a status.
    pub(super) async fn start(status: u16) -> Self {
        Self::listen("http", None, status).await
    }

    /// Takes connections, answers nothing.
    pub(super) async fn silent() -> Self {
        Self::start(0).await
    }

    /// Answers 200 over TLS, with a certificate for 127.0.0.1 that `ca` vouches for.
    pub(super) async fn start_tls(ca: &Path) -> Self {
        let names = vec!["127.0.0.1".to_owned()];
        let own = rcgen::generate_simple_self_signed(names).expect("a certificate");
        std::fs::write(ca, own.cert.pem()).expect("writes");
        let key = own.signing_key.serialize_der().try_into().expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .expect("they match");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::listen("https", Some(acceptor), 200).await
    }

    async fn listen(scheme: &'static str, tls: Option<TlsAcceptor>, status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("has an address");
        let (sender, requests) = unbounded_channel();
        let status = Arc::new(AtomicU16::new(status));
        let answers = Arc::clone(&status);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answers, sender, tls) = (Arc::clone(&answers), sender.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &answers, &sender).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &answers, &sender).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            scheme,
            address,
            status,
            requests,
            task,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("{}://{}/hooks?from=switcher", self.scheme, self.address)
    }

    /// From now on with this status.
    pub(super) fn answer(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    pub(super) async fn next(&mut self) -> Request {
        let next = timeout(Duration::from_secs(60), self.requests.recv()).await;
        next.expect("in time").expect("goes on")
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    status: &AtomicU16,
    sender: &UnboundedSender<Request>,
) {
    let mut bytes = Vec::new();
    let (headers, body) = loop {
        let mut buffer = [0; 4096];
        let Ok(count @ 1..) = stream.read(&mut buffer).await else {
            return;
        };
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((headers, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let headers = headers.to_lowercase();
        let length = headers
            .lines()
            .find_map(|it| it.strip_prefix("content-length: "));
        let length: usize = length.expect("a length").parse().expect("a number");
        if body.len() >= length {
            break (headers, serde_json::from_str(body).expect("JSON"));
        }
    };
    let status = status.load(Ordering::Relaxed);
    if status == 0 {
        std::future::pending::<()>().await;
    }
    assert!(
        headers.starts_with("post /hooks?from=switcher http/1.1"),
        "{headers}"
    );
    let _gone = sender.send(Request { headers, body });
    let answer = format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n\r\n");
    let _gone = stream.write_all(answer.as_bytes()).await;
    let _gone = stream.flush().await;
}
