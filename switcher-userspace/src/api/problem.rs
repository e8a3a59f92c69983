//! Failures as HTTP responses, and what requests bring along.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Api;
use super::admit::Needs;
use crate::exit::{Exit, Failure, Problem};

/// A failure on its way to a client.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    problem: Box<Problem>,
    /// In seconds.
    retry_after: Option<u64>,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self {
            problem: Box::new(failure.problem()),
            retry_after: None,
        }
    }
}

impl Refused {
    /// With a status that says more than the exit code.
    pub(super) fn with_status(failure: &Failure, status: u16) -> Self {
        let mut refused = Self::from(failure.clone());
        refused.problem.status = status;
        refused
    }

    /// A request that can't be understood.
    pub(super) fn malformed(why: impl Into<String>) -> Self {
        Self::with_status(&Failure::new(Exit::Usage, "", why), 400)
    }

    /// A request that is one too many now.
    pub(super) fn later(status: u16, why: &str, seconds: u64) -> Self {
        let failure = Failure::new(Exit::Unreachable, "", why);
        let failure = failure.advise(format!("ask again in {seconds} s"));
        Self {
            retry_after: Some(seconds),
            ..Self::with_status(&failure, status)
        }
    }

    /// Status and body.
    pub(super) fn parts(&self) -> (u16, String) {
        let body = serde_json::to_string(&self.problem).unwrap_or_else(|_| "{}".to_owned());
        (self.problem.status, body)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, body) = self.parts();
        let mut response = response(status, body);
        if let Some(seconds) = self.retry_after {
            let seconds = HeaderValue::from(seconds);
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

/// A response of ready JSON. What has a revision carries it as its entity tag.
pub(super) fn response(status: u16, body: String) -> Response {
    #[derive(Deserialize)]
    struct Revised {
        revision: u64,
    }

    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = if status.is_success() {
        "application/json"
    } else {
        "application/problem+json"
    };
    let revised: Option<Revised> = match status.is_success() {
        true => serde_json::from_str(&body).ok(),
        false => None,
    };
    let response = (status, [(header::CONTENT_TYPE, kind)], body);
    match revised {
        Some(Revised { revision }) => (tag(revision), response).into_response(),
        None => response.into_response(),
    }
}

/// A revision as an entity tag, for `If-Match`.
pub(super) fn tag(revision: u64) -> [(header::HeaderName, String); 1] {
    [(header::ETAG, format!("\"{revision}\""))]
}

/// A request's body, or why it was not read.
pub(super) struct Body(Result<Bytes, Refused>);

impl Body {
    /// One that nobody has sent.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self(Ok(bytes.into()))
    }
}

impl FromRequest<Api> for Body {
    type Rejection = std::convert::Infallible;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Self::Rejection> {
        let kind = request.headers().get(header::CONTENT_TYPE).cloned();
        let needs = request.extensions().get::<Needs>();
        let most = needs.map_or(0, |needs| needs.body_max);
        let announced = request.headers().get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|it| it.to_str().ok()?.parse::<usize>().ok());
        // A little more is read to its end: who is still writing would not hear why it was refused.
        if announced.is_some_and(|it| it > 2 * most) {
            return Ok(Self(Err(too_large(most))));
        }
        let read = Bytes::from_request(request, api);
        let read = tokio::time::timeout(api.bounds.limits.body, read).await;
        Ok(Self(match read {
            Ok(Ok(bytes)) if bytes.is_empty() || is_json(kind.as_ref()) => Ok(bytes),
            Ok(Ok(_)) => Err(refused("the body is not JSON: say `application/json`", 415)),
            Ok(Err(error)) => Err(unread(&error, most)),
            Err(_) => Err(refused("the body did not come in time", 408)),
        }))
    }
}

/// Nothing said is JSON, too: nothing else is read here.
fn is_json(kind: Option<&HeaderValue>) -> bool {
    let Some(kind) = kind else {
        return true;
    };
    let kind = kind.to_str().unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

fn unread(error: &BytesRejection, most: usize) -> Refused {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(most),
        status => refused(&format!("the body: {}", error.body_text()), status.as_u16()),
    }
}

fn too_large(most: usize) -> Refused {
    refused(&format!("the body has more than {most} bytes"), 413)
}

fn refused(why: &str, status: u16) -> Refused {
    Refused::with_status(&Failure::new(Exit::Usage, "", why), status)
}

/// A JSON body; an empty one is `{}`.
pub(super) fn body<T: DeserializeOwned + Default>(body: &Body) -> Result<T, Refused> {
    if whole(body)?.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    full(body)
}

/// A JSON body that may not be empty.
pub(super) fn full<T: DeserializeOwned>(body: &Body) -> Result<T, Refused> {
    // Lists would be taken for the fields in their order, and `[]` for none of them.
    if whole(body)?.trim_ascii_start().first() == Some(&b'[') {
        return Err(Refused::malformed(
            "the body: expected an object, found a list",
        ));
    }
    let parsed = serde_json::from_slice(whole(body)?);
    parsed.map_err(|error| Refused::malformed(format!("the body: {error}")))
}

/// A request's body, whole.
pub(super) fn whole(body: &Body) -> Result<&Bytes, Refused> {
    body.0.as_ref().map_err(Clone::clone)
}

/// The query; what it doesn't know is refused.
pub(super) struct Asking<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Api> for Asking<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Refused> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(query)) => Ok(Self(query)),
            Err(error) => Err(Refused::malformed(format!(
                "the query: {}",
                error.body_text()
            ))),
        }
    }
}

/// The one name in the path.
pub(super) struct Named(pub(super) String);

impl FromRequestParts<Api> for Named {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refused> {
        let malformed =
            |why: &dyn std::fmt::Display| Refused::malformed(format!("the path: {why}"));
        let all = RawPathParams::from_request_parts(parts, api).await;
        let all = all.map_err(|error| malformed(&error))?;
        let name = all.iter().next().map(|(_, name)| name.to_owned());
        name.map(Self).ok_or_else(|| malformed(&"names nothing"))
    }
}

/// A header's text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refused> {
    let unreadable = |_| Refused::malformed(format!("header {name} is not text"));
    headers
        .get(name)
        .map(|value| value.to_str().map_err(unreadable))
        .transpose()
}
