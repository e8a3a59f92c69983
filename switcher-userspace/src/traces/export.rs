//! Sending spans: a task takes what comes, and sends it by the batch. Whoever has a span never waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use hyper::{Request, StatusCode};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, warn};

use super::settings::Settings;
use super::{Span, otlp};
use crate::http;

/// Spans that wait at most.
const WAITING: usize = 2048;
/// Spans that are sent at once at most.
const BATCH: usize = 512;
/// Spans of so long are sent together.
const GATHER: Duration = Duration::from_millis(200);
/// Time until a batch is sent again, from one attempt to the next.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(15),
];
/// The longest that a receiver may ask to be left alone.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long an agent that ends waits for what is still to be sent.
const FLUSH: Duration = Duration::from_secs(2);

/// Where spans go in.
pub(super) struct Sender {
    spans: mpsc::Sender<Span>,
    /// Whether the last one found no room: said once.
    full: AtomicBool,
}

impl Sender {
    pub(super) fn send(&self, span: Span) {
        let full = self.spans.try_send(span).is_err();
        if full && !self.full.swap(full, Ordering::Relaxed) {
            warn!("traces: {WAITING} spans wait for their receiver; more are dropped");
        } else if !full {
            self.full.store(false, Ordering::Relaxed);
        }
    }
}

/// What is being sent.
pub struct Exporting(Option<JoinHandle<()>>);

impl Exporting {
    pub(super) const fn nothing() -> Self {
        Self(None)
    }

    /// Waits until everything is sent, for a moment at most. Nothing comes any more once the [`Traces`](super::Traces)
    /// have gone.
    pub async fn flush(self) {
        let Some(mut task) = self.0 else {
            return;
        };
        if timeout(FLUSH, &mut task).await.is_err() {
            warn!("traces: what was still to be sent is dropped");
            task.abort();
        }
    }
}

pub(super) fn start(settings: Settings, runtime: &Handle) -> (Sender, Exporting) {
    let (sender, spans) = mpsc::channel(WAITING);
    let task = runtime.spawn(export(settings, spans));
    let sender = Sender {
        spans: sender,
        full: AtomicBool::new(false),
    };
    (sender, Exporting(Some(task)))
}

async fn export(settings: Settings, mut spans: mpsc::Receiver<Span>) {
    let mut batch = Vec::new();
    while spans.recv_many(&mut batch, BATCH).await > 0 {
        let sent = Instant::now() + GATHER;
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            match timeout_at(sent, spans.recv_many(&mut batch, room)).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        deliver(&settings, &batch).await;
        batch.clear();
    }
}

/// Sends a batch, again if that may help.
async fn deliver(settings: &Settings, batch: &[Span]) {
    let body = otlp::request(&settings.resource, batch).to_string();
    let mut pauses = PAUSES.into_iter();
    loop {
        let sent = timeout(settings.timeout, post(settings, &body)).await;
        let (why, pause) = match sent {
            Ok(Ok(())) => return debug!(spans = batch.len(), "traces: sent"),
            Ok(Err(Refusal::Again { why, pause })) => (why, pause),
            Ok(Err(Refusal::Never(why))) => {
                return warn!(spans = batch.len(), "traces: dropped: {why}");
            }
            Err(_) => (format!("no answer within {:?}", settings.timeout), None),
        };
        let Some(usual) = pauses.next() else {
            return warn!(
                spans = batch.len(),
                "traces: dropped after several attempts: {why}"
            );
        };
        debug!("traces: not taken: {why}");
        sleep(pause.unwrap_or(usual).min(LONGEST_PAUSE)).await;
    }
}

/// Why a batch was not taken.
enum Refusal {
    /// It may be later.
    Again {
        why: String,
        pause: Option<Duration>,
    },
    Never(String),
}

async fn post(settings: &Settings, body: &str) -> Result<(), Refusal> {
    let url = &settings.url;
    let path = url.path_and_query().map_or("/", |it| it.as_str());
    let mut request = Request::post(path)
        .header(HOST, url.authority().map_or("", |it| it.as_str()))
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("switcher/", env!("CARGO_PKG_VERSION")));
    for (name, value) in &settings.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(body.to_owned().into()));
    let request = request.map_err(|error| Refusal::Never(format!("{url}: {error}")))?;
    let answer = http::send(url, request, settings.ca_file.clone()).await;
    let answer = answer.map_err(|why| Refusal::Again { why, pause: None })?;
    let status = answer.status();
    let pause = answer.headers().get(RETRY_AFTER);
    let pause = pause.and_then(|it| it.to_str().ok()?.parse().ok());
    let said = http::beginning(answer.into_body()).await;
    if status.is_success() {
        if said.contains("rejectedSpans") {
            warn!("traces: taken in part: {said}");
        }
        return Ok(());
    }
    let why = format!("{url}: HTTP {}: {said}", status.as_u16());
    // OTLP 1, "Retryable Response Codes".
    Err(match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Refusal::Again {
            why,
            pause: pause.map(Duration::from_secs),
        },
        _ => Refusal::Never(why),
    })
}
