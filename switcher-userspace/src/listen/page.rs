//! The page for everybody, if `page` is on: it shows, and changes nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::sync::Mutex;

use crate::agent::{Handle, Runner};
use crate::api;
use crate::api::model::{History, WhoAmI};
use crate::config::Role;
use crate::exit::Failure;

/// Answers are made at most that often, however many look. Less than a page's pause, so that each look is another.
const KEEPS: Duration = Duration::from_millis(500);
/// Cut-overs that are shown.
const LATEST: u32 = 100;

/// What every request can reach.
#[derive(Clone)]
struct Shown {
    agent: Handle,
    status: Kept,
    history: Kept,
}

/// An answer that was made, and when.
type Kept = Arc<Mutex<Option<(Instant, Bytes)>>>;

pub(super) fn routes(agent: Handle) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/history", get(history))
        .route("/v1/cutovers/{id}", get(cutover))
        .route("/v1/whoami", get(whoami))
        .with_state(Shown {
            agent,
            status: Kept::default(),
            history: Kept::default(),
        })
        .merge(api::page_files())
}

async fn status(State(shown): State<Shown>) -> Response {
    kept(&shown.agent, &shown.status, |runner| runner.status(None)).await
}

async fn history(State(shown): State<Shown>) -> Response {
    let read = |runner: &mut Runner| {
        let cutovers = runner.history(None, LATEST)?;
        Ok(History { cutovers })
    };
    kept(&shown.agent, &shown.history, read).await
}

async fn cutover(State(shown): State<Shown>, Path(id): Path<String>) -> Response {
    let asked = shown.agent.ask(move |runner| runner.cutover(&id)).await;
    match asked.and_then(|it| it) {
        Ok(record) => Json(record).into_response(),
        Err(failure) => refused(&failure),
    }
}

async fn whoami() -> Json<WhoAmI> {
    Json(WhoAmI {
        name: "anybody".to_owned(),
        role: Role::Viewer,
        may: Vec::new(),
    })
}

async fn kept<T: Serialize + Send + 'static>(
    agent: &Handle,
    kept: &Kept,
    make: impl FnOnce(&mut Runner) -> Result<T, Failure> + Send + 'static,
) -> Response {
    let mut kept = kept.lock().await;
    let bytes = match &*kept {
        Some((at, bytes)) if at.elapsed() < KEEPS => bytes.clone(),
        _ => match agent.ask(make).await.and_then(|it| it) {
            Ok(value) => {
                let bytes = Bytes::from(serde_json::to_vec(&value).unwrap_or_default());
                *kept = Some((Instant::now(), bytes.clone()));
                bytes
            }
            Err(failure) => return refused(&failure),
        },
    };
    ([(CONTENT_TYPE, "application/json")], bytes).into_response()
}

fn refused(failure: &Failure) -> Response {
    let problem = failure.problem();
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = [(CONTENT_TYPE, "application/problem+json")];
    (status, kind, Json(problem)).into_response()
}
