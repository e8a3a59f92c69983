//! What everybody may read over TCP (`listen` under `[agent]`): metrics, which colour is live, and which gates are
//! open, for balancers, monitors and deployment controllers. Nothing here changes anything.

pub mod meters;
mod metrics;
mod page;
pub(crate) mod polls;
#[cfg(test)]
pub(crate) mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use axum::extract::{FromRef, Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tracing::debug;

use crate::agent::{Handle, Shown};
use crate::exit::Failure;

/// Connections at a time; who comes then waits.
const CONNECTIONS: usize = 64;
/// How long a request may take to arrive, and a connection be silent.
const PATIENCE: Duration = Duration::from_secs(10);
/// Metrics are made at most that often, however many ask.
const KEEPS: Duration = Duration::from_secs(1);
/// The agent answers within that time, or is not well.
const ALIVE_WITHIN: Duration = Duration::from_secs(5);
/// OpenMetrics 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Listens.
///
/// # Errors
/// When the address is not this host's, or somebody listens there.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| {
        format!("listen at {address}, as agent.listen says; is it free, and this host's?")
    })
}

/// Answers until it is dropped; with the page if that is wanted.
pub async fn serve(listener: TcpListener, agent: Handle, page: bool) {
    let router = router(agent, page);
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Nobody closes the semaphore.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: others may end.
                debug!("{error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let router = router.clone();
        tokio::spawn(async move {
            answer(stream, router).await;
            drop(place);
        });
    }
}

async fn answer(stream: TcpStream, router: Router) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        debug!("{error}");
    }
}

/// What every request can reach.
#[derive(Clone)]
struct Public {
    agent: Handle,
    /// The metrics that were made last, and when.
    made: Arc<Mutex<Option<(Instant, String)>>>,
}

impl FromRef<Public> for Handle {
    fn from_ref(public: &Public) -> Self {
        public.agent.clone()
    }
}

fn router(agent: Handle, page: bool) -> Router {
    let shown = match page {
        true => page::routes(agent.clone()),
        false => Router::new(),
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/live/{group}/{colour}", get(live))
        .merge(polls::routes())
        .with_state(Public {
            agent,
            made: Arc::default(),
        })
        .merge(shown)
}

async fn metrics(State(public): State<Public>) -> Response {
    let mut made = public.made.lock().await;
    let text = match &*made {
        Some((at, text)) if at.elapsed() < KEEPS => text.clone(),
        _ => match shown(&public.agent).await {
            Ok(shown) => {
                let text = metrics::encode(&shown);
                *made = Some((Instant::now(), text.clone()));
                text
            }
            Err(failure) => return unavailable(failure.to_string()),
        },
    };
    ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response()
}

async fn shown(agent: &Handle) -> Result<Shown, Failure> {
    agent.ask(crate::agent::Runner::shown).await?
}

/// Whether the agent works.
async fn healthz(State(public): State<Public>) -> Response {
    let alive = tokio::time::timeout(ALIVE_WITHIN, public.agent.ask(|_| ()));
    match alive.await {
        Ok(Ok(())) => "ok\n".into_response(),
        Ok(Err(failure)) => unavailable(failure.to_string()),
        Err(_) => unavailable(format!("no answer within {ALIVE_WITHIN:?}")),
    }
}

/// Whether all that is configured is in the kernel, and traffic steered.
async fn readyz(State(public): State<Public>) -> Response {
    let shown = match shown(&public.agent).await {
        Ok(shown) => shown,
        Err(failure) => return unavailable(failure.to_string()),
    };
    let missing: Vec<String> = shown.status.unready().collect();
    match missing.is_empty() {
        true => "ready\n".into_response(),
        false => unavailable(missing.join("\n")),
    }
}

/// 200 if new connections go to the colour, 503 if to another.
async fn live(
    State(public): State<Public>,
    Path((group, colour)): Path<(String, String)>,
) -> Response {
    let asked = public
        .agent
        .ask(move |runner| runner.is_live(&group, &colour));
    match asked.await {
        Ok(Ok(true)) => "live\n".into_response(),
        Ok(Ok(false)) => unavailable("another colour is live".to_owned()),
        Ok(Err(failure)) => (StatusCode::NOT_FOUND, format!("{failure}\n")).into_response(),
        Err(failure) => unavailable(failure.to_string()),
    }
}

fn unavailable(why: String) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, why + "\n").into_response()
}
