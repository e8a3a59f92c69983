//! One probe of one endpoint.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::config::HealthKind;
use crate::datapath::clients::Bypass;

/// Why an endpoint doesn't pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// In words.
    pub(super) reason: String,
    /// What that says of it.
    pub(super) came_to: CameTo,
}

/// How far a probe that was not passed has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CameTo {
    /// Nothing that the endpoint knows of: the fault is this host's.
    Nothing,
    /// It took no connection.
    Silence,
    /// It answered, but not as it should.
    Answer,
}

/// Whether the endpoint passes, or why it doesn't.
pub(super) async fn probe(
    kind: &HealthKind,
    address: SocketAddr,
    bypass: &Bypass,
    patience: Duration,
) -> Result<(), Fault> {
    if matches!(kind, HealthKind::None | HealthKind::Exec(_)) {
        return Ok(());
    }
    let begun = Instant::now();
    let late = || format!("no answer within {}", humantime::format_duration(patience));
    let connected = timeout(patience, connect(address, bypass)).await;
    let stream = connected.unwrap_or_else(|_| {
        Err(Fault {
            reason: late(),
            came_to: CameTo::Silence,
        })
    })?;
    let HealthKind::Http { path } = kind else {
        return Ok(());
    };
    let left = patience.saturating_sub(begun.elapsed());
    let answer = timeout(left, http(stream, address, path)).await;
    answer
        .unwrap_or_else(|_| Err(late()))
        .map_err(|reason| Fault {
            reason,
            came_to: CameTo::Answer,
        })
}

/// To exactly this address: an endpoint may be a VIP, which would lead to the live colour.
async fn connect(address: SocketAddr, bypass: &Bypass) -> Result<TcpStream, Fault> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let not_asked = |reason| Fault {
        reason,
        came_to: CameTo::Nothing,
    };
    let socket = socket.map_err(|error| not_asked(plain(&error)))?;
    bypass
        .mark(&socket)
        .map_err(|error| not_asked(format!("not exempt from steering: {}", plain(&error))))?;
    let connected = socket.connect(address).await;
    connected.map_err(|error| could_not(&error))
}

/// A GET that is answered with 2xx or 3xx.
async fn http(stream: TcpStream, address: SocketAddr, path: &str) -> Result<(), String> {
    let said = |error: hyper::Error| format!("HTTP: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(said)?;
    let request = Request::get(path)
        .header("host", address.to_string())
        .header(
            "user-agent",
            concat!("switcher/", env!("CARGO_PKG_VERSION")),
        )
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("HTTP: {error}"))?;
    let mut exchange = std::pin::pin!(sender.send_request(request));
    // The connection makes progress while the answer is waited for. It may end with the answer.
    let answer = tokio::select! {
        answer = &mut exchange => answer,
        _ended = connection => exchange.await,
    };
    let status = answer.map_err(said)?.status();
    if status.is_success() || status.is_redirection() {
        return Ok(());
    }
    Err(format!("HTTP status {status}"))
}

/// Why there is no connection. Without a way to the endpoint, as while this host's link is down, it was not asked.
fn could_not(error: &io::Error) -> Fault {
    let came_to = match error.kind() {
        ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => CameTo::Nothing,
        _ => CameTo::Silence,
    };
    Fault {
        reason: plain(error),
        came_to,
    }
}

/// The kernel's words without the number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string().to_lowercase();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(500);

    #[tokio::test]
    async fn a_listener_passes_tcp() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("has an address");
        assert_eq!(
            probe(&HealthKind::Tcp, address, &Bypass::default(), PATIENCE).await,
            Ok(())
        );
        drop(listener);
        let refused = probe(&HealthKind::Tcp, address, &Bypass::default(), PATIENCE).await;
        assert_eq!(refused, fault("connection refused", CameTo::Silence));
    }

    #[tokio::test]
    async fn http_asks_for_the_status() {
        assert_eq!(ask("HTTP/1.1 204 No Content\r\n\r\n").await, Ok(()));
        assert_eq!(
            ask("HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n").await,
            Ok(())
        );
        let error = ask("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(
            error,
            fault("HTTP status 503 Service Unavailable", CameTo::Answer)
        );
        assert!(ask("SSH-2.0-OpenSSH\r\n").await.is_err());
        assert!(ask("").await.is_err());
    }

    #[tokio::test]
    async fn who_says_nothing_is_late() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("has an address");
        let kind = HealthKind::Http { path: "/".into() };
        let late = probe(
            &kind,
            address,
            &Bypass::default(),
            Duration::from_millis(30),
        )
        .await;
        assert_eq!(late, fault("no answer within 30ms", CameTo::Answer));
    }

    #[test]
    fn who_was_not_asked_is_not_silent() {
        let came_to = |number| could_not(&io::Error::from_raw_os_error(number)).came_to;
        for ours in [libc::ENETUNREACH, libc::ENETDOWN] {
            assert_eq!(came_to(ours), CameTo::Nothing);
        }
        for theirs in [libc::ECONNREFUSED, libc::EHOSTUNREACH] {
            assert_eq!(came_to(theirs), CameTo::Silence);
        }
    }

    fn fault(reason: &str, came_to: CameTo) -> Result<(), Fault> {
        let reason = reason.into();
        Err(Fault { reason, came_to })
    }

    async fn ask(answer: &'static str) -> Result<(), Fault> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("has an address");
        let serve = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accepts");
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.expect("reads");
            assert!(request[..length].starts_with(b"GET /healthz HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).await.expect("writes");
        });
        let kind = HealthKind::Http {
            path: "/healthz".into(),
        };
        let passed = probe(&kind, address, &Bypass::default(), PATIENCE).await;
        serve.await.expect("served");
        passed
    }
}
