//! Decisions about real packets, as lines of JSON, until nobody listens any more.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use http_body_util::channel::{Channel, SendError, Sender};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::Api;
use super::problem::{self, Refused, body};
use crate::datapath::pinned::Pinned;
use crate::datapath::pins::Pins;
use crate::datapath::tracing::{Busy, Tracer};
use crate::exit::{Exit, Failure};
use crate::trace::{Ended, Names, Wanted};

/// How often the programs' records are looked for.
const LOOKS: Duration = Duration::from_millis(50);
/// A listener who has gone is noticed by an empty line that can't be sent.
const BEATS: Duration = Duration::from_millis(500);
/// A trace that nobody has given an end.
const USUAL: Duration = Duration::from_secs(60);
/// The longest trace.
const LONGEST: Duration = Duration::from_secs(3600);

/// `POST /v1/trace`.
pub(super) async fn trace(
    State(api): State<Api>,
    bytes: problem::Body,
) -> Result<Response, Refused> {
    let wanted: Wanted = body(&bytes)?;
    let length = length(wanted.duration.as_deref())?;
    let agent = api.agent.ask(|runner| runner.agent_config()).await?;
    let count = wanted.count.unwrap_or(u64::MAX);
    let started = tokio::task::spawn_blocking(move || {
        let names = Names::read(Pinned::open(&agent.bpffs)?)?;
        let filter = wanted.filter(names.have())?;
        let (pins, log) = (
            Pins::new(&agent.bpffs),
            agent.state_dir.join("verifier.log"),
        );
        let tracer = Tracer::start(pins, &agent.masquerade, log, &filter);
        Ok::<_, Failure>((names, tracer.map_err(|error| refused(&error))?))
    });
    let died = |error| Failure::new(Exit::Unexpected, "trace", format!("{error}"));
    let (names, tracer) = started.await.map_err(died)??;
    let (sender, channel) = Channel::<Bytes>::new(64);
    tokio::spawn(async move {
        let listened = told(names, tracer, sender, (count, length)).await;
        tracing::debug!("a trace has ended: {listened:?}");
    });
    let kind = [(CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::new(channel)).into_response())
}

fn refused(error: &anyhow::Error) -> Failure {
    let exit = if error.is::<Busy>() {
        Exit::Precondition
    } else {
        Exit::Unexpected
    };
    Failure::new(exit, "trace", format!("{error:#}"))
}

fn length(text: Option<&str>) -> Result<Duration, Refused> {
    let Some(text) = text else {
        return Ok(USUAL);
    };
    match humantime::parse_duration(text) {
        Ok(length) if length <= LONGEST => Ok(length),
        Ok(_) => Err(Refused::malformed("for: an hour at most".to_owned())),
        Err(error) => Err(Refused::malformed(format!("for: {error}"))),
    }
}

async fn told(
    mut names: Names,
    mut tracer: Tracer,
    mut sender: Sender<Bytes>,
    (count, length): (u64, Duration),
) -> Result<(), SendError> {
    let (end, mut beat) = (Instant::now() + length, Instant::now());
    let mut told = 0;
    while told < count && Instant::now() < end {
        while told < count
            && let Some(trace) = tracer.record()
        {
            told += 1;
            sender.send_data(line(&names.tell(&trace))).await?;
            beat = Instant::now();
        }
        if beat.elapsed() >= BEATS {
            sender.send_data(Bytes::from_static(b"\n")).await?;
            beat = Instant::now();
        }
        sleep(LOOKS).await;
    }
    let lost = tracer.lost().into();
    // The plain programs are back before anybody hears of the end.
    drop(tracer);
    sender.send_data(line(&Ended { told, lost })).await
}

fn line(value: &impl Serialize) -> Bytes {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
