//! Who may ask what, and how often.

use axum::Extension;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{CONNECTION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::problem::Refused;
use super::serve::Full;
use super::{Api, Peer};
use crate::config::Role;
use crate::exit::{Exit, Failure};

/// What a route asks of whoever asks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) role: Role,
    /// For people: `flip`, `look`.
    pub(super) what: &'static str,
    /// It takes long, so they take turns.
    pub(super) heavy: bool,
    /// Bytes of the largest body.
    pub(super) body_max: usize,
}

/// Before anything of a request is looked at, whatever it asks for.
pub(super) async fn admit(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Extension(Full(full)): Extension<Full>,
    request: Request,
    next: Next,
) -> Response {
    if full {
        let why = "there are too many connections";
        let mut refused = Refused::later(503, why, 1).into_response();
        let close = HeaderValue::from_static("close");
        refused.headers_mut().insert(CONNECTION, close);
        return refused;
    }
    if let Err(refused) = permit(&api, &peer, &request) {
        return refused.into_response();
    }
    next.run(request).await
}

fn permit(api: &Api, peer: &Peer, request: &Request) -> Result<(), Refused> {
    if !peer.is_own(api.own_uid)
        && let Err(wait) = api.bounds.take(&peer.key())
    {
        let rate = api.bounds.limits.rate;
        let why = format!(
            "there are more than {rate} requests a second of {}",
            peer.actor()
        );
        return Err(Refused::later(429, &why, wait.as_secs() + 1));
    }
    if *request.method() != Method::GET && comes_from_elsewhere(request.headers()) {
        let why = "a page of another site has sent this";
        return Err(Failure::new(Exit::NotPermitted, "", why).into());
    }
    api.may(peer, Role::Viewer, "look")?;
    Ok(())
}

/// A browser says which page has made it ask, and nobody else has an `Origin` (RFC 6454, 7). It would show its
/// certificate on behalf of any page.
fn comes_from_elsewhere(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return false;
    };
    let authority = origin.to_str().ok().and_then(|it| it.split_once("://"));
    let host = headers.get(HOST).and_then(|it| it.to_str().ok());
    !matches!((authority, host), (Some((_, from)), Some(host)) if from.eq_ignore_ascii_case(host))
}

/// Before what only some may do.
pub(super) async fn need(
    State((api, needs)): State<(Api, Needs)>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    request.extensions_mut().insert(needs);
    if let Err(failure) = api.may(&peer, needs.role, needs.what) {
        return Refused::from(failure).into_response();
    }
    let _turn = match needs.heavy {
        true => api.bounds.heavy.acquire().await.ok(),
        false => None,
    };
    next.run(request).await
}

impl Api {
    /// That somebody may do something, as the configuration says now.
    pub(super) fn may(&self, peer: &Peer, needs: Role, what: &str) -> Result<(), Failure> {
        let taken = self.taken.borrow();
        peer.may((taken.roles.as_ref(), self.own_uid), needs, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_sites_are_told_apart() {
        let from = |origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("switch.internal:9465"));
            origin.map(|it| headers.insert(ORIGIN, HeaderValue::from_static(it)));
            comes_from_elsewhere(&headers)
        };
        assert!(!from(None), "curl has none");
        assert!(!from(Some("https://Switch.internal:9465")));
        for other in ["https://evil.example", "https://switch.internal", "null"] {
            assert!(from(Some(other)), "{other}");
        }
    }
}
