//! Failures as HTTP responses, and bodies as requests.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

use super::BODY_MAX;
use crate::exit::{Exit, Failure, Problem};

/// A failure on its way to a client.
#[derive(Debug)]
pub(super) struct Refused(Box<Problem>);

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self(Box::new(failure.problem()))
    }
}

impl Refused {
    /// With a status that says more than the exit code.
    pub(super) fn with_status(failure: &Failure, status: u16) -> Self {
        let mut problem = failure.problem();
        problem.status = status;
        Self(Box::new(problem))
    }

    /// A request that can't be understood.
    pub(super) fn malformed(why: impl Into<String>) -> Self {
        Self::with_status(&Failure::new(Exit::Usage, "", why), 400)
    }

    /// Status and body.
    pub(super) fn parts(&self) -> (u16, String) {
        let body = serde_json::to_string(&self.0).unwrap_or_else(|_| "{}".to_owned());
        (self.0.status, body)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, body) = self.parts();
        response(status, body)
    }
}

/// A response of ready JSON.
pub(super) fn response(status: u16, body: String) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = if status.is_success() {
        "application/json"
    } else {
        "application/problem+json"
    };
    (status, [(header::CONTENT_TYPE, kind)], body).into_response()
}

/// A request's body, or why it was not read.
pub(super) type Body = Result<Bytes, BytesRejection>;

/// A JSON body; an empty one is `{}`.
pub(super) fn body<T: DeserializeOwned + Default>(body: &Body) -> Result<T, Refused> {
    if whole(body)?.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    full(body)
}

/// A JSON body that may not be empty.
pub(super) fn full<T: DeserializeOwned>(body: &Body) -> Result<T, Refused> {
    let parsed = serde_json::from_slice(whole(body)?);
    parsed.map_err(|error| Refused::malformed(format!("the body: {error}")))
}

/// A request's body, whole.
pub(super) fn whole(body: &Body) -> Result<&Bytes, Refused> {
    body.as_ref().map_err(|error| {
        let why = match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => format!("the body has more than {BODY_MAX} bytes"),
            _ => format!("the body: {}", error.body_text()),
        };
        let status = error.status().as_u16();
        Refused::with_status(&Failure::new(Exit::Usage, "", why), status)
    })
}

/// A header's text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refused> {
    let unreadable = |_| Refused::malformed(format!("header {name} is not text"));
    headers
        .get(name)
        .map(|value| value.to_str().map_err(unreadable))
        .transpose()
}
