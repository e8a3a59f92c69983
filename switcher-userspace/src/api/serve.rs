//! Connections: whom they are from, and how many there may be.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::TcpUserTimeout;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use super::limits::{Bounds, Limits, Place};
use super::model::SecureStatus;
use super::{Api, Peer, router};
use crate::agent::Handle;
use crate::{config, tls};

/// Bytes of a request's head.
const HEAD_MAX: usize = 64 << 10;
/// After so many milliseconds a peer that takes nothing of what it is sent has gone.
const UNACKNOWLEDGED: u32 = 60_000;

/// How a request has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    /// There is no place for its connection: it is told so.
    pub(super) full: bool,
    /// By a socket in the file system.
    pub(super) local: bool,
}

/// Answers requests until it is dropped. What was begun is left to the agent.
pub async fn serve(listener: UnixListener, api: Api) {
    let router = router(api.clone());
    loop {
        let Some((stream, _)) = accepted(listener.accept().await).await else {
            continue;
        };
        let peer = Peer::of_socket(&stream);
        let own = peer.is_own(api.own_uid);
        let place = (!own).then(|| seat(&api.bounds, &peer.key()));
        let Some(seat) = place.unwrap_or(Some(Seat::Root)) else {
            continue;
        };
        let (router, limits) = (router.clone(), api.bounds.limits);
        let way = seat.way(true);
        tokio::spawn(async move {
            converse(stream, router, (peer, way), limits).await;
            drop(seat);
        });
    }
}

/// Listens.
///
/// # Errors
/// When the address is not this host's, or somebody listens there.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| {
        format!("listen at {address}, as agent.api.listen says; is it free, and this host's?")
    })
}

/// What clients over TCP are shown and asked for. Read again whenever a configuration is taken; what can't be read
/// then is said, and what was read before stays.
pub struct Identity {
    config: watch::Sender<Arc<ServerConfig>>,
    status: SecureStatus,
}

impl Identity {
    /// Reads it.
    ///
    /// # Errors
    /// When a file can't be read, or is not what it should be; says which.
    pub fn read(api: &config::Api) -> anyhow::Result<Self> {
        let served = tls::server(api).map_err(|why| anyhow!("agent.api: {why}"))?;
        Ok(Self {
            config: watch::Sender::new(served.config),
            status: SecureStatus {
                listen: api.listen.to_string(),
                expires: served.expires,
                problem: None,
            },
        })
    }

    async fn follow(mut self, agent: Handle) {
        let mut taken = agent.taken();
        loop {
            let status = self.status.clone();
            agent.tell(move |runner| runner.secure = Some(status));
            if taken.changed().await.is_err() {
                return;
            }
            let Some(api) = taken.borrow_and_update().api.clone() else {
                continue;
            };
            let read = tokio::task::spawn_blocking(move || tls::server(&api)).await;
            let read = read.unwrap_or_else(|error| Err(error.to_string()));
            self.status.problem = match read {
                Ok(served) => {
                    self.config.send_replace(served.config);
                    self.status.expires = served.expires;
                    None
                }
                Err(why) => {
                    warn!("agent.api: what was read before stays: {why}");
                    Some(why)
                }
            };
        }
    }
}

/// Answers requests of clients that can show a certificate, until it is dropped.
pub async fn serve_tls(listener: TcpListener, identity: Identity, api: Api) {
    let router = router(api.clone());
    let config = identity.config.subscribe();
    tokio::spawn(identity.follow(api.agent.clone()));
    loop {
        let Some((stream, from)) = accepted(listener.accept().await).await else {
            continue;
        };
        let address = from.ip().to_canonical().to_string();
        if api.bounds.take(&address).is_err() {
            debug!(%from, "too many connections in too little time");
            continue;
        }
        let Some(seat) = seat(&api.bounds, &address) else {
            continue;
        };
        let way = seat.way(false);
        let acceptor = TlsAcceptor::from(Arc::clone(&config.borrow()));
        let (router, limits) = (router.clone(), api.bounds.limits);
        tokio::spawn(async move {
            let shaken = tokio::time::timeout(limits.silence, shake_hands(acceptor, stream, from));
            match shaken.await {
                Ok(Ok((stream, peer))) => converse(stream, router, (peer, way), limits).await,
                Ok(Err(error)) => info!(%from, "refused: {error}"),
                Err(_) => debug!(%from, "no handshake in time"),
            }
            drop(seat);
        });
    }
}

async fn shake_hands(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    from: SocketAddr,
) -> io::Result<(tokio_rustls::server::TlsStream<TcpStream>, Peer)> {
    stream.set_nodelay(true)?;
    setsockopt(&stream, TcpUserTimeout, &UNACKNOWLEDGED)?;
    let stream = acceptor.accept(stream).await?;
    let certificates = stream.get_ref().1.peer_certificates();
    let first = certificates.and_then(<[_]>::first);
    // The verifier lets nobody in without.
    let first = first.ok_or_else(|| io::Error::other("no certificate was shown"))?;
    let peer = Peer::of_certificate(first, from);
    Ok((stream, peer))
}

/// What a connection holds until it ends.
#[expect(dead_code, reason = "what is in it is only there to be dropped")]
enum Seat {
    /// Root and the agent's own user always find a place.
    Root,
    Taken(Place),
    /// Only to be told that there is none.
    Standing(OwnedSemaphorePermit),
}

impl Seat {
    /// Of the requests on its connection.
    const fn way(&self, local: bool) -> Way {
        Way {
            full: matches!(self, Self::Standing(_)),
            local,
        }
    }
}

/// Nothing if not even that is possible.
fn seat(bounds: &Bounds, key: &str) -> Option<Seat> {
    match bounds.connections.take(key) {
        Some(place) => Some(Seat::Taken(place)),
        None => Arc::clone(&bounds.refusals)
            .try_acquire_owned()
            .ok()
            .map(Seat::Standing),
    }
}

async fn converse<S>(stream: S, router: Router, (peer, way): (Peer, Way), limits: Limits)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let about = request.extensions_mut();
        about.insert(ConnectInfo(peer.clone()));
        about.insert(way);
        router.call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.silence)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!("{error}");
    }
}

/// Nothing if the listener has to be asked again.
async fn accepted<T>(accepted: io::Result<T>) -> Option<T> {
    match accepted {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            // Out of descriptors, most likely: others may end.
            debug!("{error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}
